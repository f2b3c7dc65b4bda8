import {
  createPublicKey,
  createSecretKey,
  generateKeyPair,
  type JsonWebKey,
  type KeyObject,
  randomBytes,
} from 'node:crypto';
import { promisify } from 'node:util';
import { familyOf, nodeCurve } from '../vault/key-algorithms.ts';
import type { KeyCurve, KeyType, PublicKey } from '../vault/keys.ts';

// Private and secret keys of the simulated vault, as node:crypto has them.

/** What to generate; what is left out is as in a vault. */
export interface KeySpec {
  readonly type: KeyType;
  readonly size?: number | undefined;
  readonly curve?: KeyCurve | undefined;
}

const generatePair = promisify(generateKeyPair);
const publicExponent = 65_537;

/** RSA takes 0.1 to 1 s of another thread. */
export async function generateKey({ type, size, curve }: KeySpec): Promise<KeyObject> {
  switch (familyOf(type)) {
    case 'RSA': {
      const options = { modulusLength: size ?? 2048, publicExponent };
      return (await generatePair('rsa', options)).privateKey;
    }
    case 'EC':
      return (await generatePair('ec', { namedCurve: nodeCurve(curve ?? 'P-256') })).privateKey;
    case 'oct':
      return createSecretKey(randomBytes((size ?? 256) / 8));
  }
}

/** What makes another key like this one. */
export function specOf(type: KeyType, key: KeyObject): KeySpec {
  const bits = key.symmetricKeySize === undefined ? undefined : key.symmetricKeySize * 8;
  const publicKey = publicKeyOf(key);
  return {
    type,
    size: bits ?? key.asymmetricKeyDetails?.modulusLength,
    curve: publicKey?.kty === 'EC' ? publicKey.crv : undefined,
  };
}

/** Null for symmetric keys. */
export function publicKeyOf(key: KeyObject): PublicKey | null {
  if (key.type === 'secret') return null;
  const { kty, n = '', e = '', crv, x = '', y = '' } = exportJwk(createPublicKey(key));
  if (kty === 'RSA') return { kty, n, e };
  return { kty: 'EC', crv: crv === 'secp256k1' ? 'P-256K' : (crv as KeyCurve), x, y };
}

export function exportJwk(key: KeyObject): JsonWebKey {
  return key.export({ format: 'jwk' });
}
