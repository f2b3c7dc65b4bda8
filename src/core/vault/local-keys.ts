import {
  constants,
  createPublicKey,
  type JsonWebKey,
  type KeyObject,
  publicEncrypt,
} from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { Clock } from '../clock.ts';
import { hasCode } from '../errors.ts';
import { verifyEcdsa } from './ecdsa.ts';
import { ciphers, signatures } from './key-algorithms.ts';
import { checkKeyName } from './key-rules.ts';
import {
  checkDecrypt,
  checkEncrypt,
  checkSign,
  checkUnwrap,
  checkUse,
  checkVerify,
  checkWrap,
  type KeyUse,
} from './key-use.ts';
import type {
  EncryptionAlgorithm,
  KeyResult,
  KeyService,
  KeyVersion,
  PublicKey,
  VerifyInput,
  WrapAlgorithm,
} from './keys.ts';
import { verifyRsaDigest } from './rsa-digests.ts';
import { checkVersion } from './secret-rules.ts';

export interface LocalKeySettings {
  /**
   * The named version of a key, or its latest: `keys.get`, or a cache in front of it. Its errors are the outcome, but
   * for `vault_denied`: then the vault does everything, as far as it lets us.
   */
  readonly read: (name: string, version?: string) => Promise<KeyVersion>;
  readonly clock: Clock;
}

/** The key, found fit for the use; null when it may not be read. */
type FindKey = (
  name: string,
  version: string | undefined,
  use: KeyUse,
) => Promise<KeyVersion | null>;

const deniedMs = 5 * 60_000;
const keyObjects = new WeakMap<PublicKey, KeyObject>();

/**
 * `keys`, but what needs only the public key is done in this process, without a request: RSA encryption and wrapping,
 * and the verification of RS*, PS* and ES*. Everything else goes to `keys`, after it has been checked against the key
 * as it was read. Answers and errors are those of `keys`; of a key that was just changed, as fresh as `read`.
 */
export function localKeys(keys: KeyService, { read, clock }: LocalKeySettings): KeyService {
  const readable = unlessDenied(read, clock);
  const find: FindKey = async (name, version, use) => {
    checkKeyName(name);
    if (version !== undefined) checkVersion(version);
    const key = await readable(name, version);
    if (key !== null) checkUse(key, use, clock.now());
    return key;
  };
  return { ...keys, ...publicWork(keys, find), ...checkedWork(keys, find) };
}

function publicWork(
  keys: KeyService,
  find: FindKey,
): Pick<KeyService, 'encrypt' | 'wrapKey' | 'verify'> {
  return {
    encrypt: async (name, input, version) => {
      checkEncrypt(input);
      const { algorithm, plaintext } = input;
      const key = await find(name, version, {
        operation: 'encrypt',
        algorithm,
        content: plaintext,
      });
      const made = key === null ? null : encryptHere(key, algorithm, plaintext);
      return made === null ? keys.encrypt(name, input, version) : { ...made, iv: null, tag: null };
    },
    wrapKey: async (name, input, version) => {
      checkWrap(input);
      const { algorithm, key: content } = input;
      const key = await find(name, version, { operation: 'wrapKey', algorithm, content });
      const made = key === null ? null : encryptHere(key, algorithm, content);
      return made ?? keys.wrapKey(name, input, version);
    },
    verify: async (name, input, version) => {
      checkVerify(input);
      const { algorithm } = input;
      const key = await find(name, version, { operation: 'verify', algorithm });
      const valid = key === null ? null : await verifyHere(key, input);
      if (key === null) return keys.verify(name, input, version);
      // Named, so that the vault need not be asked which one it was.
      if (valid === null) return keys.verify(name, input, key.properties.version);
      return { keyId: key.id, algorithm, valid };
    },
  };
}

function checkedWork(
  keys: KeyService,
  find: FindKey,
): Pick<KeyService, 'decrypt' | 'unwrapKey' | 'sign'> {
  return {
    decrypt: async (name, input, version) => {
      checkDecrypt(input);
      const { algorithm, ciphertext: content } = input;
      await find(name, version, { operation: 'decrypt', algorithm, content });
      return keys.decrypt(name, input, version);
    },
    unwrapKey: async (name, input, version) => {
      checkUnwrap(input);
      const { algorithm, wrapped: content } = input;
      await find(name, version, { operation: 'unwrapKey', algorithm, content });
      return keys.unwrapKey(name, input, version);
    },
    sign: async (name, input, version) => {
      checkSign(input);
      await find(name, version, { operation: 'sign', algorithm: input.algorithm });
      return keys.sign(name, input, version);
    },
  };
}

/** Null for keys that may not be read, which is remembered for a while: the answer to each call would be the same. */
function unlessDenied(
  read: LocalKeySettings['read'],
  clock: Clock,
): (name: string, version: string | undefined) => Promise<KeyVersion | null> {
  const perf = { now: () => clock.now().getTime() };
  const denied = new LRUCache<string, true>({ max: 1_000, ttl: deniedMs, ttlResolution: 0, perf });
  return async (name, version) => {
    const key = name.toUpperCase();
    if (denied.has(key)) return null;
    try {
      return await read(name, version);
    } catch (error) {
      if (!hasCode(error, 'vault_denied')) throw error;
      denied.set(key, true);
      return null;
    }
  };
}

/** Null unless it takes the public key only. */
function encryptHere(
  { id, publicKey }: KeyVersion,
  algorithm: EncryptionAlgorithm | WrapAlgorithm,
  content: Uint8Array,
): KeyResult | null {
  const cipher = ciphers[algorithm];
  if (cipher.family !== 'RSA' || publicKey === null) return null;
  const key = keyObjectOf(publicKey);
  const { RSA_PKCS1_OAEP_PADDING, RSA_PKCS1_PADDING } = constants;
  const padding =
    cipher.hash === null
      ? { padding: RSA_PKCS1_PADDING }
      : { padding: RSA_PKCS1_OAEP_PADDING, oaepHash: cipher.hash };
  return { keyId: id, algorithm, result: publicEncrypt({ key, ...padding }, content) };
}

/** Null unless it takes the public key only. */
async function verifyHere(
  { publicKey }: KeyVersion,
  { algorithm, digest, signature }: VerifyInput,
): Promise<boolean | null> {
  const scheme = signatures[algorithm];
  if (scheme.family === 'RSA' && publicKey?.kty === 'RSA') {
    return verifyRsaDigest(keyObjectOf(publicKey), scheme, digest, signature);
  }
  if (scheme.family !== 'EC' || publicKey?.kty !== 'EC') return null;
  return verifyEcdsa(publicKey, digest, signature);
}

/** Made once for as long as whoever reads keys holds on to this one. */
function keyObjectOf(publicKey: PublicKey): KeyObject {
  const known = keyObjects.get(publicKey);
  if (known !== undefined) return known;
  const made = createPublicKey({ format: 'jwk', key: publicKey as JsonWebKey });
  keyObjects.set(publicKey, made);
  return made;
}
