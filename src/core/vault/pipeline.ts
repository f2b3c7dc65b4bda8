/**
 * How a remote service is called: every try has a deadline, all tries together have one, and only
 * what may be repeated is. The SDKs' own retries are off: they repeat creating calls, wait as long
 * as a server says, and do not retry a 429 that names no delay.
 */
import type { AppError } from '../errors.ts';

export interface Limits {
  readonly perTryMs: number;
  readonly overallMs: number;
  /** The first wait; it doubles, with jitter, up to `maxDelayMs`, which also caps Retry-After. */
  readonly firstDelayMs: number;
  readonly maxDelayMs: number;
}

export const vaultLimits: Limits = {
  perTryMs: 5_000,
  overallMs: 30_000,
  firstDelayMs: 200,
  maxDelayMs: 16_000,
};

/** What a failed try means. */
export interface Failure {
  readonly error: AppError;
  /** True when the same call may succeed a little later. */
  readonly transient: boolean;
  /** What the service asked for; null when it did not say. */
  readonly retryAfterMs: number | null;
}

/** Given as the failure's cause when a try has used up its time. */
class DeadlineExceeded extends Error {
  constructor(milliseconds: number) {
    super(`no answer within ${milliseconds} ms`);
    this.name = 'DeadlineExceeded';
  }
}

export interface Call<T> {
  readonly limits: Limits;
  /** False for creating calls: their one try may have succeeded although no answer came. */
  readonly repeatable: boolean;
  /** One try; `attempt` counts from 1. It must end, at the latest, when the signal fires. */
  readonly run: (signal: AbortSignal, attempt: number) => Promise<T>;
  readonly judge: (cause: unknown) => Failure;
}

/**
 * The result of the first try that succeeds. @throws the AppError of the last one; not of one that
 * was cut short because all time was used up, which says less than the answer before it
 */
export async function callRemote<T>(call: Call<T>): Promise<T> {
  const { limits } = call;
  const end = performance.now() + limits.overallMs;
  let answered: Failure | null = null;
  for (let attempt = 1; ; attempt++) {
    const left = Math.max(1, end - performance.now());
    try {
      return await withDeadline(Math.min(limits.perTryMs, left), (signal) =>
        call.run(signal, attempt),
      );
    } catch (cause) {
      const isCutShort = cause instanceof DeadlineExceeded && left < limits.perTryMs;
      if (isCutShort && answered) throw answered.error;
      const failure = call.judge(cause);
      answered = failure;
      const delay = delayBefore(attempt + 1, failure.retryAfterMs, limits);
      const late = performance.now() + delay >= end;
      if (!call.repeatable || !failure.transient || late) throw failure.error;
      await new Promise((resolve) => setTimeout(resolve, delay));
    }
  }
}

/** Runs `work` with a signal that fires after `milliseconds`, and waits no longer than that. */
export async function withDeadline<T>(
  milliseconds: number,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const expired = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const reason = new DeadlineExceeded(Math.round(milliseconds));
      reject(reason);
      controller.abort(reason);
    }, milliseconds);
  });
  try {
    // The race matters: not everything below (token fetches, DNS) heeds a signal.
    return await Promise.race([work(controller.signal), expired]);
  } finally {
    clearTimeout(timer);
  }
}

function delayBefore(attempt: number, retryAfterMs: number | null, limits: Limits): number {
  if (retryAfterMs !== null) return Math.min(Math.max(retryAfterMs, 0), limits.maxDelayMs);
  const full = Math.min(limits.firstDelayMs * 2 ** (attempt - 2), limits.maxDelayMs);
  return full * (0.5 + Math.random() / 2);
}
