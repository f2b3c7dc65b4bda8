import { randomUUID } from 'node:crypto';
import { topicId } from './schemas.ts';
import type { SubscriptionOptions } from './subscription.ts';

/** URLs by which the owner of an endpoint may confirm a subscription by hand. */
export interface Confirmations {
  /** A new URL; `confirmed` resolves true when it was fetched, false when its time was over. */
  open(): { readonly url: string; readonly confirmed: Promise<boolean>; close(): void };
}

const answerDeadlineMs = 30_000;
const origin = 'eventgrid.azure.net';

type Webhook = Pick<SubscriptionOptions, 'name' | 'topic' | 'schema'> & { readonly url: string };

/**
 * Resolves once the owner of the webhook has agreed to get events: at once by its answer, or later
 * through the URL it was sent. @throws Error when it refuses, does not answer, or lets the URL expire
 */
export async function validateWebhook(
  webhook: Webhook,
  confirmations: Confirmations,
): Promise<void> {
  const confirmation = confirmations.open();
  try {
    const isAgreed =
      webhook.schema === 'EventGridSchema'
        ? await askByEvent(webhook, confirmation.url)
        : await askByOptions(webhook, confirmation.url);
    if (isAgreed || (await confirmation.confirmed)) return;
    throw refuse(
      webhook,
      'the answer did not agree, and the validation URL was not fetched in time',
    );
  } finally {
    confirmation.close();
  }
}

function refuse(webhook: Webhook, why: string, cause?: unknown): Error {
  return new Error(
    `subscription ${webhook.name} refused: webhook validation handshake failed: ${why}`,
    { cause },
  );
}

/** Event Grid's own handshake. @returns whether the answer repeats the code; without one it is still open */
async function askByEvent(webhook: Webhook, validationUrl: string): Promise<boolean> {
  const validationCode = randomUUID();
  const event = {
    id: randomUUID(),
    topic: topicId(webhook.topic),
    subject: '',
    eventType: 'Microsoft.EventGrid.SubscriptionValidationEvent',
    eventTime: new Date().toISOString(),
    data: { validationCode, validationUrl },
    dataVersion: '2',
    metadataVersion: '1',
  };
  const headers = {
    'content-type': 'application/json; charset=utf-8',
    'aeg-event-type': 'SubscriptionValidation',
    'aeg-subscription-name': webhook.name.toUpperCase(),
  };
  const init = { method: 'POST', headers, body: JSON.stringify([event]) };
  const answer = await call(webhook, init);
  const text = await answer.text();
  // Event Grid takes 202 and its like for a refusal, too.
  if (answer.status !== 200) throw refuse(webhook, `status ${answer.status}`);
  const response = responseOf(text);
  if (response === undefined) return false;
  if (response === validationCode) return true;
  throw refuse(webhook, 'validationResponse does not repeat the code');
}

function responseOf(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && 'validationResponse' in value
      ? value.validationResponse
      : undefined;
  } catch {
    return undefined;
  }
}

/** The abuse protection of CloudEvents webhooks. @returns whether the answer allows us; without a word it is still open */
async function askByOptions(webhook: Webhook, callbackUrl: string): Promise<boolean> {
  const headers = {
    'webhook-request-origin': origin,
    'webhook-request-rate': '120',
    'webhook-request-callback': callbackUrl,
  };
  const answer = await call(webhook, { method: 'OPTIONS', headers });
  await answer.body?.cancel();
  if (answer.status !== 200) throw refuse(webhook, `status ${answer.status}`);
  const allowed = answer.headers.get('webhook-allowed-origin');
  if (allowed === null) return false;
  if (allowed === origin || allowed === '*') return true;
  throw refuse(webhook, `WebHook-Allowed-Origin is ${allowed}`);
}

async function call(webhook: Webhook, init: RequestInit): Promise<Response> {
  try {
    const signal = AbortSignal.timeout(answerDeadlineMs);
    return await fetch(webhook.url, { ...init, redirect: 'manual', signal });
  } catch (cause) {
    throw refuse(webhook, 'no answer', cause);
  }
}
