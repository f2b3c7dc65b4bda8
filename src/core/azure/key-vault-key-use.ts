/** What is done with a key without showing it: one request each, to the vault. */
import type {
  CryptographyClient,
  CryptographyOptions,
  DecryptParameters,
  EncryptParameters,
  KeyClient,
} from '@azure/keyvault-keys';
import { AppError } from '../errors.ts';
import { SecretString } from '../secret-string.ts';
import { checkKeyName, checkRandomBytes, checkRelease } from '../vault/key-rules.ts';
import {
  checkDecrypt,
  checkEncrypt,
  checkSign,
  checkUnwrap,
  checkVerify,
  checkWrap,
} from '../vault/key-use.ts';
import type { DecryptInput, EncryptInput, KeyService } from '../vault/keys.ts';
import { checkVersion } from '../vault/secret-rules.ts';
import { serviceKind } from '../vault/service-kind.ts';
import { type Connection, send } from './key-vault-connection.ts';

type Part<K extends keyof KeyService> = Pick<KeyService, K>;
type KeyWork = Part<'encrypt' | 'decrypt' | 'wrapKey' | 'unwrapKey' | 'sign' | 'verify'>;

interface Target {
  readonly operation: keyof KeyWork | 'release';
  readonly name: string;
  readonly version: string | undefined;
}

/** Makes one request about a key. @throws AppError `invalid_input`, `object_disabled` for a wrong input or key */
type About = <T>(
  target: Target,
  run: (client: KeyClient, options: CryptographyOptions) => Promise<T>,
) => Promise<T>;

/** Makes one request with a key. @returns the answer, and the id of the version that gave it */
type Use = <T>(
  target: Target,
  run: (crypto: CryptographyClient, options: CryptographyOptions) => Promise<T>,
) => Promise<{ readonly answer: T; readonly keyId: string }>;

/** @param getKey reads the latest version of a key */
export function keyUse(
  connection: Connection<KeyClient>,
  url: string,
  getKey: KeyService['get'],
): KeyWork & Part<'release' | 'randomBytes'> {
  const about = aboutKey(connection);
  const use: Use = (target, run) =>
    about(target, async (client, options) => {
      let keyId: string | undefined;
      const onResponse: CryptographyOptions['onResponse'] = ({ parsedBody }) => {
        keyId = (parsedBody as { kid?: string } | undefined)?.kid;
      };
      const answer = await run(remoteCrypto(client, target), { ...options, onResponse });
      if (keyId === undefined) throw new TypeError('an answer without the id of its key');
      return { answer, keyId };
    });
  return {
    ...sealing(use),
    sign: async (name, input, version) => {
      checkSign(input);
      const { algorithm, digest } = input;
      const target = { operation: 'sign', name, version } as const;
      const { answer, keyId } = await use(target, (crypto, options) =>
        crypto.sign(algorithm, digest, options),
      );
      return { keyId, algorithm, result: bytesOf(answer.result) };
    },
    verify: async (name, input, version) => {
      checkVerify(input);
      const { algorithm, digest, signature } = input;
      // This answer does not say which version gave it.
      const keyId =
        version === undefined
          ? (await getKey(name)).id
          : new URL(`keys/${name}/${version.toLowerCase()}`, url).href;
      const pinned = version ?? keyId.split('/').at(-1);
      const target = { operation: 'verify', name, version: pinned } as const;
      const { result: valid } = await about(target, (client, options) =>
        remoteCrypto(client, target).verify(algorithm, digest, signature, options),
      );
      return { keyId, algorithm, valid };
    },
    ...hsmWork(connection, url, about),
  };
}

function sealing(use: Use): Part<'encrypt' | 'decrypt' | 'wrapKey' | 'unwrapKey'> {
  return {
    encrypt: async (name, input, version) => {
      checkEncrypt(input);
      const { algorithm } = input;
      const target = { operation: 'encrypt', name, version } as const;
      const { answer, keyId } = await use(target, (crypto, options) =>
        crypto.encrypt(encryptToSdk(input), options),
      );
      const { result, iv = null, authenticationTag: tag = null } = answer;
      return { keyId, algorithm, result: bytesOf(result), iv, tag };
    },
    decrypt: async (name, input, version) => {
      checkDecrypt(input);
      const target = { operation: 'decrypt', name, version } as const;
      const { answer, keyId } = await use(target, (crypto, options) =>
        crypto.decrypt(decryptToSdk(input), options),
      );
      return { keyId, algorithm: input.algorithm, result: bytesOf(answer.result) };
    },
    wrapKey: async (name, input, version) => {
      checkWrap(input);
      const { algorithm, key } = input;
      const target = { operation: 'wrapKey', name, version } as const;
      const { answer, keyId } = await use(target, (crypto, options) =>
        crypto.wrapKey(algorithm, key, options),
      );
      return { keyId, algorithm, result: bytesOf(answer.result) };
    },
    unwrapKey: async (name, input, version) => {
      checkUnwrap(input);
      const { algorithm, wrapped } = input;
      const target = { operation: 'unwrapKey', name, version } as const;
      const { answer, keyId } = await use(target, (crypto, options) =>
        crypto.unwrapKey(algorithm, wrapped, options),
      );
      return { keyId, algorithm, result: bytesOf(answer.result) };
    },
  };
}

function hsmWork(
  connection: Connection<KeyClient>,
  url: string,
  about: About,
): Part<'release' | 'randomBytes'> {
  return {
    release: async (name, input, version) => {
      checkRelease(input);
      const { attestation, ...rest } = input;
      const wanted = version === undefined ? rest : { ...rest, version };
      const target = { operation: 'release', name, version } as const;
      const { value } = await about(target, (client, options) =>
        client.releaseKey(name, attestation, { ...options, ...wanted }),
      );
      return new SecretString(value);
    },
    randomBytes: async (count) => {
      checkRandomBytes(count, serviceKind(url));
      const request = { what: 'get random bytes', operation: 'getRandomBytes', repeatable: true };
      return send(connection, request, (client, { signal }) =>
        client.getRandomBytes(count, { abortSignal: signal }),
      );
    },
  };
}

function aboutKey(connection: Connection<KeyClient>): About {
  return async ({ operation, name, version }, run) => {
    checkKeyName(name);
    if (version !== undefined) checkVersion(version);
    const what = `${operation} with key ${name}`;
    const request = { what, operation, object: name, repeatable: true };
    return send(connection, request, async (client, { signal }) => {
      try {
        return await run(client, { abortSignal: signal });
      } catch (error) {
        throw refusalOf(error, what);
      }
    });
  };
}

/**
 * A client that leaves everything to the vault, as the SDK's own does once it may not read the key. Otherwise it
 * would read the key first; keep that copy for ever, and go on encrypting with a key that is disabled; and refuse to
 * decrypt with one that has expired, which the vault allows. Nor does it say which version is the latest: it keeps to
 * the one it read. None is kept: to make one costs nothing, since it shares the pipeline of `client`.
 */
function remoteCrypto(
  client: KeyClient,
  { name, version }: Pick<Target, 'name' | 'version'>,
): CryptographyClient {
  const crypto = client.getCryptographyClient(
    name,
    version === undefined ? {} : { keyVersion: version },
  );
  return Object.assign<CryptographyClient, object>(crypto, {
    key: { kind: 'remoteOnlyIdentifier', value: crypto.keyID },
  });
}

/** What the vault says of key and input, told apart; never in its own words, which might repeat the input. */
function refusalOf(error: unknown, what: string): unknown {
  const { name, statusCode, code, message, details } = error as {
    name?: string;
    statusCode?: number;
    code?: string;
    message?: string;
    details?: { error?: { innerError?: { code?: string } } };
  };
  // A proxy's refusal says nothing of the key.
  const isVaults = typeof code === 'string' && code !== '' && code !== 'PARSE_ERROR';
  if (name !== 'RestError' || !isVaults) return error;
  const reason = `${details?.error?.innerError?.code ?? ''} ${message}`;
  if (statusCode === 400) {
    const detail = `${what}: ${code}: the vault does not take this content for this key and algorithm`;
    return new AppError('invalid_input', { detail });
  }
  if (statusCode === 403 && /KeyOperationForbidden|not permitted on this key/i.test(reason)) {
    return new AppError('invalid_input', { detail: `${what}: the key does not permit it` });
  }
  if (statusCode === 403 && /expired|not yet valid|NotYetValid/i.test(reason)) {
    const detail = `${what}: the key has expired, or is not valid yet`;
    return new AppError('object_disabled', { detail });
  }
  return Object.assign(error as Error, { message: code });
}

function encryptToSdk({ additionalData, ...input }: EncryptInput): EncryptParameters {
  const additional = additionalData && { additionalAuthenticatedData: additionalData };
  // Checked before: each algorithm has what it needs, and nothing else.
  return { ...input, ...additional } as EncryptParameters;
}

function decryptToSdk({ additionalData, tag, ...input }: DecryptInput): DecryptParameters {
  const additional = additionalData && { additionalAuthenticatedData: additionalData };
  return { ...input, ...additional, ...(tag && { authenticationTag: tag }) } as DecryptParameters;
}

/** The SDK gives an empty text for no bytes. */
function bytesOf(result: Uint8Array | undefined): Uint8Array {
  return new Uint8Array(result ?? []);
}
