import { deflateRawSync, inflateRawSync } from 'node:zlib';
import { AppError } from '../errors.ts';
import { type Perform, pages } from './calls.ts';
import type { DeletedObject, Deletion, ObjectStore } from './store.ts';

// What happens to secrets, keys and certificates alike.

interface Version<P> {
  readonly properties: P & {
    readonly name: string;
    readonly version: string;
    /** Lists of what is deleted leave out what a certificate brought along. */
    readonly managed?: boolean;
  };
}

interface Kind<V, Live> {
  readonly checkName: (name: string) => void;
  /** What a call answers about a version. */
  readonly describe: (version: V) => Live;
  /** Everything about a version, as JSON can hold it. */
  readonly save: (version: V) => unknown;
  /** @param saved what `save` gave; its dates are dates again */
  readonly load: (saved: never) => V;
}

interface Deleted<P> extends Deletion {
  readonly properties: P;
}

export interface Lifecycle<P, Live> {
  delete(name: string): Promise<Deleted<P>>;
  getDeleted(name: string): Promise<Deleted<P>>;
  listDeleted(): AsyncIterable<Deleted<P>>;
  recover(name: string): Promise<Live>;
  purge(name: string): Promise<void>;
  backup(name: string): Promise<Uint8Array>;
  restore(backup: Uint8Array): Promise<Live>;
}

export function simulatedLifecycle<P, V extends Version<P>, Live>(
  store: ObjectStore<V>,
  { perform, now }: { readonly perform: Perform; readonly now: () => Date },
  kind: Kind<V, Live>,
): Lifecycle<V['properties'], Live> {
  const about = async <T>(
    operation: 'delete' | 'getDeleted' | 'recover' | 'purge' | 'backup',
    name: string,
    work: () => T,
  ): Promise<T> => {
    kind.checkName(name);
    return perform(operation, name, work);
  };
  return {
    delete: (name) => about('delete', name, () => describeDeleted(store.delete(name, now()))),
    getDeleted: (name) =>
      about('getDeleted', name, () => describeDeleted(store.getDeleted(name, now()))),
    listDeleted: () =>
      pages(
        () =>
          store
            .listDeleted(now())
            .filter(({ latest }) => latest.properties.managed !== true)
            .map((deleted) => unversioned(describeDeleted(deleted))),
        (work) => perform('listDeleted', '', work),
      ),
    recover: (name) => about('recover', name, () => kind.describe(store.recover(name, now()))),
    purge: (name) => about('purge', name, () => store.purge(name, now())),
    backup: (name) => about('backup', name, () => seal(store.getAll(name).map(kind.save))),
    restore: async (backup) => {
      const versions = unseal(backup, kind.load);
      const name = versions[0]?.properties.name ?? '';
      return perform('restore', name, () => kind.describe(store.restore(versions, now())));
    },
  };
}

function describeDeleted<P>({
  latest,
  deletion,
}: DeletedObject<{ readonly properties: P }>): Deleted<P> {
  return { properties: latest.properties, ...deletion };
}

/** As in a list: the version is not said. */
function unversioned<P>(deleted: Deleted<P>): Deleted<P> {
  return { ...deleted, properties: { ...deleted.properties, version: '' } };
}

/** A vault's own seal is its secret; ours need only look like one. */
function seal(versions: readonly unknown[]): Uint8Array {
  return deflateRawSync(JSON.stringify(versions));
}

function unseal<V>(backup: Uint8Array, load: (saved: never) => V): V[] {
  try {
    const saved = JSON.parse(inflateRawSync(backup).toString('utf8'), readDate) as never[];
    return saved.map(load);
  } catch {
    throw new AppError('vault_rejected', { detail: 'restore: not a backup' });
  }
}

const dates: readonly string[] = ['created', 'updated', 'notBefore', 'expiresOn'];

function readDate(key: string, value: unknown): unknown {
  return dates.includes(key) && typeof value === 'string' ? new Date(value) : value;
}
