/** What a vault does with secrets, keys and certificates alike. */
import { type Connection, pages, type Request, send } from './key-vault-connection.ts';

type Options = { readonly abortSignal: AbortSignal };

interface Poller<T> {
  getOperationState(): { readonly result?: T };
}

/** The calls of one of the SDK's clients, and what their answers are to us. */
export interface LifecycleCalls<Client, SdkLive, SdkDeleted, Live, Deleted> {
  /** As the vault's log names its operations: `deleteKey`. */
  readonly type: 'Secret' | 'Key' | 'Certificate';
  readonly checkName: (name: string) => void;
  readonly beginDelete: (
    client: Client,
    name: string,
    options: Options,
  ) => Promise<Poller<SdkDeleted>>;
  readonly getDeleted: (client: Client, name: string, options: Options) => Promise<SdkDeleted>;
  readonly listDeleted: (
    client: Client,
    options: Options,
  ) => { byPage(settings: object): AsyncIterator<readonly SdkDeleted[]> };
  readonly beginRecover: (
    client: Client,
    name: string,
    options: Options,
  ) => Promise<Poller<SdkLive>>;
  readonly purge: (client: Client, name: string, options: Options) => Promise<void>;
  readonly backup: (
    client: Client,
    name: string,
    options: Options,
  ) => Promise<Uint8Array | undefined>;
  readonly restore: (client: Client, backup: Uint8Array, options: Options) => Promise<SdkLive>;
  readonly liveOf: (live: SdkLive) => Live;
  readonly deletedOf: (deleted: SdkDeleted) => Deleted;
  /** Of an item of the list, and that as it came; default: `deletedOf`. */
  readonly deletedItemOf?: (deleted: SdkDeleted, wire: () => unknown) => Deleted;
}

export interface Lifecycle<Live, Deleted> {
  delete(name: string): Promise<Deleted>;
  getDeleted(name: string): Promise<Deleted>;
  listDeleted(): AsyncIterable<Deleted>;
  recover(name: string): Promise<Live>;
  purge(name: string): Promise<void>;
  backup(name: string): Promise<Uint8Array>;
  restore(backup: Uint8Array): Promise<Live>;
}

export function lifecycle<Client, SdkLive, SdkDeleted, Live, Deleted>(
  connection: Connection<Client>,
  calls: LifecycleCalls<Client, SdkLive, SdkDeleted, Live, Deleted>,
): Lifecycle<Live, Deleted> {
  const { type, checkName } = calls;
  const about = (words: string, operation: string, name: string): Request => {
    checkName(name);
    return { what: `${words} ${name}`, operation, object: name, repeatable: true };
  };
  return {
    delete: async (name) => {
      const request = about('delete', `delete${type}`, name);
      return send(connection, request, async (client, { signal }, attempt) => {
        const options = { abortSignal: signal };
        try {
          const poller = await calls.beginDelete(client, name, options);
          return calls.deletedOf(resultOf(poller));
        } catch (error) {
          // An earlier try of ours has done it, although its answer was lost.
          if (attempt === 1 || !isNotFound(error)) throw error;
          return calls.deletedOf(await calls.getDeleted(client, name, options));
        }
      });
    },
    getDeleted: async (name) => {
      const request = about('get deleted', `getDeleted${type}`, name);
      return send(connection, request, async (client, { signal }) =>
        calls.deletedOf(await calls.getDeleted(client, name, { abortSignal: signal })),
      );
    },
    listDeleted: () => {
      const operation = `getDeleted${type}s`;
      const request = { what: `list deleted ${type.toLowerCase()}s`, operation };
      const { deletedOf, deletedItemOf = deletedOf } = calls;
      return pages(connection, request, calls.listDeleted, deletedItemOf);
    },
    recover: async (name) => {
      const request = about('recover', `recoverDeleted${type}`, name);
      return send(connection, request, async (client, { signal }) => {
        const poller = await calls.beginRecover(client, name, { abortSignal: signal });
        return calls.liveOf(resultOf(poller));
      });
    },
    purge: async (name) => {
      const request = about('purge', `purgeDeleted${type}`, name);
      return send(connection, request, async (client, { signal }, attempt) => {
        try {
          await calls.purge(client, name, { abortSignal: signal });
        } catch (error) {
          if (attempt === 1 || !isNotFound(error)) throw error;
        }
      });
    },
    backup: async (name) => {
      const request = about('back up', `backup${type}`, name);
      return send(connection, request, async (client, { signal }) => {
        const blob = await calls.backup(client, name, { abortSignal: signal });
        if (blob === undefined) throw new TypeError('a backup without content');
        return blob;
      });
    },
    restore: async (backup) => {
      const what = `restore a ${type.toLowerCase()}`;
      const request = { what, operation: `restore${type}`, repeatable: false };
      return send(connection, request, async (client, { signal }) =>
        calls.liveOf(await calls.restore(client, backup, { abortSignal: signal })),
      );
    },
  };
}

function resultOf<T>(poller: Poller<T>): T {
  const { result } = poller.getOperationState();
  if (result === undefined) throw new TypeError('an operation without an answer');
  return result;
}

export function isNotFound(error: unknown): boolean {
  return (error as { statusCode?: number }).statusCode === 404;
}
