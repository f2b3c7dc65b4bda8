import { setTimeout as delay } from 'node:timers/promises';
import type { Endpoint, Outcome } from './endpoint.ts';
import { type EventGridEvent, toSchema } from './schemas.ts';
import { type DeadLetter, retryDelayMs, type SubscriptionOptions } from './subscription.ts';

export interface DeliveryTools {
  readonly subscription: SubscriptionOptions;
  readonly endpoint: Endpoint;
  readonly signal: AbortSignal;
  readonly random: () => number;
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
  let waitMs = firstDelayMs;
  for (let attempts = 1; ; attempts += 1) {
    if (!(await waited(waitMs, tools.signal))) return;
    const outcome = await tools.endpoint.deliver(event, attempts - 1, tools.signal);
    if (outcome.kind === 'delivered' || tools.signal.aborted) return;
    waitMs = retryDelayMs(tools.subscription.retry ?? {}, attempts, tools.random);
    const isTooOld = Date.now() + waitMs - publishedAt > ttlMinutes * 60_000;
    const reason = giveUpReason(outcome, { isOut: attempts >= maxAttempts, isTooOld });
    if (reason !== null) {
      tools.onDeadLetter(deadLetter(tools, event, { reason, attempts, outcome, publishedAt }));
      return;
    }
  }
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

type Failure = Extract<Outcome, { kind: 'failed' }>;

function giveUpReason(
  outcome: Failure,
  state: { readonly isOut: boolean; readonly isTooOld: boolean },
): string | null {
  if (outcome.isFinal) return 'UndeliverableDueToHttpStatus';
  if (state.isOut) return 'MaxDeliveryAttemptsExceeded';
  return state.isTooOld ? 'TimeToLiveExceeded' : null;
}

interface End {
  readonly reason: string;
  readonly attempts: number;
  readonly outcome: Failure;
  readonly publishedAt: number;
}

function deadLetter(tools: DeliveryTools, event: EventGridEvent, end: End): DeadLetter {
  const facts = {
    deadLetterReason: end.reason,
    deliveryAttempts: end.attempts,
    lastDeliveryOutcome: end.outcome.reason,
    publishTime: new Date(end.publishedAt).toISOString(),
    lastDeliveryAttemptTime: new Date().toISOString(),
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
