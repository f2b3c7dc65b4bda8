import { z } from 'zod';
import { EventFilter } from './filter.ts';
import type { EventSchema } from './schemas.ts';

export interface SubscriptionOptions {
  readonly topic: string;
  readonly name: string;
  /** Webhook URL; exactly one of `endpoint` and `queue` is given. */
  readonly endpoint?: string;
  readonly queue?: StorageQueue;
  readonly schema: EventSchema;
  readonly filter?: EventFilter;
  readonly retry?: RetryPolicy;
  /** For webhooks: how many events one delivery may carry. */
  readonly batching?: Batching;
  /** Told at once of every event that is given up. */
  readonly deadLetter?: (record: DeadLetter) => void;
  /** Where events that are given up are written, five minutes later. */
  readonly deadLetterContainer?: { readonly connectionString: string; readonly name: string };
}

interface StorageQueue {
  readonly connectionString: string;
  readonly name: string;
  /** Azure's default is 7 days; -1 is for ever. */
  readonly messageTtlSeconds?: number;
}

export interface RetryPolicy {
  /** Attempts in all; Azure's default and limit is 30. */
  readonly maxAttempts?: number;
  /** Azure's default and limit is 1440. */
  readonly ttlMinutes?: number;
  /** Seconds before the second, third … attempt, whatever the answer was; the last repeats. Azure's schedule when absent. */
  readonly scheduleSeconds?: readonly number[];
}

export interface Batching {
  /** 1 to 5000; 1 when absent. */
  readonly maxEventsPerBatch?: number;
  /** 1 to 1024; 64 when absent. One event that is longer goes alone. */
  readonly preferredBatchSizeInKilobytes?: number;
}

/** The event in the subscription's schema plus why and when it was given up. */
export type DeadLetter = Readonly<Record<string, unknown>>;

const Limits = z.object({
  filter: EventFilter.optional(),
  batching: z
    .strictObject({
      maxEventsPerBatch: z.int().min(1).max(5000).optional(),
      preferredBatchSizeInKilobytes: z.int().min(1).max(1024).optional(),
    })
    .optional(),
});

const AzureRetry = z.strictObject({
  maxAttempts: z.int().min(1).max(30).optional(),
  ttlMinutes: z.int().min(1).max(1440).optional(),
});

/** @throws Error that names the subscription and every setting Azure would refuse */
export function checkSubscription(options: SubscriptionOptions): void {
  const { name, endpoint, queue, batching, retry = {} } = options;
  const faults: string[] = [];
  if ((endpoint === undefined) === (queue === undefined)) {
    faults.push('give either endpoint or queue');
  }
  if (queue !== undefined && batching !== undefined) {
    faults.push('batching: a queue gets one message an event; remove it');
  }
  faults.push(...faultsOf(Limits, options, ''));
  // Who brings a schedule of one's own tests something else than Azure's patience.
  if (retry.scheduleSeconds === undefined) faults.push(...faultsOf(AzureRetry, retry, 'retry.'));
  if (faults.length > 0) throw new Error(`subscription ${name}: ${faults.join('; ')}`);
}

function faultsOf(schema: z.ZodType, value: unknown, path: string): readonly string[] {
  const { error } = schema.safeParse(value);
  return (error?.issues ?? []).map((issue) => `${path}${issue.path.join('.')}: ${issue.message}`);
}

// 10 s, 30 s, 1, 5, 10, 30 min, 1, 3, 6 h, then every 12 h.
const azureScheduleSeconds = [10, 30, 60, 300, 600, 1800, 3600, 10_800, 21_600, 43_200];

/**
 * Milliseconds before the attempt after `attempts` failed ones, with up to 10 % jitter.
 * @param leastSeconds what the last answer asks for on Azure's schedule
 */
export function retryDelayMs(
  policy: RetryPolicy,
  attempts: number,
  random: () => number,
  leastSeconds = 0,
): number {
  const schedule = policy.scheduleSeconds ?? azureScheduleSeconds;
  const planned = schedule[Math.min(attempts, schedule.length) - 1] ?? 0;
  const seconds = policy.scheduleSeconds ? planned : Math.max(planned, leastSeconds);
  return seconds * 1000 * (1 + random() * 0.1);
}
