import { createBatches, type Deliver } from './batches.ts';
import { type DeadLetters, openDeadLetters } from './dead-letters.ts';
import { deliver } from './deliver.ts';
import { openEndpoint } from './endpoint.ts';
import { matchesFilter } from './filter.ts';
import { type EventGridEvent, type EventGridInput, parseEvent } from './schemas.ts';
import { startTopicServer } from './server.ts';
import { checkSubscription, type SubscriptionOptions } from './subscription.ts';

export interface EventGridOptions {
  /** Where dead letters are appended (`dead-letters.jsonl`), beside what subscriptions do with them. */
  readonly dir?: string;
  /** Port of `POST /topics/{name}/api/events` on 127.0.0.1; a free one when absent. */
  readonly port?: number;
  readonly random?: () => number;
  /** Real seconds for each second Azure waits: retries, time to live, dead-lettering, confirmations. Default 1. */
  readonly timeScale?: number;
}

/** Misbehaviour that Azure allows itself, switched on at will. */
interface EventGridFaults {
  /** Each event is delivered this many times to each subscription. Default 1. */
  readonly copies?: number;
  /** Every delivery waits a random part of this, so that order is lost. Default 0. */
  readonly shuffleMs?: number;
}

export interface EventGrid {
  readonly url: string;
  /** Accepts one event (Event Grid or CloudEvents schema) and returns before it is delivered. @throws ZodError */
  publish(topic: string, event: EventGridInput | Readonly<Record<string, unknown>>): void;
  /**
   * Creates or replaces a subscription; waits while its webhook may still be confirmed by hand.
   * @throws Error when it is not as Azure takes it, or the endpoint fails the handshake
   */
  subscribe(subscription: SubscriptionOptions): Promise<void>;
  unsubscribe(topic: string, name: string): void;
  setFaults(faults: EventGridFaults): void;
  /** Deliveries not yet taken or given up, waiting retries included. */
  pending(): number;
  /** Resolves once nothing is pending. */
  idle(): Promise<void>;
  /** Drops what is pending and closes the port. */
  stop(): Promise<void>;
}

interface Subscription {
  readonly options: SubscriptionOptions;
  readonly deliver: Deliver;
  readonly deadLetters: DeadLetters;
  readonly ended: AbortController;
}

/** Starts topics and subscriptions with at-least-once delivery; pending deliveries live in memory. */
export async function startEventGrid(options: EventGridOptions = {}): Promise<EventGrid> {
  const { random = Math.random, timeScale = 1 } = options;
  const subscriptions = new Map<string, Subscription>();
  const pending = new Set<Promise<void>>();
  let faults: EventGridFaults = {};
  let isStopped = false;

  const start = (subscription: Subscription, event: EventGridEvent) => {
    const tools = {
      subscription: subscription.options,
      deliver: subscription.deliver,
      signal: subscription.ended.signal,
      onDeadLetter: subscription.deadLetters.add,
      ...{ random, timeScale },
    };
    const delivery = deliver(tools, event, random() * (faults.shuffleMs ?? 0)).finally(() =>
      pending.delete(delivery),
    );
    pending.add(delivery);
  };
  const accept = (topic: string, event: EventGridEvent) => {
    if (isStopped) throw new Error('Event Grid is stopped');
    for (const subscription of subscriptions.values()) {
      const { topic: wanted, filter = {} } = subscription.options;
      if (wanted !== topic || !matchesFilter(event, filter)) continue;
      for (let copy = 0; copy < (faults.copies ?? 1); copy += 1) start(subscription, event);
    }
  };
  const server = await startTopicServer({ port: options.port ?? 0, timeScale }, (topic, values) => {
    // All are parsed before any is accepted: a publish is taken whole or refused whole.
    const events = values.map((value) => parseEvent(value, topic));
    for (const event of events) accept(topic, event);
  });
  const closing = new Set<Promise<void>>();
  const unsubscribe = (topic: string, name: string) => {
    const key = `${topic}/${name}`;
    const known = subscriptions.get(key);
    if (known === undefined) return;
    subscriptions.delete(key);
    known.ended.abort();
    const closed = known.deadLetters.close().finally(() => closing.delete(closed));
    closing.add(closed);
  };
  return {
    url: server.url,
    publish: (topic, event) => accept(topic, parseEvent(event, topic)),
    async subscribe(subscription) {
      checkSubscription(subscription);
      const { topic, name, schema, batching = {} } = subscription;
      const endpoint = await openEndpoint(subscription, server);
      const deadLetters = await openDeadLetters(subscription, { dir: options.dir, timeScale });
      const ended = new AbortController();
      const batches = createBatches(endpoint, { batching, schema, signal: ended.signal });
      unsubscribe(topic, name);
      subscriptions.set(`${topic}/${name}`, {
        ...{ options: subscription, deliver: batches, deadLetters, ended },
      });
    },
    unsubscribe,
    setFaults(next) {
      faults = next;
    },
    pending: () => pending.size,
    async idle() {
      while (pending.size > 0) await Promise.all(pending);
    },
    async stop() {
      isStopped = true;
      for (const { options: one } of subscriptions.values()) unsubscribe(one.topic, one.name);
      await server.close();
      await Promise.all([...pending, ...closing]);
    },
  };
}
