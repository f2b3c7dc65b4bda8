import { createEnvelope, type EnvelopeOptions } from '../../../src/core/crypto/envelope.ts';
import { localWrappingKey } from '../../../src/core/crypto/local-wrapping-key.ts';
import type { WrappedKey, WrappingKey } from '../../../src/core/crypto/wrapping-key.ts';

/** The smallest frames there are, so that few bytes make several. */
export const frameBytes = 4096;

export const text = (value: string) => new TextEncoder().encode(value);

/** `length` bytes of which no two neighbours are alike. */
export function someBytes(length: number, seed = 1): Buffer {
  return Buffer.from(
    Array.from({ length }, (_, index) => (index * 31 + (index >> 8) + seed) % 256),
  );
}

/** A clock that stands still until it is set. */
function aClock() {
  let now = Date.parse('2026-11-22T08:00:00Z');
  return {
    now: () => new Date(now),
    advance: (seconds: number) => {
      now += seconds * 1000;
    },
  };
}

/** A local wrapping key that remembers what it was asked, and the very memory that was handed over. */
export function recordingKey() {
  const inner = localWrappingKey('vault-key');
  const wraps: Uint8Array[] = [];
  const unwraps: Uint8Array[] = [];
  const key: WrappingKey = {
    async wrap(dataKey) {
      wraps.push(dataKey);
      return await inner.wrap(dataKey);
    },
    async unwrap(wrapped) {
      const dataKey = await inner.unwrap(wrapped);
      unwraps.push(dataKey);
      return dataKey;
    },
  };
  return { ...inner, ...key, wraps, unwraps };
}

/** A wrapping key that gives the data key it wrapped last, whatever it is asked. */
export function credulousKey(): WrappingKey {
  let kept = Buffer.alloc(0);
  return {
    async wrap(dataKey): Promise<WrappedKey> {
      kept = Buffer.from(dataKey);
      return { keyId: 'any', algorithm: 'none', wrapped: Buffer.alloc(40, 1) };
    },
    unwrap: async () => Buffer.from(kept),
  };
}

/** An envelope over a recording key and a clock that stands still, with small frames. */
export function aWorld(options: Partial<EnvelopeOptions> = {}) {
  const wrappingKey = recordingKey();
  const clock = aClock();
  const envelope = createEnvelope({ wrappingKey, clock, frameBytes, ...options });
  return { wrappingKey, clock, envelope };
}

export async function collect(source: AsyncIterable<Uint8Array>): Promise<Buffer[]> {
  const chunks: Buffer[] = [];
  for await (const chunk of source) chunks.push(Buffer.from(chunk));
  return chunks;
}

/** `bytes` in pieces of `size`, all of them handed over in one and the same buffer. */
export async function* pieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  const buffer = Buffer.alloc(size);
  for (let at = 0; at < bytes.length; at += size) {
    const part = bytes.subarray(at, at + size);
    buffer.set(part);
    yield buffer.subarray(0, part.length);
    buffer.fill(0);
  }
}

/** `bytes` in pieces of `size`. */
export function cut(bytes: Uint8Array, size: number): Uint8Array[] {
  const count = Math.ceil(bytes.length / size);
  return Array.from({ length: count }, (_, index) =>
    bytes.subarray(index * size, (index + 1) * size),
  );
}
