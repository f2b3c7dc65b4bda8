import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { createEnvelope, type Envelope } from '../../../src/core/crypto/envelope.ts';
import { sealFrame } from '../../../src/core/crypto/frames.ts';
import { parseHeader } from '../../../src/core/crypto/header.ts';
import { joinEnvelope, splitEnvelope, splitStream } from '../../../src/core/crypto/joined.ts';
import { cipherKeyOf, messageKeyOf } from '../../../src/core/crypto/key-schedule.ts';
import { localWrappingKey } from '../../../src/core/crypto/local-wrapping-key.ts';
import { hasCode } from '../../../src/core/errors.ts';
import { aWorld, credulousKey, cut, frameBytes, someBytes, text } from './support.ts';

const associatedData = text('main/secret/orders-db');
const sealedFrameBytes = frameBytes + 16;

/** Whether `bytes` were refused at once and as a stream; the stream gave no byte that was not sealed. */
async function isRefused(
  envelope: Envelope,
  bytes: Uint8Array,
  { plaintext, data = associatedData }: { plaintext: Uint8Array; data?: Uint8Array },
): Promise<boolean> {
  const options = { associatedData: data };
  const opened = await outcome(async () => await envelope.open(splitEnvelope(bytes), options));
  const released: Uint8Array[] = [];
  const streamed = await outcome(async () => {
    const stream = await splitStream(cut(bytes, 1500));
    for await (const frame of envelope.openStream(stream, options)) released.push(frame);
  });
  const prefix = Buffer.concat(released);
  if (!prefix.equals(plaintext.subarray(0, prefix.length))) throw new Error('released other bytes');
  return opened === 'refused' && streamed === 'refused';
}

/** Errors but these are none of the format's: a fault in it. */
async function outcome(open: () => Promise<unknown>): Promise<'refused' | 'opened'> {
  try {
    await open();
    return 'opened';
  } catch (error) {
    // A key id that was changed may be that of another key.
    if (hasCode(error, 'corrupt', 'not_found')) return 'refused';
    throw error;
  }
}

function flipped(bytes: Uint8Array, at: number, mask: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] = (copy[at] ?? 0) ^ mask;
  return copy;
}

describe.each([
  ['a strict wrapping key', () => localWrappingKey('vault-key')],
  // What is proven here is proven by the format alone, whatever the vault lets pass.
  ['a wrapping key that unwraps anything', credulousKey],
])('an envelope under %s', (_, makeKey) => {
  const plaintext = someBytes(frameBytes + 100);
  let envelope: Envelope;
  let bytes: Uint8Array;
  let headerBytes: number;
  beforeAll(async () => {
    envelope = createEnvelope({ wrappingKey: makeKey(), frameBytes });
    const sealed = await envelope.seal(plaintext, { associatedData });
    headerBytes = sealed.header.length;
    bytes = joinEnvelope(sealed);
  });
  const refuses = (altered: Uint8Array) => isRefused(envelope, altered, { plaintext });

  it('opens as it is', async () => {
    expect(await envelope.open(splitEnvelope(bytes), { associatedData })).toEqual(plaintext);
    expect(await refuses(bytes)).toBe(false);
  });

  it('rejects every flipped bit of its header', async () => {
    const accepted: string[] = [];
    for (let at = 0; at < headerBytes; at++) {
      for (let bit = 0; bit < 8; bit++) {
        if (!(await refuses(flipped(bytes, at, 1 << bit)))) accepted.push(`byte ${at}, bit ${bit}`);
      }
    }
    expect(accepted).toEqual([]);
  });

  it('rejects every flipped byte of its payload', async () => {
    const accepted: number[] = [];
    for (let at = headerBytes; at < bytes.length; at++) {
      if (!(await refuses(flipped(bytes, at, 1 << (at % 8))))) accepted.push(at);
    }
    expect(accepted).toEqual([]);
  });

  it('rejects being cut off anywhere', async () => {
    const accepted: number[] = [];
    for (let length = 0; length < bytes.length; length++) {
      if (!(await refuses(bytes.subarray(0, length)))) accepted.push(length);
    }
    expect(accepted).toEqual([]);
  });

  it('rejects bytes before, between and after', async () => {
    const added = fc.uint8Array({ minLength: 1, maxLength: 2 * sealedFrameBytes });
    await fc.assert(
      fc.asyncProperty(added, fc.nat(bytes.length), async (more, at) => {
        const where = at % 3 === 0 ? bytes.length : at;
        const altered = Buffer.concat([bytes.subarray(0, where), more, bytes.subarray(where)]);
        expect(await refuses(altered)).toBe(true);
      }),
      { numRuns: 300 },
    );
  });

  it('rejects any bytes removed', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(bytes.length - 1),
        fc.integer({ min: 1, max: 5000 }),
        async (at, count) => {
          const altered = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + count)]);
          expect(await refuses(altered)).toBe(true);
        },
      ),
      { numRuns: 300 },
    );
  });

  it('rejects any other associated data', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 80 }), async (data) => {
        fc.pre(!Buffer.from(data).equals(associatedData));
        expect(await isRefused(envelope, bytes, { plaintext, data })).toBe(true);
      }),
      { numRuns: 200 },
    );
  });
});

describe('the frames of an envelope', () => {
  const count = 5;
  /** Two messages under one data key and associated data; their frames are all of one length. */
  async function twoMessages() {
    const { envelope } = aWorld();
    const plaintexts = [1, 2].map((seed) => someBytes(count * frameBytes, seed));
    const sealed = await Promise.all(
      plaintexts.map((plaintext) => envelope.seal(plaintext, { associatedData })),
    );
    const [one, other] = sealed.map(({ payload }) => cut(Buffer.concat(payload), sealedFrameBytes));
    const [plaintext] = plaintexts;
    const [first, second] = sealed;
    if (!(one && other && plaintext && first && second)) throw new Error('not sealed');
    const isOther = (frames: readonly Uint8Array[], header = first.header) =>
      isRefused(envelope, joinEnvelope({ header, payload: frames }), { plaintext });
    return { one, other, isOther, headers: [first.header, second.header] as const };
  }

  it('must be all of them, once each, in their order', async () => {
    const { one, isOther } = await twoMessages();
    expect(await isOther(one)).toBe(false);
    const places = fc.array(fc.nat(count - 1), { maxLength: count + 2 });
    await fc.assert(
      fc.asyncProperty(places, async (order) => {
        fc.pre(order.join() !== '0,1,2,3,4');
        expect(await isOther(order.map((index) => one[index] as Uint8Array))).toBe(true);
      }),
      { numRuns: 300 },
    );
  });

  it('must be of one message', async () => {
    const { one, other, isOther } = await twoMessages();
    const choice = fc.array(fc.boolean(), { minLength: count, maxLength: count });
    await fc.assert(
      fc.asyncProperty(choice, async (isOurs) => {
        fc.pre(isOurs.includes(false));
        const mixed = one.map(
          (frame, index) => (isOurs[index] ? frame : other[index]) as Uint8Array,
        );
        expect(await isOther(mixed)).toBe(true);
      }),
      { numRuns: 40 },
    );
  });

  it('must be those of their header, even where both have one data key', async () => {
    const { one, isOther, headers } = await twoMessages();
    const [first, second] = headers;
    expect(Buffer.from(first.subarray(71)).equals(second.subarray(71))).toBe(true);
    expect(await isOther(one, second)).toBe(true);
    const mixed = Buffer.concat([first.subarray(0, 39), second.subarray(39)]);
    expect(await isOther(one, mixed)).toBe(true);
  });

  it('must not end with an empty one, even of who has the data key', async () => {
    const wrappingKey = credulousKey();
    const envelope = createEnvelope({ wrappingKey, frameBytes });
    const plaintext = someBytes(frameBytes);
    const { header } = await envelope.seal(plaintext, { associatedData });
    const { prelude, wrap } = parseHeader(header);
    const dataKey = await wrappingKey.unwrap(wrap.key);
    const key = cipherKeyOf(messageKeyOf(dataKey, prelude, associatedData));
    const sealed = (isTwo: boolean) =>
      joinEnvelope({
        header,
        payload: isTwo
          ? [
              ...sealFrame(key, { index: 0, isLast: false }, plaintext),
              ...sealFrame(key, { index: 1, isLast: true }, new Uint8Array()),
            ]
          : sealFrame(key, { index: 0, isLast: true }, plaintext),
      });
    expect(await isRefused(envelope, sealed(false), { plaintext })).toBe(false);
    expect(await isRefused(envelope, sealed(true), { plaintext })).toBe(true);
  });
});

describe('wrap sections', () => {
  it('cannot be exchanged between messages of two data keys', async () => {
    const { envelope } = aWorld();
    const plaintext = someBytes(10);
    const one = await envelope.seal(plaintext, { associatedData });
    envelope.forget();
    const other = await envelope.seal(plaintext, { associatedData });
    const header = Buffer.concat([one.header.subarray(0, 71), other.header.subarray(71)]);
    const altered = joinEnvelope({ header, payload: one.payload });
    expect(await isRefused(envelope, altered, { plaintext })).toBe(true);
  });
});
