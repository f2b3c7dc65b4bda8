import { type ChildProcess, fork, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { freePort } from '../../local/loopback-http.ts';
import { hostScript, killHostProcesses } from '../support/functions-host.ts';
import { type AppFixture, anApp, printed, type TestApp } from './functions-host-app.ts';

const apps: TestApp[] = [];
afterEach(async () => {
  await killHostProcesses();
  for (const app of apps.splice(0)) await app.remove();
});

async function given(fixture: Partial<AppFixture> = {}): Promise<TestApp> {
  const app = await anApp({
    source: "app.http('one', { handler: () => ({ body: '1' }) });",
    ...fixture,
  });
  apps.push(app);
  return app;
}

describe('host.json', () => {
  it('is taken whatever the case of its keys, and what it cannot have is named', async () => {
    const app = await given({
      host: {
        Extensions: {
          HTTP: { RoutePrefix: 'v2', dynamicThrottlesEnabled: true, hsts: { isEnabled: true } },
          serviceBus: { prefetchCount: 1 },
          queues: { batchsize: 2, batchSizes: 3 },
        },
        functionTimeOuts: '00:01:00',
        concurrency: { dynamicConcurrencyEnabled: false },
        healthMonitor: { enabled: true },
      },
    });
    const host = await app.start({
      env: { AzureFunctionsJobHost__logging__loglevels__x: 'Debug' },
    });
    expect((await fetch(`${host.url}/v2/one`)).status).toBe(200);
    await printed(host, 'extensions.queues.batchSizes is unknown, ignored');
    await printed(host, 'functionTimeOuts is unknown, ignored');
    await printed(host, 'logging.loglevels is unknown, ignored');
    await printed(host, 'extensions.http.dynamicThrottlesEnabled has no effect locally: ');
    await printed(host, 'extensions.serviceBus has no effect locally: ');
    expect(host.output()).not.toMatch(/hsts|dynamicConcurrency|healthMonitor|batchSize is/);
  });

  it.each([
    [{ customHandler: { description: {} } }, 'customHandler: custom handlers are not served'],
    [{ functionTimeout: 5 }, 'functionTimeout: must be hh:mm:ss, or "-1" for no limit'],
    [{ extensions: { queues: { batchSize: 33 } } }, 'extensions.queues.batchSize: '],
    [{ logging: { logLevel: { default: 'Loud' } } }, 'unknown level "Loud"; it is one of trace'],
  ])('%j is refused', async (host, message) => {
    expect(await (await given({ host })).failure()).toContain(message);
  });

  it('chooses functions and filters the log by category', async () => {
    const app = await given({
      source: `
        app.http('one', { handler: (_, context) => { context.debug('deep'); return { body: '1' }; } });
        app.http('two', { handler: () => ({ body: '2' }) });
      `,
      host: {
        functions: ['one'],
        logging: { logLevel: { default: 'Warning', 'Function.one.User': 'Debug' } },
      },
    });
    const host = await app.start();
    expect((await fetch(`${host.url}/api/one`)).status).toBe(200);
    expect((await fetch(`${host.url}/api/two`)).status).toBe(404);
    await printed(host, /DEBUG one \[[0-9a-f-]{36}\] deep/);
    expect(host.output()).not.toContain('Executed');
  });
});

function collect(child: ChildProcess): () => string {
  let text = '';
  child.stdout?.on('data', (chunk) => {
    text += chunk;
  });
  return () => text;
}

describe('local.settings.json', () => {
  const source = `
    const seen = { at: process.env.WHERE, count: process.env.COUNT, on: process.env.ON };
    app.http('one', {
      handler: () => ({
        jsonBody: {
          ...seen,
          environment: process.env.AZURE_FUNCTIONS_ENVIRONMENT,
          runtime: process.env.FUNCTIONS_WORKER_RUNTIME,
          root: process.env.AzureWebJobsScriptRoot,
          here: process.cwd(),
          name: process.env.WEBSITE_HOSTNAME,
          database: process.env['ConnectionStrings:db'],
        },
      }),
    });
  `;

  it('is in the environment before the app loads, under what is there already', async () => {
    const port = await freePort();
    const app = await given({
      source,
      settings: {
        IsEncrypted: false,
        Values: { WHERE: 'file', COUNT: 3, ON: true },
        ConnectionStrings: { db: { ConnectionString: 'Server=x', ProviderName: 'p' } },
        Host: { localHttpPort: port, Cors: '*', LocalHttpsPort: 1 },
      },
    });
    // Not by the fixture, whose --port would win over the file.
    const child = fork(hostScript, ['--app', app.dir], {
      env: { ...process.env, WHERE: 'shell' },
      stdio: 'pipe',
    });
    const output = collect(child);
    await once(child, 'message');
    const answer = await fetch(`http://127.0.0.1:${port}/api/one`, { headers: { origin: 'x:y' } });
    expect(answer.headers.get('access-control-allow-origin')).toBe('*');
    expect(await answer.json()).toEqual({
      at: 'shell',
      count: '3',
      on: 'True',
      environment: 'Development',
      runtime: 'node',
      root: app.dir,
      here: app.dir,
      name: `127.0.0.1:${port}`,
      database: 'Server=x',
    });
    expect(output()).toContain('local.settings.json: Host.LocalHttpsPort is unknown, ignored');
    child.kill();
    await once(child, 'exit');
  });

  it.each([
    [{ Values: {} }, 'IsEncrypted: must be present and false; `func settings decrypt`'],
    [{ IsEncrypted: false, Values: { A: {} } }, 'Values.A: must be text'],
    [
      { IsEncrypted: false, Host: { LocalHttpAddress: '0.0.0.0' } },
      'Host.LocalHttpAddress: only 127.0.0.1 is listened on; remove it',
    ],
    [
      { IsEncrypted: false, Values: { FUNCTIONS_WORKER_RUNTIME: 'dotnet' } },
      'FUNCTIONS_WORKER_RUNTIME is "dotnet": only Node.js apps run here',
    ],
  ])('%j is refused', async (settings, message) => {
    expect(await (await given({ settings })).failure()).toContain(message);
  });
});

describe('what an app registers', () => {
  it('may come from several files by a glob, CommonJS too', async () => {
    const app = await given({ manifest: { main: '{main,more}*.{mjs,cjs}' } });
    await rename(join(app.dir, 'main.mjs'), join(app.dir, 'more.mjs'));
    await writeFile(join(app.dir, 'main.cjs'), "require('@azure/functions-core').version;");
    expect((await fetch(`${(await app.start()).url}/api/one`)).status).toBe(200);
  });

  it('is warned about where a route hides another or a retry policy does nothing', async () => {
    const app = await given({
      source: `
        app.http('getItem', { route: 'items/{id}', handler: () => ({ body: 'item' }) });
        app.http('getRecent', { route: 'items/recent', handler: () => ({ body: 'recent' }) });
        app.storageQueue('work', {
          queueName: 'work',
          connection: '',
          retry: { strategy: 'fixedDelay', maxRetryCount: 1, delayInterval: 0 },
          handler: () => {},
        });
      `,
    });
    const host = await app.start({
      env: { AzureWebJobsStorage: 'UseDevelopmentStorage=true', 'AzureWebJobs.work.Disabled': '1' },
    });
    expect(await (await fetch(`${host.url}/api/items/recent`)).text()).toBe('item');
    await printed(host, 'route "items/{id}" of getItem hides "items/recent" of getRecent');
    await printed(host, 'work: its retry policy has no effect');
    await printed(host, `getItem: http GET POST ${host.url}/api/items/{id}`);
  });

  it.each([
    [
      "app.http('a', { route: 'x', handler() {} }); app.http('b', { route: 'X', handler() {} });",
      "'b': The route specified conflicts with the route defined by function 'a'",
    ],
    [
      "app.http('a', { handler() {} }); app.http('a', { handler() {} });",
      '"a" has already been registered',
    ],
    ["app.http('a', { route: '{x:odd}', handler() {} });", 'unknown constraint "odd"'],
    ["app.http('9a', { handler() {} });", "'9a': this name is not allowed"],
    [
      "app.storageBlob('a', { path: 'c/{n}', connection: '', handler() {} });",
      'trigger type "blobTrigger" is not served by this local host; name the other functions',
    ],
    [
      "app.http('a', { extraOutputs: [output.storageBlob({ path: 'c/n', connection: '' })], handler() {} });",
      'binding "out blob" is not served by this local host',
    ],
    [
      "app.eventGrid('a', { cardinality: 'many', handler() {} });",
      'cardinality "many" is not served',
    ],
    [
      "app.hook.appStart(() => { throw new Error('not today'); }); app.http('a', { handler() {} });",
      'not today',
    ],
    ['', 'registered no function'],
  ])('%s is refused', async (source, message) => {
    expect(await (await given({ source })).failure()).toContain(message);
  });
});

describe('the command', () => {
  const run = (...args: string[]) =>
    spawnSync(process.execPath, [hostScript, ...args], { encoding: 'utf8' });

  it('explains its flags, all that its documentation names', async () => {
    const { stdout, status } = run('--help');
    const page = await readFile('docs/functions-host.md', 'utf8');
    const named = new Set([...page.matchAll(/`(--[a-z-]+)/g)].map(([, flag]) => flag));
    expect(status).toBe(0);
    expect(named.size).toBeGreaterThan(4);
    for (const flag of named) expect(stdout).toContain(flag);
  });

  it.each([
    [[], '--app DIR is required'],
    [['--app', '.', '--enable-auth'], '--enable-auth needs --master-key'],
    [['--app', '.', '--stop-seconds', 'soon'], '--stop-seconds must be a number'],
    [
      ['--app', '.', '--easy-auth', '{}'],
      '--easy-auth must be JSON {id, name, provider?, claims?}',
    ],
    [['--appp', '.'], "Unknown option '--appp'"],
  ])('%j is refused', (args, message) => {
    const { stderr, status } = run(...args);
    expect(status).toBe(1);
    expect(stderr).toContain(message);
  });
});
