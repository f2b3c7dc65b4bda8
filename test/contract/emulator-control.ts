import type { KeyVaultEmulator } from '../../local/key-vault/key-vault.ts';

/** The control API of an emulator. */
export type Control = (
  method: string,
  path: string,
  body?: unknown,
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
) => Promise<{ readonly status: number; readonly json: any }>;

export function controlOf({ controlUrl }: KeyVaultEmulator): Control {
  return async (method, path, body) => {
    const response = await fetch(`${controlUrl}${path}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    return { status: response.status, json: text === '' ? null : JSON.parse(text) };
  };
}

export function urlOf(emulator: KeyVaultEmulator, name = 'main'): string {
  return emulator.vaults.find((vault) => vault.name === name)!.url;
}

/** A refused call as the SDK reports it; `null` when it was not refused. */
export async function refusal(promise: Promise<unknown>) {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (error === null) return null;
  // biome-ignore lint/suspicious/noExplicitAny: the shape of RestError is what is tested
  const { code, statusCode, message, details } = error as any;
  return { code, statusCode, message, inner: details?.error?.innerError?.code };
}

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}
