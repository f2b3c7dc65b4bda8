import { z } from 'zod';
import { seal, unseal } from './backup.ts';
import { describe, describeDeletion, parseBody } from './bundles.ts';
import { errors } from './errors.ts';
import { type Answer, type Call, nameOf, type Operation, versionOf } from './operation.ts';
import { type Listed, pageOf } from './paging.ts';
import {
  currentVersion,
  type Deleted,
  findVersion,
  keyOf,
  type ObjectStore,
  type ObjectType,
  type Stored,
  type VersionOf,
} from './store.ts';
import type { Vault } from './vault.ts';

// What can be done with secrets, keys and certificates alike: listed, deleted, recovered, purged, saved and restored.

/** What the shared operations have to know of a type. */
export type Kind<O extends Stored> = {
  readonly type: ObjectType;
  readonly collection: 'secrets' | 'keys' | 'certificates';
  /** What an answer calls the id. */
  readonly idMember: 'id' | 'kid';
  /** The data action of lists, as role definitions name it after `Microsoft.KeyVault/vaults/`. */
  readonly readAction: string;
  readonly storeOf: (vault: Vault) => ObjectStore<O>;
  /** Members of a list item beside id, attributes and tags. */
  readonly item: (version: VersionOf<O>) => Record<string, unknown>;
  /** The answer about a version, without what only a read may show. */
  readonly bundle: (vault: Vault, object: O, version: VersionOf<O>) => Record<string, unknown>;
  /** Stores whose object of the same name belongs to this one: it shares its life. Default: none. */
  readonly linked?: (vault: Vault) => readonly ObjectStore<Stored>[];
  /** Whether a list shows the live object. Default: yes. */
  readonly isListed?: (object: O, query: URLSearchParams) => boolean;
};

const maxBackupVersions = 500;
const RestoreBody = z.object({ value: z.string().min(1) });

/** Their ids are the REST names: `getSecrets`, `getSecretVersions`, `deleteSecret`, … */
export function lifecycleOperations<O extends Stored>(kind: Kind<O>): readonly Operation[] {
  const { type, collection, readAction } = kind;
  const read = { effect: 'read', action: readAction } as const;
  const write = (action: string) =>
    ({ effect: 'write', action: `${collection}/${action}` }) as const;
  const live = `/${collection}/{name}`;
  const deleted = `/deleted${collection}/{name}`;
  return [
    {
      ...read,
      ...named(`get${type}s`, `${type}List`),
      ...{ method: 'GET', template: `/${collection}` },
      run: (call) => list(kind, call),
    },
    {
      ...read,
      ...named(`get${type}Versions`, `${type}ListVersions`),
      ...{ method: 'GET', template: `${live}/versions` },
      run: (call) => listVersions(kind, call),
    },
    {
      ...write('delete'),
      ...named(`delete${type}`, `${type}Delete`),
      ...{ method: 'DELETE', template: live },
      run: (call) => remove(kind, call),
    },
    {
      ...read,
      ...named(`getDeleted${type}`, `${type}GetDeleted`),
      ...{ method: 'GET', template: deleted },
      run: (call) => getDeleted(kind, call),
    },
    {
      ...read,
      ...named(`getDeleted${type}s`, `${type}ListDeleted`),
      ...{ method: 'GET', template: `/deleted${collection}` },
      run: (call) => listDeleted(kind, call),
    },
    {
      ...write('recover/action'),
      ...named(`recoverDeleted${type}`, `${type}Recover`),
      ...{ method: 'POST', template: `${deleted}/recover` },
      run: (call) => recover(kind, call),
    },
    {
      ...write('purge/action'),
      ...named(`purgeDeleted${type}`, `${type}Purge`),
      ...{ method: 'DELETE', template: deleted },
      run: (call) => purge(kind, call),
    },
    {
      ...write('backup/action'),
      ...named(`backup${type}`, `${type}Backup`),
      ...{ effect: 'read', method: 'POST', template: `${live}/backup` },
      run: (call) => backup(kind, call),
    },
    {
      ...write('restore/action'),
      ...named(`restore${type}`, `${type}Restore`),
      ...{ method: 'POST', template: `/${collection}/restore` },
      run: (call) => restore(kind, call),
    },
  ];
}

/** The object and version that the path names. @throws VaultError 404 */
export function targetOf<O extends Stored>(
  kind: Kind<O>,
  call: Call,
): { object: O; version: VersionOf<O> } {
  const name = nameOf(call);
  const wanted = versionOf(call);
  const object = kind.storeOf(call.vault).find(name);
  const version = object === null ? null : findVersion(object, wanted);
  if (object === null || version === null) {
    throw errors.notFound(kind.type, wanted === '' ? name : `${name}/${wanted}`);
  }
  return { object, version };
}

/** @throws VaultError 409 when the name is a deleted object's */
export function mustBeFree<O extends Stored>(kind: Kind<O>, call: Call, name: string): void {
  if (kind.storeOf(call.vault).findDeleted(name, call.now) !== null) {
    throw errors.deletedButRecoverable(kind.type, name);
  }
}

export function idOf(
  vault: Vault,
  { collection }: Pick<Kind<never>, 'collection'>,
  name: string,
  version?: string,
): string {
  return `${vault.publicUrl}/${collection}/${name}${version === undefined ? '' : `/${version}`}`;
}

function list<O extends Stored>(kind: Kind<O>, call: Call): Answer {
  const { vault, query } = call;
  const objects = kind.storeOf(vault).list();
  const items = objects
    .filter((object) => kind.isListed?.(object, query) ?? true)
    .map((object) => listed(kind, vault, object));
  return { body: pageOf(call, kind.collection, items) };
}

function listVersions<O extends Stored>(kind: Kind<O>, call: Call): Answer {
  const { vault } = call;
  const name = nameOf(call);
  const object = kind.storeOf(vault).find(name);
  const versions: readonly VersionOf<O>[] = object?.versions ?? [];
  // By id and not by age: the real service promises no order, and nobody shall rely on one.
  const items = versions
    .toSorted((a, b) => (a.version < b.version ? -1 : 1))
    .map((version) => ({
      item: {
        [kind.idMember]: idOf(vault, kind, object?.name ?? name, version.version),
        ...kind.item(version),
        ...describe(vault, version),
      },
      marker: `${kind.type.toLowerCase()}/${keyOf(name)}/${version.version}`,
    }));
  return { body: pageOf(call, `${kind.collection}/${name}/versions`, items) };
}

function remove<O extends Stored>(kind: Kind<O>, call: Call): Answer {
  const { vault, now } = call;
  const name = nameOf(call);
  const object = kind.storeOf(vault).find(name);
  if (object === null) throw errors.notFound(kind.type, name);
  const deleted = kind.storeOf(vault).delete(object, now, vault.retentionDays);
  for (const store of kind.linked?.(vault) ?? []) {
    const part = store.find(name);
    if (part !== null) store.delete(part, now, vault.retentionDays);
  }
  call.changed({ type: kind.type, object });
  return answer(deleted, deletedBundle(kind, vault, deleted));
}

function getDeleted<O extends Stored>(kind: Kind<O>, call: Call): Answer {
  const deleted = deletedOf(kind, call);
  return answer(deleted, deletedBundle(kind, call.vault, deleted));
}

function listDeleted<O extends Stored>(kind: Kind<O>, call: Call): Answer {
  const { vault } = call;
  const own = kind
    .storeOf(vault)
    .listDeleted(call.now)
    .filter((deleted) => currentVersion(deleted).managed === undefined);
  const items = own.map((deleted) => {
    const { item, marker } = listed(kind, vault, deleted);
    return { item: { ...item, ...describeDeletion(vault, kind.collection, deleted) }, marker };
  });
  return { body: pageOf(call, `deleted${kind.collection}`, items) };
}

function recover<O extends Stored>(kind: Kind<O>, call: Call): Answer {
  const { vault, now } = call;
  const deleted = deletedOf(kind, call);
  const object = kind.storeOf(vault).recover(deleted);
  for (const store of kind.linked?.(vault) ?? []) {
    const part = store.findDeleted(deleted.name, now);
    if (part !== null) store.recover(part);
  }
  call.changed({ type: kind.type, object });
  return answer(object, kind.bundle(vault, object, currentVersion(object)));
}

function purge<O extends Stored>(kind: Kind<O>, call: Call): Answer {
  const { vault } = call;
  const deleted = deletedOf(kind, call);
  if (vault.purgeProtection) throw errors.purgeProtected(vault.name, vault.location);
  for (const store of [kind.storeOf(vault), ...(kind.linked?.(vault) ?? [])]) store.purge(deleted);
  call.changed({ type: kind.type, object: deleted });
  return { status: 204 };
}

function backup<O extends Stored>(kind: Kind<O>, call: Call): Answer {
  const { vault } = call;
  const name = nameOf(call);
  const object = kind.storeOf(vault).find(name);
  if (object === null) throw errors.notFound(kind.type, name);
  if (object.versions.length > maxBackupVersions) {
    throw errors.tooManyVersions(kind.type, name, maxBackupVersions);
  }
  const parts = (kind.linked?.(vault) ?? []).flatMap((store) => store.find(name) ?? []);
  return answer(object, { value: seal(vault, kind.type, [object, ...parts]) });
}

function restore<O extends Stored>(kind: Kind<O>, call: Call): Answer {
  const { vault } = call;
  const { value } = parseBody(RestoreBody, call.body);
  const objects = unseal(vault, kind.type, value);
  const stores = [kind.storeOf(vault) as ObjectStore<Stored>, ...(kind.linked?.(vault) ?? [])];
  for (const [index, { name }] of objects.entries()) {
    const isTaken = stores[index]?.find(name) ?? stores[index]?.findDeleted(name, call.now);
    if (isTaken) throw errors.restoreConflict(kind.type, idOf(vault, kind, name));
  }
  for (const [index, object] of objects.entries()) stores[index]?.put(object);
  const [first] = objects;
  const object = kind.storeOf(vault).find(first?.name ?? '');
  if (object === null) throw errors.malformedBackup();
  call.changed({ type: kind.type, object });
  return answer(object, kind.bundle(vault, object, currentVersion(object)));
}

function deletedOf<O extends Stored>(kind: Kind<O>, call: Call): Deleted<O> {
  const name = nameOf(call);
  const deleted = kind.storeOf(call.vault).findDeleted(name, call.now);
  if (deleted === null) throw errors.deletedNotFound(kind.type, name);
  return deleted;
}

/** Attributes of the current version, even a disabled one, under the id without a version. */
function listed<O extends Stored>(
  kind: Kind<O>,
  vault: Vault,
  object: O,
): Listed<Record<string, unknown>> {
  const version: VersionOf<O> = currentVersion(object);
  return {
    item: {
      [kind.idMember]: idOf(vault, kind, object.name),
      ...kind.item(version),
      ...describe(vault, version),
    },
    marker: `${kind.type.toLowerCase()}/${keyOf(object.name)}`,
  };
}

function deletedBundle<O extends Stored>(
  kind: Kind<O>,
  vault: Vault,
  deleted: Deleted<O>,
): Record<string, unknown> {
  return {
    ...describeDeletion(vault, kind.collection, deleted),
    ...kind.bundle(vault, deleted, currentVersion(deleted)),
  };
}

function answer(object: Stored, body: unknown): Answer {
  return { body, version: currentVersion(object).version };
}

function named(id: string, serviceName: string): Pick<Operation, 'id' | 'serviceName'> {
  return { id, serviceName };
}
