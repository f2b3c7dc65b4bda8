import {
  constants,
  createCipheriv,
  createDecipheriv,
  createHmac,
  type KeyObject,
  privateDecrypt,
  privateEncrypt,
  publicEncrypt,
  randomBytes,
  timingSafeEqual,
} from 'node:crypto';
import { signEcdsa, verifyEcdsa } from '../vault/ecdsa.ts';
import type {
  AesCipher,
  EcSignature,
  MacSignature,
  RsaCipher,
  RsaSignature,
} from '../vault/key-algorithms.ts';
import { encodeDigest, modulusBytes, verifyRsaDigest } from '../vault/rsa-digests.ts';
import { exportJwk, publicKeyOf } from './key-material.ts';

// What a vault does with its private and secret keys. Keys fit their algorithms, and lengths are right.

export interface Sealed {
  readonly result: Uint8Array;
  readonly iv: Uint8Array | null;
  readonly tag: Uint8Array | null;
}

interface Opening {
  readonly content: Uint8Array;
  readonly iv?: Uint8Array | undefined;
  readonly tag?: Uint8Array | undefined;
  readonly additionalData?: Uint8Array | undefined;
}

const none = new Uint8Array();
const wrapIv = Buffer.alloc(8, 0xa6);
const tagBytes = 16;

/** @throws for more than fits */
export function encryptWith(key: KeyObject, cipher: RsaCipher | AesCipher, input: Opening): Sealed {
  const { content, additionalData = none } = input;
  if (cipher.family === 'RSA') {
    return { result: publicEncrypt({ key, ...padding(cipher) }, content), iv: null, tag: null };
  }
  switch (cipher.mode) {
    case 'gcm': {
      const iv = randomBytes(12);
      const sealing = createCipheriv(`aes-${cipher.bits}-gcm` as 'aes-256-gcm', key, iv);
      sealing.setAAD(additionalData);
      const result = Buffer.concat([sealing.update(content), sealing.final()]);
      return { result, iv, tag: sealing.getAuthTag() };
    }
    case 'cbc':
    case 'cbc-pad':
    case 'kw': {
      const { name, iv, isPadded } = block(cipher, input);
      const sealing = createCipheriv(name, key, iv).setAutoPadding(isPadded);
      const result = Buffer.concat([sealing.update(content), sealing.final()]);
      return { result, iv: cipher.mode === 'kw' ? null : iv, tag: null };
    }
  }
}

/** @throws for what was not made with this key, and in this way */
export function decryptWith(
  key: KeyObject,
  cipher: RsaCipher | AesCipher,
  input: Opening,
): Uint8Array {
  const { content, iv = none, tag = none, additionalData = none } = input;
  if (cipher.family === 'RSA') {
    if (cipher.hash === null) return decryptPkcs1(key, content);
    return privateDecrypt({ key, ...padding(cipher) }, content);
  }
  if (cipher.mode === 'gcm') {
    const name = `aes-${cipher.bits}-gcm` as 'aes-256-gcm';
    const opening = createDecipheriv(name, key, iv, { authTagLength: tagBytes });
    opening.setAAD(additionalData).setAuthTag(tag);
    return Buffer.concat([opening.update(content), opening.final()]);
  }
  const { name, iv: blockIv, isPadded } = block(cipher, input);
  const opening = createDecipheriv(name, key, blockIv).setAutoPadding(isPadded);
  return Buffer.concat([opening.update(content), opening.final()]);
}

type Signature = RsaSignature | EcSignature | MacSignature;

export async function signWith(
  key: KeyObject,
  signature: Signature,
  digest: Uint8Array,
): Promise<Uint8Array> {
  switch (signature.family) {
    case 'RSA': {
      const encoded = encodeDigest(signature, digest, modulusBytes(key));
      return privateEncrypt({ key, padding: constants.RSA_NO_PADDING }, encoded);
    }
    case 'EC':
      return signEcdsa(signature.curve, exportJwk(key).d ?? '', digest);
    case 'oct':
      return createHmac(signature.hash, key).update(digest).digest();
  }
}

export async function verifyWith(
  key: KeyObject,
  signature: Signature,
  digest: Uint8Array,
  signed: Uint8Array,
): Promise<boolean> {
  if (signature.family === 'oct') {
    const expected = createHmac(signature.hash, key).update(digest).digest();
    return expected.length === signed.length && timingSafeEqual(expected, signed);
  }
  if (signature.family === 'RSA') return verifyRsaDigest(key, signature, digest, signed);
  const publicKey = publicKeyOf(key);
  return publicKey?.kty === 'EC' && verifyEcdsa(publicKey, digest, signed);
}

function padding({ hash }: RsaCipher): { padding: number; oaepHash?: string } {
  if (hash === null) return { padding: constants.RSA_PKCS1_PADDING };
  return { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: hash };
}

/** By hand: OpenSSL answers a wrong padding with random content, so that nobody can tell; a vault tells. */
function decryptPkcs1(key: KeyObject, content: Uint8Array): Uint8Array {
  const padded = privateDecrypt({ key, padding: constants.RSA_NO_PADDING }, content);
  const end = padded.indexOf(0, 2);
  if (padded[0] !== 0 || padded[1] !== 2 || end < 10) throw new Error('no PKCS #1 v1.5 padding');
  return padded.subarray(end + 1);
}

function block(
  { mode, bits }: AesCipher,
  { iv = none }: Opening,
): { name: string; iv: Uint8Array; isPadded: boolean } {
  if (mode === 'kw') return { name: `id-aes${bits}-wrap`, iv: wrapIv, isPadded: false };
  return { name: `aes-${bits}-cbc`, iv, isPadded: mode === 'cbc-pad' };
}
