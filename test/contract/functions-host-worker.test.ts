import { once } from 'node:events';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { killHostProcesses } from '../support/functions-host.ts';
import { anApp, printed, type TestApp } from './functions-host-app.ts';

let app: TestApp;
beforeAll(async () => {
  app = await anApp({
    source: `
      const born = Math.random();
      app.hook.preInvocation((context) => {
        context.hookData.order = ['pre'];
        context.inputs = context.inputs.map((input) => input);
        const handler = context.functionHandler;
        context.functionHandler = (...given) => {
          context.hookData.order.push('handler');
          return handler(...given);
        };
      });
      app.hook.postInvocation((context) => {
        context.hookData.order.push('post');
        if (context.result?.jsonBody) context.result.jsonBody.order = context.hookData.order;
      });
      app.http('who', {
        handler: (request, context) => {
          console.log('printed by the app');
          return {
            jsonBody: {
              born,
              invocation: context.invocationId,
              trace: context.traceContext.traceParent,
            },
          };
        },
      });
      app.http('waits', {
        handler: async () => { record('waits'); await wait(15_000); record('waited'); return {}; },
      });
      app.http('spins', { handler: () => { record('spins'); for (;;); } });
      app.http('holds', {
        handler: async (request) => {
          record('holds');
          await wait(300);
          return { body: Buffer.from([0, 255, 128]) };
        },
      });
      app.http('dies', { handler: async () => { void Promise.reject(new Error('stray')); await wait(5000); } });
    `,
  });
});
afterEach(killHostProcesses);
afterAll(() => app?.remove());

describe('the worker', () => {
  it('runs the hooks around the handler, for each invocation under an id of its own', async () => {
    const host = await app.start();
    const ask = async (headers: Record<string, string>) =>
      (await fetch(`${host.url}/api/who`, { headers })).json() as Promise<Record<string, string>>;
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    const [first, second] = [await ask({ traceparent }), await ask({})];
    expect(first).toMatchObject({ order: ['pre', 'handler', 'post'], trace: traceparent });
    expect(second['trace']).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-\d\d$/);
    expect(second['invocation']).not.toBe(first['invocation']);
    expect(second['born']).toBe(first['born']);
    await printed(host, 'printed by the app');
  });

  it.each(['waits', 'spins'])(
    'is restarted when %s outlives functionTimeout, and takes the others with it',
    async (name) => {
      const host = await app.start({ env: { AzureFunctionsJobHost__functionTimeout: '00:00:01' } });
      const get = (path: string) => fetch(`${host.url}/api/${path}`);
      const before = (await (await get('who')).json()) as { born: number };
      const first = get(name);
      await new Promise((resolve) => setTimeout(resolve, 500));
      const second = get('waits');
      expect([(await first).status, (await second).status]).toEqual([500, 500]);
      await printed(host, /Timeout value of 1000 ms was exceeded/);
      await printed(host, /waits .*Failed.*the worker was restarted: function/);
      const after = (await (await get('who')).json()) as { born: number };
      expect(after.born).not.toBe(before.born);
    },
  );

  it('takes the host with it when it dies', async () => {
    const host = await app.start();
    const exited = once(host.child, 'exit');
    await fetch(`${host.url}/api/dies`).catch(() => undefined);
    expect((await exited)[0]).toBe(1);
    await printed(host, /FATAL host nothing runs any more: .*Worker uncaught exception.*stray/);
  });

  it('is started again with --keep-alive, but not a third time', async () => {
    const host = await app.start({ args: ['--keep-alive'] });
    const exited = once(host.child, 'exit');
    const get = (path: string) => fetch(`${host.url}/api/${path}`);
    for (const death of [1, 2]) {
      expect((await get('dies')).status).toBe(500);
      await printed(host, `started again after death ${death} of 3`);
      expect((await get('who')).status).toBe(200);
    }
    await get('dies').catch(() => undefined);
    expect((await exited)[0]).toBe(1);
  });

  it('is given --stop-seconds to finish', async () => {
    const host = await app.start({ args: ['--stop-seconds', '0.5'] });
    const call = fetch(`${host.url}/api/waits`).catch(() => 'cut');
    await app.recorded('waits');
    expect(await host.stop()).toBe(0);
    expect(await call).toBe('cut');
    await printed(host, 'invocations still ran after 500 ms; they are abandoned');
  });
});

describe('limits on HTTP calls', () => {
  it('let a call wait for its turn, and refuse one too many', async () => {
    const prefix = 'AzureFunctionsJobHost__extensions__http__';
    const host = await app.start({
      env: { [`${prefix}maxConcurrentRequests`]: '1', [`${prefix}maxOutstandingRequests`]: '2' },
    });
    const get = () => fetch(`${host.url}/api/holds`);
    const answers = await Promise.all([get(), get(), get()]);
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 429]);
    const [first, second] = await app.recorded('holds', 2);
    expect(Number(second?.['at']) - Number(first?.['at'])).toBeGreaterThanOrEqual(290);
    const bytes = await answers.find(({ status }) => status === 200)?.arrayBuffer();
    expect([...new Uint8Array(bytes ?? new ArrayBuffer())]).toEqual([0, 255, 128]);
  });

  it('leave a page at the root, unless it is switched off', async () => {
    const host = await app.start({ env: { AzureWebJobsDisableHomepage: 'true' } });
    expect((await fetch(host.url)).status).toBe(204);
  });
});
