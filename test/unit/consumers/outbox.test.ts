import { describe, expect, it } from 'vitest';
import type { AuditEntry } from '../../../src/core/audit/log.ts';
import {
  deliver,
  deliveryDueAt,
  type OutboxServices,
  outboxWrites,
} from '../../../src/core/consumers/outbox.ts';
import { AppError } from '../../../src/core/errors.ts';
import { jsonLog } from '../../../src/core/log.ts';
import { memoryDocuments } from '../../../src/core/storage/memory.ts';
import type { DocumentStore } from '../../../src/core/storage/ports.ts';
import { aNotification, aWebhook, signingSecret, startConsumer, vaultsWith } from './support.ts';

const id = 'active:delivery:01JD0000000000000000000000:orders';
const movedId = 'delivery:01JD0000000000000000000000:orders';
const start = new Date('2026-11-22T08:00:00.000Z');

async function anOutbox(
  consumer: { readonly host: string; readonly url: string },
  more: Partial<OutboxServices> = {},
) {
  let now = start;
  const entries: AuditEntry[] = [];
  const lines: { event: string }[] = [];
  const services: OutboxServices = {
    documents: memoryDocuments(),
    audit: { append: async (added) => void entries.push(...added) },
    log: jsonLog((line) => lines.push(JSON.parse(line))),
    clock: { now: () => now },
    random: () => 0,
    vaults: vaultsWith(signingSecret),
    egress: { allowedHosts: [consumer.host] },
    ...more,
  };
  const writes = outboxWrites(
    aNotification({ correlationId: 'C1' }),
    [aWebhook(consumer.url)],
    now,
  );
  await services.documents.transact('p', writes);
  const advance = (seconds: number) => {
    now = new Date(now.getTime() + seconds * 1000);
  };
  const events = () => lines.map(({ event }) => event);
  return { services, entries, events, advance, documents: services.documents, now: () => now };
}

/** Consumers that answer the next status of the list, then the last one for ever. */
async function answering(...statuses: number[]) {
  return await startConsumer((response) => {
    const status = statuses.length > 1 ? statuses.shift() : statuses[0];
    response.writeHead(status ?? 200).end();
  });
}

describe('outboxWrites', () => {
  it('makes one row a consumer, due at once, that may not exist yet', () => {
    const writes = outboxWrites(
      aNotification(),
      [aWebhook('https://a.example/'), aWebhook('https://b.example/', { id: 'billing' })],
      start,
    );
    expect(writes).toMatchObject([
      { kind: 'put', id, when: 'absent', body: { attempts: 0, nextAt: start.toISOString() } },
      { kind: 'put', id: id.replace('orders', 'billing'), when: 'absent' },
    ]);
  });
});

describe('deliver', () => {
  it('tells the consumer, moves the row and records it', async () => {
    await using consumer = await answering(200);
    const { services, entries, events, documents } = await anOutbox(consumer);
    expect(await deliver('p', id, services)).toBe('delivered');
    expect(consumer.received[0]?.headers['webhook-id']).toBe('01JD0000000000000000000000.orders');
    expect(await documents.get('p', id)).toBeNull();
    expect((await documents.get('p', movedId))?.body).toMatchObject({
      status: 'delivered',
      attempts: 1,
      at: start.toISOString(),
      lastError: null,
    });
    expect(entries).toEqual([
      {
        id: '01JD0000000000000000000000.orders.1.key',
        at: start,
        actor: 'outbox',
        action: 'secret.read',
        object: 'main/secret/webhook-orders',
        rotationId: '01JD0000000000000000000000',
        outcome: 'intended',
        detail: { consumer: 'orders' },
      },
      {
        id: '01JD0000000000000000000000.orders.1.delivered',
        at: start,
        actor: 'outbox',
        action: 'notification.deliver',
        object: 'main/secret/orders-db',
        rotationId: '01JD0000000000000000000000',
        correlationId: 'C1',
        outcome: 'done',
        detail: { consumer: 'orders', kind: 'webhook', attempts: 1, error: null },
      },
    ]);
    expect(events()).toEqual(['notification.delivered']);
    expect(await deliver('p', id, services)).toBe('gone');
  });

  it('keeps the row and waits longer each time', async () => {
    await using consumer = await answering(503, 503, 200);
    const { services, entries, events, advance, documents } = await anOutbox(consumer);
    expect(await deliver('p', id, services)).toBe('retry');
    const row = await documents.get('p', id);
    expect(row?.body).toMatchObject({ attempts: 1, lastError: 'consumer_unreachable' });
    expect(deliveryDueAt(row!)).toEqual(new Date('2026-11-22T08:00:05.000Z'));

    expect(await deliver('p', id, services)).toBe('retry'); // not due: nothing is sent
    expect(consumer.received.length).toBe(1);
    advance(5);
    expect(await deliver('p', id, services)).toBe('retry');
    advance(30);
    expect(await deliver('p', id, services)).toBe('delivered');
    expect(new Set(consumer.received.map(({ headers }) => headers['webhook-id'])).size).toBe(1);
    const told = entries.filter(({ action }) => action === 'notification.deliver');
    expect(told.map(({ outcome }) => outcome)).toEqual(['failed', 'failed', 'done']);
    expect(events()).toEqual([
      'notification.failed',
      'notification.failed',
      'notification.delivered',
    ]);
  });

  it.each([0, 0.999])('gives up after three days of rising delays (jitter %d)', async (jitter) => {
    await using consumer = await answering(500);
    const { services, advance, documents, now, entries, events } = await anOutbox(consumer, {
      random: () => jitter,
    });
    const delays: number[] = [];
    let outcome = await deliver('p', id, services);
    while (outcome === 'retry') {
      const row = await documents.get('p', id);
      const seconds = (deliveryDueAt(row!).getTime() - now().getTime()) / 1000;
      delays.push(Math.round(seconds / (1 + jitter / 5)));
      advance(seconds);
      outcome = await deliver('p', id, services);
    }
    expect(outcome).toBe('abandoned');
    expect(delays.slice(0, 8)).toEqual([5, 30, 120, 600, 3600, 10_800, 21_600, 21_600]);
    const days = (now().getTime() - start.getTime()) / 86_400_000;
    expect(days).toBeGreaterThan(2.6);
    expect(days).toBeLessThanOrEqual(3);
    expect(await documents.get('p', id)).toBeNull();
    expect((await documents.get('p', movedId))?.body).toMatchObject({ status: 'abandoned' });
    expect(entries.at(-1)).toMatchObject({ action: 'notification.abandon', outcome: 'failed' });
    expect(events().at(-1)).toBe('notification.abandoned');
  });

  it('abandons at once what the consumer refuses', async () => {
    await using consumer = await answering(410);
    const { services, documents } = await anOutbox(consumer);
    expect(await deliver('p', id, services)).toBe('abandoned');
    expect((await documents.get('p', movedId))?.body).toMatchObject({
      status: 'abandoned',
      lastError: 'consumer_refused',
    });
  });

  it('tries again when the signing key is missing: somebody may put it there', async () => {
    await using consumer = await answering(200);
    const { services } = await anOutbox(consumer, { vaults: vaultsWith(null) });
    expect(await deliver('p', id, services)).toBe('retry');
    expect(consumer.received).toEqual([]);
  });

  it('gives one result when two workers have one row', async () => {
    await using consumer = await answering(200);
    const { services, documents } = await anOutbox(consumer);
    const results = await Promise.all([deliver('p', id, services), deliver('p', id, services)]);
    expect(results.toSorted()).toEqual(['delivered', 'gone']);
    expect((await documents.get('p', movedId))?.body).toMatchObject({ status: 'delivered' });
    expect(new Set(consumer.received.map(({ headers }) => headers['webhook-id'])).size).toBe(1);
  });

  it.each([
    [500, 'retry', { attempts: 9 }],
    [200, 'delivered', null],
  ])(
    'with status %i, after another worker has failed, ends in %s',
    async (status, expected, left) => {
      const documents = memoryDocuments();
      await using consumer = await startConsumer(async (response) => {
        const row = await documents.get('p', id);
        await documents.put('p', id, { ...row!.body, attempts: 9 }, 'any');
        response.writeHead(status).end();
      });
      const { services } = await anOutbox(consumer, { documents });
      expect(await deliver('p', id, services)).toBe(expected);
      const row = await documents.get('p', id);
      if (left === null) expect(row).toBeNull();
      else expect(row?.body).toMatchObject(left);
    },
  );

  it('reports storage that fails, and can be repeated', async () => {
    await using consumer = await answering(200);
    const inner = memoryDocuments();
    let isDown = false;
    const documents: DocumentStore = {
      ...inner,
      transact: async (partition, writes) => {
        if (isDown) throw new AppError('storage_unavailable', { detail: 'planted' });
        return await inner.transact(partition, writes);
      },
    };
    const { services, entries } = await anOutbox(consumer, { documents });
    isDown = true;
    await expect(deliver('p', id, services)).rejects.toMatchObject({ code: 'storage_unavailable' });
    isDown = false;
    expect(await deliver('p', id, services)).toBe('delivered');
    expect(new Set(entries.map((entry) => entry.id)).size).toBe(2);
  });

  it('calls a row it cannot read corrupt', async () => {
    await using consumer = await answering(200);
    const { services, documents } = await anOutbox(consumer);
    await documents.put('p', id, { attempts: -1 }, 'any');
    await expect(deliver('p', id, services)).rejects.toMatchObject({ code: 'corrupt' });
  });

  it('adds jitter of its own', async () => {
    await using consumer = await answering(500);
    const { services, documents } = await anOutbox(consumer);
    const { random: _, ...own } = services;
    expect(await deliver('p', id, own)).toBe('retry');
    const seconds =
      (deliveryDueAt((await documents.get('p', id))!).getTime() - start.getTime()) / 1000;
    expect(seconds).toBeGreaterThanOrEqual(5);
    expect(seconds).toBeLessThanOrEqual(6);
  });
});
