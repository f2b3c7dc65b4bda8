import { createCipheriv, createDecipheriv, createSecretKey, randomBytes } from 'node:crypto';
import { AppError } from '../errors.ts';
import type { WrappedKey, WrappingKey } from './wrapping-key.ts';

/** A wrapping key of this process: what it wrapped can be read until the process ends. */
export interface LocalWrappingKey extends WrappingKey {
  /** Makes a new version, under which is wrapped from now on. @returns its key id */
  rotate(): string;
  /** From now on the version unwraps nothing; unknown ids are disabled already. */
  disable(keyId: string): void;
}

const algorithm = 'A256KW';
/** A data key and the 8 bytes that prove it; OpenSSL would unwrap less, and nothing at all too. */
const wrappedBytes = 40;
// RFC 3394, section 2.2.3.1.
const initialValue = Buffer.alloc(8, 0xa6);

/** AES-256 key wrap (RFC 3394) under random keys; their ids are `local/NAME/1`, `…/2` and so on. */
export function localWrappingKey(name: string): LocalWrappingKey {
  const versions = new Map<string, ReturnType<typeof createSecretKey> | 'disabled'>();
  let latest = '';
  const rotate = () => {
    latest = `local/${name}/${versions.size + 1}`;
    versions.set(latest, createSecretKey(randomBytes(32)));
    return latest;
  };
  const keyOf = (keyId: string) => {
    const key = versions.get(keyId);
    if (key === undefined) throw new AppError('not_found', { detail: `wrapping key ${keyId}` });
    if (key !== 'disabled') return key;
    throw new AppError('object_disabled', { detail: `wrapping key ${keyId}` });
  };
  rotate();

  return {
    async wrap(dataKey) {
      const cipher = createCipheriv('id-aes256-wrap', keyOf(latest), initialValue);
      const wrapped = Buffer.concat([cipher.update(dataKey), cipher.final()]);
      return { keyId: latest, algorithm, wrapped };
    },
    async unwrap(key) {
      const secret = keyOf(key.keyId);
      try {
        return unwrapped(secret, key);
      } catch (cause) {
        throw new AppError('corrupt', { detail: `unwrap with ${key.keyId}`, cause });
      }
    },
    rotate,
    disable(keyId) {
      if (versions.has(keyId)) versions.set(keyId, 'disabled');
    },
  };
}

function unwrapped(secret: ReturnType<typeof createSecretKey>, key: WrappedKey): Buffer {
  if (key.algorithm !== algorithm) throw new Error('wrapped by another algorithm');
  if (key.wrapped.length !== wrappedBytes) throw new Error('not the length of a wrapped data key');
  const decipher = createDecipheriv('id-aes256-wrap', secret, initialValue);
  return Buffer.concat([decipher.update(key.wrapped), decipher.final()]);
}
