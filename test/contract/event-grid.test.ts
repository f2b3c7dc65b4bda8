import { mkdtemp, readFile, rm } from 'node:fs/promises';
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { type EventGrid, startEventGrid } from '../../local/event-grid/event-grid.ts';
import type { DeadLetter } from '../../local/event-grid/subscription.ts';

interface Received {
  readonly method: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: unknown;
}

const opened: { stop(): Promise<void> }[] = [];
afterEach(async () => {
  for (const thing of opened.splice(0)) await thing.stop();
});

async function anEventGrid(dir?: string): Promise<EventGrid> {
  const grid = await startEventGrid(dir === undefined ? {} : { dir });
  opened.push(grid);
  return grid;
}

async function read(request: IncomingMessage): Promise<Received> {
  let text = '';
  for await (const chunk of request) text += chunk;
  const body = text === '' ? null : JSON.parse(text);
  return { method: request.method ?? '', headers: request.headers, body };
}

/** A webhook that passes both handshakes and answers events with `statuses`, then with 200. */
async function aWebhook(statuses: readonly number[] = [], options: { echo?: boolean } = {}) {
  const events: Received[] = [];
  const handshakes: Received[] = [];
  const left = [...statuses];
  const server: Server = createServer(async (request, response) => {
    const received = await read(request);
    const type = request.headers['aeg-event-type'];
    if (type === 'Notification') {
      events.push(received);
      response.writeHead(left.shift() ?? 200).end();
      return;
    }
    handshakes.push(received);
    const [event] = (received.body ?? [{ data: {} }]) as { data: { validationCode?: string } }[];
    const isWilling = options.echo !== false;
    response.setHeader('webhook-allowed-origin', isWilling ? 'eventgrid.azure.net' : 'elsewhere');
    const validationResponse = isWilling ? event?.data.validationCode : 'wrong';
    response.end(JSON.stringify({ validationResponse }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  opened.push({
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`,
    events,
    handshakes,
  };
}

const nearExpiry = (subject: string, more: object = {}) => ({
  id: `id-${subject}`,
  topic: '/vaults/main',
  subject,
  eventType: 'Microsoft.KeyVault.SecretNearExpiry',
  eventTime: '2030-01-01T00:00:00Z',
  data: { ObjectName: subject },
  dataVersion: '1',
  ...more,
});

const fast = { scheduleSeconds: [0.01] };

describe('Event Grid', () => {
  it('delivers one event in an array in its own schema', async () => {
    const [grid, hook] = [await anEventGrid(), await aWebhook()];
    await grid.subscribe({
      topic: 'vault',
      name: 'engine',
      endpoint: hook.url,
      schema: 'EventGridSchema',
    });
    grid.publish('vault', nearExpiry('db'));
    await grid.idle();
    expect(hook.handshakes).toHaveLength(1);
    expect(hook.events[0]?.body).toEqual([{ ...nearExpiry('db'), metadataVersion: '1' }]);
    expect(hook.events[0]?.headers).toMatchObject({
      'aeg-event-type': 'Notification',
      'aeg-subscription-name': 'ENGINE',
      'aeg-delivery-count': '0',
      'aeg-data-version': '1',
      'aeg-metadata-version': '1',
      'aeg-output-event-id': 'id-db',
      'content-type': 'application/json; charset=utf-8',
    });
  });

  it('delivers a single object as CloudEvent', async () => {
    const [grid, hook] = [await anEventGrid(), await aWebhook()];
    await grid.subscribe({
      topic: 'vault',
      name: 'cloud',
      endpoint: hook.url,
      schema: 'CloudEventSchemaV1_0',
    });
    grid.publish('vault', nearExpiry('db'));
    await grid.idle();
    expect(hook.handshakes[0]).toMatchObject({
      method: 'OPTIONS',
      headers: { 'webhook-request-origin': 'eventgrid.azure.net' },
    });
    expect(hook.events[0]?.headers['content-type']).toBe(
      'application/cloudevents+json; charset=utf-8',
    );
    expect(hook.events[0]?.body).toEqual({
      id: 'id-db',
      source: '/vaults/main',
      subject: 'db',
      type: 'Microsoft.KeyVault.SecretNearExpiry',
      time: '2030-01-01T00:00:00Z',
      specversion: '1.0',
      data: { ObjectName: 'db' },
    });
  });

  it.each(['EventGridSchema', 'CloudEventSchemaV1_0'] as const)(
    'refuses a %s subscription whose handshake fails',
    async (schema) => {
      const [grid, hook] = [await anEventGrid(), await aWebhook([], { echo: false })];
      await expect(
        grid.subscribe({ topic: 'vault', name: 'x', endpoint: hook.url, schema }),
      ).rejects.toThrow('handshake');
      grid.publish('vault', nearExpiry('db'));
      expect(grid.pending()).toBe(0);
    },
  );

  it('filters by type and subject, ignoring case, and by topic', async () => {
    const [grid, hook] = [await anEventGrid(), await aWebhook()];
    const filter = {
      includedEventTypes: ['microsoft.keyvault.secretnearexpiry'],
      subjectBeginsWith: 'APP-',
      subjectEndsWith: '-db',
    };
    await grid.subscribe({
      topic: 'vault',
      name: 'x',
      endpoint: hook.url,
      schema: 'EventGridSchema',
      filter,
    });
    grid.publish('vault', nearExpiry('app-one-db'));
    grid.publish('vault', nearExpiry('app-one-key'));
    grid.publish('vault', nearExpiry('other-db'));
    grid.publish(
      'vault',
      nearExpiry('app-two-db', { eventType: 'Microsoft.KeyVault.SecretExpired' }),
    );
    grid.publish('elsewhere', nearExpiry('app-three-db'));
    await grid.idle();
    expect(hook.events.map((event) => (event.body as { subject: string }[])[0]?.subject)).toEqual([
      'app-one-db',
    ]);
  });

  it('tries again until taken, counting deliveries', async () => {
    const [grid, hook] = [await anEventGrid(), await aWebhook([500, 503, 404])];
    await grid.subscribe({
      topic: 'vault',
      name: 'x',
      endpoint: hook.url,
      schema: 'EventGridSchema',
      retry: fast,
    });
    grid.publish('vault', nearExpiry('db'));
    await grid.idle();
    expect(hook.events.map((event) => event.headers['aeg-delivery-count'])).toEqual([
      '0',
      '1',
      '2',
      '3',
    ]);
  });

  it.each([400, 401, 403, 413])(
    'gives up at once on %i and keeps a dead letter',
    async (status) => {
      const dir = await mkdtemp(join(tmpdir(), 'event-grid-'));
      const [grid, hook] = [await anEventGrid(dir), await aWebhook([status])];
      await grid.subscribe({
        topic: 'vault',
        name: 'x',
        endpoint: hook.url,
        schema: 'EventGridSchema',
        retry: fast,
      });
      grid.publish('vault', nearExpiry('db'));
      await grid.idle();
      expect(hook.events).toHaveLength(1);
      const line = await readFile(join(dir, 'dead-letters.jsonl'), 'utf8');
      expect(JSON.parse(line)).toMatchObject({
        subscription: 'x',
        record: { subject: 'db', deliveryAttempts: 1 },
      });
      await rm(dir, { recursive: true });
    },
  );

  it('dead-letters after the last attempt, in lower case for CloudEvents', async () => {
    const [grid, hook] = [await anEventGrid(), await aWebhook([500, 500, 500])];
    const letters: DeadLetter[] = [];
    await grid.subscribe({
      topic: 'vault',
      name: 'x',
      endpoint: hook.url,
      schema: 'CloudEventSchemaV1_0',
      retry: { ...fast, maxAttempts: 2 },
      deadLetter: (record) => letters.push(record),
    });
    grid.publish('vault', nearExpiry('db'));
    await grid.idle();
    expect(hook.events).toHaveLength(2);
    expect(letters).toMatchObject([
      {
        type: 'Microsoft.KeyVault.SecretNearExpiry',
        deadletterreason: 'MaxDeliveryAttemptsExceeded',
        deliveryattempts: 2,
      },
    ]);
  });

  it('delivers copies out of order when told to', async () => {
    const [grid, hook] = [await anEventGrid(), await aWebhook()];
    await grid.subscribe({
      topic: 'vault',
      name: 'x',
      endpoint: hook.url,
      schema: 'EventGridSchema',
    });
    grid.setFaults({ copies: 3, shuffleMs: 100 });
    const subjects = Array.from({ length: 8 }, (_, index) => `s${index}`);
    for (const subject of subjects) grid.publish('vault', nearExpiry(subject));
    await grid.idle();
    const got = hook.events.map((event) => (event.body as { subject: string }[])[0]?.subject);
    expect(got).toHaveLength(24);
    expect(got).not.toEqual([...got].sort());
  });

  it('accepts events over HTTP in both schemas, whole or not at all', async () => {
    const [grid, hook] = [await anEventGrid(), await aWebhook()];
    await grid.subscribe({
      topic: 'vault',
      name: 'x',
      endpoint: hook.url,
      schema: 'EventGridSchema',
    });
    const post = (body: unknown) =>
      fetch(`${grid.url}/topics/vault/api/events`, { method: 'POST', body: JSON.stringify(body) });
    expect((await post([nearExpiry('one'), { subject: 'no type' }])).status).toBe(400);
    expect((await post([nearExpiry('two')])).status).toBe(200);
    expect(
      (
        await post({
          specversion: '1.0',
          id: 'c',
          source: '/s',
          type: 't',
          subject: 'three',
          data: 1,
        })
      ).status,
    ).toBe(200);
    await grid.idle();
    const got = hook.events.map((event) => (event.body as { subject: string }[])[0]?.subject);
    expect(got.sort()).toEqual(['three', 'two']);
  });

  it('drops what is pending when stopped', async () => {
    const [grid, hook] = [await anEventGrid(), await aWebhook([500])];
    await grid.subscribe({
      topic: 'vault',
      name: 'x',
      endpoint: hook.url,
      schema: 'EventGridSchema',
    });
    grid.publish('vault', nearExpiry('db'));
    await expect.poll(() => hook.events.length).toBe(1);
    await grid.stop();
    expect(grid.pending()).toBe(0);
  });
});
