import { setTimeout as delay } from 'node:timers/promises';
import type { Deliver } from './batches.ts';
import type { Failure } from './outcome.ts';
import { type EventGridEvent, toSchema } from './schemas.ts';
import { type DeadLetter, retryDelayMs, type SubscriptionOptions } from './subscription.ts';

export interface DeliveryTools {
  readonly subscription: SubscriptionOptions;
  readonly deliver: Deliver;
  readonly signal: AbortSignal;
  readonly random: () => number;
  /** Real seconds for each second of Azure's schedule and time to live. */
  readonly timeScale: number;
  readonly onDeadLetter: (record: DeadLetter) => void;
}

/** Delivers one event until it is taken, refused for good, out of attempts or too old. Never rejects. */
export async function deliver(
  tools: DeliveryTools,
  event: EventGridEvent,
  firstDelayMs: number,
): Promise<void> {
  const { maxAttempts = 30, ttlMinutes = 1440 } = tools.subscription.retry ?? {};
  const publishedAt = Date.now();
  const expiresAt = publishedAt + ttlMinutes * 60_000 * tools.timeScale;
  const giveUp = (reason: string, attempt: Attempt) =>
    tools.onDeadLetter(deadLetter(tools, event, { ...attempt, publishedAt, reason }));
  let failed: Attempt | null = null;
  let waitMs = firstDelayMs;
  while (await waited(waitMs, tools.signal)) {
    // Age is looked at only when the next attempt is due.
    if (failed !== null && Date.now() > expiresAt) return giveUp('TimeToLiveExceeded', failed);
    const count: number = (failed?.count ?? 0) + 1;
    const at = Date.now();
    const outcome = await tools.deliver({ event, earlierAttempts: count - 1 });
    if (outcome.kind === 'delivered' || tools.signal.aborted) return;
    failed = { count, at, outcome };
    if (outcome.finalReason !== null) return giveUp(outcome.finalReason, failed);
    if (count >= maxAttempts) return giveUp('MaxDeliveryAttemptsExceeded', failed);
    waitMs = delayAfter(failed, tools);
  }
}

interface Attempt {
  readonly count: number;
  readonly at: number;
  readonly outcome: Failure;
}

function delayAfter({ count, outcome }: Attempt, tools: DeliveryTools): number {
  const { retry = {} } = tools.subscription;
  const delayMs = retryDelayMs(retry, count, tools.random, outcome.leastRetrySeconds);
  // A schedule of the user's own is in real seconds already.
  return retry.scheduleSeconds ? delayMs : delayMs * tools.timeScale;
}

async function waited(ms: number, signal: AbortSignal): Promise<boolean> {
  if (ms <= 0) return !signal.aborted;
  try {
    await delay(ms, undefined, { signal });
    return true;
  } catch {
    return false;
  }
}

interface End extends Attempt {
  readonly reason: string;
  readonly publishedAt: number;
}

function deadLetter(tools: DeliveryTools, event: EventGridEvent, end: End): DeadLetter {
  const facts = {
    deadLetterReason: end.reason,
    deliveryAttempts: end.count,
    lastDeliveryOutcome: end.outcome.outcome,
    publishTime: new Date(end.publishedAt).toISOString(),
    lastDeliveryAttemptTime: new Date(end.at).toISOString(),
  };
  const { schema } = tools.subscription;
  // CloudEvents extension names are lower case.
  const named =
    schema === 'EventGridSchema'
      ? facts
      : Object.fromEntries(
          Object.entries(facts).map(([name, value]) => [name.toLowerCase(), value]),
        );
  return { ...toSchema(event, schema), ...named };
}
