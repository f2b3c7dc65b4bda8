import type { EventFilter, EventSchema } from './schemas.ts';

export interface SubscriptionOptions {
  readonly topic: string;
  readonly name: string;
  /** Webhook URL; exactly one of `endpoint` and `queue` is given. */
  readonly endpoint?: string;
  readonly queue?: { readonly connectionString: string; readonly name: string };
  readonly schema: EventSchema;
  readonly filter?: EventFilter;
  readonly retry?: RetryPolicy;
  /** Told of every event that is given up. Without it such events are only counted. */
  readonly deadLetter?: (record: DeadLetter) => void;
}

export interface RetryPolicy {
  /** Attempts in all; Azure's default and limit is 30. */
  readonly maxAttempts?: number;
  /** Azure's default is 1440. */
  readonly ttlMinutes?: number;
  /** Seconds before the second, third … attempt; the last repeats. Azure's schedule when absent. */
  readonly scheduleSeconds?: readonly number[];
}

/** The event in the subscription's schema plus why and when it was given up. */
export type DeadLetter = Readonly<Record<string, unknown>>;

// 10 s, 30 s, 1, 5, 10, 30 min, 1, 3, 6 h, then every 12 h.
const azureScheduleSeconds = [10, 30, 60, 300, 600, 1800, 3600, 10_800, 21_600, 43_200];

/** Milliseconds before the attempt after `attempts` failed ones, with up to 10 % jitter. */
export function retryDelayMs(policy: RetryPolicy, attempts: number, random: () => number): number {
  const schedule = policy.scheduleSeconds ?? azureScheduleSeconds;
  const seconds = schedule[Math.min(attempts, schedule.length) - 1] ?? 0;
  return seconds * 1000 * (1 + random() * 0.1);
}
