import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { KeyVaultOptions, VaultEvent } from '../../local/key-vault/key-vault.ts';
import {
  createWorkbench,
  fast,
  keyPem,
  openScene,
  type Scene,
  selfSigned,
} from './certificate-subjects.ts';
import { eventually, type Ground, prepareGround } from './emulator-client.ts';
import { collect } from './emulator-control.ts';

const daySeconds = 86_400;

let ground: Ground;

beforeAll(async () => {
  ground = await prepareGround();
});
afterAll(() => ground.stop());

/** A vault of its own, whose clock the test may set. */
async function start(options: Partial<KeyVaultOptions> = {}) {
  const events: VaultEvent[] = [];
  const scene = await openScene(ground, { onEvent: (event) => events.push(event), ...options });
  const { client, control } = scene;
  return {
    ...scene,
    events,
    kinds: (name: string) =>
      events
        .filter(({ data }) => data?.ObjectName === name)
        .map(({ eventType }) => eventType.replace(/^Microsoft\.KeyVault\.Certificate/, '')),
    advance: (days: number) => control('POST', '/clock/advance', { seconds: days * daySeconds }),
    make: async (...wish: Parameters<Scene['create']>) =>
      (await scene.create(...wish)).pollUntilDone(),
    versions: async (name: string) =>
      (await collect(client.listPropertiesOfCertificateVersions(name))).length,
  };
}

describe('renewal', () => {
  it.each([
    ['at a share of the life', { lifetimePercentage: 50 }, 181, 3],
    ['some days before the end', { daysBeforeExpiry: 90 }, 274, 3],
  ])('comes by itself %s', async (_, trigger, firstDay, slackDays) => {
    const { make, advance, versions, client } = await start();
    const lifetimeActions = [{ action: 'AutoRenew' as const, ...trigger }];
    const first = await make('self', { lifetimeActions }, { tags: { kept: 'yes' } });
    await advance(firstDay - slackDays);
    expect(await versions('self')).toBe(1);
    await advance(2 * slackDays);
    expect(await versions('self')).toBe(2);
    const renewed = await client.getCertificate('self');
    expect(renewed.properties).toMatchObject({ tags: { kept: 'yes' }, enabled: true });
    const later = renewed.properties.expiresOn!.getTime() - first.properties.expiresOn!.getTime();
    expect(Math.abs(later / 1000 / daySeconds - firstDay)).toBeLessThanOrEqual(slackDays);
  });

  it('goes on and on, each version once', async () => {
    const { make, advance, versions, kinds } = await start();
    const lifetimeActions = [{ action: 'AutoRenew' as const, lifetimePercentage: 1 }];
    await make('restless', { lifetimeActions, validityInMonths: 1 });
    await advance(2);
    // One percent of a month is some seven hours.
    const count = await versions('restless');
    expect(count).toBeGreaterThanOrEqual(6);
    expect(count).toBeLessThanOrEqual(8);
    expect(kinds('restless').filter((kind) => kind === 'NewVersionCreated')).toHaveLength(count);
  });

  it.each([
    [
      'contacts are only told',
      { lifetimeActions: [{ action: 'EmailContacts' as const, lifetimePercentage: 10 }] },
    ],
    ['the certificate is disabled', {}, { enabled: false } as const],
  ])('does not come when %s', async (_, policy, more: { enabled?: boolean } = {}) => {
    const { make, advance, versions } = await start();
    await make('still', policy, more);
    await advance(360);
    expect(await versions('still')).toBe(1);
  });

  it('is not begun for what somebody outside has issued', async () => {
    const bench = createWorkbench();
    const { client, advance, call } = await start();
    const key = keyPem();
    const pem = key + selfSigned(bench, { key });
    await client.importCertificate('outside', Buffer.from(pem));
    await client.updateCertificatePolicy('outside', {
      issuerName: 'Unknown',
      subject: 'CN=x',
      lifetimeActions: [{ action: 'AutoRenew' as const, lifetimePercentage: 1 }],
    });
    await advance(29);
    expect((await call('/certificates/outside/pending')).status).toBe(404);
    bench.clear();
  });

  it('waits for its issuer, and is tried once when that refuses', async () => {
    const { make, advance, versions, client, switchIssuance, call } = await start();
    await client.createIssuer('ca', 'Test');
    await make('refused', { issuerName: 'ca' });
    await switchIssuance({ issuers: { ca: { delaySeconds: 2 * daySeconds, failure: {} } } });
    await advance(293);
    const path = '/certificates/refused/pending';
    const { status, request_id } = (await call(path)).json;
    expect(status).toBe('inProgress');
    await advance(60);
    expect(await versions('refused')).toBe(1);
    expect((await call(path)).json).toMatchObject({ status: 'failed', request_id });
  });
});

describe('the end of a certificate', () => {
  it('is announced thirty days before and when it comes, for what is current only', async () => {
    const { make, advance, kinds, events } = await start();
    const lifetimeActions = [{ action: 'EmailContacts' as const, daysBeforeExpiry: 10 }];
    await make('ending', { lifetimeActions });
    await advance(334);
    expect(kinds('ending')).toEqual(['NewVersionCreated']);
    await advance(2);
    expect(kinds('ending')).toEqual(['NewVersionCreated', 'NearExpiry']);
    await advance(31);
    await eventually(() => kinds('ending')[2]);
    expect(kinds('ending')).toEqual(['NewVersionCreated', 'NearExpiry', 'Expired']);
    expect(events.map(({ data }) => data?.ObjectType)).toEqual(Array(3).fill('Certificate'));
  });

  it('leaves everything readable', async () => {
    const { make, advance, client, url } = await start();
    await make('expired', { lifetimeActions: [], validityInMonths: 1 });
    await advance(40);
    expect((await client.getCertificate('expired')).cer).toBeDefined();
    const secrets = ground.secretClient(url);
    expect((await secrets.getSecret('expired')).value).toBeDefined();
  });

  it('is not announced for what was never issued', async () => {
    const { create, advance, events } = await start();
    await create('never', { issuerName: 'Unknown' });
    await advance(800);
    expect(events).toEqual([]);
  });
});

describe('a restart', () => {
  it('keeps certificates, operations, issuers, contacts and the authority', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'certificates-'));
    const dataFile = join(dir, 'key-vault.json');
    const before = await start({ dataFile });
    await before.switchIssuance({ delaySeconds: 0 });
    await before.client.createIssuer('ca', 'Test');
    await before.client.setContacts([{ email: 'a@b.example' }]);
    await before.make('issued', { issuerName: 'ca' });
    const root = async ({ call }: Scene, name: string) => {
      const { json } = await call(`/secrets/${name}?outContentType=application/x-pem-file`);
      return json.value.split('-----BEGIN CERTIFICATE-----').at(-1);
    };
    const rootBefore = await root(before, 'issued');
    await before.switchIssuance({ delaySeconds: daySeconds });
    await before.create('waiting', { issuerName: 'ca' });
    await before.emulator.stop();

    const after = await start({ dataFile });
    expect((await after.client.getContacts())![0]).toMatchObject({ email: 'a@b.example' });
    expect((await after.client.getCertificate('issued')).policy).toMatchObject({
      issuerName: 'ca',
    });
    // The switches are those of a new start: it is ready at once.
    const poller = await after.client.getCertificateOperation('waiting', fast);
    const done = await poller.pollUntilDone();
    expect(done.properties.enabled).toBe(true);
    expect(await root(after, 'waiting')).toBe(rootBefore);
    // The key and the secret have an end too, which is not theirs to announce.
    await after.client.updateCertificatePolicy('issued', {
      issuerName: 'ca',
      subject: 'CN=x',
      lifetimeActions: [{ action: 'EmailContacts', lifetimePercentage: 80 }],
    });
    await after.advance(400);
    expect(after.kinds('issued')).toEqual(['NearExpiry', 'Expired']);
    await after.emulator.stop();
    await rm(dir, { recursive: true });
  });
});
