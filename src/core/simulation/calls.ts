import type { Clock } from '../clock.ts';
import { AppError, type ErrorCode } from '../errors.ts';
import type { CertificateService } from '../vault/certificates.ts';
import type { KeyService } from '../vault/keys.ts';
import type { ObjectType, SecretService } from '../vault/ports.ts';

// What is done with every call to a simulated vault: hooked, and logged.

type VaultOperation = keyof SecretService | keyof KeyService | keyof CertificateService;

/** One call, as the access log keeps it: never a value. */
export interface VaultAccess {
  readonly at: Date;
  readonly vault: string;
  readonly type: ObjectType;
  readonly operation: VaultOperation;
  /** Empty for what concerns no single object, such as `list`. */
  readonly name: string;
  readonly outcome: 'ok' | ErrorCode;
}

/**
 * Wraps every call (a list: every page). Throw before `run()` and nothing was done; throw after it
 * and the work is done but the answer lost.
 */
export type CallHook = (
  call: Pick<VaultAccess, 'vault' | 'type' | 'operation' | 'name'>,
  run: () => Promise<void>,
) => Promise<void>;

/** What all vaults of one simulation share. */
export interface Shared {
  readonly clock: Clock;
  readonly accesses: VaultAccess[];
  hook: CallHook | null;
}

export interface VaultState {
  readonly alias: string;
  readonly url: string;
  isReadOnly: boolean;
  /** Whether the key and the secret of this name are a certificate's, or will be. */
  readonly belongsToCertificate: (name: string) => boolean;
}

/** Does `work` inside the hook, and logs how it went. @returns what `work` gives */
export type Perform = <T>(
  operation: VaultOperation,
  name: string,
  work: () => T | Promise<T>,
) => Promise<T>;

const writes: readonly VaultOperation[] = [
  ...(['set', 'update', 'delete', 'recover', 'purge', 'restore', 'erase'] as const),
  ...(['create', 'import', 'rotate', 'setRotationPolicy'] as const),
  ...(['merge', 'updatePolicy', 'cancelOperation', 'deleteOperation'] as const),
  ...(['putIssuer', 'deleteIssuer', 'setContacts'] as const),
];
/** Done to a certificate's key and secret by way of the certificate only. */
const ownersOnly: readonly VaultOperation[] = [
  ...(['set', 'create', 'import', 'rotate', 'update', 'setRotationPolicy'] as const),
  ...(['delete', 'recover', 'purge', 'erase', 'backup'] as const),
];
const pageSize = 25;

/** How calls about objects of `type` are made to one vault. */
export function performer(type: ObjectType, vault: VaultState, shared: Shared): Perform {
  const isOthers = (operation: VaultOperation, name: string) =>
    type !== 'certificate' && ownersOnly.includes(operation) && vault.belongsToCertificate(name);
  return async <T>(operation: VaultOperation, name: string, work: () => T | Promise<T>) => {
    const about = { vault: vault.alias, type, operation, name };
    let result: { readonly value: T } | null = null;
    const run = async () => {
      if (vault.isReadOnly && writes.includes(operation)) {
        throw new AppError('vault_read_only', { detail: `${operation} ${name} in ${vault.alias}` });
      }
      if (isOthers(operation, name)) {
        const detail = `${operation} ${type} ${name} in ${vault.alias}: it is a certificate's`;
        throw new AppError('vault_denied', { detail });
      }
      const made = work();
      // What takes no time takes effect at this very instant.
      result = { value: made instanceof Promise ? await made : made };
    };
    let outcome: VaultAccess['outcome'] = 'ok';
    try {
      await (shared.hook === null ? run() : shared.hook(about, run));
      if (result === null) throw new Error('the hook of the simulated vault neither ran nor threw');
      return (result as { readonly value: T }).value;
    } catch (error) {
      outcome = error instanceof AppError ? error.code : 'internal';
      throw error;
    } finally {
      shared.accesses.push({ at: shared.clock.now(), ...about, outcome });
    }
  };
}

/** `items` as they are when each page is read; `page` makes the call for one. */
export async function* pages<T>(
  items: () => readonly T[],
  page: (work: () => readonly T[]) => Promise<readonly T[]>,
): AsyncIterable<T> {
  for (let start = 0; ; start += pageSize) {
    let total = 0;
    yield* await page(() => {
      const all = items();
      total = all.length;
      return all.slice(start, start + pageSize);
    });
    if (start + pageSize >= total) return;
  }
}
