/**
 * A payload is frames of one size, the last one shorter or as long: what STREAM (Hoang,
 * Reyhanitabar, Rogaway, Vizár 2015) makes of AES-256-GCM. A frame's nonce is its number and
 * whether it is the last, so none can be dropped, doubled, moved, cut off or added.
 */
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { damaged } from './header.ts';

export const frameTagBytes = 16;

/** Where a frame stands: its number from 0 to 2^32 - 1, and whether the message ends with it. */
export interface FramePlace {
  readonly index: number;
  readonly isLast: boolean;
}

const cipherName = 'aes-256-gcm';

/**
 * `plaintext` sealed: ciphertext, then tag. As they come from the cipher: joining them would copy
 * what was just written.
 */
export function sealFrame(
  key: Buffer,
  place: FramePlace,
  plaintext: Uint8Array,
): readonly [Buffer, Buffer] {
  const cipher = createCipheriv(cipherName, key, nonceOf(place));
  const ciphertext = cipher.update(plaintext);
  cipher.final();
  return [ciphertext, cipher.getAuthTag()];
}

/**
 * The plaintext of a frame, once it is proven.
 * @throws AppError `corrupt` when it is not the frame that was sealed for this place
 */
export function openFrame(
  key: Buffer,
  place: FramePlace,
  ciphertext: Uint8Array,
  tag: Uint8Array,
): Buffer {
  const decipher = createDecipheriv(cipherName, key, nonceOf(place), {
    authTagLength: frameTagBytes,
  });
  decipher.setAuthTag(tag);
  const plaintext = decipher.update(ciphertext);
  try {
    decipher.final();
  } catch (cause) {
    plaintext.fill(0);
    throw damaged(`frame ${place.index} is not what was sealed`, cause);
  }
  return plaintext;
}

/**
 * A last frame that holds nothing is one that a writer never makes, except for an empty message:
 * so each message has one form.
 * @param sealedBytes how long the frame is, its tag included
 * @throws AppError `corrupt`
 */
export function checkFrameLength({ index, isLast }: FramePlace, sealedBytes: number): void {
  const least = index === 0 ? frameTagBytes : frameTagBytes + 1;
  if (isLast && sealedBytes < least) throw damaged('the payload ends within a frame');
}

/**
 * Twelve bytes: the number, then 1 for the last frame. Each message has a key of its own, so no
 * part of the nonce need be random.
 */
function nonceOf({ index, isLast }: FramePlace): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUInt32BE(index, 7);
  nonce[11] = isLast ? 1 : 0;
  return nonce;
}
