import { randomBytes } from 'node:crypto';
import { AppError } from '../errors.ts';
import type { ObjectType } from '../vault/ports.ts';

// Objects with versions as a simulated vault keeps them: live, or deleted and to be recovered.

interface StoredVersion {
  readonly properties: { readonly name: string; readonly version: string };
}

interface Stored<V> {
  /** The latest is the last. */
  readonly versions: readonly V[];
  readonly deleted: Deletion | null;
}

export interface Deletion {
  readonly deletedOn: Date;
  readonly purgeOn: Date;
}

export interface DeletedObject<V> {
  readonly latest: V;
  readonly deletion: Deletion;
}

const retentionMs = 90 * 86_400_000;

/** The objects of one type; they are found whatever the case of their names. */
export class ObjectStore<V extends StoredVersion> {
  readonly #type: ObjectType;
  readonly #place: string;
  readonly #objects = new Map<string, Stored<V>>();

  /** @param place where it is, for error messages */
  constructor(type: ObjectType, place: string) {
    this.#type = type;
    this.#place = place;
  }

  /** The latest version of every live object, ordered by name. */
  latest(): V[] {
    return this.#ordered().flatMap(({ versions, deleted }) =>
      deleted === null ? versions.slice(-1) : [],
    );
  }

  /** Those of a live object by version, which is not the order of creation: a vault promises none. */
  versions(name: string): V[] {
    const versions = this.#live(name)?.versions ?? [];
    return versions.toSorted((left, right) =>
      left.properties.version < right.properties.version ? -1 : 1,
    );
  }

  /** The latest version or the named one. @throws AppError `not_found` */
  get(name: string, version?: string): V {
    const { versions } = this.#getLive(name);
    const found =
      version === undefined
        ? versions.at(-1)
        : versions.find(({ properties }) => properties.version === version.toLowerCase());
    if (found === undefined) throw this.#notFound(`${name}/${version}`);
    return found;
  }

  /** All of a live object, the latest last. @throws AppError `not_found` */
  getAll(name: string): readonly V[] {
    return this.#getLive(name).versions;
  }

  /** Whether there is such an object, live or deleted. */
  has(name: string, now: Date): boolean {
    return this.#find(name, now) !== null;
  }

  /** The name that a new version gets: as it was written first. @throws AppError `object_deleted` */
  freeName(name: string, now: Date): string {
    const stored = this.#find(name, now);
    if (stored?.deleted) {
      throw new AppError('object_deleted', { detail: `${this.#type} ${name} ${this.#place}` });
    }
    return stored?.versions[0]?.properties.name ?? name;
  }

  /** Adds it as the latest. */
  add(version: V): void {
    const { name } = version.properties;
    const versions = this.#live(name)?.versions ?? [];
    this.#objects.set(keyOf(name), { versions: [...versions, version], deleted: null });
  }

  /** Puts it in the place of the version of the same id. @throws AppError `not_found` */
  replace(changed: V): void {
    const { name, version } = changed.properties;
    const versions = this.#getLive(name).versions.map((old) =>
      old.properties.version === version ? changed : old,
    );
    this.#objects.set(keyOf(name), { versions, deleted: null });
  }

  /** @throws AppError `not_found` */
  delete(name: string, now: Date): DeletedObject<V> {
    const { versions } = this.#getLive(name);
    const deletedOn = wholeSeconds(now);
    const deletion = { deletedOn, purgeOn: new Date(deletedOn.getTime() + retentionMs) };
    this.#objects.set(keyOf(name), { versions, deleted: deletion });
    return { latest: this.#last(versions, name), deletion };
  }

  /** @throws AppError `not_found` */
  getDeleted(name: string, now: Date): DeletedObject<V> {
    const stored = this.#find(name, now);
    if (!stored?.deleted) throw this.#notFound(`deleted ${name}`);
    return { latest: this.#last(stored.versions, name), deletion: stored.deleted };
  }

  /** Ordered by name. */
  listDeleted(now: Date): DeletedObject<V>[] {
    return this.#ordered().flatMap(({ versions, deleted }) =>
      deleted !== null && deleted.purgeOn > now
        ? versions.slice(-1).map((latest) => ({ latest, deletion: deleted }))
        : [],
    );
  }

  /** @throws AppError `not_found` */
  recover(name: string, now: Date): V {
    this.getDeleted(name, now);
    const { versions = [] } = this.#objects.get(keyOf(name)) ?? {};
    this.#objects.set(keyOf(name), { versions, deleted: null });
    return this.#last(versions, name);
  }

  /** @throws AppError `not_found` */
  purge(name: string, now: Date): void {
    this.getDeleted(name, now);
    this.erase(name);
  }

  /** Live, deleted or absent: nothing is left of it. */
  erase(name: string): void {
    this.#objects.delete(keyOf(name));
  }

  /** @throws AppError `conflict` when the name is taken */
  restore(versions: readonly V[], now: Date): V {
    const latest = this.#last(versions, 'of a backup');
    const { name } = latest.properties;
    if (this.#find(name, now) !== null) {
      throw new AppError('conflict', { detail: `restore ${this.#type} ${name} ${this.#place}` });
    }
    this.#objects.set(keyOf(name), { versions, deleted: null });
    return latest;
  }

  /** Null also for what its retention has outlived. */
  #find(name: string, now: Date): Stored<V> | null {
    const stored = this.#objects.get(keyOf(name));
    if (stored === undefined) return null;
    return stored.deleted === null || stored.deleted.purgeOn > now ? stored : null;
  }

  #live(name: string): Stored<V> | null {
    const stored = this.#objects.get(keyOf(name));
    return stored?.deleted === null ? stored : null;
  }

  #getLive(name: string): Stored<V> {
    const stored = this.#live(name);
    if (stored === null) throw this.#notFound(name);
    return stored;
  }

  #ordered(): Stored<V>[] {
    return [...this.#objects].sort(([left], [right]) => (left < right ? -1 : 1)).map(([, v]) => v);
  }

  #last(versions: readonly V[], name: string): V {
    const latest = versions.at(-1);
    if (latest === undefined) throw this.#notFound(name);
    return latest;
  }

  #notFound(what: string): AppError {
    return new AppError('not_found', { detail: `${this.#type} ${what} ${this.#place}` });
  }
}

/** 32 hexadecimal digits that no other version has. */
export function newVersion(): string {
  return randomBytes(16).toString('hex');
}

/** As a vault keeps dates. */
export function wholeSeconds(date: Date): Date {
  return new Date(Math.floor(date.getTime() / 1000) * 1000);
}

/** Names differ in more than case or not at all. */
function keyOf(name: string): string {
  return name.toUpperCase();
}
