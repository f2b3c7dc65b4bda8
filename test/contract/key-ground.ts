import { ManagedIdentityCredential } from '@azure/identity';
import { CryptographyClient, KeyClient, type KeyVaultKey } from '@azure/keyvault-keys';
import type {
  KeyVaultEmulator,
  KeyVaultOptions,
  VaultEvent,
} from '../../local/key-vault/key-vault.ts';
import { type Ground, prepareGround } from './emulator-client.ts';

export const apiVersion = 'api-version=2025-07-01';

/** An emulator with the clients for its first vault. */
export type KeyGround = {
  readonly ground: Ground;
  readonly emulator: KeyVaultEmulator;
  /** Of the first vault. */
  readonly url: string;
  readonly urlOf: (vault: string) => string;
  readonly client: KeyClient;
  readonly clientOf: (vault: string) => KeyClient;
  readonly cryptoOf: (key: KeyVaultKey | string) => CryptographyClient;
  readonly send: Send;
  readonly control: Send;
  readonly events: VaultEvent[];
};
type Send = (
  method: string,
  path: string,
  body?: unknown,
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
) => Promise<{ readonly status: number; readonly json: any; readonly text: string }>;

export async function prepareKeyGround(options: Partial<KeyVaultOptions> = {}): Promise<KeyGround> {
  return serveKeys(await prepareGround(), options);
}

/** One more emulator on the same ground, whose tokens it takes. */
export async function serveKeys(
  ground: Ground,
  options: Partial<KeyVaultOptions>,
): Promise<KeyGround> {
  const events: VaultEvent[] = [];
  const emulator = await ground.startVaults({ onEvent: (event) => events.push(event), ...options });
  const urlOf = (name: string): string => emulator.vaults.find((vault) => vault.name === name)!.url;
  const url = emulator.vaults[0]!.url;
  const credential = new ManagedIdentityCredential();
  const clientTo = (vaultUrl: string): KeyClient =>
    new KeyClient(vaultUrl, credential, ground.clientOptions);
  return {
    ground,
    emulator,
    url,
    urlOf,
    client: clientTo(url),
    clientOf: (name) => clientTo(urlOf(name)),
    cryptoOf: (key) =>
      typeof key === 'string'
        ? new CryptographyClient(key, credential, ground.clientOptions)
        : new CryptographyClient(key, credential, ground.clientOptions),
    send: (method, path, body) => {
      const target = path.startsWith('https:') ? path : `${url}${path}`;
      const query = target.includes('?') ? '' : `?${apiVersion}`;
      return ground.call(`${target}${query}`, { method, body });
    },
    control: async (method, path, body) => {
      const payload = body === undefined ? {} : { body: JSON.stringify(body) };
      const response = await fetch(`${emulator.controlUrl}${path}`, { method, ...payload });
      const text = await response.text();
      return { status: response.status, json: text === '' ? null : JSON.parse(text), text };
    },
    events,
  };
}

/** A refused call as the SDK reports it. */
export async function refusal(promise: Promise<unknown>) {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  // biome-ignore lint/suspicious/noExplicitAny: the shape of RestError is what is tested
  const { code, statusCode, message, details } = (error ?? {}) as any;
  return { code, statusCode, message, inner: details?.error?.innerError?.code };
}

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}
