import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { z } from 'zod';
import { base64urlToBytes } from './base64url.ts';
import { errors, type VaultError } from './errors.ts';
import {
  curves,
  type EcMaterial,
  type KeyMaterial,
  materialOf,
  nodeCurve,
  type OctMaterial,
  octSizes,
  type RsaMaterial,
  rsaSizes,
} from './key-material.ts';

const Text = z.string().nullish();

/** The key of an import request: a JWK with the service's names of types and curves. */
export const ImportedKey = z.object({
  kty: z.enum(['RSA', 'RSA-HSM', 'EC', 'EC-HSM', 'oct', 'oct-HSM']),
  ...{ n: Text, e: Text, d: Text, p: Text, q: Text, dp: Text, dq: Text, qi: Text },
  ...{ crv: z.enum(curves).nullish(), x: Text, y: Text },
  ...{ k: Text, key_hsm: Text },
});
type ImportedKey = z.output<typeof ImportedKey>;

const maxOctBytes = 64;
const largestExponent = 2 ** 32 - 1;

/**
 * The private key of a request in the form that is kept.
 *
 * @param toHsm whether it shall be told to be in a HSM; symmetric keys always are
 * @throws VaultError 400 for what is no private key, or does not belong to its public members
 */
export function materialFrom(jwk: ImportedKey, toHsm: boolean): KeyMaterial {
  if (typeof jwk.key_hsm === 'string') {
    throw errors.badParameter('A key that was wrapped for an HSM cannot be imported here.');
  }
  switch (jwk.kty) {
    case 'RSA':
    case 'RSA-HSM':
      return rsaFrom(jwk, toHsm || jwk.kty === 'RSA-HSM' ? 'RSA-HSM' : 'RSA');
    case 'EC':
    case 'EC-HSM':
      return ecFrom(jwk, toHsm || jwk.kty === 'EC-HSM' ? 'EC-HSM' : 'EC');
    case 'oct':
    case 'oct-HSM':
      return octFrom(jwk);
  }
}

function rsaFrom(jwk: ImportedKey, kty: RsaMaterial['kty']): RsaMaterial {
  const { n, e, ...secret } = members(jwk, ['n', 'e', 'd', 'p', 'q', 'dp', 'dq', 'qi']);
  const pair = pairOf({ n, e }, secret, { kty: 'RSA' });
  if (!isConsistent({ n, e, ...secret })) throw notAPair();
  const { modulusLength = 0, publicExponent = 0n } = pair.asymmetricKeyDetails ?? {};
  if (!rsaSizes.includes(modulusLength)) throw errors.unsupportedKeySize(modulusLength, rsaSizes);
  // A longer one could not be rotated: node:crypto would not make it.
  if (publicExponent > largestExponent) throw errors.badProperty('key.e');
  return materialOf(pair, kty);
}

function ecFrom(jwk: ImportedKey, kty: EcMaterial['kty']): EcMaterial {
  const { x, y, d } = members(jwk, ['x', 'y', 'd']);
  if (!jwk.crv) throw errors.requiredProperty('crv');
  return materialOf(pairOf({ x, y }, { d }, { kty: 'EC', crv: nodeCurve(jwk.crv) }), kty);
}

function octFrom(jwk: ImportedKey): OctMaterial {
  const { k } = members(jwk, ['k']);
  const bytes = Buffer.from(k, 'base64url').length;
  if (bytes > maxOctBytes) {
    throw errors.badParameter(
      `JSON Web Key: k property of oct key is too large, maximum size is ${maxOctBytes}`,
    );
  }
  if (!octSizes.includes(bytes * 8)) throw errors.unsupportedKeySize(bytes * 8, octSizes);
  return { kty: 'oct-HSM', k };
}

/** Asked apart, since OpenSSL makes good what some of the members lack, and would not notice. */
function isConsistent(jwk: Record<'n' | 'e' | 'd' | 'p' | 'q', string>): boolean {
  const [p, q] = [integer(jwk.p), integer(jwk.q)];
  if (p <= 2n || q <= 2n || p * q !== integer(jwk.n)) return false;
  const product = integer(jwk.e) * integer(jwk.d);
  return product % (p - 1n) === 1n && product % (q - 1n) === 1n;
}

function integer(base64url: string): bigint {
  return BigInt(`0x${Buffer.from(base64url, 'base64url').toString('hex')}`);
}

function members<N extends Exclude<keyof ImportedKey, 'kty' | 'crv'>>(
  jwk: ImportedKey,
  names: readonly N[],
): Record<N, string> {
  const entries = names.map((name) => {
    const text = jwk[name];
    if (typeof text !== 'string') throw errors.requiredProperty(name);
    base64urlToBytes(name, text);
    return [name, text];
  });
  return Object.fromEntries(entries);
}

type Members = Readonly<Record<string, string>>;

/** Tried out, because OpenSSL takes private members of one key with the public ones of another. */
function pairOf(open: Members, secret: Members, kind: Members): KeyObject {
  const message = Buffer.from('try out');
  try {
    const privateKey = createPrivateKey({ format: 'jwk', key: { ...kind, ...open, ...secret } });
    const publicKey = createPublicKey({ format: 'jwk', key: { ...kind, ...open } });
    const signature = sign('sha256', message, privateKey);
    if (verify('sha256', message, publicKey, signature)) return privateKey;
  } catch {
    // Refused below, like a pair that does not fit.
  }
  throw notAPair();
}

function notAPair(): VaultError {
  return errors.badParameter('The members of the key do not make a private key.');
}
