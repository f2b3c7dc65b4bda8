import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { BlobServiceClient } from '@azure/storage-blob';
import { QueueClient } from '@azure/storage-queue';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { type EventGrid, startEventGrid } from '../../local/event-grid/event-grid.ts';
import type { EventFilter } from '../../local/event-grid/filter.ts';
import type { DeadLetter, SubscriptionOptions } from '../../local/event-grid/subscription.ts';
import { type Azurite, startAzurite } from '../support/azurite.ts';

interface Received {
  readonly at: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: unknown;
}

let azurite: Azurite;
const opened: { stop(): Promise<void> }[] = [];
beforeAll(async () => {
  azurite = await startAzurite();
});
afterEach(async () => {
  for (const thing of opened.splice(0).reverse()) await thing.stop();
});
afterAll(() => azurite?.stop());

/** One second of Azure's is `timeScale` seconds here. */
async function anEventGrid(timeScale = 0.001): Promise<EventGrid> {
  const grid = await startEventGrid({ timeScale, random: () => 0 });
  opened.push(grid);
  return grid;
}

/** Agrees to every handshake; answers deliveries with `statuses`, then with 200. */
async function aWebhook(statuses: readonly number[] = []) {
  const events: Received[] = [];
  const left = [...statuses];
  const server = createServer(async (request, response) => {
    let text = '';
    for await (const chunk of request) text += chunk;
    const body = text === '' ? null : JSON.parse(text);
    response.setHeader('webhook-allowed-origin', '*');
    if (request.headers['aeg-event-type'] === 'Notification') {
      events.push({ at: Date.now(), headers: request.headers, body });
      response.writeHead(left.shift() ?? 200).end();
    } else {
      const validationResponse = body?.[0].data.validationCode;
      response.end(JSON.stringify({ validationResponse }));
    }
  });
  return { url: await listenOn(server), events };
}

async function listenOn(server: ReturnType<typeof createServer>): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  opened.push({
    stop: async () => {
      server.close().closeAllConnections();
    },
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`;
}

const anEvent = (subject: string, more: object = {}) => ({
  id: `id-${subject}`,
  topic: '/vaults/main',
  subject,
  eventType: 'Microsoft.KeyVault.SecretNearExpiry',
  eventTime: '2030-01-01T00:00:00Z',
  data: { ObjectName: subject },
  dataVersion: '1',
  ...more,
});

const subscription = (more: Partial<SubscriptionOptions>): SubscriptionOptions => ({
  topic: 'vault',
  name: 'Sub-1',
  schema: 'EventGridSchema',
  ...more,
});

describe('filters', () => {
  const data = {
    text: 'Alpha',
    count: 5,
    flag: true,
    nothing: null,
    deep: { key: 'x' },
    list: ['a', 'b'],
  };
  const passes = async (filter: EventFilter) => {
    const [grid, hook] = [await anEventGrid(), await aWebhook()];
    await grid.subscribe(subscription({ endpoint: hook.url, filter }));
    grid.publish('vault', anEvent('App/One', { data }));
    await grid.idle();
    return hook.events.length === 1;
  };
  const advanced = (filter: object, more: object = {}) =>
    passes({ advancedFilters: [filter], ...more } as EventFilter);

  it.each([
    [true, { operatorType: 'StringIn', key: 'data.text', values: ['beta', 'ALPHA'] }],
    [false, { operatorType: 'StringNotIn', key: 'Data.Text', values: ['alpha'] }],
    [true, { operatorType: 'StringBeginsWith', key: 'subject', values: ['app/'] }],
    [false, { operatorType: 'StringNotBeginsWith', key: 'subject', values: ['app/'] }],
    [true, { operatorType: 'StringEndsWith', key: 'EventType', values: ['NearExpiry'] }],
    [true, { operatorType: 'StringNotEndsWith', key: 'data.text', values: ['z'] }],
    [true, { operatorType: 'StringContains', key: 'source', values: ['VAULTS'] }],
    [true, { operatorType: 'StringNotContains', key: 'data.missing', values: ['x'] }],
    [true, { operatorType: 'StringIn', key: 'data.deep.key', values: ['x'] }],
    [true, { operatorType: 'NumberIn', key: 'data.count', values: [1, 5] }],
    [false, { operatorType: 'NumberNotIn', key: 'data.count', values: [5] }],
    [
      true,
      {
        operatorType: 'NumberInRange',
        key: 'data.count',
        values: [
          [1, 2],
          [5, 6],
        ],
      },
    ],
    [false, { operatorType: 'NumberNotInRange', key: 'data.count', values: [[5, 5]] }],
    [false, { operatorType: 'NumberLessThan', key: 'data.count', value: 5 }],
    [true, { operatorType: 'NumberLessThanOrEquals', key: 'data.count', value: 5 }],
    [false, { operatorType: 'NumberGreaterThan', key: 'data.text', value: 0 }],
    [true, { operatorType: 'NumberGreaterThanOrEquals', key: 'data.count', value: 5 }],
    [true, { operatorType: 'BoolEquals', key: 'data.flag', value: true }],
    [true, { operatorType: 'IsNullOrUndefined', key: 'data.nothing' }],
    [true, { operatorType: 'IsNullOrUndefined', key: 'data.missing' }],
    [true, { operatorType: 'IsNotNull', key: 'data.list' }],
    [false, { operatorType: 'StringIn', key: 'data.list', values: ['a'] }],
  ])('let an event through: %s by %j', async (expected, filter) => {
    expect(await advanced(filter)).toBe(expected);
  });

  it('look into lists when told to, and a negation then holds for every member', async () => {
    const more = { enableAdvancedFilteringOnArrays: true };
    const filter = { key: 'data.list', values: ['a'] };
    expect(await advanced({ operatorType: 'StringIn', ...filter }, more)).toBe(true);
    expect(await advanced({ operatorType: 'StringNotIn', ...filter }, more)).toBe(false);
  });

  it('mind the case of the subject when told to', async () => {
    expect(await passes({ subjectBeginsWith: 'app/' })).toBe(true);
    expect(await passes({ subjectBeginsWith: 'app/', isSubjectCaseSensitive: true })).toBe(false);
    expect(await passes({ subjectEndsWith: 'One', isSubjectCaseSensitive: true })).toBe(true);
  });
});

describe('a subscription', () => {
  const bad = (more: object) => ({ endpoint: 'http://127.0.0.1:1/', ...more });
  it.each([
    [bad({ retry: { maxAttempts: 31 } }), 'retry.maxAttempts'],
    [bad({ retry: { ttlMinutes: 0 } }), 'retry.ttlMinutes'],
    [bad({ batching: { maxEventsPerBatch: 5001 } }), 'batching.maxEventsPerBatch'],
    [bad({ batching: { preferredBatchSizeInKilobytes: 0 } }), 'preferredBatchSizeInKilobytes'],
    [
      bad({ filter: { advancedFilters: [{ operatorType: 'StringLike', key: 'k' }] } }),
      'advancedFilters.0: is no advanced filter',
    ],
    [
      bad({
        filter: {
          advancedFilters: [{ operatorType: 'NumberIn', key: 'k', values: Array(26).fill(1) }],
        },
      }),
      'has more than 25 values in all',
    ],
    [{}, 'give either endpoint or queue'],
    [
      { queue: { connectionString: '', name: 'q' }, batching: {} },
      'batching: a queue gets one message',
    ],
  ])('is refused where Azure would refuse it: %j', async (more, message) => {
    const grid = await anEventGrid();
    await expect(grid.subscribe(subscription(more as object))).rejects.toThrow(message);
  });
});

describe('the handshake', () => {
  /** Agrees to nothing at once, but keeps the URL by which it may agree later. */
  async function aSlowWebhook() {
    const urls: string[] = [];
    const server = createServer(async (request, response) => {
      let text = '';
      for await (const chunk of request) text += chunk;
      const inHeader = request.headers['webhook-request-callback'];
      urls.push(inHeader ? String(inHeader) : JSON.parse(text)[0].data.validationUrl);
      response.end('thank you');
    });
    return { url: await listenOn(server), urls };
  }

  it.each(['EventGridSchema', 'CloudEventSchemaV1_0'] as const)(
    'may be ended by hand in %s, through the URL that was sent',
    async (schema) => {
      const [grid, hook] = [await anEventGrid(1), await aSlowWebhook()];
      const subscribed = grid.subscribe(subscription({ endpoint: hook.url, schema }));
      await vi.waitFor(() => expect(hook.urls).toHaveLength(1));
      expect((await fetch(hook.urls[0] ?? '')).status).toBe(200);
      await subscribed;
      expect((await fetch(hook.urls[0] ?? '')).status).toBe(404);
    },
  );

  it('fails when nobody does so for ten minutes', async () => {
    const [grid, hook] = [await anEventGrid(0.0005), await aSlowWebhook()];
    await expect(grid.subscribe(subscription({ endpoint: hook.url }))).rejects.toThrow(
      'the validation URL was not fetched in time',
    );
  });
});

describe('retries', () => {
  it('come after 10 and 30 s, or later where the status asks for it', async () => {
    const [grid, hook] = [await anEventGrid(0.01), await aWebhook([500, 500, 408])];
    await grid.subscribe(subscription({ endpoint: hook.url }));
    grid.publish('vault', anEvent('db'));
    await grid.idle();
    const gaps = hook.events.slice(1).map(({ at }, index) => at - (hook.events[index]?.at ?? 0));
    // 10 s, 30 s, and 2 min for the 408 instead of 1; a hundredth of each.
    for (const [index, expected] of [100, 300, 1200].entries()) {
      expect(gaps[index]).toBeGreaterThanOrEqual(expected - 5);
      // A busy machine is late; the next longer wait of the schedule is still far away.
      expect(gaps[index]).toBeLessThan(expected + 1500);
    }
  });

  it('end when the event is too old at the next attempt', async () => {
    // Slow enough that a busy machine does not make the event old before its time.
    const [grid, hook] = [await anEventGrid(0.01), await aWebhook(Array(30).fill(500))];
    const letters: DeadLetter[] = [];
    const deadLetter = (record: DeadLetter) => letters.push(record);
    await grid.subscribe(
      subscription({ endpoint: hook.url, retry: { ttlMinutes: 6 }, deadLetter }),
    );
    grid.publish('vault', anEvent('db'));
    await grid.idle();
    // At 0, 10, 40 and 100 s; at 400 s it is older than 6 min.
    expect(hook.events).toHaveLength(4);
    expect(letters).toMatchObject([
      {
        deadLetterReason: 'TimeToLiveExceeded',
        deliveryAttempts: 4,
        lastDeliveryOutcome: 'GenericError',
      },
    ]);
  });
});

describe('dead letters', () => {
  const container = (name: string) =>
    BlobServiceClient.fromConnectionString(azurite.connectionString).getContainerClient(name);

  async function written(name: string): Promise<{ name: string; records: DeadLetter[] }[]> {
    const found: { name: string; records: DeadLetter[] }[] = [];
    for await (const blob of container(name).listBlobsFlat()) {
      const bytes = await container(name).getBlobClient(blob.name).downloadToBuffer();
      found.push({ name: blob.name, records: JSON.parse(bytes.toString()) });
    }
    return found;
  }

  it('are written together, five minutes later, under the name of the subscription', async () => {
    const [grid, hook] = [await anEventGrid(), await aWebhook([400, 500, 413])];
    const where = { connectionString: azurite.connectionString, name: 'letters' };
    await grid.subscribe(
      subscription({ endpoint: hook.url, deadLetterContainer: where, retry: { maxAttempts: 1 } }),
    );
    for (const subject of ['a', 'b', 'c']) {
      grid.publish('vault', anEvent(subject));
      await grid.idle();
    }
    expect(await written('letters')).toEqual([]);
    const [blob, ...others] = await vi.waitFor(async () => {
      const found = await written('letters');
      expect(found).not.toEqual([]);
      return found;
    });
    expect(others).toEqual([]);
    expect(blob?.name).toMatch(/^SUB-1\/20\d\d\/\d\d?\/\d\d?\/\d\d?\/[0-9a-f-]{36}\.json$/);
    expect(blob?.records[0]).toEqual({
      ...anEvent('a'),
      metadataVersion: '1',
      deadLetterReason: 'UndeliverableDueToHttpBadRequest',
      deliveryAttempts: 1,
      lastDeliveryOutcome: 'BadRequest',
      publishTime: expect.stringMatching(/Z$/),
      lastDeliveryAttemptTime: expect.stringMatching(/Z$/),
    });
    expect(blob?.records.map((record) => record['deadLetterReason'])).toEqual([
      'UndeliverableDueToHttpBadRequest',
      'MaxDeliveryAttemptsExceeded',
      'UndeliverableDueToHttpRequestEntityTooLarge',
    ]);
  });

  it('are not lost when Event Grid stops before', async () => {
    const [grid, hook] = [await anEventGrid(1), await aWebhook([403])];
    const where = { connectionString: azurite.connectionString, name: 'early' };
    await grid.subscribe(
      subscription({
        endpoint: hook.url,
        deadLetterContainer: where,
        schema: 'CloudEventSchemaV1_0',
      }),
    );
    grid.publish('vault', anEvent('a'));
    await grid.idle();
    await grid.stop();
    const [blob] = await written('early');
    expect(blob?.records).toMatchObject([
      { type: 'Microsoft.KeyVault.SecretNearExpiry', lastdeliveryoutcome: 'Forbidden' },
    ]);
  });
});

describe('batches', () => {
  const subjects = ({ body }: Received) =>
    (body as { subject: string }[]).map((one) => one.subject);

  it('hold what is there at the same moment, as far as number and size allow', async () => {
    const [grid, hook] = [await anEventGrid(), await aWebhook()];
    const batching = { maxEventsPerBatch: 3, preferredBatchSizeInKilobytes: 2 };
    await grid.subscribe(subscription({ endpoint: hook.url, batching }));
    for (const subject of ['a', 'b', 'c', 'd']) grid.publish('vault', anEvent(subject));
    grid.publish('vault', anEvent('long', { data: 'x'.repeat(3000) }));
    grid.publish('vault', anEvent('e'));
    await grid.idle();
    expect(hook.events.map(subjects)).toEqual([['a', 'b', 'c'], ['d'], ['long'], ['e']]);
    expect(hook.events[0]?.headers).not.toHaveProperty('aeg-output-event-id');
  });

  it('are taken or tried again as a whole', async () => {
    const [grid, hook] = [await anEventGrid(), await aWebhook([503])];
    await grid.subscribe(
      subscription({
        endpoint: hook.url,
        batching: { maxEventsPerBatch: 10 },
        schema: 'CloudEventSchemaV1_0',
      }),
    );
    for (const subject of ['a', 'b']) grid.publish('vault', anEvent(subject));
    await grid.idle();
    expect(hook.events.flatMap(subjects).sort()).toEqual(['a', 'a', 'b', 'b']);
    expect(hook.events[0]?.headers).toMatchObject({
      'content-type': 'application/cloudevents-batch+json; charset=utf-8',
      'aeg-delivery-count': '0',
      'aeg-metadata-version': '1.0',
    });
    expect(hook.events.at(-1)?.headers['aeg-delivery-count']).toBe('1');
  });
});

describe('a storage queue', () => {
  it('gets one message an event, and is waited for five minutes when it is gone', async () => {
    const grid = await anEventGrid(0.002);
    const where = { connectionString: azurite.connectionString, name: 'events' };
    const queue = new QueueClient(where.connectionString, where.name);
    await grid.subscribe(subscription({ queue: { ...where, messageTtlSeconds: 60 } }));
    await queue.delete();
    grid.publish('vault', anEvent('a'));
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(grid.pending()).toBe(1);
    await queue.create();
    await grid.idle();
    const [message] = (await queue.receiveMessages()).receivedMessageItems;
    const text = Buffer.from(message?.messageText ?? '', 'base64').toString();
    expect(JSON.parse(text)).toEqual({ ...anEvent('a'), metadataVersion: '1' });
    const lifetimeMs = Number(message?.expiresOn) - Number(message?.insertedOn);
    expect(lifetimeMs).toBe(60_000);
  });
});
