import {
  constants,
  createPublicKey,
  createSecretKey,
  type KeyObject,
  publicEncrypt,
  randomBytes,
} from 'node:crypto';
import { decodeJwt, type JWTPayload } from 'jose';
import { z } from 'zod';
import { parseBody } from './bundles.ts';
import { wrapAes } from './crypto-aes.ts';
import { errors } from './errors.ts';
import { type KeyMaterial, keyObjectOf } from './key-material.ts';
import { allowsRelease, documentOf } from './key-release-policy.ts';
import { signRelease } from './key-release-signer.ts';
import { type Key, type KeyVersion, keyKind } from './keys.ts';
import { idOf, targetOf } from './kind.ts';
import { type Answer, type Call, type Operation, versionOf } from './operation.ts';

// Secure key release: an exportable key, encrypted for an environment that could prove what it is.

const wrapHashes = {
  CKM_RSA_AES_KEY_WRAP: 'sha1',
  RSA_AES_KEY_WRAP_256: 'sha256',
  RSA_AES_KEY_WRAP_384: 'sha384',
} as const;
type Wrapping = keyof typeof wrapHashes;

const ReleaseBody = z.object({
  target: z.string().min(1),
  nonce: z.string().max(1024).nullish(),
  enc: z.enum(Object.keys(wrapHashes) as Wrapping[]).nullish(),
});
const Runtime = z.object({ 'x-ms-runtime': z.object({ keys: z.array(z.looseObject({})) }) });
const TransferKey = z.looseObject({
  kty: z.literal('RSA'),
  n: z.string(),
  e: z.string(),
  kid: z.string().optional(),
  use: z.literal('enc').optional(),
});

const release = {
  id: 'release',
  action: 'keys/release/action',
  serviceName: 'KeyRelease',
  method: 'POST',
  effect: 'read',
  run: releaseKey,
} as const;

export const keyReleaseOperations: readonly Operation[] = [
  { ...release, template: '/keys/{name}/release' },
  { ...release, template: '/keys/{name}/{version}/release' },
];

async function releaseKey(call: Call): Promise<Answer> {
  const { object, version } = targetOf(keyKind, call);
  const { target, nonce, enc } = parseBody(ReleaseBody, call.body);
  if (!version.enabled) throw errors.disabled('Key', 'release');
  if (!version.exportable || version.releasePolicy === undefined) {
    throw errors.keyOperationForbidden('release');
  }
  const claims = claimsOf(target, call.now);
  if (!allowsRelease(documentOf(version.releasePolicy), claims)) throw errors.attestationRefused();
  const wrapping = enc ?? 'CKM_RSA_AES_KEY_WRAP';
  const request = {
    'api-version': call.query.get('api-version'),
    enc: wrapping,
    kid: idOf(call.vault, keyKind, object.name, versionOf(call) || undefined),
    ...(nonce ? { nonce } : {}),
  };
  const response = { key: releasedBundle(call, object, version, seal(version, claims, wrapping)) };
  return { body: { value: await signRelease({ request, response }) }, version: version.version };
}

/**
 * What the environment says of itself. Its signature is not checked: there is no attestation service here.
 *
 * @throws VaultError 403 for what is no token, or expired
 */
function claimsOf(token: string, now: number): JWTPayload {
  try {
    const claims = decodeJwt(token);
    if (claims.exp === undefined || claims.exp > now) return claims;
  } catch {
    // Refused below.
  }
  throw errors.attestationRefused();
}

/** The private key for the environment's eyes only, as `key_hsm` has it. */
function seal(version: KeyVersion, claims: JWTPayload, wrapping: Wrapping): string {
  const { kid, key } = transferKeyOf(claims);
  const aesKey = randomBytes(32);
  const padding = constants.RSA_PKCS1_OAEP_PADDING;
  const wrappedKey = publicEncrypt({ key, padding, oaepHash: wrapHashes[wrapping] }, aesKey);
  const wrapped = wrapAes(createSecretKey(aesKey), plainBytes(version.material), 'wrap-pad');
  return toBase64url({
    schema_version: '1.0',
    header: { kid, alg: 'dir', enc: wrapping },
    ciphertext: Buffer.concat([wrappedKey, wrapped]).toString('base64url'),
  });
}

/** The key that the environment wants to be answered with. @throws VaultError 400 when it names none that will do */
function transferKeyOf(claims: JWTPayload): { kid: string; key: KeyObject } {
  const candidates = Runtime.safeParse(claims).data?.['x-ms-runtime'].keys ?? [];
  for (const candidate of candidates) {
    const { data: jwk } = TransferKey.safeParse(candidate);
    if (jwk === undefined) continue;
    try {
      const key = createPublicKey({ format: 'jwk', key: { kty: 'RSA', n: jwk.n, e: jwk.e } });
      const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
      if (bits >= 2048) return { kid: jwk.kid ?? '', key };
    } catch {
      // No RSA key after all; the next one may be.
    }
  }
  throw errors.badParameter('The attestation token has no RSA key to encrypt the key for.');
}

/** PKCS #8, or the bare bytes of a symmetric key. */
function plainBytes(material: KeyMaterial): Buffer {
  if (material.kty === 'oct-HSM') return Buffer.from(material.k, 'base64url');
  return keyObjectOf(material).export({ format: 'der', type: 'pkcs8' });
}

function releasedBundle({ vault }: Call, key: Key, version: KeyVersion, sealed: string): unknown {
  const { key: publicPart, ...rest } = keyKind.bundle(vault, key, version);
  return { key: Object.assign({}, publicPart, { key_hsm: sealed }), ...rest };
}

function toBase64url(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}
