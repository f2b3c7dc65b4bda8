import { createDecipheriv, createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { createEnvelope } from '../../../src/core/crypto/envelope.ts';
import { joinEnvelope, splitEnvelope } from '../../../src/core/crypto/joined.ts';
import { localWrappingKey } from '../../../src/core/crypto/local-wrapping-key.ts';
import type { WrappingKey } from '../../../src/core/crypto/wrapping-key.ts';
import { frameBytes, someBytes, text } from './support.ts';

const associatedData = text('main/secret/orders-db');

/** Sealed once and kept: version 1 has to open for ever. */
const kept = {
  dataKey: '63b595266fefdd17459b1b0f4a344eff12c126c7c88ea02f8bcdab3d3a47f650',
  envelope:
    'S1RFVgEBDBAYNdM0gzc/ZGqqXUFhQ6BgbJb3KjG3EngAXF+Rqme4i+UY2ydHHbbv/p9c3KSO2ru2Y6PvwvLGT8VLGD+b' +
    'DmIAfABJaHR0cHM6Ly9tYWluLnZhdWx0LmF6dXJlLm5ldC9rZXlzL29yZGVycy8wMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1' +
    'Njc4OWFiY2RlZgZBMjU2S1cAKAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcV7VZL/Tlp7jMg' +
    'E7ir6/iG4U7UDIM4YL/XtrJmvx+LSZavEn/yA83yXqhXCr7OI5S4PTuMBgDRgfA9SbYcLx1Jro/G350EDFu9vQ8/',
};

/** A reader of the format that shares nothing with ours: decision 8 read word for word. */
function readByTheBook(bytes: Buffer, dataKey: Uint8Array, data: Uint8Array) {
  const fieldsEnd = 73 + bytes.readUInt16BE(71);
  const headerEnd = fieldsEnd + 32;
  const derive = (...info: readonly Uint8Array[]) =>
    createHash('sha512')
      .update(Buffer.concat([Buffer.from('00000001', 'hex'), dataKey, ...info]))
      .digest();
  const block = derive(text('message'), bytes.subarray(0, 39), data);
  const tag = derive(text('wrap'), bytes.subarray(71, fieldsEnd)).subarray(0, 32);
  const frames: Buffer[] = [];
  const size = 2 ** (bytes[6] ?? 0) + 16;
  for (let at = headerEnd, index = 0; at < bytes.length; at += size, index++) {
    const frame = bytes.subarray(at, at + size);
    const nonce = Buffer.alloc(12);
    nonce.writeUInt32BE(index, 7);
    nonce[11] = at + size >= bytes.length ? 1 : 0;
    const decipher = createDecipheriv('aes-256-gcm', block.subarray(0, 32), nonce);
    decipher.setAuthTag(frame.subarray(-16));
    frames.push(decipher.update(frame.subarray(0, -16)), decipher.final());
  }
  return {
    start: bytes.toString('latin1', 0, 6),
    isCommitted: block.subarray(32).equals(bytes.subarray(39, 71)),
    isTagged: tag.equals(bytes.subarray(fieldsEnd, headerEnd)),
    plaintext: Buffer.concat(frames),
  };
}

describe('version 1 of the format', () => {
  it('opens an envelope that was kept', async () => {
    const wrappingKey: WrappingKey = {
      ...localWrappingKey('none'),
      async unwrap(key) {
        expect(key).toEqual({
          keyId: 'https://main.vault.azure.net/keys/orders/0123456789abcdef0123456789abcdef',
          algorithm: 'A256KW',
          wrapped: Buffer.alloc(40, 7),
        });
        return Buffer.from(kept.dataKey, 'hex');
      },
    };
    const sealed = splitEnvelope(Buffer.from(kept.envelope, 'base64'));
    const opened = await createEnvelope({ wrappingKey }).open(sealed, { associatedData });
    expect(String(opened)).toBe('correct horse battery staple');
  });

  it.each([0, 28, frameBytes, 2 * frameBytes + 1])(
    'is as the decision says: %i bytes',
    async (length) => {
      const inner = localWrappingKey('k');
      let dataKey = Buffer.alloc(0);
      const wrappingKey: WrappingKey = {
        ...inner,
        wrap(given) {
          dataKey = Buffer.from(given);
          return inner.wrap(given);
        },
      };
      const envelope = createEnvelope({ wrappingKey, frameBytes });
      const sealed = await envelope.seal(someBytes(length), { associatedData });
      const bytes = Buffer.from(joinEnvelope(sealed));
      expect(readByTheBook(bytes, dataKey, associatedData)).toEqual({
        start: 'KTEV\x01\x01',
        isCommitted: true,
        isTagged: true,
        plaintext: someBytes(length),
      });
    },
  );
});
