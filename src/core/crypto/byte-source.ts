import { AppError } from '../errors.ts';

/** Bytes in chunks of any size: a Node or web stream, a generator, an array. */
export type ByteSource = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/** Bytes as they come out of here: to be read once, and ended when its reader stops. */
export type ByteStream = AsyncGenerator<Uint8Array, void, undefined>;

/**
 * The chunks of `source`; ends it when its reader stops early.
 * @throws AppError `invalid_input` when it gives anything but bytes, such as the text of a stream
 * that has an encoding
 */
export async function* chunksOf(source: ByteSource): ByteStream {
  for await (const chunk of source) {
    if (!(chunk instanceof Uint8Array)) {
      throw new AppError('invalid_input', { detail: 'a stream of something else than bytes' });
    }
    yield chunk;
  }
}
