import { describe, expect, it } from 'vitest';
import { AppError } from '../../../src/core/errors.ts';
import type { CandidateRef } from '../../../src/core/rotation/journal.ts';
import {
  type PendingStore,
  sealedPendingStore,
  vaultPendingStore,
} from '../../../src/core/rotation/pending.ts';
import { SecretString } from '../../../src/core/secret-string.ts';
import { simulatedVaults } from '../../../src/core/simulation/vault.ts';

const key = (byte: number, length = 32) => Buffer.alloc(length, byte).toString('base64');
const value = new SecretString('correct horse');
const free = () => undefined;

async function world(kind: 'vault' | 'sealed') {
  const clock = { now: () => new Date('2026-03-01T00:00:00Z') };
  const vaults = simulatedVaults([{ alias: 'pending', purpose: 'pending' }], clock);
  const { secrets } = vaults.get('pending');
  await secrets.set('sealing-key', { value: new SecretString(key(7)) });
  const store: PendingStore =
    kind === 'vault' ? vaultPendingStore(secrets) : sealedPendingStore(secrets, 'sealing-key');
  return { vaults, secrets, store };
}

describe.each(['vault', 'sealed'] as const)('a candidate kept by the %s store', (kind) => {
  it('is found again by what staging gave', async () => {
    const { store } = await world(kind);
    const ref = await store.stage('r1', value, free);
    expect((await store.find('r1', ref))?.expose()).toBe('correct horse');
    expect(ref.kind).toBe(kind);
  });

  it('is not shown by its reference', async () => {
    const { store } = await world(kind);
    const text = JSON.stringify(await store.stage('r1', value, free));
    expect(text).not.toContain('correct');
    expect(text).not.toContain(Buffer.from('correct horse').toString('base64'));
  });

  it('is not there before it was staged', async () => {
    const { store } = await world(kind);
    expect(await store.find('r1', null)).toBeNull();
  });

  it('is not found by a reference of the other store', async () => {
    const { store } = await world(kind);
    const other = await world(kind === 'vault' ? 'sealed' : 'vault');
    const ref = await other.store.stage('r1', value, free);
    expect(await store.find('r1', ref)).toBeNull();
  });

  it('can be dropped, more than once', async () => {
    const { store, secrets, vaults } = await world(kind);
    const ref = await store.stage('r1', value, free);
    await store.drop('r1');
    await store.drop('r1');
    if (ref.kind === 'vault') expect(await store.find('r1', ref)).toBeNull();
    expect((await Array.fromAsync(secrets.list())).map(({ name }) => name)).toEqual([
      'sealing-key',
    ]);
    expect(vaults.deletedNames('pending')).toEqual([]);
  });
});

describe('a candidate in a vault of its own', () => {
  it('is not mistaken for another that was staged after it', async () => {
    const { store } = await world('vault');
    const ref = await store.stage('r1', value, free);
    await store.stage('r1', new SecretString('late'), free);
    expect((await store.find('r1', ref))?.expose()).toBe('correct horse');
  });

  it('is listed with the time it was staged, and nothing else is', async () => {
    const { store } = await world('vault');
    await store.stage('r1', value, free);
    const stagedAt = new Date('2026-03-01T00:00:00Z');
    expect(await Array.fromAsync(store.list())).toEqual([{ rotationId: 'r1', stagedAt }]);
  });

  it('never expires, so that no event is sent about it', async () => {
    const { store, secrets } = await world('vault');
    await store.stage('r1', value, free);
    expect((await secrets.get('wal-r1')).properties).toMatchObject({ expiresOn: null, tags: {} });
  });

  it('is not sent once the guard says no', async () => {
    const { store, secrets } = await world('vault');
    const guard = () => {
      throw new AppError('lease_lost', { detail: 'too late' });
    };
    await expect(store.stage('r1', value, guard)).rejects.toMatchObject({ code: 'lease_lost' });
    expect(await Array.fromAsync(secrets.listVersions('wal-r1'))).toEqual([]);
  });

  it('is not taken for staged when it reads back as something else', async () => {
    const { secrets } = await world('vault');
    const other = new SecretString('other');
    const forgetful = vaultPendingStore({
      ...secrets,
      get: async (name, version) => ({ ...(await secrets.get(name, version)), value: other }),
    });
    await expect(forgetful.stage('r1', value, free)).rejects.toMatchObject({
      code: 'vault_unavailable',
    });
  });

  it('is not taken for missing when the vault does not answer', async () => {
    const { store, vaults } = await world('vault');
    const ref = await store.stage('r1', value, free);
    vaults.onCall(async () => {
      throw new AppError('vault_unavailable', { detail: 'down' });
    });
    await expect(store.find('r1', ref)).rejects.toMatchObject({ code: 'vault_unavailable' });
  });
});

describe('a sealed candidate', () => {
  async function sealed() {
    const given = await world('sealed');
    const ref = await given.store.stage('r1', value, free);
    if (ref.kind !== 'sealed') throw new Error('not sealed');
    return { ...given, ref };
  }

  it('belongs to its rotation alone', async () => {
    const { store, ref } = await sealed();
    await expect(store.find('r2', ref)).rejects.toMatchObject({ code: 'corrupt' });
  });

  it('can be opened after the key was renewed', async () => {
    const { store, secrets, ref } = await sealed();
    await secrets.set('sealing-key', { value: new SecretString(key(8)) });
    expect((await store.find('r1', ref))?.expose()).toBe('correct horse');
    const next = await store.stage('r2', value, free);
    expect(next).not.toMatchObject({ key: ref.key });
  });

  it('is sealed under another nonce each time', async () => {
    const { store, ref } = await sealed();
    const again = await store.stage('r1', value, free);
    expect(again).not.toMatchObject({ nonce: ref.nonce });
  });

  const flip = (text: string, at: number) => {
    const bytes = Buffer.from(text, 'base64');
    const index = at < 0 ? bytes.length + at : at;
    bytes[index] = (bytes[index] ?? 0) ^ 1;
    return bytes.toString('base64');
  };
  type Sealed = Extract<CandidateRef, { kind: 'sealed' }>;
  it.each<[string, (ref: Sealed) => Sealed]>([
    ['its first byte', (ref) => ({ ...ref, ciphertext: flip(ref.ciphertext, 0) })],
    ['its tag', (ref) => ({ ...ref, ciphertext: flip(ref.ciphertext, -1) })],
    ['its nonce', (ref) => ({ ...ref, nonce: flip(ref.nonce, 0) })],
    ['its length', (ref) => ({ ...ref, ciphertext: ref.ciphertext.slice(0, 8) })],
    ['all of it', (ref) => ({ ...ref, ciphertext: '' })],
    ['the length of its nonce', (ref) => ({ ...ref, nonce: '' })],
  ])('is refused when %s was changed', async (_what, change) => {
    const { store, ref } = await sealed();
    await expect(store.find('r1', change(ref))).rejects.toMatchObject({ code: 'corrupt' });
  });

  it.each([16, 31, 33])(
    'is refused under a key of %i bytes, which is not quoted',
    async (length) => {
      const { store, secrets } = await world('sealed');
      const text = key(9, length);
      await secrets.set('sealing-key', { value: new SecretString(text) });
      const refusal = await store.stage('r1', value, free).catch((error: Error) => error);
      expect(refusal).toMatchObject({ code: 'bad_configuration' });
      expect(String(refusal)).not.toContain(text);
    },
  );
});
