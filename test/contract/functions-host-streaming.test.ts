import { request as httpRequest, type IncomingMessage } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type HostProcess, killHostProcesses } from '../support/functions-host.ts';
import { anApp, printed, type TestApp } from './functions-host-app.ts';

let app: TestApp;
let host: HostProcess;

beforeAll(async () => {
  app = await anApp({
    host: { extensions: { http: { maxConcurrentRequests: 3 } } },
    source: `
      app.setup({ enableHttpStream: true });
      app.http('echo', {
        methods: ['GET', 'POST'],
        route: 'echo/{id}',
        handler: async (request) => ({
          status: 201,
          headers: { 'x-own': 'yes', connection: 'close' },
          cookies: [{ name: 'a', value: '1' }, { name: 'b', value: '2', path: '/p' }],
          jsonBody: {
            url: request.url,
            params: request.params,
            as: request.query.getAll('a'),
            thing: request.headers.get('x-thing'),
            principal: request.headers.get('x-ms-client-principal'),
            body: await request.text(),
          },
        }),
      });
      app.http('upper', {
        methods: ['POST'],
        handler: (request) => ({
          body: (async function* () {
            for await (const chunk of request.body) yield Buffer.from(chunk).toString().toUpperCase();
          })(),
        }),
      });
      app.http('listening', {
        handler: () => ({
          jsonBody: process._getActiveHandles().flatMap((handle) => handle.address?.()?.address ?? []),
        }),
      });
      app.http('throws', { handler: () => { throw new Error('planned failure'); } });
      app.http('nothing', { handler: () => undefined });
      app.http('breaks', {
        handler: () => ({
          body: (async function* () { yield 'begun'; await wait(50); throw new Error('cut short'); })(),
        }),
      });
      app.http('background', {
        handler: async (request) => {
          record('background', { body: await request.text() });
          return { body: 'unseen' };
        },
      });
      app.http('hangs', { handler: async () => { await wait(20_000); return { body: 'late' }; } });
    `,
  });
  host = await app.start({ env: { AzureFunctionsJobHost__functionTimeout: '00:00:02' } });
});
afterAll(async () => {
  await killHostProcesses();
  await app?.remove();
});

/** A POST with a chunked body that the test writes piece by piece. */
function openCall(path: string) {
  const call = httpRequest(`${host.url}/api/${path}`, { method: 'POST' });
  const answer = new Promise<IncomingMessage>((resolve, reject) => {
    call.once('response', resolve);
    call.once('error', reject);
  });
  return { call, answer };
}

describe('an app with enableHttpStream', () => {
  it('gets the request as it was sent, and params of more than the route', async () => {
    const body = '{"id":"body","count":3,"deep":{"x":1},"list":[1]}';
    const answer = await fetch(`${host.url}/api/echo/7?a=1&a=2&code=key&more=q`, {
      method: 'POST',
      body,
      headers: { 'x-thing': 'One', 'x-ms-client-principal': 'forged' },
    });
    expect(answer.status).toBe(201);
    expect(answer.headers.get('x-own')).toBe('yes');
    expect(answer.headers.getSetCookie()).toEqual(['a=1', 'b=2; Path=/p']);
    expect(await answer.json()).toEqual({
      url: `${host.url}/api/echo/7?a=1&a=2&code=key&more=q`,
      // Query and body win names that the route has not.
      params: { id: '7', a: '1,2', more: 'q', count: '3' },
      as: ['1', '2'],
      thing: 'One',
      principal: null,
      body,
    });
  });

  it('answers a chunked body while it is still coming', async () => {
    const { call, answer } = openCall('upper');
    call.write('first');
    const response = await answer;
    const pieces = response[Symbol.asyncIterator]();
    expect(String((await pieces.next()).value)).toBe('FIRST');
    call.write('second');
    expect(String((await pieces.next()).value)).toBe('SECOND');
    call.end();
    expect((await pieces.next()).done).toBe(true);
  });

  it.each([
    ['throws', 'planned failure'],
    ['nothing', ''],
  ])('that gives no answer (%s) is answered for, with a warning', async (name, logged) => {
    const answer = await fetch(`${host.url}/api/${name}`);
    expect([answer.status, await answer.text()]).toEqual([500, '']);
    await printed(host, `${name}: the handler ended without an answer`);
    await printed(host, logged);
  });

  it('is served on this machine alone', async () => {
    const addresses = (await (await fetch(`${host.url}/api/listening`)).json()) as string[];
    expect([...new Set(addresses)]).toEqual(['127.0.0.1']);
  });

  it('that fails in the middle of its answer breaks the connection', async () => {
    const answer = await fetch(`${host.url}/api/breaks`);
    expect(answer.status).toBe(200);
    await expect(answer.text()).rejects.toThrow();
  });

  it('runs from the admin endpoint, too', async () => {
    const init = { method: 'POST', body: '{"input":"from afar"}' };
    expect((await fetch(`${host.url}/admin/functions/background`, init)).status).toBe(202);
    expect((await app.recorded('background'))[0]).toMatchObject({ body: 'from afar' });
  });

  it('answers again, on another port, after a handler has run into functionTimeout', async () => {
    expect((await fetch(`${host.url}/api/hangs`)).status).toBe(500);
    await printed(host, "the worker is restarted: function 'hangs' ran longer");
    expect((await fetch(`${host.url}/api/echo/1`)).status).toBe(201);
  });
});
