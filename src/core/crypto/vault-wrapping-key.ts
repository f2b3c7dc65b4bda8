import { AppError, hasCode } from '../errors.ts';
import type { Vault } from '../vault/ports.ts';
import type { WrappingKey } from './wrapping-key.ts';

const algorithm = 'RSA-OAEP-256';

/** The RSA key `name` of a vault as a wrapping key; every call has the deadline of the vault's client. */
export function vaultWrappingKey(
  { url, keys }: Pick<Vault, 'url' | 'keys'>,
  name: string,
): WrappingKey {
  const prefix = `${url.replace(/\/+$/, '')}/keys/${name}/`.toLowerCase();
  const versionOf = (keyId: string): string => {
    const version = keyId.slice(prefix.length);
    const isOurs = keyId.toLowerCase().startsWith(prefix) && /^[0-9a-f]{32}$/i.test(version);
    if (isOurs) return version;
    throw new AppError('not_found', { detail: `${keyId.slice(0, 512)} is no version of ${name}` });
  };
  return {
    async wrap(dataKey) {
      const { keyId, result } = await keys.wrapKey(name, { algorithm, key: dataKey });
      return { keyId, algorithm, wrapped: result };
    },
    async unwrap({ keyId, algorithm: used, wrapped }) {
      const version = versionOf(keyId);
      const detail = `unwrap with ${keyId}`;
      if (used !== algorithm) throw new AppError('corrupt', { detail });
      try {
        return (await keys.unwrapKey(name, { algorithm, wrapped }, version)).result;
      } catch (cause) {
        // The key is right and so is the algorithm: these are bytes it has not wrapped.
        if (hasCode(cause, 'invalid_input')) throw new AppError('corrupt', { detail, cause });
        throw cause;
      }
    },
  };
}
