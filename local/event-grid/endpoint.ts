import { QueueClient } from '@azure/storage-queue';
import { type Confirmations, validateWebhook } from './handshake.ts';
import { type Outcome, outcomeOf, outcomeOfError } from './outcome.ts';
import { type EventGridEvent, toSchema } from './schemas.ts';
import type { SubscriptionOptions } from './subscription.ts';

/** An event on its way, with how often it has been tried before. */
export interface Delivery {
  readonly event: EventGridEvent;
  readonly earlierAttempts: number;
}

/** Where a subscription's events go. */
export interface Endpoint {
  /** All or none: one outcome for the whole batch. Never rejects. */
  deliver(batch: readonly Delivery[], signal: AbortSignal): Promise<Outcome>;
}

const answerDeadlineMs = 30_000;

/** Opens the endpoint. @throws Error when a webhook does not pass the validation handshake */
export async function openEndpoint(
  subscription: SubscriptionOptions,
  confirmations: Confirmations,
): Promise<Endpoint> {
  if (subscription.queue !== undefined) return openQueue(subscription, subscription.queue);
  const url = subscription.endpoint ?? '';
  await validateWebhook({ ...subscription, url }, confirmations);
  return { deliver: (batch, signal) => post(subscription, url, batch, signal) };
}

async function openQueue(
  subscription: SubscriptionOptions,
  options: NonNullable<SubscriptionOptions['queue']>,
): Promise<Endpoint> {
  const queue = new QueueClient(options.connectionString, options.name);
  await queue.createIfNotExists();
  const ttl =
    options.messageTtlSeconds === undefined ? {} : { messageTimeToLive: options.messageTtlSeconds };
  const send = async ({ event }: Delivery): Promise<Outcome> => {
    const text = JSON.stringify(toSchema(event, subscription.schema));
    try {
      await queue.sendMessage(Buffer.from(text).toString('base64'), ttl);
      return { kind: 'delivered' };
    } catch (error) {
      const isAnswer = error instanceof Error && 'statusCode' in error;
      const status = isAnswer ? Number(error.statusCode) : Number.NaN;
      return status > 0 ? outcomeOf(status, 'azure-resource') : outcomeOfError(error);
    }
  };
  return {
    async deliver(batch) {
      const outcomes = await Promise.all(batch.map(send));
      return outcomes.find(({ kind }) => kind === 'failed') ?? { kind: 'delivered' };
    },
  };
}

async function post(
  subscription: SubscriptionOptions,
  url: string,
  batch: readonly Delivery[],
  signal: AbortSignal,
): Promise<Outcome> {
  try {
    const answer = await fetch(url, {
      method: 'POST',
      redirect: 'manual',
      headers: headersOf(subscription, batch),
      body: bodyOf(subscription, batch),
      signal: AbortSignal.any([signal, AbortSignal.timeout(answerDeadlineMs)]),
    });
    await answer.body?.cancel();
    return outcomeOf(answer.status, 'webhook');
  } catch (error) {
    return outcomeOfError(error);
  }
}

function isBatching({ batching }: SubscriptionOptions): boolean {
  return (batching?.maxEventsPerBatch ?? 1) > 1;
}

function bodyOf(subscription: SubscriptionOptions, batch: readonly Delivery[]): string {
  const events = batch.map(({ event }) => toSchema(event, subscription.schema));
  const isAlone = subscription.schema === 'CloudEventSchemaV1_0' && !isBatching(subscription);
  return JSON.stringify(isAlone ? events[0] : events);
}

function headersOf(
  subscription: SubscriptionOptions,
  batch: readonly Delivery[],
): Record<string, string> {
  const isCloudEvent = subscription.schema === 'CloudEventSchemaV1_0';
  const form = isBatching(subscription) ? 'cloudevents-batch+json' : 'cloudevents+json';
  const [first] = batch;
  const ofOne: Record<string, string> =
    batch.length === 1 && first
      ? {
          'aeg-output-event-id': first.event.id,
          ...(isCloudEvent ? {} : { 'aeg-data-version': first.event.dataVersion }),
        }
      : {};
  return {
    'content-type': `application/${isCloudEvent ? form : 'json'}; charset=utf-8`,
    'aeg-event-type': 'Notification',
    'aeg-subscription-name': subscription.name.toUpperCase(),
    'aeg-delivery-count': String(Math.max(...batch.map((one) => one.earlierAttempts))),
    'aeg-metadata-version': isCloudEvent ? '1.0' : '1',
    ...ofOne,
  };
}
