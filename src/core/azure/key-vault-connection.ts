/** How a client of the SDK is made on first use, and how its requests are sent. */
import type { TokenCredential } from '@azure/identity';
import { callRemote, type Limits } from '../vault/pipeline.ts';
import { type CallContext, type ClientOptions, clientOptions, inCall } from './key-vault-calls.ts';
import { judgeVaultError } from './key-vault-errors.ts';

export interface Connection<Client> {
  readonly alias: string;
  readonly limits: Limits;
  /** The client, once its first request has been answered; before that, to one call at a time. */
  readonly use: <T>(work: (client: Client) => Promise<T>) => Promise<T>;
}

export interface Request {
  /** What is attempted, for error messages: `get orders-db`. */
  readonly what: string;
  readonly repeatable: boolean;
  readonly guard?: (() => void) | undefined;
}

/** Loads the SDK and makes the client. */
export type Open<Client> = (
  url: string,
  credential: TokenCredential,
  options: ClientOptions,
) => Promise<Client>;

export function connect<Client>(
  vault: { readonly alias: string; readonly url: string },
  credential: TokenCredential,
  limits: Limits,
  open: Open<Client>,
): Connection<Client> {
  const load = () => open(vault.url, credential, clientOptions(vault.url));
  return { alias: vault.alias, limits, use: opener(load) };
}

export function send<Client, T>(
  connection: Connection<Client>,
  request: Request,
  run: (client: Client, context: CallContext, attempt: number) => Promise<T>,
): Promise<T> {
  const { alias, limits, use } = connection;
  return callRemote({
    limits,
    repeatable: request.repeatable,
    run: (signal, attempt) => {
      const context: CallContext = { signal, guard: request.guard, nextLink: null };
      return inCall(context, () => use((client) => run(client, context, attempt)));
    },
    judge: (cause) => judgeVaultError(cause, `${request.what} in ${alias}`),
  });
}

interface Listing<Item> {
  byPage(settings: { continuationToken?: string }): AsyncIterator<readonly Item[]>;
}

/** Every item of a list; one call a page. */
export async function* pages<Client, Item, T>(
  connection: Connection<Client>,
  what: string,
  open: (client: Client, options: { abortSignal: AbortSignal }) => Listing<Item>,
  read: (item: Item) => T,
): AsyncIterable<T> {
  let link: string | null = null;
  do {
    const from: { continuationToken?: string } = link === null ? {} : { continuationToken: link };
    const page: { items: T[]; next: string | null } = await send(
      connection,
      { what, repeatable: true },
      async (client, context) => {
        const listing = open(client, { abortSignal: context.signal }).byPage(from);
        const { value } = await listing.next();
        return { items: ((value ?? []) as readonly Item[]).map(read), next: context.nextLink };
      },
    );
    yield* page.items;
    link = page.next;
  } while (link !== null);
}

/**
 * The client, loaded and made on first use. Until the vault has answered once, calls go one by one:
 * the SDK strips the body off its first request to provoke the challenge, and when two first
 * requests overlap it may send the real one without its body.
 */
function opener<Client>(load: () => Promise<Client>): Connection<Client>['use'] {
  let client: Promise<Client> | null = null;
  let isOpen = false;
  let first: Promise<unknown> | null = null;
  return async (work) => {
    client ??= load();
    const ready = await client;
    while (!isOpen && first !== null) await first.catch(() => undefined);
    if (isOpen) return work(ready);
    const running = work(ready).finally(() => {
      first = null;
    });
    first = running;
    try {
      const result = await running;
      isOpen = true;
      return result;
    } catch (error) {
      isOpen = hasAnswered(error);
      throw error;
    }
  };
}

/** True when the vault itself refused, so that its challenge is behind us. */
function hasAnswered(error: unknown): boolean {
  const { statusCode } = error as { statusCode?: number };
  return statusCode !== undefined && statusCode !== 401 && statusCode < 500;
}
