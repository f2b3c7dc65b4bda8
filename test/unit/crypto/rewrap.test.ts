import { describe, expect, it } from 'vitest';
import { createEnvelope } from '../../../src/core/crypto/envelope.ts';
import { keyIdOf } from '../../../src/core/crypto/header.ts';
import { localWrappingKey } from '../../../src/core/crypto/local-wrapping-key.ts';
import { AppError, hasCode } from '../../../src/core/errors.ts';
import { aWorld, someBytes, text } from './support.ts';

const associatedData = text('main/secret/orders-db');
const plaintext = someBytes(10_000);

async function aRotatedWorld() {
  const world = aWorld();
  const { header, payload } = await world.envelope.seal(plaintext, { associatedData });
  const oldKeyId = keyIdOf(header);
  const newKeyId = world.wrappingKey.rotate();
  world.envelope.forget();
  return { ...world, header, payload, oldKeyId, newKeyId };
}

describe('a rewrapped header', () => {
  it('opens the same payload when the old version is gone', async () => {
    const { envelope, wrappingKey, header, payload, oldKeyId, newKeyId } = await aRotatedWorld();
    const rewrapped = await envelope.rewrap(header);
    wrappingKey.disable(oldKeyId);
    envelope.forget();
    expect(keyIdOf(header)).toBe(oldKeyId);
    expect(keyIdOf(rewrapped)).toBe(newKeyId);
    expect(await envelope.open({ header: rewrapped, payload }, { associatedData })).toEqual(
      plaintext,
    );
    await expect(envelope.open({ header, payload }, { associatedData })).rejects.toMatchObject({
      code: 'object_disabled',
    });
  });

  it('leaves the old one good for as long as its version is', async () => {
    const { envelope, header, payload } = await aRotatedWorld();
    await envelope.rewrap(header);
    expect(await envelope.open({ header, payload }, { associatedData })).toEqual(plaintext);
  });

  it('can be rewrapped again, also when nothing was rotated', async () => {
    const { envelope, header, payload } = await aRotatedWorld();
    const again = await envelope.rewrap(await envelope.rewrap(header));
    expect(await envelope.open({ header: again, payload }, { associatedData })).toEqual(plaintext);
  });

  it('changes nothing of the message section', async () => {
    const { envelope, header } = await aRotatedWorld();
    const rewrapped = await envelope.rewrap(header);
    expect(rewrapped.subarray(0, 71)).toEqual(header.subarray(0, 71));
  });

  it('is bound to the associated data as before', async () => {
    const { envelope, header, payload } = await aRotatedWorld();
    const rewrapped = await envelope.rewrap(header);
    await expect(envelope.open({ header: rewrapped, payload })).rejects.toMatchObject({
      code: 'corrupt',
    });
  });

  it('is no less proven than the one before', async () => {
    const { envelope, header, payload } = await aRotatedWorld();
    const rewrapped = await envelope.rewrap(header);
    for (let at = 0; at < rewrapped.length; at++) {
      const altered = Buffer.from(rewrapped);
      altered[at] = (altered[at] ?? 0) ^ 0x20;
      const opening = envelope.open({ header: altered, payload }, { associatedData });
      const code = await opening.then(
        () => 'opened',
        (error) => (hasCode(error, 'corrupt', 'not_found') ? 'refused' : error),
      );
      expect([at, code]).toEqual([at, 'refused']);
    }
  });

  it('is not made of a wrap section that was changed', async () => {
    const { envelope, header } = await aRotatedWorld();
    for (let at = 71; at < header.length; at++) {
      const altered = Buffer.from(header);
      altered[at] = (altered[at] ?? 0) ^ 0x01;
      const error = await envelope.rewrap(altered).catch((cause: unknown) => cause);
      expect([at, hasCode(error, 'corrupt', 'not_found')]).toEqual([at, true]);
    }
  });

  it('is not made when the new version does not give the data key back', async () => {
    const { wrappingKey, header } = await aRotatedWorld();
    const other = localWrappingKey('other');
    const broken = createEnvelope({
      wrappingKey: {
        ...wrappingKey,
        // Wraps something else than it is given.
        wrap: () => wrappingKey.wrap(new Uint8Array(32)),
      },
    });
    await expect(broken.rewrap(header)).rejects.toMatchObject({ code: 'internal' });
    const foreign = createEnvelope({ wrappingKey: { ...wrappingKey, wrap: other.wrap } });
    await expect(foreign.rewrap(header)).rejects.toMatchObject({ code: 'not_found' });
  });

  it('is not made while the vault does not answer', async () => {
    const { wrappingKey, header } = await aRotatedWorld();
    const fault = new AppError('vault_unavailable', { detail: 'planted' });
    const wrap = async () => {
      throw fault;
    };
    const envelope = createEnvelope({ wrappingKey: { ...wrappingKey, wrap } });
    await expect(envelope.rewrap(header)).rejects.toBe(fault);
  });

  it('leaves no data key in memory', async () => {
    const { envelope, wrappingKey, header } = await aRotatedWorld();
    await envelope.rewrap(header);
    const seen = [...wrappingKey.wraps, ...wrappingKey.unwraps];
    expect(seen).toHaveLength(4);
    expect(seen.every((dataKey) => dataKey.every((byte) => byte === 0))).toBe(true);
  });
});
