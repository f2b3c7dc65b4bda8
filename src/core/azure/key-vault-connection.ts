/** How a client of the SDK is made on first use, and how its requests are sent. */
import type { TokenCredential } from '@azure/identity';
import { weightOf } from '../vault/budget.ts';
import { createVaultCaller, type VaultCaller } from '../vault/calls.ts';
import type { Limits } from '../vault/pipeline.ts';
import {
  beginCall,
  type CallContext,
  type ClientOptions,
  clientOptions,
  inPages,
} from './key-vault-calls.ts';
import { judgeVaultError } from './key-vault-errors.ts';
import { openSessions, type Use } from './key-vault-session.ts';

export interface Connection<Client> {
  readonly alias: string;
  readonly caller: VaultCaller;
  readonly use: Use<Client>;
}

export interface Request {
  /** What is attempted, for error messages: `get orders-db`. */
  readonly what: string;
  /** What the vault's log calls it, and on which object; default: none. */
  readonly operation: string;
  readonly object?: string;
  readonly repeatable: boolean;
  /** Whether a refusal may be quoted; default: as repeatable, since what creates something carries the value. */
  readonly isQuotable?: boolean;
  readonly guard?: (() => void) | undefined;
  /** Whether the answer is a page, and the next one's link is wanted. */
  readonly isList?: boolean;
}

/** Loads the SDK and makes the client. */
export type Open<Client> = (
  url: string,
  credential: TokenCredential,
  options: ClientOptions,
) => Promise<Client>;

/** @param by what all that calls this vault has in common, or the limits of a caller of its own */
export function connect<Client>(
  vault: { readonly alias: string; readonly url: string },
  credential: TokenCredential,
  by: VaultCaller | Limits,
  open: Open<Client>,
): Connection<Client> {
  const caller = 'call' in by ? by : createVaultCaller(vault.alias, { limits: by });
  const use = openSessions(credential, (identity) =>
    open(vault.url, identity, clientOptions(vault.url)),
  );
  return { alias: vault.alias, caller, use };
}

export function send<Client, T>(
  { alias, caller, use }: Connection<Client>,
  request: Request,
  run: (client: Client, context: CallContext, attempt: number) => Promise<T>,
): Promise<T> {
  const { what, operation, object = null, repeatable, guard } = request;
  const { isQuotable = repeatable, isList = false } = request;
  return caller.call({
    ...{ operation, object, repeatable, weight: weightOf(operation) },
    run: (signal, attempt) => {
      const context = { signal, guard, page: isList ? { body: null, nextLink: null } : null };
      beginCall(context);
      return use((client) => run(client, context, attempt));
    },
    judge: (cause, call) =>
      judgeVaultError(cause, { ...call, what: `${what} in ${alias}`, isQuotable }),
  });
}

interface Listing<Item> {
  byPage(settings: { continuationToken?: string }): AsyncIterator<readonly Item[]>;
}

/**
 * Every item of a list; one call a page.
 *
 * @param read gets the item as it came, too: the SDK drops members of some
 */
export async function* pages<Client, Item, T>(
  connection: Connection<Client>,
  about: Pick<Request, 'what' | 'operation' | 'object'>,
  open: (client: Client, options: { abortSignal: AbortSignal }) => Listing<Item>,
  read: (item: Item, wire: () => unknown) => T,
): AsyncIterable<T> {
  let link: string | null = null;
  do {
    const from: { continuationToken?: string } = link === null ? {} : { continuationToken: link };
    const page: { items: T[]; next: string | null } = await send(
      connection,
      { ...about, repeatable: true, isList: true },
      async (client, context) => {
        const listing = open(client, { abortSignal: context.signal }).byPage(from);
        const next = () => listing.next();
        const { value } = await (link === null ? next() : inPages(context, next));
        const wireAt = wireItems(context.page?.body ?? null);
        return {
          items: ((value ?? []) as readonly Item[]).map((item, at) => read(item, () => wireAt(at))),
          next: context.page?.nextLink ?? null,
        };
      },
    );
    // Not `yield*`, which waits for each item more than once.
    for (const item of page.items) yield item;
    link = page.next;
  } while (link !== null);
}

/** The items of a page as they came; read when the first is asked for. */
function wireItems(body: string | null): (at: number) => unknown {
  let items: readonly unknown[] | null = null;
  return (at) => {
    items ??= (JSON.parse(body ?? '{}') as { readonly value?: readonly unknown[] }).value ?? [];
    return items[at];
  };
}
