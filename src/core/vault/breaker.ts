import {
  CircuitState as Circuit,
  ConsecutiveBreaker,
  circuitBreaker,
  handleWhenResult,
} from 'cockatiel';
import type { CircuitState } from './observer.ts';
import type { Failure, Outcome } from './pipeline.ts';

export interface BreakerSettings {
  /** So many failures in a row open the circuit. */
  readonly failures: number;
  readonly openMs: number;
}

export const vaultBreaker: BreakerSettings = { failures: 5, openMs: 30_000 };

export interface Breaker {
  state(): CircuitState;
  /** How long until it lets a call through; 0 when it does. */
  refusesForMs(): number;
  /** @returns null when nothing was tried, because the circuit is open or is being probed */
  run<T>(tryOnce: () => Promise<Outcome<T>>): Promise<Outcome<T> | null>;
}

const names: Readonly<Record<Circuit, CircuitState>> = {
  [Circuit.Closed]: 'closed',
  [Circuit.Open]: 'open',
  [Circuit.HalfOpen]: 'half-open',
  [Circuit.Isolated]: 'open',
};

/**
 * A circuit that opens after failures in a row; when it has been open for its time one call, and no other, is
 * let through to see whether it may close.
 *
 * The time is measured here: the library reads the system's clock, and a clock that is set back would keep the
 * circuit open for as long. It would also let callers wait for the probe, and all of them through at once after it.
 */
export function createBreaker(
  settings: BreakerSettings,
  now: () => number,
  changed: (state: CircuitState) => void,
): Breaker {
  let openSince = 0;
  const breaker = new ConsecutiveBreaker(settings.failures);
  const policy = circuitBreaker(
    handleWhenResult((outcome) => isFailure(outcome as Outcome<unknown>)),
    { halfOpenAfter: Number.NEGATIVE_INFINITY, breaker },
  );
  policy.onStateChange((state) => {
    if (state === Circuit.Open) openSince = now();
    changed(names[state]);
  });

  function isFailure(outcome: Outcome<unknown>): boolean {
    // A probe that was never sent has not shown that the vault is back.
    return isOf('down', outcome) || isOf('unknown', outcome);
  }

  function refusesForMs(): number {
    if (policy.state === Circuit.Closed) return 0;
    if (policy.state === Circuit.HalfOpen) return settings.openMs;
    return Math.max(0, openSince + settings.openMs - now());
  }

  return {
    state: () => names[policy.state],
    refusesForMs,
    run: async (tryOnce) => {
      if (refusesForMs() > 0) return null;
      if (policy.state !== Circuit.Closed) return policy.execute(tryOnce);
      const outcome = await tryOnce();
      // A success among successes changes nothing, and what was never sent counts neither way. If the circuit
      // is no longer closed, what a call from before found out is old news.
      const isNews = isOf('down', outcome) || (breaker.state > 0 && !isOf('unknown', outcome));
      if (isNews && policy.state === Circuit.Closed) await policy.execute(async () => outcome);
      return outcome;
    },
  };
}

function isOf(service: Failure['service'], outcome: Outcome<unknown>): boolean {
  return 'failure' in outcome && (outcome.failure.service ?? 'unknown') === service;
}
