import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, request as httpRequest, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { QueueServiceClient } from '@azure/storage-queue';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { startEventGrid } from '../../local/event-grid/event-grid.ts';
import { createLog } from '../../local/functions-host/log.ts';
import { startServer } from '../../local/functions-host/server.ts';
import { type Azurite, startAzurite } from '../support/azurite.ts';
import {
  type HostProcess,
  hostScript,
  killHostProcesses,
  startHostProcess,
} from '../support/functions-host.ts';
import { buildSampleApp } from '../support/sample-functions-app/build.ts';

interface Entry {
  readonly kind: string;
  readonly pid: number;
  readonly at: number;
  readonly [name: string]: unknown;
}

let azurite: Azurite;
let dir: string;
let app: string;
let testCount = 0;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'functions-host-'));
  app = join(dir, 'app');
  await Promise.all([
    startAzurite().then((started) => {
      azurite = started;
    }),
    buildSampleApp(app),
  ]);
});

afterAll(async () => {
  await killHostProcesses();
  await azurite?.stop();
  await rm(dir, { recursive: true, force: true });
});

/** One test's hosts share a record file and a queue; nothing else of any test is shared. */
function aScene(only: string) {
  testCount += 1;
  const file = join(dir, `records-${testCount}`);
  const queueName = `sample-${testCount}`;
  const service = QueueServiceClient.fromConnectionString(azurite.connectionString);
  const start = (args: readonly string[] = [], env: Record<string, string> = {}) =>
    startHostProcess({
      app,
      args: ['--poll-seconds', '0.2', ...args],
      env: {
        AzureWebJobsStorage: azurite.connectionString,
        AzureFunctionsWebHost__hostid: `host-${testCount}`,
        SAMPLE_RECORDS: file,
        SAMPLE_ONLY: only,
        SAMPLE_QUEUE: queueName.toUpperCase(),
        'AzureWebJobs.off.Disabled': 'true',
        ...env,
      },
    });
  const records = async (kind: string): Promise<Entry[]> => {
    const text = await readFile(file, 'utf8').catch(() => '');
    return text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Entry)
      .filter((entry) => entry.kind === kind);
  };
  const recorded = (kind: string, count = 1) =>
    vi.waitFor(
      async () => {
        const found = await records(kind);
        expect(found.length).toBeGreaterThanOrEqual(count);
        return found;
      },
      { timeout: 10_000, interval: 50 },
    );
  return { start, records, recorded, service, queueName };
}

/** Waits for a text in the host's output: a pipe may be slower than an answer. */
function printed(host: HostProcess, text: string | RegExp): Promise<void> {
  return vi.waitFor(() => expect(host.output()).toMatch(text), { timeout: 5000 });
}

/** Forwards to storage and notes each call as `traffic METHOD path`; traffic is what the host calls it. */
async function aRecordingProxy(connectionString: string) {
  const calls: string[] = [];
  const servers: Server[] = [];
  let changed = connectionString;
  for (const port of [azurite.ports.blob, azurite.ports.queue]) {
    const server = createServer((request, response) => {
      const { method = 'GET', headers, url: path = '/' } = request;
      const traffic = /^keyturn-host-(\w+)/.exec(headers['user-agent'] ?? '')?.[1];
      calls.push(`${traffic} ${method} ${path.split('?')[0]?.replace(/[0-9a-f-]{36}/, 'ID')}`);
      const onward = httpRequest({ host: '127.0.0.1', port, method, headers, path }, (answer) => {
        response.writeHead(answer.statusCode ?? 500, answer.headers);
        answer.pipe(response);
      });
      request.pipe(onward);
    });
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    changed = changed.replace(`:${port}/`, `:${(server.address() as AddressInfo).port}/`);
  }
  const stop = () => {
    for (const server of servers) server.close().closeAllConnections();
  };
  return { calls, connectionString: changed, stop };
}

async function send(scene: ReturnType<typeof aScene>, message: unknown): Promise<void> {
  const queue = scene.service.getQueueClient(scene.queueName);
  await queue.createIfNotExists();
  const text = typeof message === 'string' ? message : JSON.stringify(message);
  await queue.sendMessage(Buffer.from(text).toString('base64'));
}

describe('HTTP functions', () => {
  let host: HostProcess;
  beforeAll(async () => {
    host = await aScene('http').start();
  });
  afterAll(() => host?.stop());

  it('get typed data: route values, joined repeats, no platform identity', async () => {
    const answer = await fetch(`${host.url}/V1/Echo/7/a%20b/c/?a=1&a=2`, {
      method: 'POST',
      body: 'hello',
      headers: {
        'X-Thing': 'One',
        'x-ms-client-principal': 'forged',
        'x-ms-client-principal-id': 'me',
      },
    });
    const seen = (await answer.json()) as Record<string, Record<string, string>>;
    expect(answer.status).toBe(201);
    expect(answer.headers.get('x-own')).toBe('yes');
    expect(answer.headers.get('x-custom')).toBe('host');
    expect(answer.headers.get('set-cookie')).toBe('seen=1; path=/; httponly');
    expect(seen).toMatchObject({
      params: { id: '7', rest: 'a b/c' },
      query: { a: '1,2' },
      headers: { 'x-thing': 'One' },
      body: 'hello',
    });
    expect(
      Object.keys(seen['headers'] ?? {}).filter((name) => name.startsWith('x-ms-client')),
    ).toEqual([]);
  });

  it('lose a chunked body, with a warning', async () => {
    const answer = await new Promise<string>((resolve, reject) => {
      const request = httpRequest(`${host.url}/v1/echo/1`, { method: 'POST' }, (response) => {
        let text = '';
        response.on('data', (chunk) => {
          text += chunk;
        });
        response.on('end', () => resolve(text));
      });
      request.on('error', reject);
      request.write('first ');
      request.end('second');
    });
    expect(JSON.parse(answer)).toMatchObject({ body: '' });
    await printed(host, 'chunked request body was dropped');
  });

  it.each([
    ['GET', 'v1/echo/notanumber', 404],
    ['DELETE', 'v1/echo/1', 404],
    ['GET', 'v1/broken', 500],
    ['GET', 'v1/nothing', 204],
    ['GET', 'v1/off', 404],
    ['GET', 'v1/guarded', 200],
    ['GET', '', 200],
    ['GET', '/other.example/v1/nothing', 404],
  ])('answer %s /%s with %i', async (method, path, status) => {
    const answer = await fetch(`${host.url}/${path}`, { method });
    expect(answer.status).toBe(status);
    if (status >= 400) expect(await answer.text()).toBe('');
  });

  it('answer a preflight of an allowed origin only', async () => {
    const ask = (origin: string) =>
      fetch(`${host.url}/v1/echo/1`, {
        method: 'OPTIONS',
        headers: { origin, 'access-control-request-method': 'POST' },
      });
    expect((await ask('https://portal.example')).headers.get('access-control-allow-origin')).toBe(
      'https://portal.example',
    );
    expect((await ask('https://evil.example')).status).toBe(404);
  });

  it('log with level, function and invocation id', async () => {
    await fetch(`${host.url}/v1/echo/1`);
    await printed(host, /Z INFO {2}echo \[[0-9a-f-]{36}\] echo called\n/);
    await printed(host, /Z ERROR broken \[[0-9a-f-]{36}\] Executed .*planned failure \| +at/);
  });
});

describe('HTTP functions of the same app with enableHttpStream', () => {
  it('answer as before, with repeats apart and a chunked body', async () => {
    const host = await aScene('http').start([], { SAMPLE_FAULT: 'stream' });
    const answer = await fetch(`${host.url}/v1/echo/7/rest?a=1&a=2`, {
      method: 'POST',
      body: new Blob(['hello']).stream(),
      duplex: 'half',
    } as RequestInit);
    await host.stop();
    expect(answer.status).toBe(201);
    expect(answer.headers.get('set-cookie')).toBe('seen=1; HttpOnly');
    expect(await answer.json()).toMatchObject({
      params: { id: '7', rest: 'rest' },
      query: { a: '2' },
      body: 'hello',
    });
  });
});

describe('limits and Easy Auth', () => {
  let host: HostProcess;
  beforeAll(async () => {
    host = await aScene('http').start(['--easy-auth', '{"id":"1","name":"Ada"}'], {
      AzureFunctionsJobHost__extensions__http__maxOutstandingRequests: '1',
      AzureFunctionsJobHost__functionTimeout: '00:00:00.300',
      FUNCTIONS_REQUEST_BODY_SIZE_LIMIT: '10',
    });
  });
  afterAll(() => host?.stop());

  it('give the simulated user, whatever the client says', async () => {
    const headers = { 'x-ms-client-principal-name': 'Eve', 'x-ms-client-principal-roles': 'all' };
    const seen = (await (await fetch(`${host.url}/v1/echo/1`, { headers })).json()) as {
      headers: Record<string, string>;
    };
    const own = Object.entries(seen.headers).filter(([name]) =>
      name.startsWith('x-ms-client-principal'),
    );
    expect(own.map(([name]) => name.slice(21)).sort()).toEqual(['', '-id', '-idp', '-name']);
    expect(seen.headers).toMatchObject({
      'x-ms-client-principal-name': 'Ada',
      'x-ms-client-principal-idp': 'aad',
    });
  });

  it('refuse a long body, a call too many and a handler too slow', async () => {
    const long = await fetch(`${host.url}/v1/echo/1`, { method: 'POST', body: '12345678901' });
    expect(long.status).toBe(413);
    const answers = await Promise.all([fetch(`${host.url}/v1/slow`), fetch(`${host.url}/v1/slow`)]);
    expect(answers.map(({ status }) => status).sort()).toEqual([429, 500]);
    await printed(host, 'Timeout value of 300 ms was exceeded');
  });
});

describe('keys', () => {
  let host: HostProcess;
  beforeAll(async () => {
    const keys = ['--master-key', 'M', '--function-key', 'F', '--eventgrid-key', 'E'];
    host = await aScene('http,events').start(['--enable-auth', '--pass-client-principal', ...keys]);
  });
  afterAll(() => host?.stop());

  it.each([
    ['v1/guarded', '', 401],
    ['v1/guarded', 'E', 401],
    ['v1/guarded', 'F', 200],
    ['v1/guarded', 'M', 200],
    ['v1/master', 'F', 401],
    ['v1/master', 'M', 200],
    ['v1/off', 'M', 200],
    ['admin/host/status', 'F', 401],
    ['admin/host/status', 'M', 200],
    ['admin/host/ping', '', 200],
    ['runtime/webhooks/eventgrid?functionName=onEvent', 'F', 401],
    ['runtime/webhooks/eventgrid?functionName=onEvent', 'E', 400],
  ])('/%s with key "%s" gives %i', async (path, key, status) => {
    const headers: Record<string, string> = key === '' ? {} : { 'x-functions-key': key };
    expect((await fetch(`${host.url}/${path}`, { headers })).status).toBe(status);
    const url = new URL(`${host.url}/${path}`);
    url.searchParams.set('code', key);
    expect((await fetch(url)).status).toBe(status);
  });

  it('prefer the header to the query', async () => {
    const headers = { 'x-functions-key': 'wrong' };
    expect((await fetch(`${host.url}/v1/guarded?code=F`, { headers })).status).toBe(401);
  });

  it('pass a spoofed principal on when asked to', async () => {
    const headers = { 'x-ms-client-principal': 'forged' };
    const seen = (await (await fetch(`${host.url}/v1/echo/1`, { headers })).json()) as {
      headers: object;
    };
    expect(seen.headers).toHaveProperty('x-ms-client-principal', 'forged');
  });
});

describe('admin endpoints and the Event Grid webhook', () => {
  const scene = () => shared;
  let shared: ReturnType<typeof aScene>;
  let host: HostProcess;
  beforeAll(async () => {
    shared = aScene('events,queue');
    host = await shared.start();
  });
  afterAll(() => host?.stop());

  const webhook = (init: RequestInit & { type?: string }, name = 'onEvent') =>
    fetch(`${host.url}/runtime/webhooks/eventgrid?functionName=${name}`, {
      method: 'POST',
      ...init,
      headers: {
        ...(init.type === undefined ? {} : { 'aeg-event-type': init.type }),
        ...init.headers,
      },
    });
  const event = (id: string, data: object = {}) => ({ id, subject: 's', eventType: 't', data });

  it('list functions and start one in the background', async () => {
    const list = (await (await fetch(`${host.url}/admin/functions`)).json()) as { name: string }[];
    expect(list.map(({ name }) => name)).toEqual(['onEvent', 'onMessage']);
    expect((await fetch(`${host.url}/admin/functions/nobody`)).status).toBe(404);
    expect((await fetch(`${host.url}/admin/functions/onMessage/status`)).status).toBe(200);
    const post = (body: string) =>
      fetch(`${host.url}/admin/functions/onMessage`, { method: 'POST', body });
    expect((await post('no json')).status).toBe(400);
    expect((await post('{"input":"{\\"from\\":\\"admin\\"}"}')).status).toBe(202);
    expect((await scene().recorded('message-done'))[0]).toMatchObject({
      message: { from: 'admin' },
    });
  });

  it('answer both handshakes', async () => {
    const validation = await webhook({
      type: 'SubscriptionValidation',
      body: JSON.stringify([{ data: { validationCode: 'abc' } }]),
    });
    expect(await validation.json()).toEqual({ validationResponse: 'abc' });
    const options = await webhook({
      method: 'OPTIONS',
      headers: { 'webhook-request-origin': 'evil.example' },
    });
    expect(options.status).toBe(200);
    expect(options.headers.get('webhook-allowed-origin')).toBe('eventgrid.azure.net');
  });

  it('run one invocation an event and fail the whole batch with the first', async () => {
    const good = await webhook({
      type: 'Notification',
      body: JSON.stringify([event('e1'), event('e2', { x: 1 })]),
    });
    expect(good.status).toBe(202);
    const bad = await webhook({
      type: 'Notification',
      body: JSON.stringify([event('e3', { fail: true }), event('e4')]),
    });
    expect([bad.status, await bad.text()]).toEqual([500, 'event refused']);
    const seen = await scene().recorded('event', 4);
    expect(seen.map((entry) => (entry['event'] as { id: string }).id).sort()).toEqual([
      'e1',
      'e2',
      'e3',
      'e4',
    ]);
    expect(seen.find((entry) => (entry['event'] as { id: string }).id === 'e2')?.['data']).toEqual({
      x: 1,
    });
  });

  it.each(['EventGridSchema', 'CloudEventSchemaV1_0'] as const)(
    'take a subscription and its events in %s',
    async (schema) => {
      const grid = await startEventGrid();
      const endpoint = `${host.url}/runtime/webhooks/eventgrid?functionName=onEvent`;
      await grid.subscribe({ topic: 'vault', name: schema, endpoint, schema });
      grid.publish('vault', { id: schema, subject: 's', eventType: 't', data: { from: 'grid' } });
      await grid.idle();
      await grid.stop();
      const seen = (await scene().records('event')).filter(
        (entry) => (entry['event'] as { id: string }).id === schema,
      );
      expect(seen).toMatchObject([{ data: { from: 'grid' } }]);
      expect(Object.keys(seen[0]?.['event'] as object)).toContain(
        schema === 'EventGridSchema' ? 'dataVersion' : 'specversion',
      );
    },
  );

  it.each([
    ['Notification', 'onevent', '[]', 404],
    ['Notification', 'onMessage', '[]', 404],
    ['Notification', 'onEvent', 'no json', 500],
    ['Unsubscribe', 'onEvent', '[]', 202],
    ['Other', 'onEvent', '[]', 400],
  ])('answer %s for %s with body %s by the table', async (type, name, body, status) => {
    const answer = await webhook({ type, body }, name);
    expect(answer.status).toBe(status);
    if (status === 404) expect(await answer.text()).toBe(`cannot find function: '${name}'`);
  });
});

describe('queue triggers', () => {
  afterEach(killHostProcesses);

  it('wait for the queue, run, write the output, delete', async () => {
    const scene = aScene('queue');
    await scene.start();
    await send(scene, { id: 'mine', reply: [{ n: 1 }, 'two'] });
    const [entry] = await scene.recorded('message-done');
    expect(entry).toMatchObject({ message: { id: 'mine' } });
    expect((await scene.records('message'))[0]).toMatchObject({ dequeueCount: 1, id: 'mine' });
    const out = scene.service.getQueueClient('sample-out');
    const texts: unknown[] = [];
    await vi.waitFor(async () => {
      const { receivedMessageItems } = await out.receiveMessages({ numberOfMessages: 10 });
      texts.push(
        ...receivedMessageItems.map((item) => Buffer.from(item.messageText, 'base64').toString()),
      );
      expect(texts).toHaveLength(2);
    });
    expect(texts).toEqual(['{\n  "n": 1\n}', 'two']);
    const source = scene.service.getQueueClient(scene.queueName);
    await vi.waitFor(async () =>
      expect((await source.getProperties()).approximateMessagesCount).toBe(0),
    );
  });

  it('try again and move to the poison queue after maxDequeueCount', async () => {
    const scene = aScene('queue');
    const host = await scene.start();
    await send(scene, { fail: true });
    const poison = scene.service.getQueueClient(`${scene.queueName}-poison`);
    const text = await vi.waitFor(
      async () => {
        const [item] = (await poison.receiveMessages()).receivedMessageItems;
        expect(item).toBeDefined();
        return Buffer.from(item?.messageText ?? '', 'base64').toString();
      },
      { timeout: 8000 },
    );
    expect(JSON.parse(text)).toEqual({ fail: true });
    expect((await scene.records('message')).map((entry) => entry['dequeueCount'])).toEqual([1, 2]);
    await printed(host, 'MaxDequeueCount of 2');
  });

  it('renew the lock while the handler runs', async () => {
    const scene = aScene('queue');
    await scene.start(['--queue-lock-seconds', '1']);
    await send(scene, { hang: 1800 });
    await scene.recorded('message-done');
    expect(await scene.records('message')).toHaveLength(1);
  });

  it('hand a killed host’s message to the next one after the lock', async () => {
    const scene = aScene('queue');
    const first = await scene.start(['--queue-lock-seconds', '1']);
    await send(scene, { hang: 1500 });
    await scene.recorded('message');
    await first.stop('SIGKILL');
    await scene.start(['--queue-lock-seconds', '1']);
    const [done] = await scene.recorded('message-done');
    const attempts = await scene.records('message');
    expect(attempts.map((entry) => entry['dequeueCount'])).toEqual([1, 2]);
    expect(done?.pid).toBe(attempts[1]?.pid);
  });

  it('finish a running message on SIGTERM and delete it', async () => {
    const scene = aScene('queue');
    const host = await scene.start();
    await send(scene, { hang: 500 });
    await scene.recorded('message');
    expect(await host.stop()).toBe(0);
    expect(await scene.records('message-done')).toHaveLength(1);
    const queue = scene.service.getQueueClient(scene.queueName);
    expect((await queue.getProperties()).approximateMessagesCount).toBe(0);
  });

  it('take events that Event Grid puts into a queue', async () => {
    const scene = aScene('queue');
    await scene.start();
    const grid = await startEventGrid();
    const queue = { connectionString: azurite.connectionString, name: scene.queueName };
    await grid.subscribe({ topic: 'vault', name: 'q', queue, schema: 'CloudEventSchemaV1_0' });
    grid.publish('vault', { id: 'e', subject: 's', eventType: 't' });
    await grid.idle();
    await grid.stop();
    const [entry] = await scene.recorded('message-done');
    expect(entry).toMatchObject({ message: { specversion: '1.0', id: 'e', type: 't' } });
  });

  it('mark their idle calls, so that a proxy can tell them from work', async () => {
    const scene = aScene('queue,timer');
    const proxy = await aRecordingProxy(azurite.connectionString);
    const host = await scene.start(['--queue-lock-seconds', '1', '--timer-lock-seconds', '1'], {
      AzureWebJobsStorage: proxy.connectionString,
    });
    await send(scene, { hang: 800 });
    await scene.recorded('message-done');
    await host.stop();
    proxy.stop();
    const seen = [...new Set(proxy.calls)];
    const queue = `/devstoreaccount1/${scene.queueName}`;
    expect(seen).toContain(`poll GET ${queue}/messages`);
    expect(seen).toContain(`renewal PUT ${queue}/messages/ID`);
    expect(seen).toContain(`work DELETE ${queue}/messages/ID`);
    const others = seen.filter((call) => !call.includes(queue));
    expect(
      others.filter((call) => !call.startsWith('lock ') || !call.includes('1/azure-webjobs-hosts')),
    ).toEqual([]);
    expect(others.length).toBeGreaterThan(2);
  });

  it('survive a storage restart', async () => {
    const scene = aScene('queue');
    await scene.start();
    await azurite.restart();
    await send(scene, { after: 'restart' });
    expect(await scene.recorded('message-done')).toHaveLength(1);
  });
});

describe('timers', () => {
  afterEach(killHostProcesses);

  it('fire in one host at a time, and in the other once the first is frozen', async () => {
    const scene = aScene('timer');
    const flags = ['--timer-lock-seconds', '1'];
    const [a, b] = await Promise.all([scene.start(flags), scene.start(flags)]);
    const before = await scene.recorded('tick', 2);
    expect(new Set(before.map((entry) => entry.pid)).size).toBe(1);
    const holder = before[0]?.pid === a.child.pid ? a : b;
    const other = holder === a ? b : a;
    holder.child.kill('SIGSTOP');
    await vi.waitFor(
      async () =>
        expect((await scene.records('tick')).some((entry) => entry.pid === other.child.pid)).toBe(
          true,
        ),
      { timeout: 8000 },
    );
    const frozenAt = Date.now();
    holder.child.kill('SIGCONT');
    await vi.waitFor(
      async () =>
        expect(
          (await scene.records('tick')).filter((entry) => entry.at > frozenAt + 300).length,
        ).toBeGreaterThan(1),
      { timeout: 8000 },
    );
    const after = (await scene.records('tick')).filter((entry) => entry.at > frozenAt + 300);
    expect(new Set(after.map((entry) => entry.pid))).toEqual(new Set([other.child.pid]));
  });

  it('run once, past due, for what was missed; and retry by their policy', async () => {
    const scene = aScene('timer');
    const first = await scene.start([], { SAMPLE_YEARLY: '0 0 0 1 1 *' });
    await scene.recorded('tick');
    expect(await first.stop()).toBe(0);
    expect(await scene.records('yearly')).toEqual([]);
    await missAYear();
    await scene.start([], { SAMPLE_YEARLY: '0 0 0 1 1 *' });
    const runs = await scene.recorded('yearly', 2);
    expect(runs[0]?.['timer']).toMatchObject({ isPastDue: true, schedule: { adjustForDST: true } });
    expect(runs[1]?.['retry']).toEqual({
      retryCount: 1,
      maxRetryCount: 1,
      exception: { message: 'first try fails' },
    });
  });

  async function missAYear(): Promise<void> {
    const { BlobServiceClient } = await import('@azure/storage-blob');
    const container = BlobServiceClient.fromConnectionString(
      azurite.connectionString,
    ).getContainerClient('azure-webjobs-hosts');
    const blob = container.getBlockBlobClient(
      `timers/host-${testCount}/Host.Functions.yearly/status`,
    );
    const text = JSON.stringify({
      Last: '2020-01-01T00:00:00.000Z',
      Next: '2021-01-01T00:00:00.000Z',
      LastUpdated: '2020-01-01T00:00:00.000Z',
    });
    await blob.upload(text, text.length);
  }
});

describe('the process', () => {
  afterEach(killHostProcesses);

  it('finishes running calls, ends its hooks and exits 0 on SIGTERM', async () => {
    const scene = aScene('http');
    const host = await scene.start();
    const call = fetch(`${host.url}/v1/slow`);
    await scene.recorded('slow-begun');
    const code = host.stop();
    expect(await (await call).text()).toBe('finished');
    expect(await code).toBe(0);
    expect(await scene.records('terminated')).toHaveLength(1);
  });

  it('answers 503 until the app is loaded', async () => {
    const log = createLog({ quiet: true, print: () => undefined });
    const server = await startServer(0, log);
    const answer = await fetch(server.url);
    server.kill();
    await server.close();
    expect([answer.status, await answer.text()]).toEqual([503, 'Function host is not running.']);
  });

  it('leaves nothing behind when its parent is killed', async () => {
    const program = `
      const { fork } = require('node:child_process');
      const child = fork(process.argv[1], ['--app', process.argv[2], '--port', '0'], { stdio: 'pipe' });
      child.once('message', ({ url }) => console.log(url));
    `;
    const scene = aScene('http');
    const parent = spawn(process.execPath, ['-e', program, hostScript, app], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: {
        ...process.env,
        SAMPLE_ONLY: 'http',
        SAMPLE_RECORDS: join(dir, `records-${testCount}`),
      },
    });
    const [line] = (await once(parent.stdout, 'data')) as [Buffer];
    const url = line.toString().trim();
    expect((await fetch(url)).status).toBe(200);
    parent.kill('SIGKILL');
    // By its port, not its process id: where nobody reaps orphans the id stays.
    await vi.waitFor(() => expect(fetch(url)).rejects.toThrow(), { timeout: 5000 });
    await scene.recorded('terminated');
    expect(await scene.records('terminated')).toHaveLength(1);
  });

  it('stops when its parent closes the channel', async () => {
    const host = await aScene('http').start();
    const exited = once(host.child, 'exit');
    host.child.disconnect();
    expect((await exited)[0]).toBe(0);
  });

  it('dies loudly of an unhandled rejection', async () => {
    const host = await aScene('http').start(['--quiet']);
    const exited = once(host.child, 'exit');
    await fetch(`${host.url}/v1/crash`).catch(() => undefined);
    expect((await exited)[0]).toBe(1);
    await printed(host, 'stray rejection');
  });

  it.each([
    ['the app throws', { SAMPLE_FAULT: 'throw' }, ['the sample app is broken']],
    [
      'functions are faulty, listing every fault',
      { SAMPLE_FAULT: 'bindings' },
      [
        "'lost': '%NOT_SET%' does not resolve",
        "'misnamed': queue name",
        "'odd': schedule",
        "'reserved': The specified route conflicts",
      ],
    ],
    [
      'a host.json override is wrong',
      { AzureFunctionsJobHost__extensions__queues__batchSize: '99' },
      ['batchSize'],
    ],
    ['storage is not set', { AzureWebJobsStorage: '' }, ['AzureWebJobsStorage']],
  ])('refuses to start when %s', async (_, env, messages) => {
    const failure = await aScene('http,queue')
      .start([], env as unknown as Record<string, string>)
      .then(
        () => 'it started',
        (error: Error) => error.message,
      );
    expect(failure).toContain('host ended with 1');
    for (const message of messages) expect(failure).toContain(message);
  });

  it('refuses a host.json that is not 2.0', async () => {
    const copy = join(dir, 'other-app');
    await cp(app, copy, { recursive: true });
    await writeFile(join(copy, 'host.json'), '{"version":"3.0"}');
    await expect(startHostProcess({ app: copy })).rejects.toThrow('must be exactly "2.0"');
  });
});
