/** Objects of one vault and type as an access log shows them: names and versions, and no values. */
import { AppError, type ErrorCode, hasCode } from '../errors.ts';
import type { VaultMethod } from '../vault/operation-names.ts';
import type { ObjectType } from '../vault/ports.ts';
import { newVersion, ObjectStore } from './store.ts';

interface Version {
  readonly properties: { readonly name: string; readonly version: string };
  readonly isEnabled: boolean;
}

/** Make a version: their one try may have succeeded although no answer came. */
export const makers: readonly VaultMethod[] = [
  ...(['set', 'create', 'import', 'rotate', 'merge', 'restore'] as const),
];
const kept: readonly VaultMethod[] = [
  ...makers,
  ...(['get', 'update', 'delete', 'recover', 'purge', 'erase'] as const),
];

/** Whether what the operation answers follows from which objects there are. */
export function isOfObjects(method: VaultMethod): boolean {
  return kept.includes(method);
}

/** What an operation is about; a version of null is the latest. */
export interface Wanted {
  readonly name: string;
  readonly version: string | null;
  /** The version that it made when it was recorded; null: whichever. */
  readonly made: string | null;
}

export class RecordedObjects {
  readonly #type: ObjectType;
  readonly #store: ObjectStore<Version>;
  readonly #now: () => Date;

  constructor(type: ObjectType, now: () => Date) {
    this.#type = type;
    this.#store = new ObjectStore(type, 'in the log');
    this.#now = now;
  }

  /** Whether it is live; with a version, whether it has that one. */
  has(name: string, version?: string | null): boolean {
    return holds(() => this.#store.get(name, version ?? undefined));
  }

  /** There is such a version. Null: some version, as the latest. */
  appear(name: string, version: string | null, place: 'latest' | 'older' = 'latest'): void {
    if (this.#isDeleted(name)) this.#store.recover(name, this.#now());
    if (this.has(name, version)) return;
    if (place === 'older' && this.has(name)) this.#addOldest(versionOf(name, version));
    else this.#store.add(versionOf(name, version));
  }

  /** It is not live; whether it is among the deleted stays as it is. */
  vanish(name: string): void {
    if (this.has(name)) this.#store.erase(name);
  }

  enable(name: string, version: string | null, isEnabled: boolean): void {
    const found = this.#store.get(name, version ?? undefined);
    if (found.isEnabled !== isEnabled) this.#store.replace({ ...found, isEnabled });
  }

  /** Makes way for a write that is known to have succeeded. */
  expect(method: VaultMethod, { name, version, made }: Wanted): void {
    if (method === 'rotate') this.appear(name, null);
    else if (method === 'restore') this.#store.erase(name);
    else if (method === 'delete' || method === 'update') {
      this.appear(name, version ?? made, 'older');
    } else if (method === 'recover' || method === 'purge') this.#appearDeleted(name, made);
    else if (makers.includes(method) && !this.has(name)) this.#store.erase(name);
  }

  /** Sees to it that a write is refused that is known to have been. */
  expectRefusal(method: VaultMethod, name: string, code: ErrorCode): void {
    if (code === 'object_deleted') this.#appearDeleted(name, null);
    if (code !== 'not_found') return;
    if (method !== 'recover' && method !== 'purge') this.vanish(name);
    else if (this.#isDeleted(name)) this.#store.erase(name);
  }

  /** @returns the version it was about, if any. @throws AppError as a vault does */
  do(method: VaultMethod, wanted: Wanted): string | null {
    const { name, version } = wanted;
    const now = this.#now();
    switch (method) {
      case 'get':
        return this.#get(name, version);
      case 'update':
        return this.#store.get(name, version ?? undefined).properties.version;
      case 'delete':
        return this.#store.delete(name, now).latest.properties.version;
      case 'recover':
        return this.#store.recover(name, now).properties.version;
      case 'purge':
        this.#store.purge(name, now);
        return null;
      case 'erase':
        this.#store.erase(name);
        return null;
      default:
        return this.#make(wanted);
    }
  }

  #get(name: string, version: string | null): string {
    const { properties, isEnabled } = this.#store.get(name, version ?? undefined);
    // Keys and certificates are shown, too, when they are disabled.
    if (isEnabled || this.#type !== 'secret') return properties.version;
    throw new AppError('object_disabled', { detail: name });
  }

  #make({ name, made }: Wanted): string | null {
    // A certificate is made later on; reads will show it.
    if (this.#type === 'certificate' && made === null) return null;
    const version = versionOf(this.#store.freeName(name, this.#now()), made);
    this.#store.add(version);
    return version.properties.version;
  }

  #appearDeleted(name: string, version: string | null): void {
    if (this.#isDeleted(name)) return;
    this.appear(name, version);
    this.#store.delete(name, this.#now());
  }

  #addOldest(version: Version): void {
    const { name } = version.properties;
    const newer = this.#store.getAll(name);
    this.#store.erase(name);
    for (const each of [version, ...newer]) this.#store.add(each);
  }

  #isDeleted(name: string): boolean {
    return holds(() => this.#store.getDeleted(name, this.#now()));
  }
}

function versionOf(name: string, version: string | null): Version {
  return {
    properties: { name, version: (version ?? newVersion()).toLowerCase() },
    isEnabled: true,
  };
}

function holds(find: () => unknown): boolean {
  try {
    find();
    return true;
  } catch (error) {
    if (hasCode(error, 'not_found')) return false;
    throw error;
  }
}
