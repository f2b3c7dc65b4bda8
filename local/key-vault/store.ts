import { randomBytes } from 'node:crypto';
import { SortedKeys } from './sorted-keys.ts';

export const objectTypes = ['Secret', 'Key', 'Certificate'] as const;
export type ObjectType = (typeof objectTypes)[number];

/** What versions of secrets, keys and certificates have in common. Times are whole seconds since 1970. */
export type Version = {
  /** 32 lower-case hexadecimal digits. */
  readonly version: string;
  enabled: boolean;
  nbf?: number;
  exp?: number;
  readonly created: number;
  updated: number;
  tags?: Readonly<Record<string, string>>;
  /** Belongs to the certificate of the same name and version. */
  readonly managed?: true;
  /** Expiry events already sent for this version; none is ever sent twice. */
  announced?: string[];
};

export type StoredObject<V extends Version> = {
  /** As first written; looked up without regard to case. */
  readonly name: string;
  /** In order of creation: the last one is the current one. Never empty. */
  readonly versions: V[];
};

export type Stored = StoredObject<Version>;
export type VersionOf<O extends Stored> = O['versions'][number];
export type Deleted<O extends Stored> = O & {
  readonly deletedDate: number;
  readonly scheduledPurgeDate: number;
};

export type StoreSnapshot<O extends Stored> = {
  readonly live: readonly O[];
  readonly deleted: readonly Deleted<O>[];
};

/** What is under way with a name for a while: its old object is going, or its object is coming back. */
export type Transition = 'deleting' | 'recovering';

/** The objects of one type in one vault, live and soft-deleted. Knows nothing of HTTP. */
export class ObjectStore<O extends Stored> {
  readonly #clock: () => number;
  #live = new Map<string, O>();
  #deleted = new Map<string, Deleted<O>>();
  #liveKeys = new SortedKeys();
  #deletedKeys = new SortedKeys();
  readonly #transitions = new Map<string, { readonly kind: Transition; readonly until: number }>();

  /** @param clock milliseconds since 1970, by which transitions end */
  constructor(clock: () => number = Date.now) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#live.size;
  }

  find(name: string): O | null {
    return this.#live.get(keyOf(name)) ?? null;
  }

  /** A new object, or the one that takes the place of the live one of that name. */
  put(object: O): O {
    const key = keyOf(object.name);
    if (!this.#live.has(key)) this.#liveKeys.add(key);
    this.#live.set(key, object);
    return object;
  }

  delete(object: O, now: number, retentionDays: number): Deleted<O> {
    const deleted = {
      ...object,
      deletedDate: now,
      scheduledPurgeDate: now + retentionDays * 86_400,
    };
    const key = keyOf(object.name);
    if (this.#live.delete(key)) this.#liveKeys.delete(key);
    if (!this.#deleted.has(key)) this.#deletedKeys.add(key);
    this.#deleted.set(key, deleted);
    return deleted;
  }

  /** @param now seconds; what was due to be purged by then is gone */
  findDeleted(name: string, now: number): Deleted<O> | null {
    const deleted = this.#deleted.get(keyOf(name));
    if (deleted === undefined) return null;
    if (deleted.scheduledPurgeDate > now) return deleted;
    this.purge(deleted);
    return null;
  }

  recover(deleted: Deleted<O>): O {
    const { deletedDate: _when, scheduledPurgeDate: _until, ...object } = deleted;
    this.purge(deleted);
    return this.put(object as unknown as O);
  }

  purge(object: Stored): void {
    const key = keyOf(object.name);
    if (this.#deleted.delete(key)) this.#deletedKeys.delete(key);
  }

  /** In the order of upper-cased names. @param after the name or key behind which to start; `null`: at the first */
  *list(after: string | null = null): Generator<O> {
    for (const key of this.#liveKeys.from(after === null ? null : keyOf(after))) {
      const object = this.#live.get(key);
      if (object !== undefined) yield object;
    }
  }

  /** As `list`. @param now seconds; what was due to be purged by then is left out */
  *listDeleted(now: number, after: string | null = null): Generator<Deleted<O>> {
    for (const key of this.#deletedKeys.from(after === null ? null : keyOf(after))) {
      const deleted = this.#deleted.get(key);
      if (deleted !== undefined && deleted.scheduledPurgeDate > now) yield deleted;
    }
  }

  /** @param seconds 0: nothing is under way */
  begin(name: string, kind: Transition, seconds: number): void {
    if (seconds > 0) {
      this.#transitions.set(keyOf(name), { kind, until: this.#clock() + seconds * 1000 });
    }
  }

  transitionOf(name: string): Transition | null {
    const transition = this.#transitions.get(keyOf(name));
    if (transition === undefined) return null;
    if (transition.until > this.#clock()) return transition.kind;
    this.#transitions.delete(keyOf(name));
    return null;
  }

  /** Whatever is under way is done. */
  settle(): void {
    this.#transitions.clear();
  }

  snapshot(): StoreSnapshot<O> {
    return { live: [...this.#live.values()], deleted: [...this.#deleted.values()] };
  }

  load({ live, deleted }: StoreSnapshot<O>): void {
    this.#live = new Map(live.map((object) => [keyOf(object.name), object]));
    this.#deleted = new Map(deleted.map((object) => [keyOf(object.name), object]));
    this.#liveKeys = new SortedKeys(this.#live.keys());
    this.#deletedKeys = new SortedKeys(this.#deleted.keys());
    this.settle();
  }
}

export function currentVersion<V extends Version>({ versions }: StoredObject<V>): V {
  const current = versions.at(-1);
  if (current === undefined) throw new Error('a stored object has at least one version');
  return current;
}

/** @returns the version of that id; the current one for an empty id; `null` when there is none */
export function findVersion<V extends Version>(object: StoredObject<V>, id: string): V | null {
  if (id === '') return currentVersion(object);
  const wanted = id.toLowerCase();
  return object.versions.find(({ version }) => version === wanted) ?? null;
}

export function newVersionId(): string {
  return randomBytes(16).toString('hex');
}

/** The form in which names are compared and sorted. */
export function keyOf(name: string): string {
  return name.toUpperCase();
}

/** Versions in the order of their ids, behind `after` or from the first on. */
export function* versionsById<V extends Version>(
  { versions }: StoredObject<V>,
  after: string | null,
): Generator<V> {
  const sorted = sortedVersions(versions);
  let low = 0;
  let high = after === null ? 0 : sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle]?.version ?? '') <= (after ?? '')) low = middle + 1;
    else high = middle;
  }
  for (; low < sorted.length; low += 1) yield sorted[low] as V;
}

type SortedVersions = {
  readonly count: number;
  readonly last: Version | undefined;
  readonly sorted: readonly Version[];
};
// By the array in which an object keeps its versions, so that a page of them costs no sort.
const sortedByArray = new WeakMap<readonly Version[], SortedVersions>();

function sortedVersions(versions: readonly Version[]): readonly Version[] {
  const known = sortedByArray.get(versions);
  const last = versions.at(-1);
  if (known?.count === versions.length && known.last === last) return known.sorted;
  const sorted = versions.toSorted((a, b) => (a.version < b.version ? -1 : 1));
  sortedByArray.set(versions, { count: versions.length, last, sorted });
  return sorted;
}
