import { type KeyObject, randomBytes } from 'node:crypto';
import { AppError } from '../errors.ts';
import { ciphers, signatures } from '../vault/key-algorithms.ts';
import { checkField, checkKeyName, checkRandomBytes, checkRelease } from '../vault/key-rules.ts';
import {
  checkDecrypt,
  checkEncrypt,
  checkSign,
  checkUnwrap,
  checkUse,
  checkVerify,
  checkWrap,
  type KeyUse,
} from '../vault/key-use.ts';
import type { KeyService } from '../vault/keys.ts';
import { checkVersion } from '../vault/secret-rules.ts';
import { serviceKind } from '../vault/service-kind.ts';
import { decryptWith, encryptWith, signWith, verifyWith } from './key-crypto.ts';
import { describeKey, type KeyTools } from './key-version.ts';

type Part<K extends keyof KeyService> = Pick<KeyService, K>;
type KeyWork = Part<'encrypt' | 'decrypt' | 'wrapKey' | 'unwrapKey'> &
  Part<'sign' | 'verify' | 'release' | 'randomBytes'>;
/** Runs `work` with the key, once it is found fit for the use. */
type WithKey = <T>(
  target: { readonly name: string; readonly version: string | undefined; readonly use: KeyUse },
  work: (key: KeyObject, keyId: string) => T | Promise<T>,
) => Promise<T>;

/** What is done with keys without showing them. */
export function simulatedKeyUse(tools: KeyTools): KeyWork {
  const { store, url, perform, now } = tools;
  const withKey: WithKey = async ({ name, version, use }, work) => {
    checkKeyName(name);
    if (version !== undefined) checkVersion(version);
    return perform(use.operation, name, () => {
      const key = store.get(name, version);
      const described = describeKey(url, key);
      checkUse(described, use, now());
      checkKeyBits(key.material, use);
      return work(key.material, described.id);
    });
  };
  return { ...sealing(withKey), ...signing(withKey), ...hsmWork(tools) };
}

function sealing(withKey: WithKey): Part<'encrypt' | 'decrypt' | 'wrapKey' | 'unwrapKey'> {
  return {
    encrypt: async (name, input, version) => {
      checkEncrypt(input);
      const { algorithm, plaintext: content } = input;
      const use = { operation: 'encrypt', algorithm, content } as const;
      return withKey({ name, version, use }, (key, keyId) => {
        const sealed = encryptWith(key, ciphers[algorithm], { ...input, content });
        return { keyId, algorithm, ...sealed };
      });
    },
    decrypt: async (name, input, version) => {
      checkDecrypt(input);
      const { algorithm, ciphertext: content } = input;
      const use = { operation: 'decrypt', algorithm, content } as const;
      return withKey({ name, version, use }, (key, keyId) => {
        const result = open(() => decryptWith(key, ciphers[algorithm], { ...input, content }));
        return { keyId, algorithm, result };
      });
    },
    wrapKey: async (name, { algorithm, key: content }, version) => {
      checkWrap({ algorithm, key: content });
      const use = { operation: 'wrapKey', algorithm, content } as const;
      return withKey({ name, version, use }, (key, keyId) => {
        const { result } = encryptWith(key, ciphers[algorithm], { content });
        return { keyId, algorithm, result };
      });
    },
    unwrapKey: async (name, { algorithm, wrapped: content }, version) => {
      checkUnwrap({ algorithm, wrapped: content });
      const use = { operation: 'unwrapKey', algorithm, content } as const;
      return withKey({ name, version, use }, (key, keyId) => {
        const result = open(() => decryptWith(key, ciphers[algorithm], { content }));
        return { keyId, algorithm, result };
      });
    },
  };
}

function signing(withKey: WithKey): Part<'sign' | 'verify'> {
  return {
    sign: async (name, input, version) => {
      checkSign(input);
      const { algorithm, digest } = input;
      const use = { operation: 'sign', algorithm } as const;
      return withKey({ name, version, use }, async (key, keyId) => {
        const result = await signWith(key, signatures[algorithm], digest);
        return { keyId, algorithm, result };
      });
    },
    verify: async (name, input, version) => {
      checkVerify(input);
      const { algorithm, digest, signature } = input;
      const use = { operation: 'verify', algorithm } as const;
      return withKey({ name, version, use }, async (key, keyId) => {
        const valid = await verifyWith(key, signatures[algorithm], digest, signature);
        return { keyId, algorithm, valid };
      });
    },
  };
}

function hsmWork({ store, url, perform }: KeyTools): Part<'release' | 'randomBytes'> {
  return {
    release: async (name, input, version) => {
      checkKeyName(name);
      if (version !== undefined) checkVersion(version);
      checkRelease(input);
      return perform('release', name, () => {
        const { exportable, properties } = store.get(name, version);
        const detail = `release ${name}`;
        if (!properties.enabled) throw new AppError('object_disabled', { detail });
        checkField(exportable, 'name', `key ${name} is not exportable`);
        // Nobody attests anything to a simulation.
        throw new AppError('vault_denied', { detail: `${detail}: the attestation is not trusted` });
      });
    },
    randomBytes: async (count) => {
      checkRandomBytes(count, serviceKind(url));
      return perform('randomBytes', '', () => new Uint8Array(randomBytes(count)));
    },
  };
}

function checkKeyBits({ symmetricKeySize }: KeyObject, { algorithm }: KeyUse): void {
  const cipher = algorithm in ciphers ? ciphers[algorithm as keyof typeof ciphers] : null;
  if (symmetricKeySize === undefined || cipher?.family !== 'oct') return;
  const bits = symmetricKeySize * 8;
  checkField(bits === cipher.bits, 'algorithm', `${algorithm} does not fit a key of ${bits} bits`);
}

/** @throws AppError `invalid_input` for what this key did not make in this way */
function open(decrypt: () => Uint8Array): Uint8Array {
  try {
    return decrypt();
  } catch {
    const detail = 'content: it was not made with this key and algorithm, or was changed';
    throw new AppError('invalid_input', { detail });
  }
}
