import { createPrivateKey, generateKeyPair, type KeyObject } from 'node:crypto';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { calculateJwkThumbprint, exportJWK, type JWK } from 'jose';

/** The issuer's RSA key: `publicJwk` is what the key set publishes. */
export type SigningKey = {
  readonly privateKey: KeyObject;
  readonly kid: string;
  readonly publicJwk: JWK;
};

/**
 * The signing key of `dir` (`identity-key.pem`, mode 0600), made when missing, so that tokens outlive a restart;
 * without `dir` a key for this process only.
 */
export async function loadSigningKey(dir?: string): Promise<SigningKey> {
  if (dir === undefined) return describe(await makeKey());
  const file = join(dir, 'identity-key.pem');
  const kept = await findKey(file);
  if (kept !== null) return describe(kept);
  const made = await makeKey();
  await mkdir(dir, { recursive: true });
  await writeFile(file, made.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
  await chmod(file, 0o600);
  return describe(made);
}

async function findKey(file: string): Promise<KeyObject | null> {
  try {
    const key = createPrivateKey(await readFile(file));
    return key.asymmetricKeyType === 'rsa' ? key : null;
  } catch {
    return null;
  }
}

async function makeKey(): Promise<KeyObject> {
  const pair = await promisify(generateKeyPair)('rsa', { modulusLength: 2048 });
  return pair.privateKey;
}

async function describe(privateKey: KeyObject): Promise<SigningKey> {
  const { kty, n, e } = await exportJWK(privateKey);
  const bare: JWK = {
    ...(kty === undefined ? {} : { kty }),
    ...(n === undefined ? {} : { n }),
    ...(e === undefined ? {} : { e }),
  };
  const kid = await calculateJwkThumbprint(bare as JWK & { kty: string });
  return { privateKey, kid, publicJwk: { ...bare, kid, use: 'sig', alg: 'RS256' } };
}
