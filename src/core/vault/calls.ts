/**
 * How a vault is called: deadline, telemetry, retry, circuit breaker, room, rate, and then the SDK, from the
 * outside in. Each part can be left out; all services of one vault share theirs.
 */
import { toAppError } from '../errors.ts';
import { type Breaker, type BreakerSettings, createBreaker } from './breaker.ts';
import type { Budget } from './budget.ts';
import { type ConcurrencySettings, createGate, type Gate } from './concurrency.ts';
import { elapsedClock } from './elapsed.ts';
import type { CallWatch, CircuitState, Observer } from './observer.ts';
import { callRemote, type Failure, type Limits, type Outcome, vaultLimits } from './pipeline.ts';
import { type VaultCallInfo, VaultError, type VaultErrorCode } from './vault-error.ts';

export interface VaultCall<T> extends Omit<VaultCallInfo, 'vault'> {
  /** Share of the vault's rate, relative to a plain read. */
  readonly weight: number;
  /** False for creating calls: their one try may have succeeded although no answer came. */
  readonly repeatable: boolean;
  /** One try; `attempt` counts from 1. It must end, at the latest, when the signal fires. */
  readonly run: (signal: AbortSignal, attempt: number) => Promise<T>;
  readonly judge: (cause: unknown, call: VaultCallInfo) => Failure;
}

/** What is left out is off; `limits` cannot be. */
export interface CallSettings {
  readonly limits?: Limits;
  readonly breaker?: BreakerSettings | undefined;
  readonly concurrency?: ConcurrencySettings | undefined;
  readonly budget?: Budget | undefined;
  readonly observer?: Observer | undefined;
  /** Milliseconds since any start; never runs backwards. */
  readonly clock?: () => number;
}

/** What this instance has learned of a vault by calling it. */
export interface VaultHealth {
  readonly circuit: CircuitState;
  /** The part of the vault's rate that this instance takes, 0 to 1; null without a budget. */
  readonly share: number | null;
  /** When a write was last refused because the vault has failed over; null when none ever was. */
  readonly readOnlyAt: Date | null;
}

export interface VaultCaller {
  /**
   * @throws VaultError of the last try that told something; `circuit_open` while the vault is left alone;
   * `vault_throttled` when there was no room or rate for the call before its deadline
   */
  call<T>(call: VaultCall<T>): Promise<T>;
  health(): VaultHealth;
}

interface Guards {
  readonly limits: Limits;
  readonly breaker: Breaker | null;
  readonly gate: Gate | null;
  readonly budget: Budget | null;
  readonly observer: Observer;
  readonly refusedWrite: () => void;
}

/** The way to call the vault `alias`; to be shared by all that call it. */
export function createVaultCaller(alias: string, settings: CallSettings = {}): VaultCaller {
  const { observer = {}, clock = elapsedClock() } = settings;
  let readOnlyAt: Date | null = null;
  const guards: Guards = {
    limits: settings.limits ?? vaultLimits,
    breaker: settings.breaker
      ? createBreaker(settings.breaker, clock, (state) => observer.circuitChanged?.(alias, state))
      : null,
    gate: settings.concurrency ? createGate(settings.concurrency) : null,
    budget: settings.budget ?? null,
    observer,
    refusedWrite: () => {
      readOnlyAt = new Date();
    },
  };
  return {
    call: (call) => {
      const info = { vault: alias, operation: call.operation, object: call.object };
      const watch = observer.callStarted?.(info);
      if (watch === undefined) return send(call, info, guards, () => undefined);
      return watched(watch, (tried) => send(call, info, guards, tried));
    },
    health: () => ({
      circuit: guards.breaker?.state() ?? 'closed',
      share: guards.budget?.share() ?? null,
      readOnlyAt,
    }),
  };
}

/** Does `work`, which says when it tries, and tells how it went. */
async function watched<T>(watch: CallWatch, work: (tried: () => void) => Promise<T>): Promise<T> {
  const start = performance.now();
  let attempts = 0;
  const run = () => work(() => void attempts++);
  const measured = () => ({ attempts, ms: performance.now() - start });
  try {
    const value = await (watch.within === undefined ? run() : watch.within(run));
    watch.ended({ outcome: 'ok', ...measured() });
    return value;
  } catch (error) {
    watch.ended({ outcome: toAppError(error, '').code, ...measured() });
    throw error;
  }
}

interface Admission extends VaultCallInfo {
  readonly weight: number;
  /** When all its time is over, by `performance.now()`. */
  readonly end: number;
}

function send<T>(
  call: VaultCall<T>,
  info: VaultCallInfo,
  guards: Guards,
  tried: () => void,
): Promise<T> {
  const { limits, breaker, observer } = guards;
  return callRemote<T>({
    limits,
    repeatable: call.repeatable,
    run: (signal, attempt) => {
      tried();
      return call.run(signal, attempt);
    },
    judge: (cause) => call.judge(cause, info),
    admit: (tryOnce, end) => admit(guards, { ...info, weight: call.weight, end }, tryOnce),
    mayRetry: ({ error }, attempt, delayMs) => {
      if (breaker !== null && breaker.state() !== 'closed') return false;
      observer.retrying?.(info, { attempt, code: error.code, delayMs });
      return true;
    },
  });
}

/** Lets a try through when circuit, room and rate allow it, in this order. */
function admit<T>(
  guards: Guards,
  call: Admission,
  tryOnce: () => Promise<Outcome<T>>,
): Promise<Outcome<T>> {
  const { breaker, gate } = guards;
  if (breaker !== null && breaker.refusesForMs() > 0) {
    return Promise.resolve(circuitOpen(call, breaker));
  }
  const pass = () => passOn(guards, call, tryOnce);
  if (gate === null) return pass();
  const noRoom = () => refused('vault_throttled', call, 'too many calls are under way');
  return gate(pass, call.end - performance.now(), noRoom);
}

async function passOn<T>(
  { breaker, budget, observer, refusedWrite }: Guards,
  call: Admission,
  tryOnce: () => Promise<Outcome<T>>,
): Promise<Outcome<T>> {
  if (budget !== null) {
    const waitMs = budget.take(call.weight, call.end - performance.now());
    if (waitMs === null) return refused('vault_throttled', call, 'its rate is used up');
    if (waitMs > 0) await waitFor(waitMs, call, observer);
  }
  const outcome = await (breaker === null ? tryOnce() : breaker.run(tryOnce));
  if (outcome === null) return circuitOpen(call, breaker);
  if ('value' in outcome) return outcome;
  const { code } = outcome.failure.error;
  if (code === 'vault_read_only') refusedWrite();
  if (code === 'vault_throttled' && budget !== null) {
    const share = budget.cut();
    observer.budgetCut?.(call.vault, share);
  }
  return outcome;
}

async function waitFor(ms: number, call: VaultCallInfo, observer: Observer): Promise<void> {
  observer.budgetWaited?.(call, ms);
  await new Promise((resolve) => setTimeout(resolve, ms));
}

function circuitOpen(call: VaultCallInfo, breaker: Breaker | null): Outcome<never> {
  const retryAfterMs = Math.ceil(breaker?.refusesForMs() ?? 0);
  return refused('circuit_open', call, 'it has not answered lately', retryAfterMs);
}

/** Nothing was sent, and waiting within the call is no use: the waits that made sense are over. */
function refused(
  code: VaultErrorCode,
  { vault, operation, object }: VaultCallInfo,
  why: string,
  retryAfterMs: number | null = null,
): Outcome<never> {
  const detail = `${[operation, object].filter(Boolean).join(' ')} in ${vault}: not sent, ${why}`;
  const error = new VaultError(code, { vault, operation, object }, { detail, retryAfterMs });
  return {
    failure: { error, transient: false, retryAfterMs, service: 'unknown' },
    isHollow: true,
  };
}
