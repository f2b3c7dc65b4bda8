import { randomBytes } from 'node:crypto';

/** A further type is added here; the compiler then names every table that wants a line for it. */
export const objectTypes = ['Secret'] as const;
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
  /** Expiry events already sent for this version; none is ever sent twice. */
  announced?: string[];
};

export type StoredObject<V extends Version> = {
  /** As first written; looked up without regard to case. */
  readonly name: string;
  /** In order of creation: the last one is the current one. Never empty. */
  readonly versions: V[];
};

export type DeletedObject<V extends Version> = StoredObject<V> & {
  readonly deletedDate: number;
  readonly scheduledPurgeDate: number;
};

export type StoreSnapshot<V extends Version> = {
  readonly live: readonly StoredObject<V>[];
  readonly deleted: readonly DeletedObject<V>[];
};

/** The objects of one type in one vault, live and soft-deleted. Knows nothing of HTTP. */
export class ObjectStore<V extends Version> {
  #live = new Map<string, StoredObject<V>>();
  #deleted = new Map<string, DeletedObject<V>>();

  find(name: string): StoredObject<V> | null {
    return this.#live.get(keyOf(name)) ?? null;
  }

  /** Appends a version, which becomes the current one; the name must not be a deleted object's. */
  add(name: string, version: V): StoredObject<V> {
    const object = this.find(name) ?? { name, versions: [] };
    object.versions.push(version);
    this.#live.set(keyOf(name), object);
    return object;
  }

  delete(object: StoredObject<V>, now: number, retentionDays: number): DeletedObject<V> {
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
  findDeleted(name: string, now: number): DeletedObject<V> | null {
    const deleted = this.#deleted.get(keyOf(name));
    if (deleted === undefined) return null;
    if (deleted.scheduledPurgeDate > now) return deleted;
    this.#deleted.delete(keyOf(name));
    return null;
  }

  recover({ name, versions }: DeletedObject<V>): StoredObject<V> {
    const object = { name, versions };
    this.#deleted.delete(keyOf(name));
    this.#live.set(keyOf(name), object);
    return object;
  }

  purge(object: DeletedObject<V>): void {
    this.#deleted.delete(keyOf(object.name));
  }

  list(): StoredObject<V>[] {
    return byKey(this.#live);
  }

  listDeleted(now: number): DeletedObject<V>[] {
    return byKey(this.#deleted).filter(({ scheduledPurgeDate }) => scheduledPurgeDate > now);
  }

  snapshot(): StoreSnapshot<V> {
    return { live: [...this.#live.values()], deleted: [...this.#deleted.values()] };
  }

  load({ live, deleted }: StoreSnapshot<V>): void {
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
