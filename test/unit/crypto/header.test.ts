import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { keyIdOf, parseHeader } from '../../../src/core/crypto/header.ts';
import { splitEnvelope, splitStream } from '../../../src/core/crypto/joined.ts';
import { hasCode } from '../../../src/core/errors.ts';
import { aWorld, text } from './support.ts';

const messageSection = Buffer.concat([
  Buffer.from('KTEV'),
  Buffer.from([1, 1, 12]),
  Buffer.alloc(64),
]);

/** A header of these fields, with lengths that may lie. */
function aHeader(fields: {
  readonly keyId?: string;
  readonly algorithm?: string;
  readonly wrapped?: number;
  readonly lengths?: readonly [number, number, number];
  readonly total?: number;
  readonly frameExponent?: number;
}): Buffer {
  const { keyId = 'k', algorithm = 'A', wrapped = 40, frameExponent = 12 } = fields;
  const [a, b, c] = fields.lengths ?? [keyId.length, algorithm.length, wrapped];
  const section = Buffer.alloc(5 + keyId.length + algorithm.length + wrapped);
  section.writeUInt16BE(a);
  section.write(keyId, 2, 'latin1');
  section.writeUInt8(b, 2 + keyId.length);
  section.write(algorithm, 3 + keyId.length, 'latin1');
  section.writeUInt16BE(c, 3 + keyId.length + algorithm.length);
  const total = Buffer.alloc(2);
  total.writeUInt16BE(fields.total ?? section.length);
  const header = Buffer.concat([messageSection, total, section, Buffer.alloc(32)]);
  header[6] = frameExponent;
  return header;
}

function fault(header: Uint8Array): unknown {
  try {
    parseHeader(header);
    return null;
  } catch (error) {
    return error;
  }
}

describe('a header', () => {
  it('is read by its fields', async () => {
    const keyId = 'https://main.vault.azure.net/keys/orders/0123456789abcdef0123456789abcdef';
    const parsed = parseHeader(aHeader({ keyId, algorithm: 'RSA-OAEP-256', wrapped: 256 }));
    expect(parsed.wrap.key).toEqual({
      keyId,
      algorithm: 'RSA-OAEP-256',
      wrapped: Buffer.alloc(256),
    });
    expect(parsed.frameBytes).toBe(4096);
    expect(keyIdOf(aHeader({ keyId }))).toBe(keyId);
  });

  it('may have fields of the greatest length', () => {
    const header = aHeader({ keyId: 'k'.repeat(512), algorithm: 'A'.repeat(32), wrapped: 1024 });
    expect(header).toHaveLength(71 + 2 + 2 + 512 + 1 + 32 + 2 + 1024 + 32);
    expect(fault(header)).toBeNull();
  });

  it.each<[string, Parameters<typeof aHeader>[0]]>([
    ['no key id', { keyId: '' }],
    ['a key id that is too long', { keyId: 'k'.repeat(513) }],
    ['a key id with a line break', { keyId: 'k\nlog line' }],
    ['a key id beyond ASCII', { keyId: 'kéy' }],
    ['no algorithm', { algorithm: '' }],
    ['an algorithm that is too long', { algorithm: 'A'.repeat(33) }],
    ['an algorithm with a space', { algorithm: 'A B' }],
    ['no wrapped key', { wrapped: 0 }],
    ['a wrapped key that is too long', { wrapped: 1025 }],
    ['a key id that goes beyond the end', { lengths: [65_535, 1, 40] }],
    ['an algorithm that goes beyond the end', { lengths: [1, 255, 40] }],
    ['a wrapped key that goes beyond the end', { lengths: [1, 1, 41] }],
    ['bytes after the wrapped key', { lengths: [1, 1, 39] }],
    ['a length that is too short', { total: 46 }],
    ['a length that is too long', { total: 48 }],
    ['a length beyond all bounds', { total: 65_535 }],
    ['frames that are too small', { frameExponent: 11 }],
    ['frames that are too large', { frameExponent: 21 }],
    ['frames beyond all bounds', { frameExponent: 255 }],
  ])('is refused with %s', (_, fields) => {
    expect(fault(aHeader(fields))).toMatchObject({ name: 'AppError', code: 'corrupt' });
  });

  it.each([
    ['of another kind', 0, 'x'.charCodeAt(0)],
    ['of another version', 4, 2],
    ['of another suite', 5, 2],
  ])('is refused when it is %s', (_, at, byte) => {
    const header = aHeader({});
    header[at] = byte;
    expect(fault(header)).toMatchObject({ code: 'corrupt' });
  });

  it('is refused before what its length promises is read', async () => {
    let given = 0;
    async function* source() {
      for (const byte of Buffer.concat([aHeader({ total: 65_535 }), Buffer.alloc(65_535)])) {
        given++;
        yield Buffer.from([byte]);
      }
    }
    await expect(splitStream(source())).rejects.toMatchObject({ code: 'corrupt' });
    expect(given).toBe(73);
  });

  it('is refused with an error that says what is wrong, whatever the bytes', () => {
    const structured = fc
      .record({
        keyId: fc.string({ maxLength: 600 }),
        algorithm: fc.string({ maxLength: 40 }),
        wrapped: fc.nat(1100),
        lengths: fc.tuple(fc.nat(65_535), fc.nat(255), fc.nat(65_535)),
        total: fc.nat(65_535),
        frameExponent: fc.nat(255),
      })
      .map(aHeader);
    const anyBytes = fc.uint8Array({ maxLength: 4000 });
    const beginning = anyBytes.map((bytes) => Buffer.concat([messageSection, bytes]));
    fc.assert(
      fc.property(fc.oneof(structured, anyBytes, beginning), (bytes) => {
        for (const read of [parseHeader, splitEnvelope]) {
          try {
            read(bytes);
          } catch (error) {
            expect(hasCode(error, 'corrupt')).toBe(true);
          }
        }
      }),
      { numRuns: 5000 },
    );
  });

  it('does not change when the bytes it was read from do', async () => {
    const { envelope } = aWorld();
    const { header, payload } = await envelope.seal(text('x'));
    envelope.forget();
    const opening = envelope.open({ header, payload });
    header.fill(0);
    expect(String(await opening)).toBe('x');
  });
});
