/**
 * The rate at which this instance may call a vault. A vault allows so many transactions in any 10 s, a creating
 * one costs more than one, and five vaults' worth is all a subscription has.
 */

const windowMs = 10_000;
/** Key Vault's published limits: reads of secrets and the like, of one vault, in any 10 s. */
const vaultTransactions = 4_000;
const subscriptionVaults = 5;
/**
 * What may be sent at once, out of the whole: a full bucket and what flows into it while it is drained must
 * together stay within the limit of the window.
 */
const burstShare = 0.2;

/** A 429 halves the rate, once a second at most; it grows back by a twentieth of the whole each second. */
const cutFactor = 0.5;
const lowestFactor = 1 / 16;
const cutPauseMs = 1_000;
const recoveryPerMs = 0.05 / 1_000;

export interface BudgetSettings {
  /** This instance's part of each vault's rate, 0 to 1: other instances and other apps have the rest. */
  readonly share: number;
  /** Transactions a vault allows in 10 s. Default: Azure's. */
  readonly transactions?: number;
}

export const vaultBudget: BudgetSettings = { share: 0.5 };

export interface Budget {
  /**
   * Sets `weight` aside, first come, first served.
   * @returns how long to wait before sending, in ms; null when that is more than `maxWaitMs`, and nothing was taken
   */
  take(weight: number, maxWaitMs: number): number | null;
  /** The service has said 429: others use the rate too. @returns the share that is left, 0 to 1 */
  cut(): number;
  /** The share in force, 0 to 1. */
  share(): number;
}

/** One instance's budgets: that of the subscription, and of each vault within it. */
export function createBudgets(
  { share, transactions = vaultTransactions }: BudgetSettings,
  clock: () => number,
): { vault(): Budget } {
  const whole = transactions * share;
  const subscription = createBucket(whole * subscriptionVaults, clock());
  return {
    vault: () => {
      const own = createBucket(whole, clock());
      return {
        take: (weight, maxWaitMs) => {
          const now = clock();
          const parentAt = subscription.nextFor(weight, now, now);
          // From when the subscription allows it: waits that shrink must not let what was spread out go at once.
          const at = own.nextFor(weight, now, parentAt);
          if (at - now > maxWaitMs) return null;
          subscription.spend(weight, parentAt);
          own.spend(weight, at);
          return at - now;
        },
        cut: () => share * own.cut(clock()),
        share: () => share * own.factor(clock()),
      };
    },
  };
}

interface Bucket {
  /** When `weight` may be spent, at `earliest` or later. */
  nextFor(weight: number, now: number, earliest: number): number;
  spend(weight: number, at: number): void;
  cut(now: number): number;
  factor(now: number): number;
}

/** A bucket of tokens, kept as the one instant at which all that was taken out will have flowed back. */
function createBucket(perWindow: number, createdAt: number): Bucket {
  const capacity = perWindow * burstShare;
  const fullRate = (perWindow - capacity) / windowMs;
  let fullAt = createdAt;
  let factor = 1;
  let countedAt = createdAt;
  let cutAt = Number.NEGATIVE_INFINITY;

  function recover(now: number): number {
    factor = Math.min(1, factor + recoveryPerMs * (now - countedAt));
    countedAt = now;
    return factor;
  }

  return {
    nextFor: (weight, now, earliest) => {
      recover(now);
      const isThereAt = fullAt + (weight - capacity * factor) / (fullRate * factor);
      return Math.max(earliest, isThereAt);
    },
    spend: (weight, at) => {
      fullAt = Math.max(fullAt, at) + weight / (fullRate * factor);
    },
    cut: (now) => {
      recover(now);
      if (now - cutAt < cutPauseMs) return factor;
      cutAt = now;
      factor = Math.max(lowestFactor, factor * cutFactor);
      fullAt = Math.max(fullAt, now + capacity / fullRate);
      return factor;
    },
    factor: recover,
  };
}

/** Share of a vault's window that one call of an operation takes, relative to a plain read. */
const weights: Readonly<Record<string, number>> = {
  ...weigh(300, ['setSecret', 'restoreSecret', 'importKey', 'restoreKey']),
  ...weigh(300, ['importCertificate', 'restoreCertificate']),
  ...weigh(20, ['createKey', 'rotateKey', 'release', 'createCertificate', 'mergeCertificate']),
};

function weigh(perWindow: number, operations: readonly string[]): Record<string, number> {
  return Object.fromEntries(operations.map((name) => [name, vaultTransactions / perWindow]));
}

/** What one call of `operation` costs; 1 for a read. */
export function weightOf(operation: string): number {
  return weights[operation] ?? 1;
}
