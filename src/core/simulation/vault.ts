/** Key Vault in memory, behind the same interfaces, on a given clock: for tests and for plans. */
import { randomBytes } from 'node:crypto';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import type { Clock } from '../clock.ts';
import { AppError, type ErrorCode } from '../errors.ts';
import { SecretString } from '../secret-string.ts';
import type {
  DeletedSecret,
  NewSecret,
  SecretChanges,
  SecretProperties,
  SecretService,
  SecretVersion,
  Vault,
  VaultPurpose,
  Vaults,
} from '../vault/ports.ts';
import {
  checkNewSecret,
  checkSecretChanges,
  checkSecretName,
  checkVersion,
} from '../vault/secret-rules.ts';

type VaultOperation = keyof SecretService;

/** One call, as the access log keeps it: never a value. */
interface VaultAccess {
  readonly at: Date;
  readonly vault: string;
  readonly operation: VaultOperation;
  /** Empty for `list`. */
  readonly name: string;
  readonly outcome: 'ok' | ErrorCode;
}

/**
 * Wraps every call (a list: every page). Throw before `run()` and nothing was done; throw after it
 * and the work is done but the answer lost.
 */
type CallHook = (
  call: Pick<VaultAccess, 'vault' | 'operation' | 'name'>,
  run: () => Promise<void>,
) => Promise<void>;

export interface SimulatedVaults extends Vaults {
  readonly accesses: readonly VaultAccess[];
  /** One hook at a time; null removes it. */
  onCall(hook: CallHook | null): void;
  /** As a failed-over vault: writes are refused, reads go on. */
  setReadOnly(alias: string, isReadOnly: boolean): void;
  /** Changes what only the portal or a certificate changes; the latest version unless one is named. */
  change(
    alias: string,
    name: string,
    change: { readonly version?: string; readonly enabled?: boolean; readonly managed?: boolean },
  ): void;
  /** Soft-deletes: the name is taken, the versions are gone until `erase`. */
  softDelete(alias: string, name: string): void;
  /** Names that are soft-deleted, ordered. */
  deletedNames(alias: string): readonly string[];
}

interface Store {
  readonly alias: string;
  readonly live: Map<string, SecretVersion[]>;
  readonly deleted: Map<string, DeletedVersions>;
  isReadOnly: boolean;
}

interface DeletedVersions {
  readonly versions: readonly SecretVersion[];
  readonly deletedOn: Date;
  readonly purgeOn: Date;
}

interface Shared {
  readonly clock: Clock;
  readonly accesses: VaultAccess[];
  hook: CallHook | null;
}

const writes: readonly VaultOperation[] = [
  ...(['set', 'update', 'delete', 'recover', 'purge', 'restore', 'erase'] as const),
];
const pageSize = 25;
const retentionMs = 90 * 86_400_000;

/** Simulated vaults; empty at first. */
export function simulatedVaults(
  config: readonly { readonly alias: string; readonly purpose: VaultPurpose }[],
  clock: Clock,
): SimulatedVaults {
  const shared: Shared = { clock, accesses: [], hook: null };
  const stores = new Map<string, Store>();
  const vaults = new Map<string, Vault>();
  for (const { alias, purpose } of config) {
    const store = { alias, live: new Map(), deleted: new Map(), isReadOnly: false };
    const url = `https://${alias}.vault.simulated`;
    stores.set(alias, store);
    vaults.set(alias, { alias, url, purpose, secrets: simulatedSecrets(store, shared) });
  }
  return {
    get: (alias) => known(vaults, alias),
    all: () => [...vaults.values()],
    accesses: shared.accesses,
    onCall: (hook) => {
      shared.hook = hook;
    },
    setReadOnly: (alias, isReadOnly) => {
      known(stores, alias).isReadOnly = isReadOnly;
    },
    change: (alias, name, { version, ...change }) => {
      const versions = versionsOf(known(stores, alias), name);
      const index = version === undefined ? versions.length - 1 : indexOf(versions, version, name);
      const old = versions[index];
      if (old === undefined) throw notFound(name);
      versions[index] = { ...old, properties: { ...old.properties, ...change } };
    },
    softDelete: (alias, name) => {
      softDelete(known(stores, alias), name, clock.now());
    },
    deletedNames: (alias) =>
      deletedAt(known(stores, alias), clock.now()).map(({ properties }) => properties.name),
  };
}

function simulatedSecrets(store: Store, shared: Shared): SecretService {
  return {
    get: async (name, version) => {
      checkSecretName(name);
      if (version !== undefined) checkVersion(version);
      return call(store, shared, { operation: 'get', name }, () =>
        getVersion(store, name, version),
      );
    },
    set: async (name, secret, { guard } = {}) => {
      checkSecretName(name);
      checkNewSecret(secret);
      return call(store, shared, { operation: 'set', name }, () => {
        guard?.();
        return addVersion(store, name, secret, shared.clock.now());
      });
    },
    list: () => {
      const latest = () =>
        [...store.live.keys()].sort().map((key) => {
          const { properties } = getLatest(store.live.get(key), key);
          return { ...properties, version: '' };
        });
      return pages(latest, (work) => call(store, shared, { operation: 'list', name: '' }, work));
    },
    listVersions: (name) => {
      checkSecretName(name);
      const versions = () =>
        [...(store.live.get(keyOf(name)) ?? [])]
          .map(({ properties }) => properties)
          // A vault promises no order; this one is not the order of creation.
          .sort((left, right) => (left.version < right.version ? -1 : 1));
      return pages(versions, (work) =>
        call(store, shared, { operation: 'listVersions', name }, work),
      );
    },
    update: async (name, version, changes) => {
      checkSecretName(name);
      checkVersion(version);
      checkSecretChanges(changes);
      return call(store, shared, { operation: 'update', name }, () =>
        updateVersion(store, { name, version }, changes, shared.clock.now()),
      );
    },
    ...simulatedLifecycle(store, shared),
    erase: async (name) => {
      checkSecretName(name);
      await call(store, shared, { operation: 'erase', name }, () => {
        store.live.delete(keyOf(name));
        store.deleted.delete(keyOf(name));
      });
    },
  };
}

function simulatedLifecycle(
  store: Store,
  shared: Shared,
): Pick<
  SecretService,
  'delete' | 'getDeleted' | 'listDeleted' | 'recover' | 'purge' | 'backup' | 'restore'
> {
  const now = () => shared.clock.now();
  const about = <T>(operation: VaultOperation, name: string, work: () => T): Promise<T> => {
    checkSecretName(name);
    return call(store, shared, { operation, name }, work);
  };
  return {
    delete: async (name) => about('delete', name, () => softDelete(store, name, now())),
    getDeleted: async (name) =>
      about('getDeleted', name, () => describeDeleted(findDeleted(store, name, now()), name)),
    listDeleted: () =>
      pages(
        () => deletedAt(store, now()),
        (work) => call(store, shared, { operation: 'listDeleted', name: '' }, work),
      ),
    recover: async (name) =>
      about('recover', name, () => {
        const { versions } = findDeleted(store, name, now());
        store.deleted.delete(keyOf(name));
        store.live.set(keyOf(name), [...versions]);
        return getLatest(versions, name).properties;
      }),
    purge: async (name) =>
      about('purge', name, () => {
        findDeleted(store, name, now());
        store.deleted.delete(keyOf(name));
      }),
    backup: async (name) => about('backup', name, () => seal(versionsOf(store, name))),
    restore: async (backup) => {
      const versions = unseal(backup);
      const { name } = getLatest(versions, 'backup').properties;
      return call(store, shared, { operation: 'restore', name }, () => {
        if (store.live.has(keyOf(name)) || isDeleted(store, name, now())) {
          throw new AppError('conflict', { detail: `restore ${name} in ${store.alias}` });
        }
        store.live.set(keyOf(name), versions);
        return getLatest(versions, name).properties;
      });
    },
  };
}

/** Does `work` at one instant, inside the hook, and logs how it went. */
async function call<T>(
  store: Store,
  shared: Shared,
  { operation, name }: Pick<VaultAccess, 'operation' | 'name'>,
  work: () => T,
): Promise<T> {
  const about = { vault: store.alias, operation, name };
  let result: { readonly value: T } | null = null;
  const run = async () => {
    if (store.isReadOnly && writes.includes(operation)) {
      throw new AppError('vault_read_only', { detail: `${operation} ${name} in ${store.alias}` });
    }
    result = { value: work() };
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
}

async function* pages<T>(
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

function getVersion(store: Store, name: string, version: string | undefined): SecretVersion {
  const versions = versionsOf(store, name);
  const found =
    version === undefined ? versions.at(-1) : versions[indexOf(versions, version, name)];
  if (found === undefined) throw notFound(name);
  if (!found.properties.enabled) {
    throw new AppError('object_disabled', { detail: `get ${name} in ${store.alias}` });
  }
  return found;
}

function addVersion(store: Store, name: string, secret: NewSecret, now: Date): SecretProperties {
  if (isDeleted(store, name, now)) {
    throw new AppError('object_deleted', { detail: `set ${name} in ${store.alias}` });
  }
  const versions = store.live.get(keyOf(name)) ?? [];
  const properties: SecretProperties = {
    name: versions[0]?.properties.name ?? name,
    version: randomBytes(16).toString('hex'),
    enabled: secret.enabled ?? true,
    created: wholeSeconds(now),
    updated: wholeSeconds(now),
    notBefore: secret.notBefore ? wholeSeconds(secret.notBefore) : null,
    expiresOn: secret.expiresOn ? wholeSeconds(secret.expiresOn) : null,
    contentType: secret.contentType ?? null,
    tags: { ...secret.tags },
    managed: false,
  };
  const value = new SecretString(secret.value.expose());
  store.live.set(keyOf(name), [...versions, { properties, value }]);
  return properties;
}

function updateVersion(
  store: Store,
  { name, version }: { readonly name: string; readonly version: string },
  { enabled, contentType, notBefore, expiresOn, tags }: SecretChanges,
  now: Date,
): SecretProperties {
  const versions = versionsOf(store, name);
  const index = indexOf(versions, version, name);
  const old = versions[index];
  if (old === undefined) throw notFound(name);
  const properties: SecretProperties = {
    ...old.properties,
    updated: wholeSeconds(now),
    ...(enabled === undefined ? {} : { enabled }),
    ...(contentType ? { contentType } : {}),
    ...(notBefore ? { notBefore: wholeSeconds(notBefore) } : {}),
    ...(expiresOn ? { expiresOn: wholeSeconds(expiresOn) } : {}),
    ...(tags ? { tags: { ...tags } } : {}),
  };
  versions[index] = { ...old, properties };
  return properties;
}

function softDelete(store: Store, name: string, now: Date): DeletedSecret {
  const versions = versionsOf(store, name);
  const deletedOn = wholeSeconds(now);
  const deleted = { versions, deletedOn, purgeOn: new Date(deletedOn.getTime() + retentionMs) };
  store.live.delete(keyOf(name));
  store.deleted.set(keyOf(name), deleted);
  return describeDeleted(deleted, name);
}

function isDeleted(store: Store, name: string, now: Date): boolean {
  const deleted = store.deleted.get(keyOf(name));
  return deleted !== undefined && deleted.purgeOn > now;
}

function findDeleted(store: Store, name: string, now: Date): DeletedVersions {
  const deleted = store.deleted.get(keyOf(name));
  if (deleted === undefined || deleted.purgeOn <= now) throw notFound(`deleted ${name}`);
  return deleted;
}

function describeDeleted({ versions, ...dates }: DeletedVersions, name: string): DeletedSecret {
  return { properties: getLatest(versions, name).properties, ...dates };
}

/** Ordered by name; as in a list, the version is not said. */
function deletedAt(store: Store, now: Date): DeletedSecret[] {
  return [...store.deleted.keys()]
    .filter((name) => isDeleted(store, name, now))
    .sort()
    .map((name) => {
      const deleted = describeDeleted(findDeleted(store, name, now), name);
      return { ...deleted, properties: { ...deleted.properties, version: '' } };
    });
}

type Sealed = readonly { readonly properties: SecretProperties; readonly value: string }[];

/** A vault's own seal is its secret; ours need only look like one. */
function seal(versions: readonly SecretVersion[]): Uint8Array {
  const content: Sealed = versions.map(({ properties, value }) => ({
    properties,
    value: value.expose(),
  }));
  return deflateRawSync(JSON.stringify(content));
}

function unseal(backup: Uint8Array): SecretVersion[] {
  try {
    const content = JSON.parse(inflateRawSync(backup).toString('utf8'), readDate) as Sealed;
    return content.map(({ properties, value }) => ({ properties, value: new SecretString(value) }));
  } catch {
    throw new AppError('vault_rejected', { detail: 'restore a secret: not a backup' });
  }
}

const dates: readonly string[] = ['created', 'updated', 'notBefore', 'expiresOn'];

function readDate(key: string, value: unknown): unknown {
  return dates.includes(key) && typeof value === 'string' ? new Date(value) : value;
}

function versionsOf(store: Store, name: string): SecretVersion[] {
  const versions = store.live.get(keyOf(name));
  if (versions === undefined) throw notFound(name);
  return versions;
}

function getLatest(versions: readonly SecretVersion[] | undefined, name: string): SecretVersion {
  const latest = versions?.at(-1);
  if (latest === undefined) throw notFound(name);
  return latest;
}

function indexOf(versions: readonly SecretVersion[], version: string, name: string): number {
  const index = versions.findIndex(
    ({ properties }) => properties.version === version.toLowerCase(),
  );
  if (index < 0) throw notFound(`${name}/${version}`);
  return index;
}

function known<T>(byAlias: ReadonlyMap<string, T>, alias: string): T {
  const found = byAlias.get(alias);
  if (found === undefined) throw new AppError('not_found', { detail: `vault ${alias}` });
  return found;
}

/** Names differ in more than case or not at all. */
function keyOf(name: string): string {
  return name.toUpperCase();
}

function wholeSeconds(date: Date): Date {
  return new Date(Math.floor(date.getTime() / 1000) * 1000);
}

function notFound(what: string): AppError {
  return new AppError('not_found', { detail: `secret ${what}` });
}
