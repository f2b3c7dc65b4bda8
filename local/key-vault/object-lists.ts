import { describe, describeDeletion } from './bundles.ts';
import { findLive, idOf, type Kind } from './kind.ts';
import { type Answer, type Call, nameOf } from './operation.ts';
import { type Listed, pageOf } from './paging.ts';
import { currentVersion, keyOf, type Stored, type VersionOf, versionsById } from './store.ts';
import type { Vault } from './vault.ts';

// Lists of secrets, keys and certificates, live and deleted, and of their versions.

export function list<O extends Stored>(kind: Kind<O>, call: Call): Answer {
  const { vault, query } = call;
  const store = kind.storeOf(vault);
  const listing = function* (after: string | null) {
    for (const object of store.list(nameIn(kind, after))) {
      const isShown = kind.isListed?.(object, query) ?? true;
      if (isShown && store.transitionOf(object.name) === null) yield listed(kind, vault, object);
    }
  };
  return { body: pageOf(call, kind.collection, listing) };
}

export function listVersions<O extends Stored>(kind: Kind<O>, call: Call): Answer {
  const { vault, query } = call;
  const name = nameOf(call);
  const object = findLive(kind, call, name);
  const prefix = `${markerOf(kind, name)}/`;
  // By id and not by age: the real service promises no order, and nobody shall rely on one.
  const listing = function* (after: string | null) {
    // What was never issued has no versions yet.
    if (object === null || kind.isListed?.(object, query) === false) return;
    for (const version of versionsById<VersionOf<O>>(object, after?.slice(prefix.length) ?? null)) {
      yield {
        item: {
          [kind.idMember]: idOf(vault, kind, object.name, version.version),
          ...kind.item(version),
          ...describe(vault, version, kind.attributes?.(version)),
        },
        marker: prefix + version.version,
      };
    }
  };
  return { body: pageOf(call, `${kind.collection}/${name}/versions`, listing) };
}

export function listDeleted<O extends Stored>(kind: Kind<O>, call: Call): Answer {
  const { vault, now, query } = call;
  const store = kind.storeOf(vault);
  const listing = function* (after: string | null) {
    for (const deleted of store.listDeleted(now, nameIn(kind, after))) {
      const isShown = kind.isListed?.(deleted, query) ?? true;
      const isManaged = currentVersion(deleted).managed !== undefined;
      if (!isShown || isManaged || store.transitionOf(deleted.name) !== null) continue;
      const { item, marker } = listed(kind, vault, deleted);
      yield { item: { ...item, ...describeDeletion(vault, kind.collection, deleted) }, marker };
    }
  };
  return { body: pageOf(call, `deleted${kind.collection}`, listing) };
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
      ...describe(vault, version, kind.attributes?.(version)),
    },
    marker: markerOf(kind, object.name),
  };
}

/** Decoded, the tokens of the real service hold `secret/UPPERNAME`. */
function markerOf<O extends Stored>({ type }: Kind<O>, name: string): string {
  return `${type.toLowerCase()}/${keyOf(name)}`;
}

function nameIn<O extends Stored>(kind: Kind<O>, marker: string | null): string | null {
  return marker === null ? null : marker.slice(markerOf(kind, '').length);
}
