/** The payload of a message that is in memory as a whole. */
import { checkFrameLength, frameTagBytes, openFrame, sealFrame } from './frames.ts';
import { wipe } from './key-schedule.ts';

/** `plaintext` as frames: two chunks for each, ciphertext and tag. */
export function sealPayload(
  key: Buffer,
  frameBytes: number,
  plaintext: Uint8Array,
): readonly Buffer[] {
  if (plaintext.length <= frameBytes) return sealFrame(key, { index: 0, isLast: true }, plaintext);
  const chunks: Buffer[] = [];
  for (let index = 0, at = 0; ; index++, at += frameBytes) {
    const isLast = plaintext.length - at <= frameBytes;
    chunks.push(...sealFrame(key, { index, isLast }, plaintext.subarray(at, at + frameBytes)));
    if (isLast) return chunks;
  }
}

/**
 * The plaintext of `chunks`, however they are cut; nothing of it before all of it is proven.
 * @throws AppError `corrupt`
 */
export function openPayload(
  key: Buffer,
  frameBytes: number,
  chunks: readonly Uint8Array[],
): Uint8Array {
  const take = takeFrom(chunks);
  const opened: Buffer[] = [];
  let left = chunks.reduce((sum, { length }) => sum + length, 0);
  try {
    for (let index = 0; ; index++) {
      const sealedBytes = Math.min(left, frameBytes + frameTagBytes);
      left -= sealedBytes;
      const place = { index, isLast: left === 0 };
      checkFrameLength(place, sealedBytes);
      const ciphertext = take(sealedBytes - frameTagBytes);
      opened.push(openFrame(key, place, ciphertext, take(frameTagBytes)));
      if (place.isLast) return joinFrames(opened);
    }
  } catch (error) {
    opened.forEach(wipe);
    throw error;
  }
}

/** One array of `frames`; more than one are copied into it and wiped. */
export function joinFrames(frames: readonly Uint8Array[]): Uint8Array {
  const [only, ...more] = frames;
  if (only !== undefined && more.length === 0) return only;
  const whole = Buffer.concat(frames);
  frames.forEach(wipe);
  return whole;
}

/** Gives the next so many bytes of `chunks`, without a copy where they lie in one of them. */
function takeFrom(chunks: readonly Uint8Array[]): (length: number) => Uint8Array {
  const waiting = chunks.filter(({ length }) => length > 0).values();
  let chunk: Uint8Array = new Uint8Array();
  const some = (most: number): Uint8Array => {
    if (chunk.length === 0) chunk = waiting.next().value ?? chunk;
    const part = chunk.subarray(0, most);
    chunk = chunk.subarray(part.length);
    return part;
  };
  return (length) => {
    const parts: Uint8Array[] = [];
    for (let missing = length; missing > 0; ) {
      const part = some(missing);
      parts.push(part);
      missing -= part.length;
    }
    const [only] = parts;
    return only?.length === length ? only : Buffer.concat(parts);
  };
}
