/** The limit of Key Vault: what is asked of a vault, and of five vaults' worth of a subscription, in any 10 s. */
import { AppError } from '../errors.ts';
import { weightOf } from '../vault/budget.ts';
import { operationNames } from '../vault/operation-names.ts';
import type { CallHook } from './calls.ts';

const windowMs = 10_000;
/** Plain reads that a vault answers in 10 s; other operations weigh more (`weightOf`). Source: service limits. */
export const vaultTransactions = 4_000;
const subscriptionVaults = 5;

/** Sums up what has happened in the last 10 s. Times may not go back. */
export class SlidingWindow {
  readonly #times: number[] = [];
  readonly #weights: number[] = [];
  #first = 0;
  #sum = 0;

  add(now: number, weight: number): void {
    this.#times.push(now);
    this.#weights.push(weight);
    this.#sum += weight;
  }

  sum(now: number): number {
    while ((this.#times[this.#first] ?? Number.POSITIVE_INFINITY) <= now - windowMs) {
      this.#sum -= this.#weights[this.#first] ?? 0;
      this.#first++;
    }
    if (this.#first === this.#times.length) this.#clear();
    else if (this.#first > 1_000 && this.#first * 2 > this.#times.length) this.#compact();
    return this.#sum;
  }

  /** Nothing is left, so neither is what rounding has added up. */
  #clear(): void {
    this.#compact();
    this.#sum = 0;
  }

  #compact(): void {
    this.#times.splice(0, this.#first);
    this.#weights.splice(0, this.#first);
    this.#first = 0;
  }
}

export interface Throttle {
  /** Counts a request towards the limit, unless it is refused: 429s do not count. @returns whether it is answered */
  admits(vault: string, weight: number): boolean;
}

/** @param clock milliseconds since any start */
export function createThrottle(transactions: number, clock: () => number): Throttle {
  const subscription = new SlidingWindow();
  const vaults = new Map<string, SlidingWindow>();
  // Weights are no whole numbers; what fits exactly must not fail for the last bit of a sum.
  const fits = (used: number, weight: number, limit: number) => used + weight <= limit + 1e-6;
  return {
    admits: (vault, weight) => {
      const now = clock();
      const own = vaults.get(vault) ?? new SlidingWindow();
      vaults.set(vault, own);
      if (!fits(own.sum(now), weight, transactions)) return false;
      const all = transactions * subscriptionVaults;
      if (!fits(subscription.sum(now), weight, all)) return false;
      own.add(now, weight);
      subscription.add(now, weight);
      return true;
    },
  };
}

/** For simulated vaults (`onCall`): refuses what is more than the service allows, as the service does. */
export function limitedCalls(throttle: Throttle): CallHook {
  return async ({ vault, type, operation, name }, run) => {
    const names: Readonly<Record<string, string>> = operationNames[type];
    if (!throttle.admits(vault, weightOf(names[operation] ?? operation))) {
      throw new AppError('vault_throttled', { detail: `${operation} ${name} in ${vault}: 429` });
    }
    await run();
  };
}
