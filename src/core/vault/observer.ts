/** What the vault client tells of itself, for logs, metrics, traces and access logs; never a value. */
import type { ErrorCode } from '../errors.ts';
import type { VaultCallInfo } from './vault-error.ts';

export interface CallEnd {
  readonly outcome: 'ok' | ErrorCode;
  /** Tries that were sent or refused here; 1 when the first one settled it. */
  readonly attempts: number;
  readonly ms: number;
}

/** One call under way. */
export interface CallWatch {
  ended(end: CallEnd): void;
  /** Runs the call, for those who need it to run within something of theirs, such as a span. */
  within?<T>(work: () => Promise<T>): Promise<T>;
}

/**
 * Where the answer to a read came from: `hit` and `negative` (a 404 that is remembered) from the cache, `stale`
 * from beyond its time because the vault is down, `shared` from a call that was under way, `miss` from the vault.
 */
export type ReadSource = 'hit' | 'negative' | 'stale' | 'shared' | 'miss';

export interface ReadEnd {
  readonly source: ReadSource;
  readonly outcome: 'ok' | ErrorCode;
  readonly ms: number;
}

export type CircuitState = 'closed' | 'open' | 'half-open';

/**
 * Every member is optional, and must neither throw nor wait. Each call to a vault is told once by `callStarted`,
 * each read of a cached service once by `readEnded`; a read that misses leads to a call, a hit does not.
 */
export interface Observer {
  callStarted?(call: VaultCallInfo): CallWatch;
  /** The try `attempt` failed with `code`; the next one follows after `delayMs`. */
  retrying?(
    call: VaultCallInfo,
    retry: { readonly attempt: number; readonly code: ErrorCode; readonly delayMs: number },
  ): void;
  /** A call waits `ms` because of the rate of requests. */
  budgetWaited?(call: VaultCallInfo, ms: number): void;
  /** The vault has answered 429: from now on this instance takes only `share` (0 to 1) of its rate. */
  budgetCut?(vault: string, share: number): void;
  circuitChanged?(vault: string, state: CircuitState): void;
  readEnded?(read: VaultCallInfo, end: ReadEnd): void;
  /** Other instances could not be told, or asked, what has changed; `error` says why. */
  invalidationFailed?(direction: 'publish' | 'poll', error: unknown): void;
}
