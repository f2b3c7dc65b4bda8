import { randomBytes, randomUUID } from 'node:crypto';
import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { verifyAudit } from '../../src/core/audit/verify.ts';
import {
  eventually,
  fromNow,
  type Ground,
  jsonValue,
  newPassword,
  policyFor,
  type RunningApp,
  seedAdmin,
  seedAlternating,
  seedSingle,
  startGround,
  targetFor,
  webhookTo,
} from '../support/e2e-world.ts';

// The built app in the functions host with real parts. Two apps share one stack: `engine` reads
// policies from a folder, stages in the pending vault and is told by events; `stored` reads them
// from storage, stages in the journal and is told by nobody, so that only its scan finds work.

let ground: Ground;
let engine: RunningApp;
let stored: RunningApp;
const signingKey = `whsec_${randomBytes(32).toString('base64')}`;
/** Due within hours: near enough for these policies, too far for the vault to announce it. */
const longSchedule = { schedule: { validFor: 'P2D', leadTime: 'PT6H' } } as const;

beforeAll(async () => {
  ground = await startGround();
  await seedAdmin(ground);
  await ground.main.setSecret('webhook-orders', signingKey);
  await ground.pending.setSecret('sealing-key', randomBytes(32).toString('base64'));
  [engine, stored] = await Promise.all([
    ground.startApp({ subscribe: ['secretNearExpiry', 'certificateNearExpiry'] }),
    ground.startApp({
      namespace: 'stored',
      overrides: {
        KEYTURN_POLICIES: 'storage',
        KEYTURN_PENDING: 'sealed:pending/sealing-key',
        KEYTURN_SCAN_SCHEDULE: '*/3 * * * * *',
      },
    }),
  ]);
}, 120_000);

afterAll(async () => {
  await ground?.stop();
}, 60_000);

interface Login {
  readonly username: string;
  readonly password: string;
}

async function latest(name: string): Promise<Login> {
  const { value } = await ground.main.getSecret(name);
  return JSON.parse(value ?? '') as Login;
}

/** An event as the vault's system topic sends it, for a version that may be long gone. */
function nearExpiry(name: string, version: string, more: { vault?: string; type?: string } = {}) {
  const { vault = ground.main.vaultUrl, type = 'Secret' } = more;
  return {
    id: randomUUID(),
    topic: '/subscriptions/0/resourceGroups/g/providers/Microsoft.KeyVault/vaults/main',
    subject: name,
    eventType: `Microsoft.KeyVault.${type}NearExpiry`,
    eventTime: new Date().toISOString(),
    data: {
      Id: `${vault.replace(/\/$/, '')}/${type.toLowerCase()}s/${name}/${version}`,
      VaultName: 'main',
      ObjectType: type,
      ObjectName: name,
      Version: version,
      NBF: null,
      EXP: Math.floor(Date.now() / 1000) + 3600,
    },
    dataVersion: '1',
    metadataVersion: '1',
  };
}

async function deliver(event: object, fn = 'secretNearExpiry'): Promise<number> {
  const answer = await fetch(`${engine.host.url}/runtime/webhooks/eventgrid?functionName=${fn}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'aeg-event-type': 'Notification' },
    body: JSON.stringify([event]),
  });
  return answer.status;
}

/** One audit record per transition, in order. */
async function expectAudited(app: RunningApp, rotationId: string): Promise<void> {
  const view = await app.rotation(rotationId);
  // The last transition is seen in the journal a moment before it stands in the log.
  const records = await eventually(async () => {
    const found = await app.audit({ rotationId, action: 'rotation.transition' });
    return found.length >= view.history.length && found;
  });
  // The log is written at least once: the same fact twice has the same id.
  const facts = [...new Map(records.map((record) => [record.id, record])).values()];
  expect(facts.map((record) => record.detail?.['to'])).toEqual(
    view.history.map((entry: { state: string }) => entry.state),
  );
  expect((await verifyAudit(app.storage.log)).faults).toEqual([]);
}

describe.concurrent('a rotation, end to end', () => {
  it('follows a near-expiry event from alternating login to alternating login', {
    timeout: 120_000,
  }, async () => {
    const name = 'orders-db';
    const consumers = [webhookTo(`${ground.hook.url}/orders`)];
    await engine.document('policies', name, policyFor(name, { grace: 'PT6S', consumers }));
    await engine.document('targets', name, targetFor(ground, name, ['orders_db_a', 'orders_db_b']));
    const { password } = await seedAlternating(ground, name, fromNow(25));

    const promoted = await eventually(async () => {
      const [first] = await engine.rotations(name);
      return first?.state === 'GRACE' && first;
    }, engine.output);
    const oldWorks = await ground.canLogIn('orders_db_a', password);
    const stillInGrace = (await engine.rotation(promoted.id)).state === 'GRACE';
    expect(oldWorks || !stillInGrace).toBe(true);
    const next = await latest(name);
    expect(next.username).toBe('orders_db_b');
    expect(await ground.canLogIn(next.username, next.password)).toBe(true);

    const done = await engine.ended(promoted.id);
    expect(done).toMatchObject({ state: 'DONE', reason: 'near-expiry', outcome: null });
    expect(await ground.canLogIn('orders_db_a', password)).toBe(false);
    expect(await ground.canLogIn(next.username, next.password)).toBe(true);

    const current = await ground.main.getSecret(name);
    expect(current.properties).toMatchObject({
      version: done.promotedVersion,
      contentType: 'application/json',
      tags: { rotationId: done.id, previousVersion: done.baseVersion, login: 'orders_db_b' },
    });
    const told = await eventually(() => ground.hook.told.find(({ path }) => path === '/orders'));
    const body = new Webhook(signingKey).verify(told.body, {
      'webhook-id': String(told.headers['webhook-id']),
      'webhook-timestamp': String(told.headers['webhook-timestamp']),
      'webhook-signature': String(told.headers['webhook-signature']),
    });
    expect(body).toMatchObject({
      type: 'secret.rotated',
      data: { vault: 'main', name, version: done.promotedVersion, rotationId: done.id },
    });
    await expectAudited(engine, done.id);
    const wal = `wal-${done.id}`;
    await expect(ground.pending.getSecret(wal)).rejects.toMatchObject({ statusCode: 404 });
    await expect(ground.pending.getDeletedSecret(wal)).rejects.toMatchObject({ statusCode: 404 });
  });

  it('changes the password of a login that is alone, and measures the gap', {
    timeout: 120_000,
  }, async () => {
    const name = 'billing-db';
    const value = { shape: 'raw' };
    await engine.document('policies', name, policyFor(name, { value, grace: 'PT0S' }));
    await engine.document('targets', name, targetFor(ground, name, 'billing_db'));
    const { login, password } = await seedSingle(ground, name);
    const done = await engine.ended(await engine.rotate(name));
    expect(done).toMatchObject({ state: 'DONE', reason: 'on-demand', requestedBy: 'tester' });
    expect(done.gapMs).toBeGreaterThanOrEqual(0);
    const { value: next = '' } = await ground.main.getSecret(name);
    expect(await ground.canLogIn(login, next)).toBe(true);
    expect(await ground.canLogIn(login, password)).toBe(false);
    await expectAudited(engine, done.id);
  });

  it('generates a value that has no target, by the policy’s rules', {
    timeout: 120_000,
  }, async () => {
    const name = 'session-key';
    const generator = { length: 40, classes: ['digit', 'upper'], exclude: '01OI' };
    await engine.document('policies', name, {
      ...policyFor(name, { handler: 'generated', target: null, value: { shape: 'raw' } }),
      generator,
    });
    await ground.main.setSecret(name, 'the first one', { expiresOn: fromNow(3600) });
    const done = await engine.ended(await engine.rotate(name));
    expect(done.state).toBe('DONE');
    const { value } = await ground.main.getSecret(name);
    expect(value).toMatch(/^[2-9A-HJ-NP-Z]{40}$/);
  });

  it('is found by the scan timer alone, with policies in storage and the candidate sealed', {
    timeout: 120_000,
  }, async () => {
    const name = 'ledger-db';
    const { logins, password } = await seedAlternating(ground, name);
    const target = targetFor(ground, name, logins);
    const policy = policyFor(name, longSchedule);
    const { documents } = stored.storage;
    await documents.put('targets', name, target, 'absent');
    await documents.put('policies', name, JSON.parse(JSON.stringify(policy)), 'absent');
    const done = await stored.newest(name, 'DONE');
    expect(done).toMatchObject({ reason: 'scan', requestedBy: 'scan' });
    const next = await latest(name);
    expect(next.username).toBe(logins[1]);
    expect(await ground.canLogIn(next.username, next.password)).toBe(true);
    expect(await ground.canLogIn(logins[0], password)).toBe(false);
    await expectAudited(stored, done.id);
    const calls = await ground.vaultCalls();
    expect(calls.filter(({ object }) => object === `wal-${done.id}`)).toEqual([]);
    expect(calls.some(({ object }) => object === 'sealing-key')).toBe(true);
  });

  it.each([
    ['from the storage queue vault-events', 'queued-db', 'EventGridSchema'],
    ['from that queue as a CloudEvent', 'queued-cloud-db', 'CloudEventSchemaV1_0'],
    ['as a CloudEvent', 'cloud-db', 'CloudEventSchemaV1_0'],
  ] as const)('takes an event %s', { timeout: 120_000 }, async (_how, name, schema) => {
    const { logins } = await seedAlternating(ground, name);
    await engine.document('policies', name, policyFor(name, longSchedule));
    await engine.document('targets', name, targetFor(ground, name, logins));
    const { eventGrid, azurite } = ground.stack;
    const { connectionString } = azurite;
    const endpoint = `${engine.host.url}/runtime/webhooks/eventgrid?functionName=secretNearExpiry`;
    const where = name.startsWith('queued')
      ? { queue: { connectionString, name: 'keyturn-vault-events' } }
      : { endpoint };
    await eventGrid.subscribe({ topic: name, name, schema, ...where });
    const { properties } = await ground.main.getSecret(name);
    eventGrid.publish(name, nearExpiry(name, properties.version ?? ''));
    const done = await engine.newest(name, 'DONE');
    expect(done.reason).toBe('near-expiry');
    expect((await latest(name)).username).toBe(logins[1]);
  });

  it('rotates once however often the event comes', { timeout: 120_000 }, async () => {
    const name = 'twice-db';
    const { logins } = await seedAlternating(ground, name);
    await engine.document('policies', name, policyFor(name, longSchedule));
    await engine.document('targets', name, targetFor(ground, name, logins));
    const { properties } = await ground.main.getSecret(name);
    const event = nearExpiry(name, properties.version ?? '');
    const statuses = await Promise.all([1, 2, 3, 4, 5].map(() => deliver(event)));
    expect(statuses).toEqual([202, 202, 202, 202, 202]);
    const all = await eventually(async () => {
      const found = await engine.rotations(name);
      return found.length === 5 && found.every(({ ended }) => ended) && found;
    }, engine.output);
    expect(all.filter(({ state }) => state === 'DONE')).toHaveLength(1);
    expect(all.filter(({ state }) => state === 'SKIPPED')).toHaveLength(4);
    const versions = await Array.fromAsync(ground.main.listPropertiesOfSecretVersions(name));
    expect(versions).toHaveLength(2);
  });
});

describe.concurrent('an event that is not to start anything', () => {
  async function expectSkipped(name: string, reason: string): Promise<void> {
    const skipped = await engine.newest(name, 'SKIPPED');
    expect(skipped.outcome.code).toBe(reason);
    await expectAudited(engine, skipped.id);
    const records = await engine.audit({ rotationId: skipped.id });
    expect(records.at(-1)?.detail).toMatchObject({ to: 'SKIPPED', note: reason });
  }

  it('is skipped when it speaks of an older version', { timeout: 60_000 }, async () => {
    const name = 'stale-db';
    await engine.document('policies', name, policyFor(name, longSchedule));
    await engine.document('targets', name, targetFor(ground, name, ['stale_db_a', 'stale_db_b']));
    const first = await ground.main.setSecret(name, '{}', { expiresOn: fromNow(3600) });
    await ground.main.setSecret(name, '{}', { expiresOn: fromNow(3600) });
    expect(await deliver(nearExpiry(name, first.properties.version ?? ''))).toBe(202);
    await expectSkipped(name, 'superseded');
  });

  it('is skipped when the secret is disabled', { timeout: 60_000 }, async () => {
    const name = 'disabled-db';
    await engine.document('policies', name, policyFor(name, longSchedule));
    await engine.document('targets', name, targetFor(ground, name, ['x_a', 'x_b']));
    const { properties } = await ground.main.setSecret(name, newPassword(), { enabled: false });
    expect(await deliver(nearExpiry(name, properties.version ?? ''))).toBe(202);
    await expectSkipped(name, 'object_disabled');
  });

  it('is skipped when no policy lists the object', { timeout: 60_000 }, async () => {
    const name = 'nobody-cares';
    const { properties } = await ground.main.setSecret(name, newPassword());
    expect(await deliver(nearExpiry(name, properties.version ?? ''))).toBe(202);
    await expectSkipped(name, 'no_policy');
  });

  it('is skipped and audited when the vault is none of ours', { timeout: 60_000 }, async () => {
    const event = nearExpiry('orders-db', 'f'.repeat(32), {
      vault: 'https://else.vault.azure.net',
    });
    expect(await deliver(event)).toBe(202);
    const records = await engine.audit({ action: 'event.skipped' });
    expect(records.map(({ detail }) => detail)).toContainEqual(
      expect.objectContaining({ eventId: event.id, vaultUrl: 'https://else.vault.azure.net' }),
    );
  });

  it('is skipped and audited when it is about a certificate', { timeout: 60_000 }, async () => {
    const name = 'shop-tls';
    const value = jsonValue;
    const covers = [{ vault: 'main', type: 'certificate', name }];
    await engine.document('policies', name, {
      ...policyFor(name, { covers, handler: 'generated', target: null, value }),
    });
    const event = nearExpiry(name, '1'.repeat(32), { type: 'Certificate' });
    expect(await deliver(event, 'certificateNearExpiry')).toBe(202);
    const skipped = await eventually(async () => {
      const { json } = await engine.call('GET', '/rotations?limit=100');
      return json.rotations.find((one: { object: { name: string } }) => one.object.name === name);
    }, engine.output);
    const ended = await engine.ended(skipped.id);
    expect(ended).toMatchObject({
      state: 'SKIPPED',
      object: { vault: 'main', type: 'certificate', name },
      outcome: { code: 'unsupported_type' },
    });
    await expectAudited(engine, ended.id);
    const records = await engine.audit({ rotationId: ended.id });
    expect(records.at(-1)?.detail).toMatchObject({ to: 'SKIPPED', note: 'unsupported_type' });
  });
});
