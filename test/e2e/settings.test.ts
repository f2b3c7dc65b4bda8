import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  callApi,
  eventually,
  type Ground,
  newPassword,
  policyFor,
  type RunningApp,
  seedAdmin,
  seedAlternating,
  startGround,
  targetFor,
} from '../support/e2e-world.ts';

let ground: Ground;

beforeAll(async () => {
  ground = await startGround();
  await seedAdmin(ground);
}, 120_000);

afterAll(async () => {
  await ground?.stop();
}, 60_000);

describe('start-up with a broken setting', () => {
  /** What the host says when it refuses to start; fails when it starts. */
  async function refusal(broken: Readonly<Record<string, string>>): Promise<string> {
    const started = ground.startApp({ namespace: 'broken', overrides: broken });
    const error = await started.then(
      async (app) => {
        await app.stop();
        return null;
      },
      (reason: Error) => reason,
    );
    expect(error, 'the host started').not.toBeNull();
    expect(error?.message).toMatch(/^the functions host ended with [1-9]\d*:/);
    return error?.message ?? '';
  }

  const value = 'q7-Zx-neverShown';
  const vault = (more: object) =>
    JSON.stringify([{ alias: 'main', url: 'https://localhost:1', purpose: 'main', ...more }]);

  it.each([
    ['KEYTURN_VAULTS', `[{"alias": "${value}"`],
    ['KEYTURN_VAULTS', vault({ purpose: value })],
    ['KEYTURN_VAULTS', vault({ url: `ftp://${value}` })],
    ['KEYTURN_VAULTS', vault({ alias: `${value} ` })],
    ['KEYTURN_PENDING', value],
    ['KEYTURN_POLICIES', value],
    ['KEYTURN_LEASE_SECONDS', value],
    ['KEYTURN_RETRY_SECONDS', '-1'],
    ['KEYTURN_AUTH_ISSUERS', value],
    ['KEYTURN_AUTH_AUDIENCES', ' , '],
    ['KEYTURN_AUTH_JWKS_URI', value],
    ['KEYTURN_NAMESPACE', `${value}_`],
  ])('says that it is %s: %s', async (setting, broken) => {
    const said = await refusal({ [setting]: broken });
    expect(said).toContain('settings to mend');
    expect(said).toMatch(new RegExp(`^ *${setting}[.:]`, 'm'));
    expect(said).not.toContain(value);
  });

  it('says that storage is missing', async () => {
    const said = await refusal({ AzureWebJobsStorage: '' });
    expect(said).toMatch(/AzureWebJobsStorage/);
  });

  it('lists every fault at once', async () => {
    const said = await refusal({
      KEYTURN_VAULTS: 'no JSON',
      KEYTURN_RETRY_SECONDS: 'soon',
      KEYTURN_AUTH_JWKS_URI: 'nowhere',
      KEYTURN_AUTH_ISSUERS: '',
    });
    for (const setting of [
      'KEYTURN_VAULTS',
      'KEYTURN_RETRY_SECONDS',
      'KEYTURN_AUTH_JWKS_URI',
      'KEYTURN_AUTH_ISSUERS',
    ]) {
      expect(said).toMatch(new RegExp(`^ *${setting}[.:]`, 'm'));
    }
    expect(said.match(/settings to mend/g)).toHaveLength(1);
  });
});

describe('a folder of policies with faults', () => {
  let app: RunningApp;

  beforeAll(async () => {
    app = await ground.startApp();
    const { logins } = await seedAlternating(ground, 'good-db');
    await app.document('targets', 'good-db', targetFor(ground, 'good-db', logins));
    await app.document('policies', 'good-db', policyFor('good-db'));
    await app.document('policies', 'unknown-handler', policyFor('other-db', { handler: 'oracle' }));
    await app.document(
      'policies',
      'too-short',
      policyFor('short-db', {
        schedule: { validFor: 'PT1M', leadTime: 'PT50S' },
        grace: 'PT10S',
      }),
    );
    await app.document('policies', 'bad-duration', policyFor('bad-db', { grace: 'ten seconds' }));
    await app.document('policies', 'malformed', '{ "id": "malformed", ');
    const target = targetFor(ground, 'bad-target', ['a', 'a']);
    await app.document('targets', 'bad-target', target);
  });

  it('is told by health in one message that names document and field of each', async () => {
    const token = await ground.token('Keyturn.Health.Read');
    const { status, json } = await app.call('GET', '/health/details', { token });
    expect(status).toBe(503);
    const { message, code } = json.checks.documents;
    expect(code).toBe('bad_configuration');
    expect(message).toMatch(/unknown-handler\.json: handler: oracle/);
    expect(message).toMatch(/too-short\.json: schedule\.validFor: .*60 s/);
    expect(message).toMatch(/bad-duration\.json: grace: .*ISO 8601/);
    expect(message).toMatch(/malformed\.json.*JSON/);
    expect(message).toMatch(/bad-target\.json: settings.*logins/);
    expect(message).not.toMatch(/good-db\.json/);
  });

  it('leaves the objects of good policies rotating, and those of bad ones alone', async () => {
    const done = await app.ended(await app.rotate('good-db'));
    expect(done.state).toBe('DONE');
    await ground.main.setSecret('short-db', newPassword());
    const skipped = await app.ended(await app.rotate('short-db'));
    expect(skipped).toMatchObject({ state: 'SKIPPED', outcome: { code: 'no_policy' } });
    expect(app.log('catalog.faulty').length).toBeGreaterThan(0);
  });

  it.each([
    ['that is empty', {}],
    ['without data', { id: '1', eventType: 'Microsoft.KeyVault.SecretNearExpiry', subject: 'x' }],
    [
      'that contradicts itself',
      {
        ...{ id: '2', subject: 'x', topic: '/vaults/main', dataVersion: '1' },
        eventType: 'Microsoft.KeyVault.SecretNearExpiry',
        data: {
          ...{ Id: 'https://localhost/secrets/x/1', VaultName: 'main', ObjectType: 'Secret' },
          ...{ ObjectName: 'y', Version: '2' },
        },
      },
    ],
  ])('takes and audits an event %s', async (_what, event) => {
    const before = (await app.audit({ action: 'event.refused' })).length;
    const requested = app.log('rotation.requested').length;
    const url = `${app.host.url}/runtime/webhooks/eventgrid?functionName=secretNearExpiry`;
    const headers = { 'aeg-event-type': 'Notification' };
    const answer = await callApi(url, { method: 'POST', headers, body: [event] });
    expect(answer.status).toBe(202);
    const records = await eventually(async () => {
      const found = await app.audit({ action: 'event.refused' });
      return found.length > before && found;
    });
    expect(records.at(-1)).toMatchObject({ outcome: 'skipped' });
    expect(records.at(-1)?.detail?.['faults']).toMatch(/\w+: .+/);
    expect(app.log('rotation.requested')).toHaveLength(requested);
  });
});
