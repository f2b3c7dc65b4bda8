import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { expect, vi } from 'vitest';
import { type HostProcess, startHostProcess } from '../support/functions-host.ts';

export interface AppFixture {
  /** Source of its entry file; `app`, `output`, `record` and `wait` are there to be used. */
  readonly source: string;
  readonly host?: object;
  readonly settings?: object;
  readonly manifest?: object;
}

/** A built Functions app in a folder of its own, and hosts that run it. */
export interface TestApp {
  readonly dir: string;
  start(options?: {
    readonly args?: readonly string[];
    readonly env?: Readonly<Record<string, string>>;
  }): Promise<HostProcess>;
  /** Why a start failed. @throws Error when it did not */
  failure(env?: Readonly<Record<string, string>>): Promise<string>;
  /** Waits until the app has called `record(kind, …)` so often. */
  recorded(kind: string, count?: number): Promise<readonly Record<string, unknown>[]>;
  remove(): Promise<void>;
}

const preamble = `
import { appendFileSync } from 'node:fs';
import { app, output } from '@azure/functions';
const record = (kind, fields = {}) =>
  appendFileSync(process.env.RECORDS, JSON.stringify({ kind, at: Date.now(), ...fields }) + '\\n');
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
`;

export async function anApp(fixture: AppFixture): Promise<TestApp> {
  const dir = await mkdtemp(join(tmpdir(), 'functions-app-'));
  const { host = {}, settings, manifest = {} } = fixture;
  await mkdir(join(dir, 'app'));
  const write = (name: string, value: unknown) =>
    writeFile(join(dir, 'app', name), JSON.stringify(value));
  await bundle(fixture.source, join(dir, 'app/main.mjs'));
  await write('host.json', { version: '2.0', ...host });
  await write('package.json', { name: 'fixture', type: 'module', main: 'main.mjs', ...manifest });
  if (settings !== undefined) await write('local.settings.json', settings);
  const records = join(dir, 'records');
  const start: TestApp['start'] = ({ args = [], env = {} } = {}) =>
    startHostProcess({
      app: join(dir, 'app'),
      args: ['--poll-seconds', '0.2', ...args],
      env: { RECORDS: records, ...env },
    });
  return {
    dir: join(dir, 'app'),
    start,
    async failure(env = {}) {
      const host = await start({ env }).catch((error: Error) => error);
      if (host instanceof Error) return host.message;
      await host.stop('SIGKILL');
      throw new Error('the host started');
    },
    recorded: (kind, count = 1) =>
      vi.waitFor(
        async () => {
          const lines = (await readFile(records, 'utf8').catch(() => '')).split('\n');
          const found = lines
            .filter((line) => line !== '')
            .map((line) => JSON.parse(line) as Record<string, unknown>)
            .filter((entry) => entry['kind'] === kind);
          expect(found.length).toBeGreaterThanOrEqual(count);
          return found;
        },
        { timeout: 10_000, interval: 50 },
      ),
    remove: () => rm(dir, { recursive: true, force: true }),
  };
}

async function bundle(source: string, outfile: string): Promise<void> {
  await build({
    stdin: { contents: preamble + source, resolveDir: import.meta.dirname, loader: 'js' },
    outfile,
    bundle: true,
    platform: 'node',
    target: 'node22',
    format: 'esm',
    logLevel: 'error',
    external: ['@azure/functions-core'],
    banner: {
      js: "import{createRequire as c}from'node:module';const require=c(import.meta.url);",
    },
  });
}

/** Waits for a text in the host's output: a pipe may be slower than an answer. */
export function printed(host: HostProcess, text: string | RegExp): Promise<void> {
  return vi.waitFor(() => expect(host.output()).toMatch(text), { timeout: 5000 });
}
