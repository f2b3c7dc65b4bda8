/**
 * How a vault is called, in virtual time: budget, circuit breaker and retry as `vault/calls.ts` has them, which waits
 * in real time. Not modelled: the number of calls under way at the same time.
 */
import type { ErrorCode } from '../errors.ts';
import type { Breaker } from '../vault/breaker.ts';
import type { Budget } from '../vault/budget.ts';
import { type Outcome, vaultLimits } from '../vault/pipeline.ts';
import { VaultError, type VaultErrorCode } from '../vault/vault-error.ts';
import type { VirtualTime } from './virtual-time.ts';

export interface VirtualCall<T> {
  readonly vault: string;
  readonly operation: string;
  readonly object: string | null;
  readonly weight: number;
  readonly repeatable: boolean;
  /** One try, which ends with a code or with a value. */
  readonly run: (attempt: number) => Promise<{ readonly value: T } | { readonly code: ErrorCode }>;
}

/** What one instance has learned of one vault. */
export interface VirtualGuards {
  readonly breaker: Breaker | null;
  readonly budget: Budget | null;
}

/** @param random 0 to 1, for the jitter of retries */
export function virtualCaller(
  time: VirtualTime,
  random: () => number,
): <T>(call: VirtualCall<T>, guards: VirtualGuards) => Promise<T> {
  const { overallMs } = vaultLimits;
  return async <T>(call: VirtualCall<T>, guards: VirtualGuards): Promise<T> => {
    const end = time.now() + overallMs;
    let answered: VaultError | null = null;
    for (let attempt = 1; ; attempt++) {
      const outcome: Tried<T> = await admit(call, guards, { attempt, end, time });
      if ('value' in outcome) return outcome.value;
      const { error, isSent } = outcome;
      if (!isSent && answered !== null) throw answered;
      answered = error;
      const delay = delayBefore(attempt + 1, error.code, random);
      const isLate = time.now() + delay >= end;
      if (!isSent || isLate || !mayRepeat(error.code, call, guards)) throw error;
      await time.sleep(delay);
    }
  };
}

function mayRepeat(
  code: ErrorCode,
  { repeatable }: VirtualCall<unknown>,
  { breaker }: VirtualGuards,
): boolean {
  const isTransient = code === 'vault_unavailable' || code === 'vault_throttled';
  return isTransient && repeatable && (breaker === null || breaker.state() === 'closed');
}

type Tried<T> = { readonly value: T } | { readonly error: VaultError; readonly isSent: boolean };

async function admit<T>(
  call: VirtualCall<T>,
  { breaker, budget }: VirtualGuards,
  { attempt, end, time }: { attempt: number; end: number; time: VirtualTime },
): Promise<Tried<T>> {
  const refused = (code: VaultErrorCode) => ({ error: errorOf(code, call), isSent: false });
  if (breaker !== null && breaker.refusesForMs() > 0) return refused('circuit_open');
  if (budget !== null) {
    const waitMs = budget.take(call.weight, end - time.now());
    if (waitMs === null) return refused('vault_throttled');
    if (waitMs > 0) await time.sleep(waitMs);
  }
  const tryOnce = () => outcomeOf(call, attempt);
  const outcome = breaker === null ? await tryOnce() : await breaker.run(tryOnce);
  if (outcome === null) return refused('circuit_open');
  if ('value' in outcome) return outcome;
  const error = outcome.failure.error as VaultError;
  if (error.code === 'vault_throttled') budget?.cut();
  return { error, isSent: true };
}

async function outcomeOf<T>(call: VirtualCall<T>, attempt: number): Promise<Outcome<T>> {
  const tried = await call.run(attempt);
  if ('value' in tried) return tried;
  const service = tried.code === 'vault_unavailable' ? 'down' : 'alive';
  const error = errorOf(tried.code as VaultErrorCode, call);
  return {
    failure: { error, transient: false, retryAfterMs: null, service },
    isHollow: false,
  };
}

function errorOf(
  code: VaultErrorCode,
  { vault, operation, object }: VirtualCall<unknown>,
): VaultError {
  const detail = `${operation} ${object ?? ''} in ${vault}: replayed`;
  return new VaultError(code, { vault, operation, object }, { detail });
}

/** As `callRemote` waits; a vault's 429 names no time. */
function delayBefore(attempt: number, code: ErrorCode, random: () => number): number {
  const { firstDelayMs, firstThrottledDelayMs = firstDelayMs, maxDelayMs } = vaultLimits;
  const first = code === 'vault_throttled' ? firstThrottledDelayMs : firstDelayMs;
  return Math.min(first * 2 ** (attempt - 2), maxDelayMs) * (0.5 + random() / 2);
}

/** What a call of so many tries, to a vault that is down, has spent between them; on average. */
export function pausesMs(tries: number): number {
  let sum = 0;
  for (let attempt = 2; attempt <= tries; attempt++) {
    sum += delayBefore(attempt, 'vault_unavailable', () => 0.5);
  }
  return sum;
}
