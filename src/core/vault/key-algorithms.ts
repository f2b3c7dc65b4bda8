import type {
  EncryptionAlgorithm,
  KeyCurve,
  KeyType,
  SignatureAlgorithm,
  WrapAlgorithm,
} from './keys.ts';

// What each algorithm needs of a key, and how it works (RFC 7518). Sizes of keys in bits.

export type KeyFamily = 'RSA' | 'EC' | 'oct';
export type Hash = 'sha256' | 'sha384' | 'sha512';

export interface RsaSignature {
  readonly family: 'RSA';
  readonly scheme: 'pkcs1' | 'pss';
  readonly hash: Hash;
  readonly digestBytes: number;
}
export interface EcSignature {
  readonly family: 'EC';
  readonly curve: KeyCurve;
  readonly digestBytes: number;
}
export interface MacSignature {
  readonly family: 'oct';
  readonly hash: Hash;
  /** Any length. */
  readonly digestBytes: null;
}

export const signatures: Readonly<
  Record<SignatureAlgorithm, RsaSignature | EcSignature | MacSignature>
> = {
  RS256: { family: 'RSA', scheme: 'pkcs1', hash: 'sha256', digestBytes: 32 },
  RS384: { family: 'RSA', scheme: 'pkcs1', hash: 'sha384', digestBytes: 48 },
  RS512: { family: 'RSA', scheme: 'pkcs1', hash: 'sha512', digestBytes: 64 },
  PS256: { family: 'RSA', scheme: 'pss', hash: 'sha256', digestBytes: 32 },
  PS384: { family: 'RSA', scheme: 'pss', hash: 'sha384', digestBytes: 48 },
  PS512: { family: 'RSA', scheme: 'pss', hash: 'sha512', digestBytes: 64 },
  ES256: { family: 'EC', curve: 'P-256', digestBytes: 32 },
  ES384: { family: 'EC', curve: 'P-384', digestBytes: 48 },
  ES512: { family: 'EC', curve: 'P-521', digestBytes: 64 },
  ES256K: { family: 'EC', curve: 'P-256K', digestBytes: 32 },
  HS256: { family: 'oct', hash: 'sha256', digestBytes: null },
  HS384: { family: 'oct', hash: 'sha384', digestBytes: null },
  HS512: { family: 'oct', hash: 'sha512', digestBytes: null },
};

export interface RsaCipher {
  readonly family: 'RSA';
  /** Of OAEP and its mask; null for PKCS #1 v1.5. */
  readonly hash: 'sha1' | 'sha256' | null;
  /** What the padding takes of the modulus. */
  readonly paddingBytes: number;
}
export interface AesCipher {
  readonly family: 'oct';
  readonly mode: 'gcm' | 'cbc' | 'cbc-pad' | 'kw';
  readonly bits: number;
}

export const ciphers: Readonly<Record<EncryptionAlgorithm | WrapAlgorithm, RsaCipher | AesCipher>> =
  {
    RSA1_5: { family: 'RSA', hash: null, paddingBytes: 11 },
    'RSA-OAEP': { family: 'RSA', hash: 'sha1', paddingBytes: 42 },
    'RSA-OAEP-256': { family: 'RSA', hash: 'sha256', paddingBytes: 66 },
    A128GCM: { family: 'oct', mode: 'gcm', bits: 128 },
    A192GCM: { family: 'oct', mode: 'gcm', bits: 192 },
    A256GCM: { family: 'oct', mode: 'gcm', bits: 256 },
    A128CBC: { family: 'oct', mode: 'cbc', bits: 128 },
    A192CBC: { family: 'oct', mode: 'cbc', bits: 192 },
    A256CBC: { family: 'oct', mode: 'cbc', bits: 256 },
    A128CBCPAD: { family: 'oct', mode: 'cbc-pad', bits: 128 },
    A192CBCPAD: { family: 'oct', mode: 'cbc-pad', bits: 192 },
    A256CBCPAD: { family: 'oct', mode: 'cbc-pad', bits: 256 },
    A128KW: { family: 'oct', mode: 'kw', bits: 128 },
    A192KW: { family: 'oct', mode: 'kw', bits: 192 },
    A256KW: { family: 'oct', mode: 'kw', bits: 256 },
  };

export function familyOf(type: KeyType): KeyFamily {
  switch (type) {
    case 'RSA':
    case 'RSA-HSM':
      return 'RSA';
    case 'EC':
    case 'EC-HSM':
      return 'EC';
    case 'oct':
    case 'oct-HSM':
      return 'oct';
  }
}

/** What node:crypto calls the curve. */
export function nodeCurve(curve: KeyCurve): string {
  return curve === 'P-256K' ? 'secp256k1' : curve;
}
