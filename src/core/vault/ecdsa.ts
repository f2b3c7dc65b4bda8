/**
 * ECDSA on digests: node:crypto hashes whatever it is given once more, so the curves are those of @noble/curves. They
 * are loaded with the first signature; a verification takes 2 to 12 ms of this thread.
 */
import type { KeyCurve, PublicKey } from './keys.ts';

type EcPublicKey = Extract<PublicKey, { kty: 'EC' }>;

const coordinateBytes: Readonly<Record<KeyCurve, number>> = {
  'P-256': 32,
  'P-384': 48,
  'P-521': 66,
  'P-256K': 32,
};
// The digest is not hashed, and s may be in the upper half of the group, as vaults make it.
const options = { prehash: false, lowS: false };

/** Whether `signature` (r and s, one after the other) was made of `digest` with this key; false for any other. */
export async function verifyEcdsa(
  { crv, x, y }: EcPublicKey,
  digest: Uint8Array,
  signature: Uint8Array,
): Promise<boolean> {
  const size = coordinateBytes[crv];
  const curve = await curveOf(crv);
  const point = Buffer.concat([Buffer.of(4), padded(x, size), padded(y, size)]);
  // A key that is no point of the curve is no forged signature: it throws.
  curve.Point.fromBytes(point);
  try {
    return curve.verify(signature, digest, point, options);
  } catch {
    // It has another length, or r or s is zero or beyond the order of the group.
    return false;
  }
}

/** @param secret the private number, base64url */
export async function signEcdsa(
  crv: KeyCurve,
  secret: string,
  digest: Uint8Array,
): Promise<Uint8Array> {
  const curve = await curveOf(crv);
  return curve.sign(digest, padded(secret, coordinateBytes[crv]), {
    ...options,
    extraEntropy: true,
  });
}

async function curveOf(curve: KeyCurve) {
  if (curve === 'P-256K') return (await import('@noble/curves/secp256k1.js')).secp256k1;
  const { p256, p384, p521 } = await import('@noble/curves/nist.js');
  return { 'P-256': p256, 'P-384': p384, 'P-521': p521 }[curve];
}

/** A JSON Web Key may leave leading zeros out. */
function padded(base64url: string, size: number): Buffer {
  const bytes = Buffer.from(base64url, 'base64url');
  return Buffer.concat([Buffer.alloc(Math.max(0, size - bytes.length)), bytes]);
}
