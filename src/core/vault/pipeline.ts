/**
 * How a remote service is called: every try has a deadline, all tries together have one, and only
 * what may be repeated is. The SDKs' own retries are off: they repeat creating calls, wait as long
 * as a server says, and do not retry a 429 that names no delay.
 */
import type { AppError } from '../errors.ts';

export interface Limits {
  readonly perTryMs: number;
  /** All tries, the waits between them, and the waits for leave to send. */
  readonly overallMs: number;
  /** The first wait; it doubles, with jitter, up to `maxDelayMs`, which also caps Retry-After. */
  readonly firstDelayMs: number;
  readonly maxDelayMs: number;
  /** The first wait after a 429 that names none; it doubles too. Default: `firstDelayMs`. */
  readonly firstThrottledDelayMs?: number;
}

/** A throttling vault names no delay; what its documents ask for is 1, 2, 4, 8 and 16 s. */
export const vaultLimits: Limits = {
  perTryMs: 5_000,
  overallMs: 30_000,
  firstDelayMs: 200,
  maxDelayMs: 16_000,
  firstThrottledDelayMs: 1_000,
};

/** What a failed try means. */
export interface Failure {
  readonly error: AppError;
  /** True when the same call may succeed a little later. */
  readonly transient: boolean;
  /** What the service asked for; null when it did not say. */
  readonly retryAfterMs: number | null;
  /**
   * What it tells about the service: `down` for a 5xx, silence or no connection, `alive` for any
   * other answer, `unknown` when it was never asked. Default: `unknown`.
   */
  readonly service?: 'alive' | 'down' | 'unknown';
}

/** How one try went. */
export type Outcome<T> =
  | { readonly value: T }
  | {
      readonly failure: Failure;
      /** True when it says less than an answer before it: cut short by the overall deadline, or never sent. */
      readonly isHollow: boolean;
    };

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
  /** Around each try: may let it wait, until `end` by `performance.now()`, or answer in its place. */
  readonly admit?: (tryOnce: () => Promise<Outcome<T>>, end: number) => Promise<Outcome<T>>;
  /** Before each wait: false ends the call with `failure`. */
  readonly mayRetry?: (failure: Failure, attempt: number, delayMs: number) => boolean;
}

/**
 * The result of the first try that succeeds. @throws the AppError of the last one; not of one that
 * says less than the answer before it
 */
export async function callRemote<T>(call: Call<T>): Promise<T> {
  const { limits } = call;
  const end = performance.now() + limits.overallMs;
  let answered: Failure | null = null;
  for (let attempt = 1; ; attempt++) {
    const tryOnce = () => tryWithin(call, attempt, end);
    const outcome = await (call.admit === undefined ? tryOnce() : call.admit(tryOnce, end));
    if ('value' in outcome) return outcome.value;
    const { failure } = outcome;
    if (outcome.isHollow && answered !== null) throw answered.error;
    answered = failure;
    const delay = delayBefore(attempt + 1, failure, limits);
    const isLate = performance.now() + delay >= end;
    if (!call.repeatable || !failure.transient || isLate) throw failure.error;
    if (call.mayRetry?.(failure, attempt, delay) === false) throw failure.error;
    await new Promise((resolve) => setTimeout(resolve, delay));
  }
}

/** One try; its time begins here, after whatever waits came before it. */
async function tryWithin<T>(call: Call<T>, attempt: number, end: number): Promise<Outcome<T>> {
  const { perTryMs } = call.limits;
  const left = Math.max(1, end - performance.now());
  try {
    const run = (signal: AbortSignal) => call.run(signal, attempt);
    return { value: await withDeadline(Math.min(perTryMs, left), run) };
  } catch (cause) {
    const isHollow = cause instanceof DeadlineExceeded && left < perTryMs;
    return { failure: call.judge(cause), isHollow };
  }
}

/** Runs `work` with a signal that fires after `milliseconds`, and waits no longer than that. */
export function withDeadline<T>(
  milliseconds: number,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  return new Promise<T>((resolve, reject) => {
    // Rejected here too: not everything below (token fetches, DNS) heeds a signal.
    const timer = setTimeout(() => {
      const reason = new DeadlineExceeded(Math.round(milliseconds));
      reject(reason);
      controller.abort(reason);
    }, milliseconds);
    const end = <V>(settle: (value: V) => void) => {
      return (value: V) => {
        clearTimeout(timer);
        settle(value);
      };
    };
    try {
      work(controller.signal).then(end(resolve), end(reject));
    } catch (error) {
      end(reject)(error);
    }
  });
}

/**
 * Never shorter than what the service asked for, unless that is more than the cap; nor than our own
 * back-off, or a service that says "at once" again and again would be called without a pause.
 */
function delayBefore(attempt: number, failure: Failure, limits: Limits): number {
  const { firstDelayMs, firstThrottledDelayMs = firstDelayMs, maxDelayMs } = limits;
  const isSilent429 = failure.error.code === 'vault_throttled' && failure.retryAfterMs === null;
  const first = isSilent429 ? firstThrottledDelayMs : firstDelayMs;
  const full = Math.min(first * 2 ** (attempt - 2), maxDelayMs);
  const own = full * (0.5 + Math.random() / 2);
  return Math.min(Math.max(own, failure.retryAfterMs ?? 0), maxDelayMs);
}
