import { createHash, randomBytes } from 'node:crypto';
import { ManagedIdentityCredential } from '@azure/identity';
import { CertificateClient } from '@azure/keyvault-certificates';
import { CryptographyClient, KeyClient } from '@azure/keyvault-keys';
import type { SecretClient } from '@azure/keyvault-secrets';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { KeyVaultEmulator } from '../../local/key-vault/key-vault.ts';
import { operations } from '../../local/key-vault/operations.ts';
import { type Ground, prepareGround } from './emulator-client.ts';
import { type Control, collect, controlOf, refusal, urlOf } from './emulator-control.ts';

const version = 'api-version=2026-04-01';
const credential = new ManagedIdentityCredential();

let ground: Ground;
let emulator: KeyVaultEmulator;
let control: Control;
let here: SecretClient;
let there: SecretClient;

beforeAll(async () => {
  ground = await prepareGround();
  emulator = await ground.startVaults({ vaults: [{ name: 'here' }, { name: 'there' }] });
  control = controlOf(emulator);
  here = ground.secretClient(urlOf(emulator, 'here'));
  there = ground.secretClient(urlOf(emulator, 'there'));
});
afterEach(() => control('POST', '/reset'));
afterAll(() => ground.stop());

/** Everything of a secret but its URL, version by version. */
async function contentsOf(client: SecretClient, name: string) {
  const versions = await collect(client.listPropertiesOfSecretVersions(name));
  return Promise.all(
    versions.map(async ({ version: id, enabled, ...rest }) => {
      const { id: _, vaultUrl: __, ...properties } = rest;
      const value = enabled ? (await client.getSecret(name, { version: id! })).value : null;
      return { id, enabled, value, ...properties };
    }),
  );
}

describe('a backup of a secret', () => {
  it('brings back every version under its id, with attributes and tags, in any vault', async () => {
    const expiresOn = new Date('2030-01-01T00:00:00Z');
    await here.setSecret('whole', 'one', { tags: { n: '1' }, contentType: 'text/plain' });
    await here.setSecret('whole', 'twö', { expiresOn, notBefore: new Date(1000) });
    await here.setSecret('whole', '', { enabled: false });
    const backup = (await here.backupSecret('whole'))!;
    await control('POST', '/clock/advance', { seconds: 3600 });
    const restored = await there.restoreSecretBackup(backup);
    expect(restored).toMatchObject({ name: 'whole', enabled: false });
    expect(restored.id).toMatch(new RegExp(`^${urlOf(emulator, 'there')}/secrets/whole/`));
    expect(await contentsOf(there, 'whole')).toEqual(await contentsOf(here, 'whole'));

    await there.setSecret('whole', 'later');
    expect(await contentsOf(there, 'whole')).toHaveLength(4);
    expect(await contentsOf(here, 'whole')).toHaveLength(3);
  });

  it('is of the moment in which it was made', async () => {
    await here.setSecret('moment', '1');
    const backup = (await here.backupSecret('moment'))!;
    await here.setSecret('moment', '2');
    await here.updateSecretProperties('moment', '', { tags: { late: 'y' } });
    await there.restoreSecretBackup(backup);
    expect(await contentsOf(there, 'moment')).toMatchObject([{ value: '1' }]);
  });

  it('shows neither name nor value, and is another one each time', async () => {
    await here.setSecret('opaque-name', 'opaque-value');
    const [one, other] = await Promise.all([
      here.backupSecret('opaque-name'),
      here.backupSecret('opaque-name'),
    ]);
    expect(Buffer.from(one!).equals(Buffer.from(other!))).toBe(false);
    expect(Buffer.from(one!).toString('latin1')).not.toContain('opaque');
  });

  it('is not restored over a secret of that name, live or deleted', async () => {
    await here.setSecret('taken', 'v');
    const backup = (await here.backupSecret('taken'))!;
    const id = `${urlOf(emulator, 'here')}/secrets/taken`;
    const conflict = {
      code: 'Conflict',
      statusCode: 409,
      message: `There was a conflict restoring the secret '${id}'. This can happen if either: a second secret with the same name was created after the first secret was deleted; thus trying to restore a secret whose name is already in use. To fix this, rename the second secret to something else so that the restore works. The second probable cause of this exception is when multiple operations are performed in parallel against the secret. To avoid this error, perform operations against a secret in a sequential manner.`,
      inner: undefined,
    };
    expect(await refusal(here.restoreSecretBackup(backup))).toEqual(conflict);
    await here.beginDeleteSecret('taken');
    expect(await refusal(here.restoreSecretBackup(backup))).toEqual(conflict);
    await here.purgeDeletedSecret('taken');
    await here.restoreSecretBackup(backup);
    expect((await here.getSecret('taken')).value).toBe('v');
  });

  it('is not restored while the name is still being purged', async () => {
    await here.setSecret('purging', 'v');
    const backup = (await here.backupSecret('purging'))!;
    await here.beginDeleteSecret('purging');
    await control('PATCH', '/vaults/here/switches', { delays: { purgeSeconds: 5 } });
    await here.purgeDeletedSecret('purging');
    expect(await refusal(here.restoreSecretBackup(backup))).toMatchObject({
      statusCode: 409,
      inner: 'ObjectIsBeingDeleted',
    });
    await control('POST', '/clock/advance', { seconds: 5 });
    await here.restoreSecretBackup(backup);
  });

  it('holds 500 versions and no more', async () => {
    const state = (await control('GET', '/state')).json;
    const versions = Array.from({ length: 501 }, (_, index) => ({
      version: index.toString(16).padStart(32, '0'),
      value: String(index),
      enabled: true,
      created: 1,
      updated: 1,
    }));
    state.vaults.here.secrets.live.push(
      { name: 'many-500', versions: versions.slice(0, 500) },
      { name: 'many-501', versions },
    );
    expect((await control('PUT', '/state', state)).status).toBe(204);
    const backup = (await here.backupSecret('many-500'))!;
    await there.restoreSecretBackup(backup);
    expect(await collect(there.listPropertiesOfSecretVersions('many-500'))).toHaveLength(500);
    expect(await refusal(here.backupSecret('many-501'))).toMatchObject({
      code: 'BadParameter',
      statusCode: 400,
    });
  });

  it('needs the secret', async () => {
    expect(await refusal(here.backupSecret('absent'))).toMatchObject({
      code: 'SecretNotFound',
      statusCode: 404,
    });
  });

  it.each([
    ['another subscription', { subscriptionId: 'another' }],
    ['another geography', { geography: 'another' }],
  ])('is not understood in %s', async (_, switches) => {
    const name = `foreign-${Object.keys(switches)[0]}`;
    await here.setSecret(name, 'v');
    const backup = (await here.backupSecret(name))!;
    await control('PATCH', '/vaults/there/switches', switches);
    expect(await refusal(there.restoreSecretBackup(backup))).toEqual({
      code: 'BadParameter',
      statusCode: 400,
      message: 'Cannot decrypt backup blob',
      inner: undefined,
    });
    await control('POST', '/reset');
    await there.restoreSecretBackup(backup);
  });

  it('survives any value, content type and tags', async () => {
    const text = fc.string({ unit: 'binary', maxLength: 40 }).map((one) => one.toWellFormed());
    const secret = fc.record({
      value: text,
      contentType: text,
      tags: fc.dictionary(
        text.filter((name) => name !== '__proto__'),
        text,
        { maxKeys: 4 },
      ),
      enabled: fc.boolean(),
    });
    let round = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(secret, { minLength: 1, maxLength: 4 }), async (versions) => {
        const name = `any-${round++}`;
        for (const { value, ...options } of versions) await here.setSecret(name, value, options);
        await there.restoreSecretBackup((await here.backupSecret(name))!);
        expect(await contentsOf(there, name)).toEqual(await contentsOf(here, name));
      }),
      { numRuns: 25 },
    );
  });
});

describe('what is no backup', () => {
  const malformed = {
    error: {
      code: 'Malformed backup blob',
      message: 'Backup blob contains invalid or corrupt version.',
    },
  };
  const restore = (value: unknown) =>
    ground.call(`${urlOf(emulator, 'there')}/secrets/restore?${version}`, {
      method: 'POST',
      body: { value },
    });

  it.each([
    ['text', 'nonsense'],
    ['signs that base64url does not have', '!!!'],
    ['random bytes', randomBytes(500).toString('base64url')],
    ['a single byte', 'AQ'],
  ])('is refused: %s', async (_, value) => {
    const reply = await restore(value);
    expect([reply.status, reply.json]).toEqual([400, malformed]);
  });

  it.each([[undefined], [null], [1], [''], [{}]])('is a bad parameter: %j', async (value) => {
    const reply = await restore(value);
    expect([reply.status, reply.json.error.code]).toEqual([400, 'BadParameter']);
  });

  it('is a backup that was changed or cut, wherever', async () => {
    await here.setSecret('changed', 'v');
    const backup = Buffer.from((await here.backupSecret('changed'))!);
    const places = fc.record({ at: fc.nat(backup.length - 1), bit: fc.nat(7), cut: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(places, async ({ at, bit, cut }) => {
        const copy = Buffer.from(backup);
        copy[at] = copy[at]! ^ (1 << bit);
        const reply = await restore((cut ? backup.subarray(0, at) : copy).toString('base64url'));
        expect(reply.status).toBe(400);
      }),
      { numRuns: 60 },
    );
    await there.restoreSecretBackup(backup);
  });

  it('is a backup of another type', async () => {
    await here.setSecret('typed', 'v');
    const value = Buffer.from((await here.backupSecret('typed'))!).toString('base64url');
    const others = operations.filter(
      ({ id }) => id === 'restoreKey' || id === 'restoreCertificate',
    );
    expect(others).toHaveLength(2);
    for (const { template } of others) {
      const target = `${urlOf(emulator, 'there')}${template}?${version}`;
      const reply = await ground.call(target, { method: 'POST', body: { value } });
      expect([reply.status, reply.json]).toEqual([400, malformed]);
    }
  });
});

describe('a backup of a key', () => {
  it('signs as before, in every version', async () => {
    const from = new KeyClient(urlOf(emulator, 'here'), credential, ground.clientOptions);
    const to = new KeyClient(urlOf(emulator, 'there'), credential, ground.clientOptions);
    const first = await from.createEcKey('signer', { tags: { n: '1' } });
    await from.rotateKey('signer');
    const digest = createHash('sha256').update('text').digest();
    const crypto = new CryptographyClient(first.id!, credential, ground.clientOptions);
    const { result } = await crypto.sign('ES256', digest);
    await to.restoreKeyBackup((await from.backupKey('signer'))!);
    const restored = await to.getKey('signer', { version: first.properties.version! });
    expect(restored.key!.x).toEqual(first.key!.x);
    expect(restored.properties.tags).toEqual({ n: '1' });
    const verifier = new CryptographyClient(restored.id!, credential, ground.clientOptions);
    expect((await verifier.verify('ES256', digest, result)).result).toBe(true);
    const again = await verifier.sign('ES256', digest);
    expect((await crypto.verify('ES256', digest, again.result)).result).toBe(true);
    expect(await collect(to.listPropertiesOfKeyVersions('signer'))).toHaveLength(2);
    const conflict = await refusal(from.restoreKeyBackup((await to.backupKey('signer'))!));
    expect(conflict).toMatchObject({ statusCode: 409, code: 'Conflict' });
  });
});

describe('a backup of a certificate', () => {
  it('brings key and secret with it', async () => {
    const from = new CertificateClient(urlOf(emulator, 'here'), credential, ground.clientOptions);
    const to = new CertificateClient(urlOf(emulator, 'there'), credential, ground.clientOptions);
    const policy = {
      issuerName: 'Self',
      subject: 'CN=backup',
      keyType: 'EC',
      keyCurveName: 'P-256',
    };
    const poller = await from.beginCreateCertificate('site', policy as never, { intervalInMs: 10 });
    const made = await poller.pollUntilDone();
    const backup = (await from.backupCertificate('site'))!;
    await to.restoreCertificateBackup(backup);
    const restored = await to.getCertificate('site');
    expect(Buffer.from(restored.cer!).equals(Buffer.from(made.cer!))).toBe(true);
    expect(restored.properties.version).toBe(made.properties.version);
    expect(restored.policy).toMatchObject({ subject: 'CN=backup' });
    const [ours, theirs] = await Promise.all([here.getSecret('site'), there.getSecret('site')]);
    expect(theirs.value).toBe(ours.value);
    expect(theirs.properties.version).toBe(made.properties.version);
    const keys = new KeyClient(urlOf(emulator, 'there'), credential, ground.clientOptions);
    expect((await keys.getKey('site')).properties.managed).toBe(true);
    expect(await refusal(to.restoreCertificateBackup(backup))).toMatchObject({ statusCode: 409 });
  });

  it('is not restored where the name of its key or secret is taken', async () => {
    const from = new CertificateClient(urlOf(emulator, 'here'), credential, ground.clientOptions);
    const to = new CertificateClient(urlOf(emulator, 'there'), credential, ground.clientOptions);
    const policy = { issuerName: 'Self', subject: 'CN=x', keyType: 'EC', keyCurveName: 'P-256' };
    await from
      .beginCreateCertificate('clash', policy as never, { intervalInMs: 10 })
      .then((poller) => poller.pollUntilDone());
    await there.setSecret('clash', 'of its own');
    const backup = (await from.backupCertificate('clash'))!;
    expect(await refusal(to.restoreCertificateBackup(backup))).toMatchObject({ statusCode: 409 });
    expect((await refusal(to.getCertificate('clash')))?.statusCode).toBe(404);
    expect((await there.getSecret('clash')).value).toBe('of its own');
  });
});
