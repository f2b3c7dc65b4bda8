import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../src/core/clock.ts';
import { createEnvelope } from '../../../src/core/crypto/envelope.ts';
import { localWrappingKey } from '../../../src/core/crypto/local-wrapping-key.ts';
import { vaultWrappingKey } from '../../../src/core/crypto/vault-wrapping-key.ts';
import type { WrappedKey } from '../../../src/core/crypto/wrapping-key.ts';
import { simulatedVaults } from '../../../src/core/simulation/vault.ts';
import { text } from './support.ts';

/** The key of a simulated vault, with what only the vault's keeper does to it. */
async function vaultKey() {
  const vault = simulatedVaults([{ alias: 'main', purpose: 'main' }], systemClock).get('main');
  let latest = (await vault.keys.create('orders', { type: 'RSA' })).id;
  let changed: Promise<unknown> = Promise.resolve();
  const key = vaultWrappingKey(vault, 'orders');
  return {
    wrap: (dataKey: Uint8Array) => changed.then(() => key.wrap(dataKey)),
    unwrap: (wrapped: WrappedKey) => changed.then(() => key.unwrap(wrapped)),
    rotate: async () => {
      latest = (await vault.keys.rotate('orders')).id;
      return latest;
    },
    disable: (keyId: string) => {
      const version = keyId.split('/').at(-1) ?? '';
      if (/^[0-9a-f]{32}$/.test(version)) {
        changed = vault.keys.update('orders', version, { enabled: false });
      }
    },
  };
}

/** What every wrapping key does; one line for each implementer. */
describe.each([
  ['a local wrapping key', async () => localWrappingKey('orders')],
  ['a key of a vault', vaultKey],
] as const)('%s', (_, make) => {
  it('gives back what it wrapped, and says under which version', async () => {
    const key = await make();
    const dataKey = randomBytes(32);
    const wrapped = await key.wrap(dataKey);
    expect(Buffer.from(await key.unwrap(wrapped))).toEqual(dataKey);
    expect(Buffer.from(wrapped.wrapped).includes(dataKey.subarray(0, 8))).toBe(false);
    const other = await key.wrap(randomBytes(32));
    expect(other).toMatchObject({ keyId: wrapped.keyId, algorithm: wrapped.algorithm });
  });

  it('wraps under the newest version and unwraps under all', async () => {
    const key = await make();
    const dataKey = randomBytes(32);
    const before = await key.wrap(dataKey);
    const newest = await key.rotate();
    const after = await key.wrap(dataKey);
    expect(after.keyId).toBe(newest);
    expect(before.keyId).not.toBe(newest);
    for (const wrapped of [before, after]) {
      expect(Buffer.from(await key.unwrap(wrapped))).toEqual(dataKey);
    }
  });

  it('gives memory of its own', async () => {
    const key = await make();
    const wrapped = await key.wrap(randomBytes(32));
    const [one, other] = [await key.unwrap(wrapped), await key.unwrap(wrapped)];
    one.fill(0);
    expect(other.some((byte) => byte !== 0)).toBe(true);
  });

  it('unwraps nothing with a version that is disabled', async () => {
    const key = await make();
    const wrapped = await key.wrap(randomBytes(32));
    key.disable(wrapped.keyId);
    await expect(key.unwrap(wrapped)).rejects.toMatchObject({ code: 'object_disabled' });
    expect((await key.wrap(randomBytes(32)).catch((error) => error)).code).toBe('object_disabled');
  });

  it.each(['', 'local/orders/2', 'local/other/1', 'https://elsewhere.example/keys/k/1'])(
    'asks no other key: %s',
    async (keyId) => {
      const key = await make();
      const wrapped = await key.wrap(randomBytes(32));
      await expect(key.unwrap({ ...wrapped, keyId })).rejects.toMatchObject({ code: 'not_found' });
      key.disable(keyId);
      await expect(key.unwrap({ ...wrapped, keyId })).rejects.toMatchObject({ code: 'not_found' });
    },
  );

  it('refuses what it has not wrapped', async () => {
    const key = await make();
    const wrapped = await key.wrap(randomBytes(32));
    const bytes = Buffer.from(wrapped.wrapped);
    for (let at = 0; at < bytes.length; at++) {
      const altered = Buffer.from(bytes);
      altered[at] = (altered[at] ?? 0) ^ 0x10;
      const unwrapping = key.unwrap({ ...wrapped, wrapped: altered });
      await expect(unwrapping).rejects.toMatchObject({ code: 'corrupt' });
    }
    for (const other of [bytes.subarray(1), Buffer.alloc(0), Buffer.concat([bytes, bytes])]) {
      const unwrapping = key.unwrap({ ...wrapped, wrapped: other });
      await expect(unwrapping).rejects.toMatchObject({ code: 'corrupt' });
    }
    const algorithm = 'RSA1_5';
    await expect(key.unwrap({ ...wrapped, algorithm })).rejects.toMatchObject({ code: 'corrupt' });
  });

  it('serves an envelope', async () => {
    const envelope = createEnvelope({ wrappingKey: await make() });
    const { header, payload } = await envelope.seal(text('correct horse'));
    const rewrapped = await envelope.rewrap(header);
    expect(String(await envelope.open({ header: rewrapped, payload }))).toBe('correct horse');
  });
});
