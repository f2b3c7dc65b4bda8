import { appendFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { deliver } from './deliver.ts';
import { type Endpoint, openEndpoint } from './endpoint.ts';
import { type EventGridEvent, type EventGridInput, matchesFilter, parseEvent } from './schemas.ts';
import { startTopicServer } from './server.ts';
import type { DeadLetter, SubscriptionOptions } from './subscription.ts';

export interface EventGridOptions {
  /** Where dead letters are appended (`dead-letters.jsonl`); without it they go to callbacks only. */
  readonly dir?: string;
  /** Port of `POST /topics/{name}/api/events` on 127.0.0.1; a free one when absent. */
  readonly port?: number;
  readonly random?: () => number;
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
  /** Creates or replaces a subscription. @throws Error when the endpoint fails the handshake */
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
  readonly endpoint: Endpoint;
  readonly ended: AbortController;
}

/** Starts topics and subscriptions with at-least-once delivery; pending deliveries live in memory. */
export async function startEventGrid(options: EventGridOptions = {}): Promise<EventGrid> {
  const random = options.random ?? Math.random;
  const subscriptions = new Map<string, Subscription>();
  const pending = new Set<Promise<void>>();
  let faults: EventGridFaults = {};
  let isStopped = false;

  const start = (
    { options: subscription, endpoint, ended }: Subscription,
    event: EventGridEvent,
  ) => {
    const onDeadLetter = (record: DeadLetter) => {
      keepDeadLetter(options.dir, subscription.name, record);
      subscription.deadLetter?.(record);
    };
    const tools = { subscription, endpoint, signal: ended.signal, random, onDeadLetter };
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
  const server = await startTopicServer(options.port ?? 0, (topic, values) => {
    // All are parsed before any is accepted: a publish is taken whole or refused whole.
    const events = values.map((value) => parseEvent(value, topic));
    for (const event of events) accept(topic, event);
  });
  const unsubscribe = (topic: string, name: string) => {
    const key = `${topic}/${name}`;
    subscriptions.get(key)?.ended.abort();
    subscriptions.delete(key);
  };
  return {
    url: server.url,
    publish: (topic, event) => accept(topic, parseEvent(event, topic)),
    async subscribe(subscription) {
      const endpoint = await openEndpoint(subscription);
      unsubscribe(subscription.topic, subscription.name);
      subscriptions.set(`${subscription.topic}/${subscription.name}`, {
        options: subscription,
        endpoint,
        ended: new AbortController(),
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
      for (const { ended } of subscriptions.values()) ended.abort();
      await server.close();
      await Promise.all(pending);
    },
  };
}

function keepDeadLetter(dir: string | undefined, subscription: string, record: DeadLetter): void {
  if (dir === undefined) return;
  mkdirSync(dir, { recursive: true });
  appendFileSync(join(dir, 'dead-letters.jsonl'), `${JSON.stringify({ subscription, record })}\n`);
}
