import { z } from 'zod';
import type { Audit, AuditEntry } from '../audit/log.ts';
import { addSeconds } from '../clock.ts';
import { AppError, hasCode, toAppError } from '../errors.ts';
import { errorFields, type Log } from '../log.ts';
import { Consumer } from '../policies/consumer.ts';
import type { DocumentStore, DocumentWrite, JsonObject, StoredDocument } from '../storage/ports.ts';
import { currentTraceparent } from '../telemetry.ts';
import { objectId } from '../vault/ports.ts';
import { consumerKinds } from './index.ts';
import { type ConsumerServices, Notification } from './notification.ts';

export interface OutboxServices extends ConsumerServices {
  readonly documents: DocumentStore;
  readonly audit: Audit;
  readonly log: Log;
  /** 0 to 1, for jitter; default `Math.random`. */
  readonly random?: () => number;
}

const Delivery = z.strictObject({
  notification: Notification,
  consumer: Consumer,
  attempts: z.int().nonnegative(),
  createdAt: z.iso.datetime(),
  nextAt: z.iso.datetime(),
  lastError: z.string().nullable(),
  /** The span in which the new version was promoted; older rows have none. */
  traceparent: z.string().optional(),
});
type Delivery = z.output<typeof Delivery>;

/** Prefix of the rows that are still to be delivered; the sweep lists them by it. */
export const activeDeliveryPrefix = 'active:delivery:';

/**
 * The rows that make a rotation's notifications certain: written in the same transaction as the
 * journal, so that they exist if and only if the rotation has come so far.
 */
export function outboxWrites(
  notification: Notification,
  consumers: readonly Consumer[],
  now: Date,
): DocumentWrite[] {
  const at = now.toISOString();
  const traceparent = currentTraceparent() ?? undefined;
  return consumers.map((consumer) => ({
    kind: 'put',
    id: `active:${deliveryId(notification, consumer)}`,
    body: toBody({
      notification,
      consumer,
      attempts: 0,
      createdAt: at,
      nextAt: at,
      lastError: null,
      traceparent,
    }),
    when: 'absent',
  }));
}

/** When an active row is due, for whoever lists them. @throws AppError `corrupt` */
export function deliveryDueAt(row: StoredDocument): Date {
  return new Date(parseDelivery(row).nextAt);
}

/** The span in whose trace an active row is delivered. @throws AppError `corrupt` */
export function deliveryTraceparent(row: StoredDocument): string | null {
  return parseDelivery(row).traceparent ?? null;
}

/** The message that has one active row delivered, as a continuation of the span `traceparent`. */
export function deliveryMessage(
  partition: string,
  id: string,
  traceparent: string | null,
): JsonObject {
  return { partition, id, ...(traceparent === null ? {} : { traceparent }) };
}

/**
 * Tries one active row, if it is due. `delivered` and `abandoned` are final: the row has moved to
 * `delivery:<rotationId>:<consumerId>`. `retry`: it stays, with its next time. `gone`: there is no
 * such row (any more). Safe to repeat and to run twice at once: the consumer may then get two
 * copies, with one message id.
 * @throws AppError `storage_unavailable`, `corrupt`
 */
export async function deliver(
  partition: string,
  id: string,
  services: OutboxServices,
): Promise<'delivered' | 'retry' | 'abandoned' | 'gone'> {
  const row = await services.documents.get(partition, id);
  if (row === null) return 'gone';
  const delivery = parseDelivery(row);
  if (new Date(delivery.nextAt) > services.clock.now()) return 'retry';

  await services.audit.append([keyEntry(delivery, services.clock.now())]);
  const error = await tell(delivery, services);
  const next = afterAttempt(delivery, error, services);
  // Before the row moves: a row that has moved is never looked at again.
  await services.audit.append([auditEntry(next, services.clock.now())]);
  report(next, error, services.log);
  return await settle(partition, row, next, services);
}

/** What went wrong, or null. */
async function tell(delivery: Delivery, services: OutboxServices): Promise<AppError | null> {
  const { notification, consumer } = delivery;
  try {
    const message = { messageId: messageId(delivery), notification };
    await consumerKinds[consumer.kind].tell(message, consumer, services);
    return null;
  } catch (error) {
    return toAppError(error, `tell consumer ${consumer.id} of ${notification.rotationId}`);
  }
}

interface Attempted {
  readonly status: 'delivered' | 'retry' | 'abandoned';
  readonly delivery: Delivery;
}

const backOffSeconds = [5, 30, 120, 600, 3_600, 10_800, 21_600] as const;
const giveUpAfterSeconds = 3 * 24 * 3_600;

function afterAttempt(
  before: Delivery,
  error: AppError | null,
  { clock, random = Math.random }: OutboxServices,
): Attempted {
  const attempts = before.attempts + 1;
  const seconds = backOffSeconds[attempts - 1] ?? 21_600;
  const next = addSeconds(clock.now(), seconds * (1 + random() / 5));
  const lastError = error?.code ?? null;
  const delivery = { ...before, attempts, nextAt: next.toISOString(), lastError };
  if (error === null) return { status: 'delivered', delivery };
  // A key that is missing or a vault that is down may be mended; only the consumer's own no is final.
  const isTooLate = next > addSeconds(new Date(before.createdAt), giveUpAfterSeconds);
  const isOver = isTooLate || hasCode(error, 'consumer_refused');
  return { status: isOver ? 'abandoned' : 'retry', delivery };
}

/**
 * Writes the outcome. Who comes second to a row finds a conflict: a failure is then dropped, but a
 * delivery is written over another worker's failure.
 */
async function settle(
  partition: string,
  row: StoredDocument,
  next: Attempted,
  { documents, clock }: OutboxServices,
): Promise<Attempted['status'] | 'gone'> {
  let etag = row.etag;
  for (;;) {
    try {
      await documents.transact(partition, rowWrites(row.id, etag, next, clock.now()));
      return next.status;
    } catch (error) {
      if (!hasCode(error, 'conflict')) throw error;
    }
    const current = await documents.get(partition, row.id);
    if (current === null) return 'gone';
    if (next.status !== 'delivered') return 'retry';
    etag = current.etag;
  }
}

function rowWrites(
  id: string,
  etag: string,
  { status, delivery }: Attempted,
  now: Date,
): readonly DocumentWrite[] {
  if (status === 'retry') return [{ kind: 'put', id, body: toBody(delivery), when: { etag } }];
  const { nextAt: _nextAt, ...kept } = delivery;
  const body = toBody({ ...kept, status, at: now.toISOString() });
  return [
    { kind: 'delete', id, when: { etag } },
    { kind: 'put', id: id.slice('active:'.length), body, when: 'any' },
  ];
}

/** Telling reads the consumer's signing key, which stands in the log before it happens. */
function keyEntry(delivery: Delivery, at: Date): AuditEntry {
  const { notification, consumer, attempts } = delivery;
  return {
    id: `${messageId(delivery)}.${attempts + 1}.key`,
    at,
    actor: 'outbox',
    action: 'secret.read',
    object: objectId({ ...consumer.signingSecret, type: 'secret' }),
    rotationId: notification.rotationId,
    outcome: 'intended',
    detail: { consumer: consumer.id },
  };
}

function auditEntry({ status, delivery }: Attempted, at: Date): AuditEntry {
  const { notification, consumer, attempts, lastError } = delivery;
  const { vault, objectType: type, name, rotationId, correlationId } = notification;
  return {
    id: `${messageId(delivery)}.${attempts}.${status}`,
    at,
    actor: 'outbox',
    action: status === 'abandoned' ? 'notification.abandon' : 'notification.deliver',
    object: objectId({ vault, type, name }),
    rotationId,
    ...(correlationId === undefined ? {} : { correlationId }),
    outcome: status === 'delivered' ? 'done' : 'failed',
    detail: { consumer: consumer.id, kind: consumer.kind, attempts, error: lastError },
  };
}

function report({ status, delivery }: Attempted, error: AppError | null, log: Log): void {
  const { notification, consumer, attempts } = delivery;
  const fields = { rotationId: notification.rotationId, consumer: consumer.id, attempts };
  if (error === null) log.info('notification.delivered', fields);
  else if (status === 'retry')
    log.warn('notification.failed', { ...fields, ...errorFields(error) });
  else log.error('notification.abandoned', { ...fields, ...errorFields(error) });
}

function messageId({ notification, consumer }: Delivery): string {
  return `${notification.rotationId}.${consumer.id}`;
}

function deliveryId({ rotationId }: Notification, { id }: Consumer): string {
  return `delivery:${rotationId}:${id}`;
}

function parseDelivery(row: StoredDocument): Delivery {
  const parsed = Delivery.safeParse(row.body);
  if (parsed.success) return parsed.data;
  throw new AppError('corrupt', { detail: `delivery row ${row.id}`, cause: parsed.error });
}

/** Absent fields are left out, as JSON does, which makes any delivery a JsonObject. */
function toBody(delivery: object): JsonObject {
  return JSON.parse(JSON.stringify(delivery)) as JsonObject;
}
