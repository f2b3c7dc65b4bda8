/**
 * An envelope as one sequence of bytes: its header, then its payload. Headers that will be
 * rewrapped are better kept by themselves: the new one may have another length.
 */
import { type ByteSource, type ByteStream, chunksOf } from './byte-source.ts';
import { damaged, headerLength } from './header.ts';

/** An envelope in memory. */
export interface Sealed {
  readonly header: Uint8Array;
  /** Chunks that make the payload one after the other; how they are cut means nothing. */
  readonly payload: readonly Uint8Array[];
}

/** An envelope whose payload comes in pieces. */
export interface SealedStream<Payload extends ByteSource = ByteSource> {
  readonly header: Uint8Array;
  readonly payload: Payload;
}

/** One array of it all. A copy: above 16 KiB rather write header and payload one after the other. */
export function joinEnvelope({ header, payload }: Sealed): Uint8Array {
  return Buffer.concat([header, ...payload]);
}

/**
 * What `joinEnvelope` joined, without a copy; nothing of it is proven yet.
 * @throws AppError `corrupt` when `bytes` do not begin with a header
 */
export function splitEnvelope(bytes: Uint8Array): Sealed {
  const length = headerLength(bytes);
  if (bytes.length < length) throw damaged('it ends within the header');
  return { header: bytes.subarray(0, length), payload: [bytes.subarray(length)] };
}

/** Header and payload one after the other: to be piped to where it is kept. */
export async function* joinStream({ header, payload }: SealedStream): ByteStream {
  yield header;
  yield* chunksOf(payload);
}

/**
 * Reads the header off `source`; the payload is read as it is asked for. Nothing is proven yet.
 * @throws AppError `corrupt` when `source` does not begin with a header, `invalid_input` when it
 * gives no bytes; what `source` throws
 */
export async function splitStream(source: ByteSource): Promise<SealedStream<ByteStream>> {
  const chunks = chunksOf(source);
  try {
    let read = Buffer.alloc(0);
    for (;;) {
      const length = headerLength(read);
      if (read.length >= length) {
        const rest = read.subarray(length);
        return { header: read.subarray(0, length), payload: continued(rest, chunks) };
      }
      const next = await chunks.next();
      if (next.done) throw damaged('it ends within the header');
      read = Buffer.concat([read, next.value]);
    }
  } catch (error) {
    await chunks.return();
    throw error;
  }
}

async function* continued(first: Uint8Array, chunks: ByteStream): ByteStream {
  try {
    yield first;
    yield* chunks;
  } finally {
    await chunks.return();
  }
}
