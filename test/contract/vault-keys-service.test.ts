import { randomBytes } from 'node:crypto';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { inspect } from 'node:util';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { FaultRule } from '../../local/key-vault/faults.ts';
import type { KeyVaultEmulator } from '../../local/key-vault/key-vault.ts';
import { processCredential } from '../../src/core/azure/credential.ts';
import { createVaults } from '../../src/core/azure/key-vault.ts';
import { systemClock } from '../../src/core/clock.ts';
import type { ErrorCode } from '../../src/core/errors.ts';
import type { KeyService } from '../../src/core/vault/keys.ts';
import { localKeys } from '../../src/core/vault/local-keys.ts';
import type { Limits } from '../../src/core/vault/pipeline.ts';
import { importable, rsaPair } from '../support/key-pairs.ts';
import { type Ground, prepareGround } from './emulator-client.ts';
import { control, patient } from './vault-subjects.ts';

// What the adapter sends to a Key Vault, and what it makes of bad answers.

let ground: Ground;
let emulator: KeyVaultEmulator;
beforeAll(async () => {
  ground = await prepareGround();
  setDefaultCACertificates([...getCACertificates('default'), ground.ca.caPem]);
  emulator = await ground.startVaults({ vaults: [{ name: 'main' }] });
  keys = azureKeys();
  hurriedKeys = azureKeys(hurried);
});
afterAll(() => ground?.stop());

/** For calls that are to fail, or to be tried again: as in production, only faster. */
const hurried: Limits = { ...patient, perTryMs: 1_000, overallMs: 6_000 };
const failure = (code: ErrorCode) => expect.objectContaining({ name: 'AppError', code });
const azureKeys = (allowed: Limits = patient): KeyService => {
  const vault = { alias: 'main', purpose: 'main', url: emulator.vaults[0]?.url ?? '' } as const;
  return createVaults([vault], processCredential(), { limits: allowed }).get('main').keys;
};

type Row = { readonly operation: string; readonly status: number | null };
/** What the vault was asked since the log was last emptied. */
const asked = async () => {
  const { value } = await control<{ value: Row[] }>(emulator, 'GET', '/audit');
  return value.map(({ operation, status }) => `${operation} ${status}`);
};
const forget = () => control(emulator, 'DELETE', '/audit');
const fault = (operation: string, kind: FaultRule['fault'], more: Partial<FaultRule> = {}) =>
  control(emulator, 'POST', '/faults', { operation, fault: kind, ...more });

let names = 0;
let name: string;
let keys: KeyService;
let hurriedKeys: KeyService;
const digest = randomBytes(32);
const oaep = { algorithm: 'RSA-OAEP-256', plaintext: Buffer.from('a data key') } as const;
const sign = { algorithm: 'PS256', digest } as const;

beforeEach(async () => {
  await control(emulator, 'DELETE', '/faults');
  name = `key-${++names}`;
  await keys.import(name, importable(rsaPair));
  await forget();
});

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

describe('the requests of a key service', () => {
  it('are one for each use of a key, and one more for the first of all', async () => {
    const cold = azureKeys();
    const { result: ciphertext } = await cold.encrypt(name, oaep);
    expect((await asked()).map((call) => call.split(' ')[1])).toEqual(['401', '200']);
    await forget();
    // The SDK would do this one by itself.
    await cold.encrypt(name, { ...oaep, algorithm: 'RSA-OAEP' });
    await cold.decrypt(name, { algorithm: 'RSA-OAEP-256', ciphertext });
    const { result: wrapped } = await cold.wrapKey(name, { algorithm: 'RSA1_5', key: digest });
    await cold.unwrapKey(name, { algorithm: 'RSA1_5', wrapped });
    const { result: signature, keyId } = await cold.sign(name, sign);
    await cold.verify(name, { ...sign, signature }, keyId.split('/').at(-1));
    const uses = ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey', 'sign', 'verify'];
    expect(await asked()).toEqual(uses.map((use) => `${use} 200`));
    await forget();
    // The vault does not say which version has verified, so that is asked first.
    await cold.verify(name, { ...sign, signature });
    expect(await asked()).toEqual(['getKey 200', 'verify 200']);
  });

  it('are none for what takes the public key only, once that is known', async () => {
    const key = await keys.get(name);
    const local = localKeys(keys, { read: async () => key, clock: systemClock });
    await forget();
    await local.encrypt(name, oaep);
    await local.wrapKey(name, { algorithm: 'RSA-OAEP', key: digest });
    await local.verify(name, { ...sign, signature: randomBytes(256) });
    expect(await asked()).toEqual([]);
  });

  it('go to the vault for everything when the key may not be read', async () => {
    await fault('getKey', { kind: 'status', status: 403, code: 'Forbidden' }, { times: 0 });
    const local = localKeys(keys, { read: keys.get, clock: systemClock });
    const { result: ciphertext } = await local.encrypt(name, oaep);
    await local.decrypt(name, { algorithm: 'RSA-OAEP-256', ciphertext });
    expect(await asked()).toEqual(['getKey 403', 'encrypt 200', 'decrypt 200']);
  });

  it('are none for what no vault would take', async () => {
    const plaintext = oaep.plaintext;
    for (const call of [
      () => keys.create(name, { type: 'RSA', size: 1024 }),
      () => keys.create(name, { type: 'RSA', expiresOn: new Date('2040-01-01') }),
      () => keys.encrypt(name, { algorithm: 'A256CBC', plaintext }),
      () => keys.sign(name, { ...sign, digest: randomBytes(20) }),
      () => keys.setRotationPolicy(name, { expiresIn: 'P1D', actions: [] }),
    ]) {
      await expect(call()).rejects.toEqual(failure('invalid_input'));
    }
    await expect(keys.create(name, { type: 'RSA', expiresOn: new Date('2040-01-01') }))
      .rejects //
      .toThrow(/expiresOn.*2038-01-19T03:14:07.000Z.*SDK/);
    expect(await asked()).toEqual([]);
  });
});

describe('a Key Vault and a Managed HSM', () => {
  const nobody = {
    getToken: async () => {
      throw new Error('nothing is to be sent');
    },
  };
  const vaults = createVaults(
    [
      { alias: 'orders', purpose: 'main', url: 'https://orders.vault.azure.net' },
      { alias: 'hsm', purpose: 'main', url: 'https://orders.managedhsm.azure.net/' },
    ],
    nobody,
    { limits: { ...patient, overallMs: 100 } },
  );

  it('are told apart: what a vault does not do is refused by name', async () => {
    const { keys: ofVault } = vaults.get('orders');
    await expect(ofVault.randomBytes(8)).rejects.toEqual(failure('invalid_input'));
    await expect(ofVault.randomBytes(8)).rejects.toThrow(/Managed HSM.*randomBytes/);
    await expect(ofVault.create('a', { type: 'oct' })).rejects.toThrow(/use oct-HSM/);
  });

  it('are told apart: what an HSM does not keep is refused by name', async () => {
    const { secrets } = vaults.get('hsm');
    await expect(secrets.get('a')).rejects.toEqual(failure('invalid_input'));
    await expect(secrets.get('a')).rejects.toThrow(/hsm is a Managed HSM.*secrets/);
    expect(() => secrets.list()).toThrow(failure('invalid_input'));
  });

  it.each(['orders', 'hsm'])('are both asked for keys: %s', async (alias) => {
    await expect(vaults.get(alias).keys.get('a')).rejects.toEqual(failure('vault_unavailable'));
  });
});

describe('a Key Vault under faults', () => {
  const passing: readonly (readonly [string, FaultRule['fault']])[] = [
    ['a bare 429', { kind: 'status', status: 429, code: 'Throttled' }],
    ['a 503', { kind: 'status', status: 503 }],
    ['a reset', { kind: 'reset' }],
    ['silence', { kind: 'hang' }],
  ];

  it.each(passing)('is asked again for the use of a key after %s', async (_what, kind) => {
    await fault('sign', kind, { times: 2 });
    const { result: signature } = await hurriedKeys.sign(name, sign);
    await fault('verify', kind);
    expect((await hurriedKeys.verify(name, { ...sign, signature })).valid).toBe(true);
    await fault('getKeyRotationPolicy', kind);
    await hurriedKeys.getRotationPolicy(name);
  });

  it.each(passing)('makes one version at most when it answers with %s', async (_what, kind) => {
    const backup = await keys.backup(name);
    const given = kind.kind === 'hang' ? hurriedKeys : keys;
    for (const [operation, call] of [
      ['createKey', () => given.create(name, { type: 'EC' })],
      ['importKey', () => given.import(name, importable(rsaPair))],
      ['rotateKey', () => given.rotate(name)],
      ['restoreKey', () => given.restore(backup)],
    ] as const) {
      await fault(operation, kind, { times: 0 });
      await forget();
      const error = await call().catch((cause: unknown) => cause);
      expect(error).toMatchObject({ name: 'AppError', retryable: true });
      expect((await asked()).length).toBeLessThan(2);
    }
    expect(await all(keys.listVersions(name))).toHaveLength(1);
  });

  it.each(['createKey', 'rotateKey'] as const)(
    'has made exactly one version when the answer to %s is lost',
    async (operation) => {
      await fault(operation, { kind: 'reset-after-commit' });
      const call =
        operation === 'rotateKey' ? keys.rotate(name) : keys.create(name, { type: 'EC' });
      await expect(call).rejects.toEqual(failure('vault_unavailable'));
      expect(await all(keys.listVersions(name))).toHaveLength(2);
    },
  );

  it.each([
    { kind: 'fail-after-commit', status: 503 },
    { kind: 'reset-after-commit' },
    { kind: 'reset' },
  ] as const)('deletes, recovers and purges once, although it answers with %o', async (kind) => {
    await fault('deleteKey', kind);
    expect((await keys.delete(name)).properties.name).toBe(name);
    await fault('recoverDeletedKey', kind);
    expect((await keys.recover(name)).properties.name).toBe(name);
    await keys.delete(name);
    await fault('purgeDeletedKey', kind);
    await keys.purge(name);
    await expect(keys.getDeleted(name)).rejects.toEqual(failure('not_found'));
  });

  it.each([
    [401, 'Unauthorized', 'vault_denied'],
    [403, 'Forbidden', 'vault_denied'],
    [400, 'BadParameter', 'invalid_input'],
    [405, 'MethodNotAllowed', 'vault_rejected'],
  ] as const)(
    'is believed when it answers the use of a key with %i',
    async (status, code, expected) => {
      await fault('sign', { kind: 'status', status, code }, { times: 0 });
      await expect(keys.sign(name, sign)).rejects.toEqual(failure(expected));
    },
  );

  it('is not believed when somebody else may have answered', async () => {
    await fault('sign', { kind: 'empty-body', status: 400 }, { times: 0 });
    const hasty = azureKeys({ ...patient, overallMs: 300 });
    await expect(hasty.sign(name, sign)).rejects.toEqual(failure('vault_unavailable'));
  });

  it.each([
    [403, 'Operation sign is not allowed on an expired key.', 'object_disabled'],
    [403, 'Operation sign is not permitted on this key.', 'invalid_input'],
  ] as const)('is understood without an inner code: %i %s', async (status, message, expected) => {
    await fault('sign', { kind: 'status', status, code: 'Forbidden', message });
    await expect(keys.sign(name, sign)).rejects.toEqual(failure(expected));
  });

  it('gives nothing away in errors, though it repeats what it was sent', async () => {
    const canary = 'canary-7d1f';
    const plaintext = Buffer.from(canary);
    const hasty = azureKeys({ ...patient, overallMs: 300 });
    for (const status of [400, 403, 503]) {
      const repeated = { kind: 'status', status, code: 'Bad', message: canary } as const;
      await fault('encrypt', repeated, { times: 0 });
      await fault('importKey', repeated, { times: 0 });
      for (const call of [
        () => hasty.encrypt(name, { algorithm: 'RSA-OAEP', plaintext }),
        () => hasty.import(name, importable(rsaPair)),
      ]) {
        const error = await call().catch((cause: unknown) => cause);
        expect(error).toMatchObject({ name: 'AppError' });
        const shown = inspect(error, { depth: 20, showHidden: true });
        expect(shown).not.toContain(canary);
        expect(shown).not.toContain(plaintext.toString('base64url'));
        expect(shown).not.toMatch(/Bearer|eyJ/);
      }
      await control(emulator, 'DELETE', '/faults');
    }
  });
});
