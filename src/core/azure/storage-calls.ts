import { AppError, type ErrorCode } from '../errors.ts';
import { callRemote, type Failure, type Limits } from '../vault/pipeline.ts';

export const storageLimits: Limits = {
  perTryMs: 5_000,
  overallMs: 20_000,
  firstDelayMs: 100,
  maxDelayMs: 2_000,
};

/** What the storage SDKs throw, as far as we look at it. */
export interface StorageFailure {
  /** Null when no HTTP answer arrived, or only a part of one. */
  readonly status: number | null;
  readonly code: string;
}

/** `attempted` is for error messages: operation and subject. */
export type StorageCaller = <T>(
  attempted: string,
  run: (signal: AbortSignal, attempt: number) => Promise<T>,
) => Promise<T>;

/**
 * Calls storage until it answers or time is up. Everything sent through here is safe to repeat:
 * reads, and writes that recognise their own earlier success when `attempt` is above 1.
 */
export function storageCaller(limits: Limits): StorageCaller {
  return (attempted, run) =>
    callRemote({ limits, repeatable: true, run, judge: (cause) => judge(cause, attempted) });
}

/** Status and error code of what an SDK threw. */
export function storageFailure(cause: unknown): StorageFailure {
  const error = (cause ?? {}) as {
    statusCode?: number;
    code?: string;
    details?: { odataError?: { code?: string }; errorCode?: string };
  };
  const code = error.details?.odataError?.code ?? error.details?.errorCode ?? error.code ?? '';
  const answered = error.statusCode !== undefined && code !== 'PARSE_ERROR';
  return { status: answered ? (error.statusCode ?? null) : null, code };
}

/** True when the table, container or queue itself is missing, rather than what it should hold. */
export function lacksHome(failure: StorageFailure): boolean {
  return (
    failure.status === 404 &&
    ['TableNotFound', 'ContainerNotFound', 'QueueNotFound'].includes(failure.code)
  );
}

function judge(cause: unknown, attempted: string): Failure {
  if (cause instanceof AppError) return { error: cause, transient: false, retryAfterMs: null };
  const { status, code } = storageFailure(cause);
  const what = `${attempted}: ${status ?? 'no answer'} ${code}`.trimEnd();
  const transient = status === null || status === 408 || status === 429 || status >= 500;
  const isBeingDeleted = code.endsWith('BeingDeleted');
  return {
    error: new AppError(codeOf(status, transient || isBeingDeleted), {
      detail: what,
      cause: plainError(cause),
    }),
    transient: transient || isBeingDeleted,
    retryAfterMs: null,
  };
}

/**
 * An SDK's error without what it carries along: the request with its authorization header, the
 * response with its body. Whoever prints a chain of causes prints this.
 */
export function plainError(cause: unknown): Error {
  const { name, message } = cause instanceof Error ? cause : new Error(String(cause));
  return new Error(`${name}: ${message.split('\n', 1)[0]?.slice(0, 300)}`);
}

function codeOf(status: number | null, transient: boolean): ErrorCode {
  if (transient || status === 401 || status === 403) return 'storage_unavailable';
  if (status === 404) return 'not_found';
  return status === 409 || status === 412 ? 'conflict' : 'internal';
}
