/**
 * RSA signatures of digests (RFC 8017): node:crypto signs and verifies messages, which it hashes itself. The moduli
 * of a vault have a multiple of eight bits.
 */
import {
  constants,
  createHash,
  type KeyObject,
  publicDecrypt,
  randomBytes,
  timingSafeEqual,
} from 'node:crypto';
import type { Hash, RsaSignature } from './key-algorithms.ts';

/** DER of a DigestInfo up to the digest (section 9.2, note 1). */
const digestInfo: Readonly<Record<Hash, string>> = {
  sha256: '3031300d060960864801650304020105000420',
  sha384: '3041300d060960864801650304020205000430',
  sha512: '3051300d060960864801650304020305000440',
};

/** Whether `signature` was made of `digest` by the owner of this public key; false for any other bytes. */
export function verifyRsaDigest(
  key: KeyObject,
  { scheme, hash }: RsaSignature,
  digest: Uint8Array,
  signature: Uint8Array,
): boolean {
  const encoded = openSignature(key, signature);
  if (encoded === null) return false;
  // All of the padding is compared, not parsed: what a lenient parser skips is room for a forger.
  if (scheme === 'pkcs1') return isSame(encoded, encodePkcs1(digest, hash, encoded.length));
  return isPss(encoded, digest, hash);
}

/** What RSA is to be applied to: the digest, padded to `size` bytes; of PSS never twice the same. */
export function encodeDigest(
  { scheme, hash }: RsaSignature,
  digest: Uint8Array,
  size: number,
): Buffer {
  return scheme === 'pkcs1' ? encodePkcs1(digest, hash, size) : encodePss(digest, hash, size);
}

export function modulusBytes(key: KeyObject): number {
  return (key.asymmetricKeyDetails?.modulusLength ?? 0) / 8;
}

function openSignature(key: KeyObject, signature: Uint8Array): Buffer | null {
  if (signature.length !== modulusBytes(key)) return null;
  try {
    return publicDecrypt({ key, padding: constants.RSA_NO_PADDING }, signature);
  } catch {
    // A number beyond the modulus.
    return null;
  }
}

/** EMSA-PKCS1-v1_5 (9.2). */
function encodePkcs1(digest: Uint8Array, hash: Hash, size: number): Buffer {
  const content = Buffer.concat([Buffer.from(digestInfo[hash], 'hex'), digest]);
  const encoded = Buffer.alloc(size, 0xff);
  encoded[0] = 0;
  encoded[1] = 1;
  encoded[size - content.length - 1] = 0;
  content.copy(encoded, size - content.length);
  return encoded;
}

/** EMSA-PSS (9.1.1) with a salt as long as the digest, as RFC 7518 wants it. */
function encodePss(digest: Uint8Array, hash: Hash, size: number): Buffer {
  const salt = randomBytes(digest.length);
  const seed = pssHash(digest, salt, hash);
  const block = Buffer.alloc(size - digest.length - 1);
  block[block.length - salt.length - 1] = 1;
  salt.copy(block, block.length - salt.length);
  const masked = mask(block, seed, hash);
  return Buffer.concat([masked, seed, Buffer.of(0xbc)]);
}

/** EMSA-PSS-VERIFY (9.1.2). */
function isPss(encoded: Buffer, digest: Uint8Array, hash: Hash): boolean {
  const blockBytes = encoded.length - digest.length - 1;
  const masked = encoded.subarray(0, blockBytes);
  const seed = encoded.subarray(blockBytes, -1);
  if (encoded.at(-1) !== 0xbc || ((masked[0] ?? 0xff) & 0x80) !== 0) return false;
  const block = mask(masked, seed, hash);
  const saltAt = blockBytes - digest.length;
  const padding = Buffer.alloc(saltAt);
  padding[saltAt - 1] = 1;
  if (!isSame(block.subarray(0, saltAt), padding)) return false;
  return isSame(seed, pssHash(digest, block.subarray(saltAt), hash));
}

function pssHash(digest: Uint8Array, salt: Uint8Array, hash: Hash): Buffer {
  return createHash(hash).update(Buffer.alloc(8)).update(digest).update(salt).digest();
}

/** `block` under MGF1 of `seed`, its first bit cleared: the encoded message has one bit less than the modulus. */
function mask(block: Uint8Array, seed: Uint8Array, hash: Hash): Buffer {
  const masked = Buffer.from(block);
  const counter = Buffer.alloc(4);
  for (let start = 0, round = 0; start < masked.length; round++) {
    counter.writeUInt32BE(round);
    const stream = createHash(hash).update(seed).update(counter).digest();
    for (const byte of stream) {
      if (start >= masked.length) break;
      masked[start] = (masked[start] ?? 0) ^ byte;
      start++;
    }
  }
  masked[0] = (masked[0] ?? 0) & 0x7f;
  return masked;
}

function isSame(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && timingSafeEqual(left, right);
}
