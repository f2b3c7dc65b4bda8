import {
  generateKeyPairSync,
  type JsonWebKey,
  type KeyObject,
  type KeyPairKeyObjectResult,
} from 'node:crypto';
import { SecretString } from '../../src/core/secret-string.ts';
import type { ImportedKey, KeyCurve } from '../../src/core/vault/keys.ts';

/** Made once: it takes a while. */
export const rsaPair = generateKeyPairSync('rsa', { modulusLength: 2048 });

/** One for each curve of a vault. */
export const ecPairs: Readonly<Record<KeyCurve, KeyPairKeyObjectResult>> = {
  'P-256': generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  'P-384': generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  'P-521': generateKeyPairSync('ec', { namedCurve: 'P-521' }),
  'P-256K': generateKeyPairSync('ec', { namedCurve: 'secp256k1' }),
};

/** As a vault calls its curves. */
export function privateJwk(key: KeyObject): JsonWebKey {
  const jwk = key.export({ format: 'jwk' });
  return jwk.crv === 'secp256k1' ? { ...jwk, crv: 'P-256K' } : jwk;
}

/** A private key as `import` takes it. */
export function importable(
  { privateKey }: Pick<KeyPairKeyObjectResult, 'privateKey'>,
  more: Omit<ImportedKey, 'key'> = {},
): ImportedKey {
  return { ...more, key: new SecretString(JSON.stringify(privateJwk(privateKey))) };
}
