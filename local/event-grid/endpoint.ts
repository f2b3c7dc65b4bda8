import { randomUUID } from 'node:crypto';
import { QueueClient } from '@azure/storage-queue';
import { type EventGridEvent, topicId, toSchema } from './schemas.ts';
import type { SubscriptionOptions } from './subscription.ts';

export type Outcome =
  | { readonly kind: 'delivered' }
  | { readonly kind: 'failed'; readonly reason: string; readonly isFinal: boolean };

/** Where a subscription's events go. */
export interface Endpoint {
  deliver(event: EventGridEvent, attempt: number, signal: AbortSignal): Promise<Outcome>;
}

const answerDeadlineMs = 30_000;

// Event Grid does not try these again: another attempt would be refused the same way.
const finalStatuses: readonly number[] = [400, 401, 403, 413];

/** Opens the endpoint. @throws Error when a webhook does not pass the validation handshake */
export async function openEndpoint(subscription: SubscriptionOptions): Promise<Endpoint> {
  const { endpoint, queue } = subscription;
  if ((endpoint === undefined) === (queue === undefined)) {
    throw new Error(`subscription ${subscription.name}: give either endpoint or queue`);
  }
  if (queue !== undefined)
    return openQueue(subscription, new QueueClient(queue.connectionString, queue.name));
  const url = endpoint ?? '';
  if (subscription.schema === 'EventGridSchema') await validateByEvent(subscription, url);
  else await validateByOptions(subscription, url);
  return {
    deliver: (event, attempt, signal) => post(subscription, { url, event, attempt }, signal),
  };
}

async function openQueue(subscription: SubscriptionOptions, queue: QueueClient): Promise<Endpoint> {
  await queue.createIfNotExists();
  return {
    async deliver(event) {
      const text = JSON.stringify(toSchema(event, subscription.schema));
      try {
        await queue.sendMessage(Buffer.from(text).toString('base64'));
        return { kind: 'delivered' };
      } catch (error) {
        return { kind: 'failed', reason: String(error), isFinal: false };
      }
    },
  };
}

function refuse(subscription: SubscriptionOptions, why: string, cause?: unknown): Error {
  return new Error(
    `subscription ${subscription.name} refused: webhook validation handshake failed: ${why}`,
    { cause },
  );
}

async function validateByEvent(subscription: SubscriptionOptions, url: string): Promise<void> {
  const validationCode = randomUUID();
  const event = {
    id: randomUUID(),
    topic: topicId(subscription.topic),
    subject: '',
    eventType: 'Microsoft.EventGrid.SubscriptionValidationEvent',
    eventTime: new Date().toISOString(),
    data: { validationCode },
    dataVersion: '2',
    metadataVersion: '1',
  };
  const headers = {
    'content-type': 'application/json; charset=utf-8',
    'aeg-event-type': 'SubscriptionValidation',
    'aeg-subscription-name': subscription.name.toUpperCase(),
  };
  const answer = await call(subscription, url, {
    method: 'POST',
    headers,
    body: JSON.stringify([event]),
  });
  if (answer.status !== 200) throw refuse(subscription, `status ${answer.status}`);
  const text = await answer.text();
  if (!text.includes(validationCode) || responseOf(text) !== validationCode) {
    throw refuse(subscription, 'validationResponse does not repeat the code');
  }
}

function responseOf(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && 'validationResponse' in value
      ? value.validationResponse
      : null;
  } catch {
    return null;
  }
}

async function validateByOptions(subscription: SubscriptionOptions, url: string): Promise<void> {
  const origin = 'eventgrid.azure.net';
  const answer = await call(subscription, url, {
    method: 'OPTIONS',
    headers: { 'webhook-request-origin': origin, 'webhook-request-rate': '120' },
  });
  const allowed = answer.headers.get('webhook-allowed-origin');
  await answer.body?.cancel();
  if (answer.status !== 200) throw refuse(subscription, `status ${answer.status}`);
  if (allowed !== origin && allowed !== '*')
    throw refuse(subscription, `WebHook-Allowed-Origin is ${allowed}`);
}

async function call(
  subscription: SubscriptionOptions,
  url: string,
  init: RequestInit,
): Promise<Response> {
  try {
    return await fetch(url, {
      ...init,
      redirect: 'manual',
      signal: AbortSignal.timeout(answerDeadlineMs),
    });
  } catch (cause) {
    throw refuse(subscription, 'no answer', cause);
  }
}

interface Delivery {
  readonly url: string;
  readonly event: EventGridEvent;
  readonly attempt: number;
}

async function post(
  subscription: SubscriptionOptions,
  delivery: Delivery,
  signal: AbortSignal,
): Promise<Outcome> {
  const { url, event, attempt } = delivery;
  const isCloudEvent = subscription.schema === 'CloudEventSchemaV1_0';
  const body = toSchema(event, subscription.schema);
  const type = isCloudEvent ? 'application/cloudevents+json' : 'application/json';
  try {
    const answer = await fetch(url, {
      method: 'POST',
      redirect: 'manual',
      headers: {
        'content-type': `${type}; charset=utf-8`,
        'aeg-event-type': 'Notification',
        'aeg-subscription-name': subscription.name.toUpperCase(),
        'aeg-delivery-count': String(attempt),
        'aeg-data-version': event.dataVersion,
        'aeg-metadata-version': event.metadataVersion,
        'aeg-output-event-id': event.id,
      },
      body: JSON.stringify(isCloudEvent ? body : [body]),
      signal: AbortSignal.any([signal, AbortSignal.timeout(answerDeadlineMs)]),
    });
    await answer.body?.cancel();
    // Only 200 to 204 count as taken.
    if (answer.status >= 200 && answer.status <= 204) return { kind: 'delivered' };
    return {
      kind: 'failed',
      reason: `status ${answer.status}`,
      isFinal: finalStatuses.includes(answer.status),
    };
  } catch (error) {
    const isLate = error instanceof Error && error.name === 'TimeoutError';
    return { kind: 'failed', reason: isLate ? 'TimedOut' : 'unreachable', isFinal: false };
  }
}
