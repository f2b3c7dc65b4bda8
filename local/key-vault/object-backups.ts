import { z } from 'zod';
import { seal, unseal } from './backup.ts';
import { parseBody } from './bundles.ts';
import { errors } from './errors.ts';
import {
  answerAbout,
  findLive,
  idOf,
  type Kind,
  mustBeOwn,
  mustBeSettled,
  partsOf,
} from './kind.ts';
import { type Answer, type Call, nameOf } from './operation.ts';
import { currentVersion, type ObjectStore, type Stored } from './store.ts';

// Backups of secrets, keys and certificates, each with all its versions and with what belongs to it.

const maxBackupVersions = 500;
const RestoreBody = z.object({ value: z.string().min(1) });

export function backup<O extends Stored>(kind: Kind<O>, call: Call): Answer {
  const { vault } = call;
  const name = nameOf(call);
  const object = findLive(kind, call, name);
  if (object === null) throw errors.notFound(kind.type, name);
  mustBeOwn(kind.type, object, 'backup');
  if (object.versions.length > maxBackupVersions) {
    throw errors.tooManyVersions(kind.type, name, maxBackupVersions);
  }
  const parts = partsOf(kind, vault, (store) => store.find(name)).map(({ part }) => part);
  return answerAbout(object, { value: seal(vault, kind.type, [object, ...parts]) });
}

export function restore<O extends Stored>(kind: Kind<O>, call: Call): Answer {
  const { vault } = call;
  const { value } = parseBody(RestoreBody, call.body);
  const objects = unseal(vault, kind.type, value);
  const stores = [kind.storeOf(vault) as ObjectStore<Stored>, ...(kind.linked?.(vault) ?? [])];
  for (const [index, { name }] of objects.entries()) {
    mustBeSettled(kind, call, name);
    const isTaken = stores[index]?.find(name) ?? stores[index]?.findDeleted(name, call.now);
    if (isTaken) throw errors.restoreConflict(kind.type, idOf(vault, kind, name));
  }
  for (const [index, object] of objects.entries()) stores[index]?.put(object);
  const [first] = objects;
  const object = kind.storeOf(vault).find(first?.name ?? '');
  if (object === null) throw errors.malformedBackup();
  call.changed({ type: kind.type, object });
  return answerAbout(object, kind.bundle(vault, object, currentVersion(object)));
}
