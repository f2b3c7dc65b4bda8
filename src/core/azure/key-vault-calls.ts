import { AsyncLocalStorage } from 'node:async_hooks';
import type { SecretClientOptions } from '@azure/keyvault-secrets';
import { AppError } from '../errors.ts';
import { isLoopback } from './loopback.ts';

/** What one call tells the policies below, and what they tell it. */
export interface CallContext {
  readonly signal: AbortSignal;
  readonly guard?: (() => void) | undefined;
  /** Where the next page of a list is; null at the end. */
  nextLink: string | null;
}

/** The options that the clients of secrets, keys and certificates have in common. */
export type ClientOptions = Omit<SecretClientOptions, 'serviceVersion'>;

const calls = new AsyncLocalStorage<CallContext>();

/** Runs `work` so that its requests heed `context`. */
export function inCall<T>(context: CallContext, work: () => Promise<T>): Promise<T> {
  return calls.run(context, work);
}

/** Options of every Key Vault client: one try, our policies, and relaxed only for this very machine. */
export function clientOptions(vaultUrl: string): ClientOptions {
  return {
    retryOptions: { maxRetries: 0 },
    disableChallengeResourceVerification: isLoopback(vaultUrl),
    additionalPolicies: [
      {
        position: 'perCall',
        policy: {
          name: 'keyturnPages',
          // The SDK fetches later pages without a signal and keeps their links to itself.
          sendRequest: async (request, next) => {
            const call = calls.getStore();
            if (call === undefined) return next(request);
            request.abortSignal ??= call.signal;
            checkOrigin(request.url, vaultUrl);
            const response = await next(request);
            call.nextLink = findNextLink(response.bodyAsText);
            return response;
          },
        },
      },
      {
        position: 'perRetry',
        policy: {
          name: 'keyturnGuard',
          sendRequest: (request, next) => {
            calls.getStore()?.guard?.();
            return next(request);
          },
        },
      },
    ],
  };
}

/** A page link that leads to another host would carry our token there. */
function checkOrigin(url: string, vaultUrl: string): void {
  if (new URL(url).host === new URL(vaultUrl).host) return;
  throw new AppError('vault_rejected', { detail: `a link of ${vaultUrl} leads to another host` });
}

function findNextLink(body: string | null | undefined): string | null {
  if (!body?.includes('"nextLink"')) return null;
  try {
    const { nextLink } = JSON.parse(body) as { nextLink?: unknown };
    return typeof nextLink === 'string' && nextLink !== '' ? nextLink : null;
  } catch {
    // Half a page: the SDK's own parser reports it.
    return null;
  }
}
