import { createHmac, timingSafeEqual } from 'node:crypto';
import {
  decryptCbc,
  decryptGcm,
  encryptCbc,
  encryptGcm,
  unwrapAes,
  wrapAes,
} from './crypto-aes.ts';
import { signEcdsa, verifyEcdsa } from './crypto-ecdsa.ts';
import {
  decryptRsa,
  encryptRsa,
  type HashName,
  signPkcs1,
  signPss,
  verifyPkcs1,
  verifyPss,
} from './crypto-rsa.ts';
import {
  type Curve,
  type EcMaterial,
  isEc,
  isRsa,
  type KeyMaterial,
  keyObjectOf,
} from './key-material.ts';

// Every algorithm of the service, by the name that requests give it.

/** What a key must be to be used with an algorithm. */
export type KeyNeed = {
  readonly type: 'RSA' | 'EC' | 'oct';
  readonly curve?: Curve;
  /** Of a symmetric key. */
  readonly bits?: number;
};

export type SignatureAlgorithm = {
  readonly need: KeyNeed;
  /** `null`: content of any length. */
  readonly digestBytes: number | null;
  /** @throws for content that is too long for the key */
  readonly sign: (material: KeyMaterial, digest: Buffer) => Buffer;
  readonly verify: (material: KeyMaterial, digest: Buffer, signature: Buffer) => boolean;
};

/** What a cipher takes and gives beside the key. */
export type CipherData = {
  readonly value: Buffer;
  readonly iv?: Buffer;
  readonly tag?: Buffer;
  readonly aad?: Buffer;
};

export type EncryptionAlgorithm = {
  readonly need: KeyNeed;
  /** Data are encrypted, keys are wrapped; RSA does not care. */
  readonly takes: 'data' | 'keys' | 'both';
  /** Lengths of what has to come with the content. */
  readonly encryptsWith: Extras;
  readonly decryptsWith: Extras;
  /** @throws for content that cannot be encrypted in this way */
  readonly encrypt: (material: KeyMaterial, data: CipherData) => CipherData;
  /** @throws for what was not encrypted in this way, with this key */
  readonly decrypt: (material: KeyMaterial, data: CipherData) => Buffer;
  readonly decryptionFailure: string;
};
type Extras = { readonly iv?: number; readonly tag?: number };
type Hash = Exclude<HashName, 'sha1'>;

const nothing = Buffer.alloc(0);
const hashBytes: Readonly<Record<Hash, number>> = { sha256: 32, sha384: 48, sha512: 64 };

export const signatureAlgorithms: ReadonlyMap<string, SignatureAlgorithm> = new Map([
  ['RS256', pkcs1('sha256')],
  ['RS384', pkcs1('sha384')],
  ['RS512', pkcs1('sha512')],
  ['RSNULL', pkcs1()],
  ['PS256', pss('sha256')],
  ['PS384', pss('sha384')],
  ['PS512', pss('sha512')],
  ['ES256', ecdsa('P-256', 32)],
  ['ES384', ecdsa('P-384', 48)],
  ['ES512', ecdsa('P-521', 64)],
  ['ES256K', ecdsa('P-256K', 32)],
  ['HS256', hmac('sha256')],
  ['HS384', hmac('sha384')],
  ['HS512', hmac('sha512')],
]);

export const encryptionAlgorithms: ReadonlyMap<string, EncryptionAlgorithm> = new Map([
  ['RSA1_5', rsa()],
  ['RSA-OAEP', rsa('sha1')],
  ['RSA-OAEP-256', rsa('sha256')],
  ...[128, 192, 256].flatMap((bits): [string, EncryptionAlgorithm][] => [
    [`A${bits}GCM`, gcm(bits)],
    [`A${bits}CBC`, cbc(bits, false)],
    [`A${bits}CBCPAD`, cbc(bits, true)],
    [`A${bits}KW`, keyWrap('wrap', bits)],
  ]),
  ['CKM_AES_KEY_WRAP', keyWrap('wrap')],
  ['CKM_AES_KEY_WRAP_PAD', keyWrap('wrap-pad')],
]);

function pkcs1(hash?: Hash): SignatureAlgorithm {
  return {
    need: { type: 'RSA' },
    digestBytes: hash === undefined ? null : hashBytes[hash],
    sign: (material, digest) => signPkcs1(keyObjectOf(material), digest, hash),
    verify: (material, digest, signature) =>
      verifyPkcs1(keyObjectOf(material), digest, signature, hash),
  };
}

function pss(hash: Hash): SignatureAlgorithm {
  return {
    need: { type: 'RSA' },
    digestBytes: hashBytes[hash],
    sign: (material, digest) => signPss(keyObjectOf(material), digest, hash),
    verify: (material, digest, signature) =>
      verifyPss(keyObjectOf(material), digest, signature, hash),
  };
}

function ecdsa(curve: Curve, digestBytes: number): SignatureAlgorithm {
  return {
    need: { type: 'EC', curve },
    digestBytes,
    // `need` was checked.
    sign: (material, digest) => signEcdsa(material as EcMaterial, digest),
    verify: (material, digest, signature) => verifyEcdsa(material as EcMaterial, digest, signature),
  };
}

function hmac(hash: Hash): SignatureAlgorithm {
  const sign = (material: KeyMaterial, content: Buffer): Buffer =>
    createHmac(hash, keyObjectOf(material)).update(content).digest();
  return {
    need: { type: 'oct' },
    digestBytes: null,
    sign,
    verify: (material, content, signature) => {
      const expected = sign(material, content);
      return expected.length === signature.length && timingSafeEqual(expected, signature);
    },
  };
}

function rsa(hash?: HashName): EncryptionAlgorithm {
  return {
    need: { type: 'RSA' },
    takes: 'both',
    encryptsWith: {},
    decryptsWith: {},
    encrypt: (material, { value }) => ({ value: encryptRsa(keyObjectOf(material), value, hash) }),
    decrypt: (material, { value }) => decryptRsa(keyObjectOf(material), value, hash),
    decryptionFailure:
      hash === undefined
        ? 'Unable to decrypt specified value with this key.'
        : 'Error occurred while decoding OAEP padding.',
  };
}

function gcm(bits: number): EncryptionAlgorithm {
  return {
    ...aes('data', bits),
    // The nonce of an encryption is always the service's own.
    encryptsWith: {},
    decryptsWith: { iv: 12, tag: 16 },
    encrypt: (material, { value, aad = nothing }) => encryptGcm(keyObjectOf(material), value, aad),
    decrypt: (material, { value, iv = nothing, tag = nothing, aad = nothing }) =>
      decryptGcm(keyObjectOf(material), { value, iv, tag }, aad),
  };
}

function cbc(bits: number, isPadded: boolean): EncryptionAlgorithm {
  return {
    ...aes('data', bits),
    encryptsWith: { iv: 16 },
    decryptsWith: { iv: 16 },
    encrypt: (material, { value, iv = nothing }) => ({
      value: encryptCbc(keyObjectOf(material), value, iv, isPadded),
      iv,
    }),
    decrypt: (material, { value, iv = nothing }) =>
      decryptCbc(keyObjectOf(material), value, iv, isPadded),
  };
}

function keyWrap(mode: 'wrap' | 'wrap-pad', bits?: number): EncryptionAlgorithm {
  return {
    ...aes('keys', bits),
    encryptsWith: {},
    decryptsWith: {},
    encrypt: (material, { value }) => ({ value: wrapAes(keyObjectOf(material), value, mode) }),
    decrypt: (material, { value }) => unwrapAes(keyObjectOf(material), value, mode),
  };
}

function aes(
  takes: 'data' | 'keys',
  bits?: number,
): Pick<EncryptionAlgorithm, 'need' | 'takes' | 'decryptionFailure'> {
  return {
    need: { type: 'oct', ...(bits === undefined ? {} : { bits }) },
    takes,
    decryptionFailure: 'Unable to decrypt specified value with this key.',
  };
}

/** What is wrong with a key for an algorithm, and what would be right; `null` when it fits. */
export function findMisfit(material: KeyMaterial, need: KeyNeed): Misfit | null {
  const types = need.type === 'oct' ? "'oct-HSM'" : `'${need.type}' or '${need.type}-HSM'`;
  if (isRsa(material)) {
    return need.type === 'RSA' ? null : ofType(material, types);
  }
  if (isEc(material)) {
    if (need.type !== 'EC') return ofType(material, types);
    if (material.crv === need.curve) return null;
    return { has: `uses curve '${material.crv}'`, needs: `curve '${need.curve}'` };
  }
  if (need.type !== 'oct') return ofType(material, types);
  const bits = Buffer.from(material.k, 'base64url').length * 8;
  if (need.bits === undefined || need.bits === bits) return null;
  return { has: `has ${bits} bits`, needs: `${need.bits} bits` };
}

type Misfit = { readonly has: string; readonly needs: string };

function ofType({ kty }: KeyMaterial, types: string): Misfit {
  return { has: `is of type '${kty}'`, needs: `type ${types}` };
}
