import { AsyncLocalStorage } from 'node:async_hooks';
import type { SecretClientOptions } from '@azure/keyvault-secrets';
import { AppError } from '../errors.ts';
import { isLoopback } from './loopback.ts';

/** What one call tells the policies below, and what they tell it. */
export interface CallContext {
  readonly signal: AbortSignal;
  readonly guard: (() => void) | undefined;
  /** Of a list only. */
  readonly page: Page | null;
}

/** A page of a list as it came. */
export interface Page {
  body: string | null;
  /** Null at the end of the list. */
  nextLink: string | null;
}

/** The options that the clients of secrets, keys and certificates have in common. */
export type ClientOptions = Omit<SecretClientOptions, 'serviceVersion'>;

/** A member of the signal that the SDK hands on to the requests of a call; a WeakMap shows in the cost of a call. */
const ofSignal = Symbol('call');
type CallSignal = AbortSignal & { [ofSignal]?: CallContext };
/** Where it does not: the pages of a list, but for the first, are fetched without a signal. */
const pages = new AsyncLocalStorage<CallContext>();

/** Lets the requests that carry the signal of `context` heed it. */
export function beginCall(context: CallContext): void {
  (context.signal as CallSignal)[ofSignal] = context;
}

/** Runs `work`, which fetches a page that is not the first, so that its requests heed `context`. */
export function inPages<T>(context: CallContext, work: () => Promise<T>): Promise<T> {
  return pages.run(context, work);
}

function findCall(signal: object | undefined): CallContext | undefined {
  return (signal as CallSignal | undefined)?.[ofSignal] ?? pages.getStore();
}

/** Options of every Key Vault client: one try, our policies, and relaxed only for this very machine. */
export function clientOptions(vaultUrl: string): ClientOptions {
  const { origin } = new URL(vaultUrl);
  return {
    retryOptions: { maxRetries: 0 },
    disableChallengeResourceVerification: isLoopback(vaultUrl),
    additionalPolicies: [
      {
        position: 'perCall',
        policy: {
          name: 'keyturnPages',
          sendRequest: (request, next) => {
            const call = findCall(request.abortSignal);
            if (call === undefined) return next(request);
            request.abortSignal ??= call.signal;
            checkOrigin(request.url, origin);
            return call.page === null ? next(request) : readPage(next(request), call.page);
          },
        },
      },
      {
        position: 'perRetry',
        policy: {
          name: 'keyturnGuard',
          sendRequest: (request, next) => {
            findCall(request.abortSignal)?.guard?.();
            return next(request);
          },
        },
      },
    ],
  };
}

/** A page link that leads to another host would carry our token there. */
function checkOrigin(url: string, origin: string): void {
  if (url.startsWith(`${origin}/`) || new URL(url).origin === origin) return;
  throw new AppError('vault_rejected', { detail: `a link of ${origin} leads to another host` });
}

/** The SDK keeps the links of pages to itself. */
async function readPage<Answer extends { readonly bodyAsText?: string | null }>(
  answer: Promise<Answer>,
  page: Page,
): Promise<Answer> {
  const response = await answer;
  page.body = response.bodyAsText ?? null;
  page.nextLink = findNextLink(page.body);
  return response;
}

function findNextLink(body: string | null | undefined): string | null {
  const at = body?.lastIndexOf('"nextLink"') ?? -1;
  if (!body || at < 0) return null;
  // Where a vault puts it: nothing comes after it but the end of the page, which need not be parsed twice then.
  const last = /^"nextLink"\s*:\s*(null|"(?:[^"\\]|\\.)*")\s*\}\s*$/.exec(body.slice(at));
  try {
    const nextLink: unknown = last?.[1] ? JSON.parse(last[1]) : JSON.parse(body).nextLink;
    return typeof nextLink === 'string' && nextLink !== '' ? nextLink : null;
  } catch {
    // Half a page: the SDK's own parser reports it.
    return null;
  }
}
