import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, request, type Server } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { inspect } from 'node:util';
import { QueueClient } from '@azure/storage-queue';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createLocalCa } from '../../local/tls.ts';
import { createAzureStorage, type ServiceUrls } from '../../src/core/azure/storage.ts';
import { decodeKey, encodeKey, encodePrefix } from '../../src/core/storage/keys.ts';
import { memoryDocuments, memoryLog, memoryQueue } from '../../src/core/storage/memory.ts';
import type {
  AppendLog,
  DocumentStore,
  JsonObject,
  StoredDocument,
  WorkQueue,
} from '../../src/core/storage/ports.ts';
import { startAzurite } from '../support/azurite.ts';

interface Subject {
  readonly documents: DocumentStore;
  readonly log: AppendLog;
  readonly queue: WorkQueue;
  /** The next message of `queue`, removed from it; null when there is none. */
  take(): Promise<JsonObject | null>;
}

const conflict = expect.objectContaining({ name: 'AppError', code: 'conflict' });
const invalidInput = expect.objectContaining({ name: 'AppError', code: 'invalid_input' });
const notFound = expect.objectContaining({ name: 'AppError', code: 'not_found' });

let partitions = 0;
const newPartition = () => `partition/${++partitions}`;

let azurite: Awaited<ReturnType<typeof startAzurite>>;
beforeAll(async () => {
  azurite = await startAzurite();
});
afterAll(() => azurite?.stop());

function memorySubject(): Subject {
  const queue = memoryQueue();
  const take = async () => queue.take();
  return { documents: memoryDocuments(), log: memoryLog(), queue, take };
}

function azureSubject(): Subject {
  const { connectionString } = azurite;
  const storage = createAzureStorage(
    { connectionString },
    { table: 'documents', container: 'audit', queuePrefix: 'contract-' },
  );
  const reader = new QueueClient(connectionString, 'contract-work');
  const take = async () => {
    const { receivedMessageItems } = await reader.receiveMessages({ numberOfMessages: 1 });
    const message = receivedMessageItems[0];
    if (message === undefined) return null;
    await reader.deleteMessage(message.messageId, message.popReceipt);
    return JSON.parse(Buffer.from(message.messageText, 'base64').toString());
  };
  return { documents: storage.documents, log: storage.log, queue: storage.queue('work'), take };
}

const hostileIds = [
  'main/secret/orders-db',
  'a\\b#c?d%e%2Ff',
  'it\'s "quoted" `ticks` $&+,;=@[]{}|^~<>',
  ' leading and trailing ',
  '.',
  '..',
  '\u0000\u0001\u001f\u007f\u009f',
  'ünï\u0301 ключ 鍵 🔑',
  '\ud800 alone',
  'x'.repeat(200),
  '/'.repeat(200),
  '鍵'.repeat(128),
];
const anyId = fc.oneof(
  fc.string({ minLength: 1, maxLength: 40 }),
  fc.string({ minLength: 1, maxLength: 40, unit: 'binary' }),
  fc
    .array(fc.integer({ min: 0, max: 0xffff }), { minLength: 1, maxLength: 40 })
    .map((units) => String.fromCharCode(...units)),
);
const anyBody = fc
  .dictionary(
    fc.string({ unit: 'binary' }),
    fc.jsonValue({ stringUnit: 'binary' }) as fc.Arbitrary<never>,
  )
  .map((body) => JSON.parse(JSON.stringify(body)) as JsonObject);

async function everything(
  documents: DocumentStore,
  partition: string,
  query: { prefix?: string; limit?: number } = {},
): Promise<StoredDocument[]> {
  const found: StoredDocument[] = [];
  let cursor: string | null = null;
  do {
    const page: Awaited<ReturnType<DocumentStore['list']>> = await documents.list(partition, {
      ...query,
      cursor,
    });
    found.push(...page.documents);
    cursor = page.cursor;
  } while (cursor !== null);
  return found;
}

describe.each([
  ['memory', memorySubject, 200],
  ['Azure Storage', azureSubject, 25],
] as const)('storage in %s', (_name, open, runs) => {
  let subject: Subject;
  let documents: DocumentStore;
  beforeAll(() => {
    subject = open();
    documents = subject.documents;
  });

  describe('documents', () => {
    it('finds nothing in a partition nobody wrote to', async () => {
      const partition = newPartition();
      expect(await documents.get(partition, 'x')).toBeNull();
      expect(await documents.list(partition)).toEqual({ documents: [], cursor: null });
      await documents.delete(partition, 'x', 'any');
      await documents.delete(partition, 'x', { etag: 'W/"1"' });
    });

    it('gives back what was put, with the ETag of the write', async () => {
      const partition = newPartition();
      const etag = await documents.put(partition, 'a', { n: 1, deep: [{ s: 'x' }] }, 'absent');
      expect(await documents.get(partition, 'a')).toEqual({
        id: 'a',
        body: { n: 1, deep: [{ s: 'x' }] },
        etag,
      });
      const next = await documents.put(partition, 'a', { n: 1, deep: [{ s: 'x' }] }, { etag });
      expect(next).not.toBe(etag);
      expect((await documents.get(partition, 'a'))?.etag).toBe(next);
    });

    it('replaces a whole body, longer ones by shorter ones too', async () => {
      const partition = newPartition();
      await documents.put(partition, 'a', { long: 'x'.repeat(100_000), old: 1 }, 'any');
      await documents.put(partition, 'a', { short: true }, 'any');
      expect((await documents.get(partition, 'a'))?.body).toEqual({ short: true });
    });

    it('refuses a put whose condition does not hold, and leaves the document alone', async () => {
      const partition = newPartition();
      const etag = await documents.put(partition, 'a', { n: 1 }, 'absent');
      await documents.put(partition, 'a', { n: 2 }, { etag });
      await expect(documents.put(partition, 'a', { n: 3 }, 'absent')).rejects.toEqual(conflict);
      await expect(documents.put(partition, 'a', { n: 3 }, { etag })).rejects.toEqual(conflict);
      await expect(documents.put(partition, 'b', { n: 3 }, { etag })).rejects.toEqual(conflict);
      expect((await documents.get(partition, 'a'))?.body).toEqual({ n: 2 });
      expect(await documents.get(partition, 'b')).toBeNull();
    });

    it('deletes only under its condition, and twice as well as once', async () => {
      const partition = newPartition();
      const old = await documents.put(partition, 'a', { n: 1 }, 'absent');
      const etag = await documents.put(partition, 'a', { n: 2 }, { etag: old });
      await expect(documents.delete(partition, 'a', { etag: old })).rejects.toEqual(conflict);
      expect(await documents.get(partition, 'a')).not.toBeNull();
      await documents.delete(partition, 'a', { etag });
      await documents.delete(partition, 'a', { etag });
      expect(await documents.get(partition, 'a')).toBeNull();
      await documents.put(partition, 'a', { n: 3 }, 'absent');
      await documents.delete(partition, 'a', 'any');
      expect(await documents.get(partition, 'a')).toBeNull();
    });

    it('keeps copies: changing what was given or got changes nothing', async () => {
      const partition = newPartition();
      const body = { list: [1] };
      await documents.put(partition, 'a', body, 'absent');
      body.list.push(2);
      const got = (await documents.get(partition, 'a'))?.body as { list: number[] };
      got.list.push(3);
      expect((await documents.get(partition, 'a'))?.body).toEqual({ list: [1] });
    });

    it('gives one of many parallel writers the win', async () => {
      const partition = newPartition();
      const race = async (write: (n: number) => Promise<string>) => {
        const outcomes = await Promise.allSettled([0, 1, 2, 3, 4, 5, 6, 7].map(write));
        const lost = outcomes.filter(({ status }) => status === 'rejected');
        expect(lost.map((outcome) => 'reason' in outcome && outcome.reason.code)).toEqual(
          Array(7).fill('conflict'),
        );
        return outcomes.findIndex(({ status }) => status === 'fulfilled');
      };
      const first = await race((n) => documents.put(partition, 'a', { n }, 'absent'));
      const stored = await documents.get(partition, 'a');
      expect(stored?.body).toEqual({ n: first });
      const etag = stored?.etag ?? '';
      const second = await race((n) => documents.put(partition, 'a', { n }, { etag }));
      expect((await documents.get(partition, 'a'))?.body).toEqual({ n: second });
    });

    it.each(hostileIds)('keeps the id %j', async (id) => {
      const partition = newPartition() + id.slice(0, 100);
      const etag = await documents.put(partition, id, { id: `of ${id.length}` }, 'absent');
      const stored = { id, body: { id: `of ${id.length}` }, etag };
      expect(await documents.get(partition, id)).toEqual(stored);
      expect((await documents.list(partition, { prefix: id })).documents).toEqual([stored]);
      await documents.transact(partition, [
        { kind: 'put', id: `${id.slice(0, 100)}2`, body: {}, when: 'absent' },
        { kind: 'delete', id, when: { etag } },
      ]);
      expect(await documents.get(partition, id)).toBeNull();
    });

    it.each(['', 'x'.repeat(201), '鍵'.repeat(129)])('refuses the id %j', async (id) => {
      const refused = async (call: () => Promise<unknown>) =>
        expect((async () => call())()).rejects.toEqual(invalidInput);
      await refused(() => documents.put('p', id, {}, 'any'));
      await refused(() => documents.get('p', id));
      await refused(() => documents.delete('p', id, 'any'));
      await refused(() => documents.get(id, 'x'));
      await refused(() => documents.transact('p', [{ kind: 'put', id, body: {}, when: 'any' }]));
    });

    it('keeps any body under any id', async () => {
      const partition = newPartition();
      await fc.assert(
        fc.asyncProperty(anyId, anyBody, async (id, body) => {
          const etag = await documents.put(partition, id, body, 'any');
          expect(await documents.get(partition, id)).toEqual({ id, body, etag });
        }),
        { numRuns: runs },
      );
    });

    it('keeps 256 KiB of escaped text, and refuses more', async () => {
      const partition = newPartition();
      const room = 256 * 1024 - JSON.stringify({ s: '' }).length;
      const body = { s: `x${'🔑'.repeat(Math.floor((room - 1) / 12))}` };
      await documents.put(partition, 'big', body, 'absent');
      expect((await documents.get(partition, 'big'))?.body).toEqual(body);
      const exact = { s: 'x'.repeat(room) };
      await documents.put(partition, 'exact', exact, 'absent');
      expect((await documents.get(partition, 'exact'))?.body).toEqual(exact);
      const more = { s: 'x'.repeat(room + 1) };
      await expect((async () => documents.put(partition, 'more', more, 'any'))()).rejects.toEqual(
        invalidInput,
      );
    });

    it('lists in order of code units, by prefix, in pages of any size', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.uniqueArray(anyId, { minLength: 1, maxLength: 12 }),
          fc.integer({ min: 1, max: 5 }),
          fc.nat(3),
          async (ids, limit, length) => {
            const partition = newPartition();
            await documents.transact(
              partition,
              ids.map((id) => ({ kind: 'put', id, body: { id: id.length }, when: 'absent' })),
            );
            const prefix = (ids[0] ?? '').slice(0, length);
            const found = await everything(documents, partition, { prefix, limit });
            const expected = ids.filter((id) => id.startsWith(prefix)).sort();
            expect(found.map(({ id }) => id)).toEqual(
              expected.sort((a, b) => (a < b ? -1 : Number(a > b))),
            );
          },
        ),
        { numRuns: runs },
      );
    });

    it('pages through more documents than a page holds, and refuses a foreign cursor', async () => {
      const partition = newPartition();
      const ids = Array.from({ length: 250 }, (_, n) => `n/${String(n).padStart(4, '0')}`);
      for (const start of [0, 100, 200]) {
        const writes = ids.slice(start, start + 100).map((id) => put(id, { id }));
        await documents.transact(partition, writes);
      }
      await documents.put(partition, 'other', {}, 'absent');
      const first = await documents.list(partition, { prefix: 'n/' });
      expect(first.documents).toHaveLength(100);
      expect(first.cursor).not.toBeNull();
      const foreign = (async () => documents.list(partition, { cursor: "x' or 1 eq 1" }))();
      await expect(foreign).rejects.toEqual(invalidInput);
      const found = await everything(documents, partition, { prefix: 'n/', limit: 70 });
      expect(found.map(({ body }) => body['id'])).toEqual(ids);
      expect((await everything(documents, partition)).length).toBe(251);
    });
  });

  describe('transact', () => {
    it('writes all, and gives the ETag of each put in order', async () => {
      const partition = newPartition();
      const kept = await documents.put(partition, 'kept', { n: 0 }, 'absent');
      const gone = await documents.put(partition, 'gone', { n: 0 }, 'absent');
      await documents.put(partition, 'gone too', { n: 0 }, 'absent');
      const etags = await documents.transact(partition, [
        { kind: 'delete', id: 'gone', when: { etag: gone } },
        { kind: 'put', id: 'kept', body: { n: 1 }, when: { etag: kept } },
        { kind: 'put', id: 'any', body: { n: 2 }, when: 'any' },
        { kind: 'delete', id: 'gone too', when: 'any' },
        { kind: 'put', id: 'new', body: { n: 3 }, when: 'absent' },
      ]);
      expect(etags.map((etag) => etag === null)).toEqual([true, false, false, true, false]);
      const found = await everything(documents, partition);
      expect(found.map(({ id, body }) => [id, body['n']])).toEqual([
        ['any', 2],
        ['kept', 1],
        ['new', 3],
      ]);
      expect(found.map(({ etag }) => etag)).toEqual([etags[2], etags[1], etags[4]]);
    });

    it.each([
      ['a put of what exists', { kind: 'put', id: 'a', body: { n: 9 }, when: 'absent' }],
      ['a put with an old ETag', { kind: 'put', id: 'a', body: { n: 9 }, when: 'old' }],
      ['a put with an ETag of what is absent', { kind: 'put', id: 'c', body: {}, when: 'old' }],
      ['a delete with an old ETag', { kind: 'delete', id: 'a', when: 'old' }],
      ['a delete with an ETag of what is absent', { kind: 'delete', id: 'c', when: 'old' }],
    ] as const)('writes nothing when it holds %s', async (_what, write) => {
      const partition = newPartition();
      const old = await documents.put(partition, 'a', { n: 1 }, 'absent');
      await documents.put(partition, 'a', { n: 2 }, { etag: old });
      await documents.put(partition, 'b', { n: 2 }, 'absent');
      const before = await everything(documents, partition);
      const when = write.when === 'old' ? { etag: old } : write.when;
      await expect(
        documents.transact(partition, [
          { kind: 'delete', id: 'b', when: 'any' },
          put('new', {}),
          { ...write, when } as Parameters<DocumentStore['transact']>[1][number],
        ]),
      ).rejects.toEqual(conflict);
      expect(await everything(documents, partition)).toEqual(before);
    });

    it('takes an unconditional delete of what is absent as done', async () => {
      const partition = newPartition();
      const etags = await documents.transact(partition, [
        { kind: 'delete', id: 'nowhere', when: 'any' },
        put('a', { n: 1 }),
      ]);
      expect(etags[0]).toBeNull();
      expect((await documents.get(partition, 'a'))?.etag).toBe(etags[1]);
      await documents.transact(partition, [{ kind: 'delete', id: 'nowhere', when: 'any' }]);
    });

    it('refuses no writes, more than 100, and an id named twice', async () => {
      const refused = (count: number, id: (n: number) => string) =>
        expect(
          (async () =>
            documents.transact(
              'p',
              Array.from({ length: count }, (_, n) => put(id(n), {})),
            ))(),
        ).rejects.toEqual(invalidInput);
      await refused(0, String);
      await refused(101, String);
      await refused(2, () => 'same');
      const big = { s: 'x'.repeat(250_000) };
      const writes = Array.from({ length: 15 }, (_, n) => put(`${n}`, big));
      await expect((async () => documents.transact('p', writes))()).rejects.toEqual(invalidInput);
    });

    it('lets one of many parallel transactions win', async () => {
      const partition = newPartition();
      const outcomes = await Promise.allSettled(
        [0, 1, 2, 3, 4].map((n) =>
          documents.transact(partition, [put('record', { n }), put(`journal/${n}`, { n })]),
        ),
      );
      expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
      expect(await everything(documents, partition)).toHaveLength(2);
    });

    it('takes a hundred writes with hostile bodies', async () => {
      const partition = newPartition();
      const text =
        '\r\n--changeset_x\r\nDELETE y RowKey=\'1\' HTTP/1.1\r\nIf-Match: *\r\n\u2028{"odata.error":1}';
      const writes = Array.from({ length: 100 }, (_, n) => put(`${n}/${text}`, { n, text }));
      const etags = await documents.transact(partition, writes);
      const found = await everything(documents, partition);
      expect(found).toHaveLength(100);
      for (const { body, etag } of found) {
        expect(body['text']).toBe(text);
        expect(etags[body['n'] as number]).toBe(etag);
      }
    });
  });

  describe('a queue', () => {
    it('delivers what was sent', async () => {
      const sent: JsonObject[] = [{ kind: 'rotate', name: 'ü/🔑' }, { kind: 'resume' }];
      for (const message of sent) await subject.queue.send(message);
      const taken = [await subject.take(), await subject.take()];
      expect(taken).toEqual(expect.arrayContaining(sent));
      expect(await subject.take()).toBeNull();
    });

    it('takes 48 KiB and no more', async () => {
      await subject.queue.send({ s: 'x'.repeat(48 * 1024 - 8) });
      expect(await subject.take()).not.toBeNull();
      await expect(subject.queue.send({ s: 'x'.repeat(48 * 1024) })).rejects.toEqual(invalidInput);
    });
  });

  describe('a log', () => {
    const bytes = (text: string) => Buffer.from(text);

    it('grows by what is appended at its end', async () => {
      expect(await subject.log.append('grows/1', 0, bytes('one'))).toBe(3);
      expect(await subject.log.append('grows/1', 3, bytes('two'))).toBe(6);
      expect(Buffer.from(await subject.log.read('grows/1')).toString()).toBe('onetwo');
    });

    it('takes a repeated append as done, at the start and in the middle', async () => {
      await subject.log.append('repeats', 0, bytes('one'));
      await subject.log.append('repeats', 3, bytes('two'));
      await subject.log.append('repeats', 6, bytes('three'));
      expect(await subject.log.append('repeats', 0, bytes('one'))).toBe(3);
      expect(await subject.log.append('repeats', 3, bytes('two'))).toBe(6);
      expect(await subject.log.append('repeats', 6, bytes('three'))).toBe(11);
      expect(Buffer.from(await subject.log.read('repeats')).toString()).toBe('onetwothree');
    });

    it.each([
      ['other bytes', 3, 'TWO'],
      ['more than what stands there', 3, 'twothree'],
      ['a gap', 7, 'x'],
    ])('refuses %s', async (_what, position, text) => {
      const name = `refuses/${position}-${text}`;
      await subject.log.append(name, 0, bytes('one'));
      await subject.log.append(name, 3, bytes('two'));
      await expect(subject.log.append(name, position, bytes(text))).rejects.toEqual(conflict);
      expect(Buffer.from(await subject.log.read(name)).toString()).toBe('onetwo');
    });

    it('refuses to begin a log anywhere but at its start', async () => {
      await expect(subject.log.append('late', 5, bytes('x'))).rejects.toEqual(conflict);
      await expect(subject.log.read('late')).rejects.toEqual(notFound);
    });

    it('lets one of two writers at the same position win', async () => {
      const outcomes = await Promise.allSettled([
        subject.log.append('race', 0, bytes('left')),
        subject.log.append('race', 0, bytes('right')),
      ]);
      expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
      const winner = outcomes[0].status === 'fulfilled' ? 'left' : 'right';
      expect(Buffer.from(await subject.log.read('race')).toString()).toBe(winner);
    });

    it('lists names by prefix, in order', async () => {
      for (const name of ['list/b', 'list/a/2', 'list/a/10', 'listless']) {
        await subject.log.append(name, 0, bytes('x'));
      }
      const names: string[] = [];
      for await (const name of subject.log.list('list/')) names.push(name);
      expect(names).toEqual(['list/a/10', 'list/a/2', 'list/b']);
    });

    it.each(['', '/a', 'a//b', 'a/../b', 'a/.', 'a?b', 'a.'])(
      'refuses the name %j',
      async (name) => {
        const append = (async () => subject.log.append(name, 0, bytes('x')))();
        await expect(append).rejects.toEqual(invalidInput);
      },
    );
  });
});

describe('keys', () => {
  it('keep order, prefixes and the id, and hold nothing a table or URL minds', () => {
    fc.assert(
      fc.property(anyId, anyId, (left, right) => {
        const [l, r] = [encodeKey(left), encodeKey(right)];
        expect(decodeKey(l)).toBe(left);
        expect(l < r).toBe(left < right);
        expect(encodeKey(left + right).startsWith(encodePrefix(left))).toBe(true);
        expect(r.startsWith(l)).toBe(right.startsWith(left));
        expect(l).toMatch(/^[!.:[`{|~\w-]+$/);
      }),
      { numRuns: 2000 },
    );
  });

  it.each(['a/b', 'x.', 'x.9', '~zzz'])('are not %j', (key) => {
    expect(() => decodeKey(key)).toThrow(expect.objectContaining({ code: 'corrupt' }));
  });
});

describe('Azure Storage behind a bad network', () => {
  let proxy: Awaited<ReturnType<typeof startProxy>>;
  let storage: ReturnType<typeof createAzureStorage>;
  beforeAll(async () => {
    proxy = await startProxy(azurite.connectionString);
    storage = createAzureStorage(
      { connectionString: proxy.connectionString },
      { table: 'faults', container: 'faults', queuePrefix: 'faults-' },
      { perTryMs: 1_000, overallMs: 4_000, firstDelayMs: 20, maxDelayMs: 200 },
    );
    await storage.documents.put('warm', 'up', {}, 'any');
    await storage.log.append('warm/up', 0, Buffer.from('x'));
    await storage.queue('work').send({});
  });
  afterAll(() => proxy?.stop());

  it('needs one request for each warm operation', async () => {
    const counted = async (call: () => Promise<unknown>) => {
      const before = proxy.seen();
      await call();
      return proxy.seen() - before;
    };
    const { documents, log } = storage;
    expect(await counted(() => documents.put('count', 'a', {}, 'absent'))).toBe(1);
    expect(await counted(() => documents.get('count', 'a'))).toBe(1);
    expect(await counted(() => documents.list('count'))).toBe(1);
    expect(await counted(() => documents.transact('count', [put('b', {}), put('c', {})]))).toBe(1);
    expect(await counted(() => documents.delete('count', 'a', 'any'))).toBe(1);
    expect(await counted(() => storage.queue('work').send({}))).toBe(1);
    expect(await counted(() => log.append('count', 0, Buffer.from('one')))).toBe(2);
    expect(await counted(() => log.append('count', 3, Buffer.from('two')))).toBe(1);
    expect(await counted(() => log.read('count'))).toBe(1);
  });

  it.each(['lose', 'reset', 'half', 'unavailable'] as const)(
    'writes once and says so when the network does: %s',
    async (fault) => {
      const { documents, log } = storage;
      const partition = newPartition();
      proxy.next(fault);
      const first = await documents.put(partition, 'a', { n: 1 }, 'absent');
      expect((await documents.get(partition, 'a'))?.etag).toBe(first);
      proxy.next(fault);
      const second = await documents.put(partition, 'a', { n: 2 }, { etag: first });
      expect((await documents.get(partition, 'a'))?.etag).toBe(second);
      proxy.next(fault);
      const etags = await documents.transact(partition, [
        { kind: 'put', id: 'a', body: { n: 3 }, when: { etag: second } },
        { kind: 'put', id: 'b', body: { n: 3 }, when: 'absent' },
      ]);
      expect((await documents.list(partition)).documents.map(({ etag }) => etag)).toEqual(etags);
      proxy.next(fault);
      await documents.transact(partition, [
        { kind: 'delete', id: 'a', when: { etag: etags[0] ?? '' } },
      ]);
      proxy.next(fault);
      await documents.delete(partition, 'b', { etag: etags[1] ?? '' });
      expect((await documents.list(partition)).documents).toEqual([]);
      for (const [at, text] of ['one', 'two'].entries()) {
        proxy.next(fault);
        await log.append(`faults/${fault}`, at * 3, Buffer.from(text));
      }
      expect(Buffer.from(await log.read(`faults/${fault}`)).toString()).toBe('onetwo');
    },
  );

  it('tells somebody else’s equal write from its own lost one', async () => {
    const { documents } = storage;
    const partition = newPartition();
    const old = await documents.put(partition, 'a', { n: 0 }, 'absent');
    proxy.next('reset', () => documents.put(partition, 'a', { n: 1 }, { etag: old }));
    await expect(documents.put(partition, 'a', { n: 1 }, { etag: old })).rejects.toEqual(conflict);
    proxy.next('reset', () => documents.transact(partition, [put('b', { n: 1 })]));
    await expect(documents.transact(partition, [put('b', { n: 1 })])).rejects.toEqual(conflict);
  });

  it('gives up a silent try after its deadline', async () => {
    const partition = newPartition();
    proxy.next('hang');
    const before = performance.now();
    await storage.documents.put(partition, 'a', {}, 'absent');
    expect(performance.now() - before).toBeGreaterThan(900);
  });

  it('says storage_unavailable when nobody listens, without a key in the error', async () => {
    const { connectionString } = await startProxy(azurite.connectionString).then(async (gone) => {
      await gone.stop();
      return gone;
    });
    const names = { table: 'gone', container: 'gone' };
    const { documents } = createAzureStorage({ connectionString }, names, {
      perTryMs: 1_000,
      overallMs: 1_000,
      firstDelayMs: 20,
      maxDelayMs: 200,
    });
    const error = await documents.get('p', 'x').catch((cause: unknown) => cause);
    expect(error).toMatchObject({ code: 'storage_unavailable', retryable: true });
    expect(inspect(error, { depth: 20, showHidden: true })).not.toMatch(/SharedKey|authorization/i);
  });
});

describe('Azure Storage by identity', () => {
  let account: { serviceUrls: ServiceUrls; stop(): Promise<void> };
  beforeAll(async () => {
    account = await startTlsAzurite();
  });
  afterAll(() => account?.stop());

  it('works with a token instead of a key', async () => {
    const scopes: (string | string[])[] = [];
    const credential = {
      getToken: async (scope: string | string[]) => {
        scopes.push(scope);
        return { token: storageToken(), expiresOnTimestamp: Date.now() + 3_600_000 };
      },
    };
    const { serviceUrls } = account;
    const names = { table: 'documents', container: 'audit' };
    const storage = createAzureStorage({ serviceUrls, credential }, names);
    const etag = await storage.documents.put('p', 'a', { n: 1 }, 'absent');
    await storage.documents.transact('p', [
      put('b', {}),
      { kind: 'delete', id: 'a', when: { etag } },
    ]);
    expect((await storage.documents.list('p')).documents.map(({ id }) => id)).toEqual(['b']);
    await storage.queue('work').send({ n: 1 });
    await storage.log.append('log', 0, Buffer.from('one'));
    expect(Buffer.from(await storage.log.read('log')).toString()).toBe('one');
    expect(new Set(scopes.flat())).toEqual(new Set(['https://storage.azure.com/.default']));
  });

  it('refuses a connection string that names no account', async () => {
    const { documents } = createAzureStorage(
      { connectionString: 'nonsense' },
      { table: 'documents', container: 'audit' },
    );
    await expect(documents.get('p', 'x')).rejects.toMatchObject({ code: 'bad_configuration' });
  });
});

/** Azurite takes tokens over TLS only, and looks at their claims, not at their signature. */
async function startTlsAzurite() {
  const ca = await createLocalCa();
  setDefaultCACertificates([...getCACertificates('default'), ca.caPem]);
  const dir = await mkdtemp(join(tmpdir(), 'azurite-tls-'));
  const [cert, key] = [join(dir, 'cert.pem'), join(dir, 'key.pem')];
  await writeFile(cert, ca.cert);
  await writeFile(key, ca.key);
  const main = createRequire(import.meta.url).resolve('azurite/dist/src/azurite.js');
  const flags = '--inMemoryPersistence --skipApiVersionCheck --disableTelemetry --oauth basic';
  const ports = '--blobPort 0 --queuePort 0 --tablePort 0';
  const args = [main, ...`${flags} ${ports}`.split(' '), '--cert', cert, '--key', key];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  const urls = new Map<string, string>();
  for await (const line of createInterface(child.stdout)) {
    const [, service, url] =
      /Azurite (\w+) service is successfully listening at (https:\S+)/.exec(line) ?? [];
    if (service !== undefined && url !== undefined) urls.set(service, url);
    if (urls.size === 3) break;
  }
  child.stdout.resume();
  const url = (service: string) =>
    `${urls.get(service)?.replace('127.0.0.1', 'localhost')}/devstoreaccount1`;
  return {
    serviceUrls: { blob: url('Blob'), queue: url('Queue'), table: url('Table') },
    stop: async () => {
      child.kill('SIGTERM');
      await exited;
      await rm(dir, { recursive: true, force: true });
    },
  };
}

function storageToken(): string {
  const seconds = Math.floor(Date.now() / 1000);
  const claims = {
    aud: 'https://storage.azure.com',
    iss: 'https://sts.windows.net/ab1f708d-50f6-404c-a006-d71b2ac7a606/',
    iat: seconds - 60,
    nbf: seconds - 60,
    exp: seconds + 3_600,
  };
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}.${part({})}`;
}

type Fault = 'lose' | 'reset' | 'half' | 'unavailable' | 'hang';

/** Azurite through a proxy that spoils the next request on demand: once each. */
async function startProxy(connectionString: string) {
  let seen = 0;
  let fault: Fault | null = null;
  let before: (() => Promise<unknown>) | null = null;
  const servers: Server[] = [];
  let proxied = connectionString;
  for (const port of connectionString.matchAll(/127\.0\.0\.1:(\d+)/g)) {
    const server = createServer((incoming, answer) => {
      const now = fault;
      const first = before;
      [fault, before] = [null, null];
      seen++;
      void (async () => {
        await first?.();
        if (now === 'reset') incoming.socket.destroy();
        if (now === 'unavailable') answer.writeHead(503).end();
        if (now === 'reset' || now === 'hang' || now === 'unavailable') return;
        const options = { port: port[1], method: incoming.method, path: incoming.url };
        const outgoing = request({ host: '127.0.0.1', ...options, headers: incoming.headers });
        outgoing.on('error', () => incoming.socket.destroy());
        outgoing.on('response', (response) => {
          if (now === 'lose') {
            response.resume().on('end', () => incoming.socket.destroy());
            return;
          }
          if (now === 'half') {
            answer.writeHead(response.statusCode ?? 0, {
              ...response.headers,
              'content-length': 9e3,
            });
            answer.write('{"half":');
            response.resume().on('end', () => setTimeout(() => incoming.socket.destroy(), 20));
            return;
          }
          answer.writeHead(response.statusCode ?? 0, response.headers);
          response.pipe(answer);
        });
        incoming.pipe(outgoing);
      })();
    });
    servers.push(server.listen(0, '127.0.0.1'));
    await new Promise((resolve) => server.once('listening', resolve));
    const address = server.address();
    const own = typeof address === 'object' ? address?.port : null;
    proxied = proxied.replace(`127.0.0.1:${port[1]}`, `127.0.0.1:${own}`);
  }
  return {
    connectionString: proxied,
    seen: () => seen,
    next: (next: Fault, first: (() => Promise<unknown>) | null = null) => {
      [fault, before] = [next, first];
    },
    stop: async () => {
      for (const server of servers) {
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      }
    },
  };
}

function put(id: string, body: JsonObject) {
  return { kind: 'put', id, body, when: 'absent' } as const;
}
