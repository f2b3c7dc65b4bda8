import { randomBytes } from 'node:crypto';

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

/** The objects of one type in one vault, live and soft-deleted. Knows nothing of HTTP. */
export class ObjectStore<O extends Stored> {
  #live = new Map<string, O>();
  #deleted = new Map<string, Deleted<O>>();

  find(name: string): O | null {
    return this.#live.get(keyOf(name)) ?? null;
  }

  /** A new object, or the one that takes the place of the live one of that name. */
  put(object: O): O {
    this.#live.set(keyOf(object.name), object);
    return object;
  }

  delete(object: O, now: number, retentionDays: number): Deleted<O> {
    const deleted = {
      ...object,
      deletedDate: now,
      scheduledPurgeDate: now + retentionDays * 86_400,
    };
    this.#live.delete(keyOf(object.name));
    this.#deleted.set(keyOf(object.name), deleted);
    return deleted;
  }

  /** @param now seconds; what was due to be purged by then is gone */
  findDeleted(name: string, now: number): Deleted<O> | null {
    const deleted = this.#deleted.get(keyOf(name));
    if (deleted === undefined) return null;
    if (deleted.scheduledPurgeDate > now) return deleted;
    this.#deleted.delete(keyOf(name));
    return null;
  }

  recover(deleted: Deleted<O>): O {
    const { deletedDate: _when, scheduledPurgeDate: _until, ...object } = deleted;
    this.#deleted.delete(keyOf(deleted.name));
    return this.put(object as unknown as O);
  }

  purge(object: Stored): void {
    this.#deleted.delete(keyOf(object.name));
  }

  list(): O[] {
    return byKey(this.#live);
  }

  listDeleted(now: number): Deleted<O>[] {
    return byKey(this.#deleted).filter(({ scheduledPurgeDate }) => scheduledPurgeDate > now);
  }

  snapshot(): StoreSnapshot<O> {
    return { live: [...this.#live.values()], deleted: [...this.#deleted.values()] };
  }

  load({ live, deleted }: StoreSnapshot<O>): void {
    this.#live = new Map(live.map((object) => [keyOf(object.name), object]));
    this.#deleted = new Map(deleted.map((object) => [keyOf(object.name), object]));
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

function byKey<T>(objects: ReadonlyMap<string, T>): T[] {
  return [...objects].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, object]) => object);
}
