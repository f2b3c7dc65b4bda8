import { createHmac } from 'node:crypto';
import { AppError } from '../errors.ts';
import type { WebhookConsumer } from '../policies/consumer.ts';
import type { SecretString } from '../secret-string.ts';
import { type Destination, postTo, vetDestination } from './egress.ts';
import type { ConsumerKind, ConsumerServices, Notification } from './notification.ts';

/**
 * An HTTP POST signed with HMAC-SHA256.
 * Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
 */
export const webhook: ConsumerKind<WebhookConsumer> = {
  kind: 'webhook',
  async tell({ messageId, notification }, consumer, services) {
    // One deadline for all of it: a name server or a vault can hang just as well.
    const signal = AbortSignal.timeout(services.deadlineMs ?? 10_000);
    const status = await withinDeadline(signal, consumer.id, async () => {
      const destination = await vetDestination(consumer.url, services.egress, services.resolve);
      const key = await readSigningKey(consumer, services);
      const body = webhookBody(notification);
      const headers = webhookHeaders({ messageId, body, at: services.clock.now(), key });
      return await post(destination, { headers, body }, signal);
    });
    checkStatus(status, consumer.id);
  },
};

async function withinDeadline<T>(
  signal: AbortSignal,
  consumerId: string,
  work: () => Promise<T>,
): Promise<T> {
  const { promise: expired, reject } = Promise.withResolvers<never>();
  const expire = () => {
    reject(new AppError('consumer_unreachable', { detail: `consumer ${consumerId}: deadline` }));
  };
  signal.addEventListener('abort', expire, { once: true });
  try {
    return await Promise.race([work(), expired]);
  } finally {
    signal.removeEventListener('abort', expire);
  }
}

async function post(
  destination: Destination,
  message: { readonly headers: Readonly<Record<string, string>>; readonly body: string },
  signal: AbortSignal,
): Promise<number> {
  try {
    return await postTo(destination, message, signal);
  } catch (cause) {
    throw new AppError('consumer_unreachable', { detail: `POST ${destination.url.host}`, cause });
  }
}

function checkStatus(status: number, consumerId: string): void {
  if (status >= 200 && status < 300) return;
  // A redirect is never followed and 410 asks to be left alone; anything else may be a deployment
  // under way, and a consumer that was given up is a consumer that was not told.
  const isFinal = status === 410 || (status >= 300 && status < 400);
  const code = isFinal ? 'consumer_refused' : 'consumer_unreachable';
  throw new AppError(code, { detail: `consumer ${consumerId} answered ${status}` });
}

async function readSigningKey(
  { signingSecret }: WebhookConsumer,
  { vaults }: ConsumerServices,
): Promise<Buffer> {
  const { value } = await vaults.get(signingSecret.vault).secrets.get(signingSecret.name);
  const key = signingKey(value);
  if (key.length >= 24) return key;
  const detail = `webhook key ${signingSecret.vault}/secret/${signingSecret.name} is under 24 bytes`;
  throw new AppError('bad_configuration', { detail });
}

/** `whsec_` and base64, as the standard writes keys, or the value's own bytes. */
function signingKey(value: SecretString): Buffer {
  const text = value.expose();
  return text.startsWith('whsec_') ? Buffer.from(text.slice(6), 'base64') : Buffer.from(text);
}

/** What a consumer receives: enough to ask the vault for the new version. */
function webhookBody(notification: Notification): string {
  const { vault, objectType, name, version, previousVersion, rotationId, retireAt } = notification;
  const data = { vault, objectType, name, version, previousVersion, rotationId, retireAt };
  return JSON.stringify({ type: 'secret.rotated', timestamp: notification.rotatedAt, data });
}

function webhookHeaders(message: {
  readonly messageId: string;
  readonly body: string;
  readonly at: Date;
  readonly key: Buffer;
}): Record<string, string> {
  const timestamp = String(Math.floor(message.at.getTime() / 1000));
  const signature = createHmac('sha256', message.key)
    .update(`${message.messageId}.${timestamp}.${message.body}`)
    .digest('base64');
  return {
    'content-type': 'application/json',
    'user-agent': 'keyturn',
    'webhook-id': message.messageId,
    'webhook-timestamp': timestamp,
    'webhook-signature': `v1,${signature}`,
  };
}
