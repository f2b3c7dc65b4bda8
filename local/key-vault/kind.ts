import { errors } from './errors.ts';
import { type Answer, type Call, nameOf, versionOf } from './operation.ts';
import {
  currentVersion,
  findVersion,
  type ObjectStore,
  type ObjectType,
  type Stored,
  type VersionOf,
} from './store.ts';
import type { Vault } from './vault.ts';

// What secrets, keys and certificates have in common, and what tells them apart.

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
  /** Attributes that only this type has. Default: none. */
  readonly attributes?: (version: VersionOf<O>) => Record<string, unknown>;
  /** The answer about a version, without what only a read may show. */
  readonly bundle: (vault: Vault, object: O, version: VersionOf<O>) => Record<string, unknown>;
  /** Stores whose object of the same name belongs to this one: it shares its life. Default: none. */
  readonly linked?: (vault: Vault) => readonly ObjectStore<Stored>[];
  /** Whether lists show the object. Default: yes. */
  readonly isListed?: (object: O, query: URLSearchParams) => boolean;
};

/** The object and version that the path names. @throws VaultError 404 */
export function targetOf<O extends Stored>(
  kind: Kind<O>,
  call: Call,
): { object: O; version: VersionOf<O> } {
  const name = nameOf(call);
  const wanted = versionOf(call);
  const object = findLive(kind, call, name);
  const version = object === null ? null : findVersion(object, wanted);
  if (object === null || version === null) {
    throw errors.notFound(kind.type, wanted === '' ? name : `${name}/${wanted}`);
  }
  return { object, version };
}

/** @throws VaultError 409 when the name is a deleted object's, or its deletion or recovery is under way */
export function mustBeFree<O extends Stored>(kind: Kind<O>, call: Call, name: string): void {
  mustBeSettled(kind, call, name);
  if (kind.storeOf(call.vault).findDeleted(name, call.now) !== null) {
    throw errors.deletedButRecoverable(kind.type, name);
  }
}

/** @throws VaultError 403 for what belongs to a certificate, and shares its life */
export function mustBeOwn(type: ObjectType, object: Stored, operation: string): void {
  if (currentVersion(object).managed) throw errors.managedByCertificate(type, operation);
}

/** @throws VaultError 409 while a deletion, recovery or purge is under way */
export function mustBeSettled<O extends Stored>(
  kind: Kind<O>,
  { vault }: Call,
  name: string,
): void {
  const transition = kind.storeOf(vault).transitionOf(name);
  if (transition === 'deleting') throw errors.beingDeleted(kind.type);
  if (transition === 'recovering') throw errors.beingRecovered(kind.type, name);
}

/** What a read may see: an object is not there before its recovery is done. */
export function findLive<O extends Stored>(kind: Kind<O>, { vault }: Call, name: string): O | null {
  const store = kind.storeOf(vault);
  return store.transitionOf(name) === 'recovering' ? null : store.find(name);
}

export function idOf(
  vault: Vault,
  { collection }: Pick<Kind<never>, 'collection'>,
  name: string,
  version?: string,
): string {
  return `${vault.publicUrl}/${collection}/${name}${version === undefined ? '' : `/${version}`}`;
}

/** What belongs to the object: of its name in a linked store, and not somebody's own. */
export function partsOf<O extends Stored, P extends Stored>(
  kind: Kind<O>,
  vault: Vault,
  find: (store: ObjectStore<Stored>) => P | null,
): { readonly store: ObjectStore<Stored>; readonly part: P }[] {
  return (kind.linked?.(vault) ?? []).flatMap((store) => {
    const part = find(store);
    return part !== null && currentVersion(part).managed ? [{ store, part }] : [];
  });
}

/** An answer about the current version. */
export function answerAbout(object: Stored, body: unknown): Answer {
  return { body, version: currentVersion(object).version };
}
