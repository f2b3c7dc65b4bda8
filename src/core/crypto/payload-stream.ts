/** The payload of a message that comes and goes in pieces; one frame of it is in memory. */
import { type ByteSource, type ByteStream, chunksOf } from './byte-source.ts';
import {
  checkFrameLength,
  type FramePlace,
  frameTagBytes,
  openFrame,
  sealFrame,
} from './frames.ts';
import { cipherKeyOf, type MessageKey, wipe } from './key-schedule.ts';
import { checkMessageLength } from './limits.ts';

export interface PayloadOptions {
  readonly frameBytes: number;
  /** Plaintext beyond this many bytes is refused. */
  readonly maxBytes: number;
  /** Told of the plaintext's bytes as they go by. */
  readonly count?: (bytes: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The frames of `source`, two chunks for each; wipes `messageKey` when it ends.
 * @throws AppError `invalid_input` for a source that is too long or gives no bytes; what `source`
 * throws
 */
export async function* sealPayloadStream(
  messageKey: MessageKey,
  source: ByteSource,
  { frameBytes, maxBytes, count, signal }: PayloadOptions,
): ByteStream {
  const check = lengthLimit(maxBytes);
  const key = cipherKeyOf(messageKey);
  try {
    for await (const { place, bytes } of framesOf(source, frameBytes)) {
      signal?.throwIfAborted();
      check(bytes.length);
      count?.(bytes.length);
      yield* sealFrame(key, place, bytes);
    }
  } finally {
    wipe(messageKey);
  }
}

/**
 * The plaintext frame by frame, each once it is proven; wipes `messageKey` when it ends.
 * @throws AppError `corrupt`; `invalid_input` for a source that is too long or gives no bytes; what
 * `source` throws
 */
export async function* openPayloadStream(
  messageKey: MessageKey,
  source: ByteSource,
  { frameBytes, maxBytes, signal }: PayloadOptions,
): ByteStream {
  const check = lengthLimit(maxBytes);
  const key = cipherKeyOf(messageKey);
  try {
    for await (const { place, bytes } of framesOf(source, frameBytes + frameTagBytes)) {
      signal?.throwIfAborted();
      checkFrameLength(place, bytes.length);
      const end = bytes.length - frameTagBytes;
      check(end);
      yield openFrame(key, place, bytes.subarray(0, end), bytes.subarray(end));
    }
  } finally {
    wipe(messageKey);
  }
}

/**
 * `source` cut into frames of `frameBytes`. A full frame is given once a byte after it has come,
 * since it may be the last. `bytes` is good until the next frame is asked for.
 */
async function* framesOf(
  source: ByteSource,
  frameBytes: number,
): AsyncGenerator<{ readonly place: FramePlace; readonly bytes: Uint8Array }, void, undefined> {
  // A copy, not the source's chunks: many sources use one buffer over and over.
  const frame = Buffer.allocUnsafeSlow(frameBytes);
  let index = 0;
  let filled = 0;
  try {
    for await (const chunk of chunksOf(source)) {
      for (let at = 0; at < chunk.length; ) {
        if (filled === frameBytes) {
          yield { place: { index, isLast: false }, bytes: frame };
          index++;
          filled = 0;
        }
        const part = chunk.subarray(at, at + frameBytes - filled);
        frame.set(part, filled);
        filled += part.length;
        at += part.length;
      }
    }
    yield { place: { index, isLast: true }, bytes: frame.subarray(0, filled) };
  } finally {
    wipe(frame);
  }
}

function lengthLimit(maxBytes: number): (bytes: number) => void {
  let total = 0;
  return (bytes) => {
    total += bytes;
    checkMessageLength(total, maxBytes);
  };
}
