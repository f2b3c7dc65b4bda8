import { QueueServiceClient } from '@azure/storage-queue';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type Azurite, startAzurite } from '../support/azurite.ts';
import { type HostProcess, killHostProcesses } from '../support/functions-host.ts';
import { anApp, printed, type TestApp } from './functions-host-app.ts';

let azurite: Azurite;
let app: TestApp;
let host: HostProcess;

beforeAll(async () => {
  azurite = await startAzurite();
  app = await anApp({
    host: { extensions: { queues: { maxDequeueCount: 1, visibilityTimeout: '00:00:00' } } },
    source: `
      app.timer('atStart', {
        schedule: '30 4 * JAN-MAR MON',
        runOnStartup: true,
        useMonitor: false,
        handler: (timer) => record('atStart', { timer }),
      });
      app.timer('often', {
        schedule: '00:00:01',
        handler: async () => { record('often'); await wait(1500); record('often-done'); },
      });
      app.timer('nightly', { schedule: '0 0 4 * * *', handler: (timer) => record('nightly', { timer }) });
      app.http('web', {
        route: 'web/{id?}',
        handler: async (request) => { record('web', { body: await request.text() }); return {}; },
      });
      app.eventGrid('onEvent', { handler: (event) => record('onEvent', { event }) });
      const first =
        output.storageQueue({ queueName: '%PREFIX%-made', connection: '' });
      app.storageQueue('copy', {
        queueName: 'source',
        connection: 'Work',
        extraOutputs: [first],
        handler: (message, context) => {
          record('copy', { message, metadata: context.triggerMetadata });
          context.extraOutputs.set(first, message);
        },
      });
      app.storageQueue('gone', {
        queueName: 'gone',
        connection: 'Work',
        return: output.storageQueue({ queueName: 'x-out', connection: 'Broken' }),
        handler: () => 'never arrives',
      });
      app.storageQueue('last', {
        queueName: 'old-poison',
        connection: 'Work',
        handler: () => { record('last'); throw new Error('again'); },
      });
    `,
  });
  host = await app.start({
    args: ['--queue-lock-seconds', '1'],
    env: {
      AzureWebJobsStorage: azurite.connectionString,
      AzureWebJobsWork: azurite.connectionString,
      Broken: azurite.connectionString.replaceAll(/127\.0\.0\.1:\d+/g, '127.0.0.1:1'),
      PREFIX: 'Fixture',
      'AzureWebJobs.nightly.Disabled': 'true',
    },
  });
});
afterAll(async () => {
  await killHostProcesses();
  await app?.remove();
  await azurite?.stop();
});

const queue = (name: string) =>
  QueueServiceClient.fromConnectionString(azurite.connectionString).getQueueClient(name);

async function send(name: string, text: string): Promise<void> {
  await queue(name).createIfNotExists();
  await queue(name).sendMessage(Buffer.from(text).toString('base64'));
}

function taken(name: string): Promise<string> {
  return vi.waitFor(
    async () => {
      const [item] = (await queue(name).receiveMessages()).receivedMessageItems;
      expect(item).toBeDefined();
      return Buffer.from(item?.messageText ?? '', 'base64').toString();
    },
    { timeout: 15_000, interval: 200 },
  );
}

describe('timers', () => {
  it('run at the start when told to, without a status when no monitor keeps one', async () => {
    const [run] = await app.recorded('atStart');
    expect(run?.['timer']).toMatchObject({ isPastDue: false, scheduleStatus: null });
  });

  it('never overlap themselves', async () => {
    const begun = await app.recorded('often', 2);
    const [done] = await app.recorded('often-done');
    expect(Number(begun[1]?.['at'])).toBeGreaterThanOrEqual(Number(done?.['at']));
  });
});

describe('the admin endpoint', () => {
  it.each([
    ['web', 'text', 'web', { body: 'text' }],
    ['nightly', '', 'nightly', { timer: { isPastDue: false } }],
    ['onEvent', '{"id":"e","data":{}}', 'onEvent', { event: { id: 'e' } }],
    ['copy', 'plain', 'copy', { message: 'plain' }],
  ])('starts %s in the background, disabled or not', async (name, input, kind, seen) => {
    const answer = await fetch(`${host.url}/admin/functions/${name}`, {
      method: 'POST',
      body: JSON.stringify({ input }),
    });
    expect(answer.status).toBe(202);
    expect((await app.recorded(kind))[0]).toMatchObject(seen);
  });

  it('tells of the host and its functions', async () => {
    const get = async (path: string) => (await fetch(`${host.url}/admin/${path}`)).json();
    expect(await get('host/status')).toMatchObject({ state: 'Running' });
    expect(await get('functions/nightly')).toMatchObject({ name: 'nightly', isDisabled: true });
    const sync = await fetch(`${host.url}/admin/host/synctriggers`, { method: 'POST' });
    expect(await sync.json()).toEqual({ status: 'success' });
  });
});

describe('queues', () => {
  it('hand over what parses as JSON as its value, and take named outputs', async () => {
    await send('source', '42');
    expect(await taken('fixture-made')).toBe('plain');
    expect(await taken('fixture-made')).toBe('42');
    const found = (await app.recorded('copy', 2)).find(({ message }) => message === 42);
    expect(found?.['metadata']).toMatchObject({ queueTrigger: expect.anything(), dequeueCount: 1 });
  });

  it('fail the invocation when an output cannot be written', async () => {
    await send('gone', 'x');
    expect(await taken('gone-poison')).toBe('x');
    await printed(host, /gone \[[0-9a-f-]{36}\] Executed 'Functions.gone' \(Failed/);
  });

  it('leave a message that fails in a poison queue there, for the rest of its lock', async () => {
    await send('old-poison', 'x');
    await app.recorded('last');
    await printed(host, 'queue "old-poison" has no poison queue');
    expect((await queue('old-poison').getProperties()).approximateMessagesCount).toBe(1);
    expect(await queue('old-poison-poison').exists()).toBe(false);
  });
});
