import { p256, p384, p521 } from '@noble/curves/nist.js';
import { secp256k1 } from '@noble/curves/secp256k1.js';
import type { Curve, EcMaterial } from './key-material.ts';

// ECDSA on digests: node:crypto would hash them once more. Signatures are r and s, one after the other.

const implementations = {
  'P-256': p256,
  'P-384': p384,
  'P-521': p521,
  'P-256K': secp256k1,
} as const;
const coordinateBytes: Readonly<Record<Curve, number>> = {
  'P-256': 32,
  'P-384': 48,
  'P-521': 66,
  'P-256K': 32,
};
// Like the real service: s may be in the upper half of the group on every curve.
const lowS = false;

export function signEcdsa({ crv, d }: EcMaterial, digest: Buffer): Buffer {
  const options = { prehash: false, lowS, extraEntropy: true };
  const secret = padded(d, coordinateBytes[crv]);
  return Buffer.from(implementations[crv].sign(digest, secret, options));
}

export function verifyEcdsa({ crv, x, y }: EcMaterial, digest: Buffer, signature: Buffer): boolean {
  const size = coordinateBytes[crv];
  const publicKey = Buffer.concat([Buffer.of(4), padded(x, size), padded(y, size)]);
  if (signature.length !== 2 * size) return false;
  try {
    return implementations[crv].verify(signature, digest, publicKey, { prehash: false, lowS });
  } catch {
    // r or s is zero or beyond the order of the group.
    return false;
  }
}

function padded(base64url: string, size: number): Buffer {
  const bytes = Buffer.from(base64url, 'base64url');
  return Buffer.concat([Buffer.alloc(size - bytes.length), bytes]);
}
