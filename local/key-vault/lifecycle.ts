import { describeDeletion } from './bundles.ts';
import { errors } from './errors.ts';
import { answerAbout, type Kind, mustBeOwn, mustBeSettled, partsOf } from './kind.ts';
import { backup, restore } from './object-backups.ts';
import { list, listDeleted, listVersions } from './object-lists.ts';
import { type Answer, type Call, nameOf, type Operation } from './operation.ts';
import { currentVersion, type Deleted, type ObjectStore, type Stored } from './store.ts';
import type { Vault } from './vault.ts';

// What can be done with secrets, keys and certificates alike: listed, deleted, recovered, purged, saved and restored.

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

function remove<O extends Stored>(kind: Kind<O>, call: Call): Answer {
  const { vault, now } = call;
  const name = nameOf(call);
  mustBeSettled(kind, call, name);
  const store = kind.storeOf(vault);
  const object = store.find(name);
  if (object === null) throw errors.notFound(kind.type, name);
  mustBeOwn(kind.type, object, 'delete');
  const deleted = store.delete(object, now, vault.retentionDays);
  const { deleteSeconds } = vault.delays;
  store.begin(name, 'deleting', deleteSeconds);
  for (const { store: linked, part } of partsOf(kind, vault, (one) => one.find(name))) {
    linked.delete(part, now, vault.retentionDays);
    linked.begin(name, 'deleting', deleteSeconds);
  }
  call.changed({ type: kind.type, object });
  return answerAbout(deleted, deletedBundle(kind, vault, deleted));
}

function getDeleted<O extends Stored>(kind: Kind<O>, call: Call): Answer {
  const deleted = deletedOf(kind, call);
  if (kind.storeOf(call.vault).transitionOf(deleted.name) !== null) {
    throw errors.deletedNotFound(kind.type, deleted.name);
  }
  return answerAbout(deleted, deletedBundle(kind, call.vault, deleted));
}

function recover<O extends Stored>(kind: Kind<O>, call: Call): Answer {
  const { vault, now } = call;
  mustBeSettled(kind, call, nameOf(call));
  const deleted = deletedOf(kind, call);
  mustBeOwn(kind.type, deleted, 'recover');
  const { name } = deleted;
  const store = kind.storeOf(vault);
  const object = store.recover(deleted);
  const { recoverSeconds } = vault.delays;
  store.begin(name, 'recovering', recoverSeconds);
  const findPart = (one: ObjectStore<Stored>) => one.findDeleted(name, now);
  for (const { store: linked, part } of partsOf(kind, vault, findPart)) {
    linked.recover(part);
    linked.begin(name, 'recovering', recoverSeconds);
  }
  call.changed({ type: kind.type, object });
  return answerAbout(object, kind.bundle(vault, object, currentVersion(object)));
}

function purge<O extends Stored>(kind: Kind<O>, call: Call): Answer {
  const { vault } = call;
  mustBeSettled(kind, call, nameOf(call));
  const deleted = deletedOf(kind, call);
  mustBeOwn(kind.type, deleted, 'purge');
  if (vault.purgeProtection) throw errors.purgeProtected(vault.name, vault.location);
  const { name } = deleted;
  const { purgeSeconds } = vault.delays;
  const findPart = (one: ObjectStore<Stored>) => one.findDeleted(name, call.now);
  for (const { store: linked, part } of partsOf(kind, vault, findPart)) {
    linked.purge(part);
    linked.begin(name, 'deleting', purgeSeconds);
  }
  const store = kind.storeOf(vault);
  store.purge(deleted);
  store.begin(name, 'deleting', purgeSeconds);
  call.changed({ type: kind.type, object: deleted });
  return { status: 204 };
}

function deletedOf<O extends Stored>(kind: Kind<O>, call: Call): Deleted<O> {
  const name = nameOf(call);
  const deleted = kind.storeOf(call.vault).findDeleted(name, call.now);
  if (deleted === null) throw errors.deletedNotFound(kind.type, name);
  return deleted;
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

function named(id: string, serviceName: string): Pick<Operation, 'id' | 'serviceName'> {
  return { id, serviceName };
}
