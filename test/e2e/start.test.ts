import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { callApi, eventually } from '../support/e2e-world.ts';

// npm start and npm run token as a user runs them: their own processes, on the built app.

const root = join(import.meta.dirname, '../..');
const portsInUse = 8;
const running = new Set<ChildProcess>();
let base = 0;

beforeAll(async () => {
  base = await freeBase();
});

afterAll(() => {
  for (const child of running) child.kill('SIGTERM');
});

/** The first of eight free ports in a row. */
async function freeBase(): Promise<number> {
  for (let tries = 0; tries < 100; tries++) {
    const first = 20_000 + Math.floor(Math.random() * 10_000);
    if (await areFree(first)) return first;
  }
  throw new Error('no eight free ports in a row');
}

async function areFree(first: number): Promise<boolean> {
  const servers: Server[] = [];
  try {
    for (let offset = 0; offset < portsInUse; offset++) {
      const server = createServer();
      servers.push(server);
      server.listen(first + offset, '127.0.0.1');
      await once(server, 'listening');
    }
    return true;
  } catch {
    return false;
  } finally {
    await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  }
}

interface Started {
  readonly child: ChildProcess;
  text(): string;
  /** Waits until `pattern` is printed. */
  until(pattern: RegExp): Promise<RegExpExecArray>;
  /** @returns its exit code */
  interrupt(): Promise<number | null>;
}

function start(...args: string[]): Started {
  const child = spawn(process.execPath, ['local/start.ts', ...args], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(child);
  child.once('exit', () => running.delete(child));
  let printed = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk: Buffer) => {
      printed += chunk.toString();
    });
  }
  return {
    child,
    text: () => printed,
    until: (pattern) =>
      eventually(
        () => {
          const found = pattern.exec(printed);
          if (!found && child.exitCode !== null) throw new Error(`it ended: ${printed}`);
          return found;
        },
        () => printed,
      ),
    interrupt: async () => {
      const exited = once(child, 'exit');
      child.kill('SIGINT');
      const [code] = await exited;
      return code as number | null;
    },
  };
}

/** Runs a command of the README to its end. */
async function run(script: string, ...args: string[]) {
  const child = spawn(process.execPath, [script, ...args], { cwd: root });
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
  const [code] = await once(child, 'close');
  return { code, out: Buffer.concat(out).toString(), err: Buffer.concat(err).toString() };
}

/** Commands of the processes below `pid`, now. */
async function below(pid: number): Promise<ReadonlyMap<number, string>> {
  const parents = new Map<number, number>();
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const stat = await readFile(`/proc/${entry}/stat`, 'utf8').catch(() => '');
    const parent = /^\d+ \(.*\) \S (\d+) /s.exec(stat)?.[1];
    if (parent) parents.set(Number(entry), Number(parent));
  }
  const isBelow = (one: number): boolean => {
    const parent = parents.get(one);
    return parent !== undefined && (parent === pid || isBelow(parent));
  };
  const found = [...parents.keys()].filter(isBelow);
  const named = found.map(
    async (one): Promise<[number, string]> => [
      one,
      await readFile(`/proc/${one}/cmdline`, 'utf8').catch(() => ''),
    ],
  );
  return new Map(await Promise.all(named));
}

async function expectGone(processes: ReadonlyMap<number, string>): Promise<void> {
  await eventually(async () => {
    for (const [pid, command] of processes) {
      const now = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
      if (now !== '' && now === command) return false;
    }
    return true;
  });
  expect(await areFree(base)).toBe(true);
}

/** What the printed command asks for, and where its rotations are read. */
async function printedCall(started: Started) {
  await started.until(ready);
  const curl = /curl -X POST (\S+) \\\s+-H 'Authorization: Bearer (\S+)'/.exec(started.text());
  const [, url = '', token = ''] = curl ?? [];
  const read = async (path: string) => {
    const rotations = url.replace(/vaults.*/, 'rotations');
    return (await callApi(`${rotations}${path}`, { method: 'GET', token })).json;
  };
  return { url, token, read };
}

const ready = /Ctrl-C stops everything/;

describe('npm start', () => {
  it('shows a rotation without a failure, answers its own curl, and leaves nothing', async () => {
    const started = start('--port', String(base));
    const [, failures] = await started.until(/logged in \d+ times, (\d+) failures/);
    expect(failures).toBe('0');
    await started.until(ready);
    expect(started.text()).toMatch(/rotated: 1 time, nobody locked out/);
    expect(started.text()).toMatch(/versions of orders-db: 2, the application logs in as app_b/);
    expect(Number(/Ready after ([\d.]+) s/.exec(started.text())?.[1])).toBeGreaterThan(0);

    const { url, token: printed } = await printedCall(started);
    const answer = await callApi(url, { method: 'POST', token: printed });
    expect(answer.status, answer.text).toBe(202);
    await started.until(/rotated: 2 times, nobody locked out/);

    const identity = `http://127.0.0.1:${base + 1}`;
    const token = await run('local/identity/token.ts', 'Keyturn.Rotations.Read', '--url', identity);
    expect(token).toMatchObject({ code: 0, err: '' });
    const list = await callApi(`http://127.0.0.1:${base}/api/rotations`, {
      method: 'GET',
      token: token.out.trim(),
    });
    expect(list.status, list.text).toBe(200);
    expect(list.json.rotations.some(({ id }: { id: string }) => id === answer.json.id)).toBe(true);

    const processes = await below(started.child.pid ?? 0);
    expect(processes.size).toBeGreaterThan(3);
    expect(await started.interrupt()).toBe(0);
    await expectGone(processes);
  }, 120_000);

  it('goes on at the next start with what is in --data', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'keyturn-data-'));
    await chmod(dir, 0o711);
    try {
      const first = start('--port', String(base), '--data', dir, '--no-demo');
      const { url, token, read } = await printedCall(first);
      expect(first.text()).not.toMatch(/An application logs in/);
      const asked = await callApi(url, { method: 'POST', token });
      expect(asked.status, asked.text).toBe(202);
      const { id } = asked.json;
      const promoted = await eventually(async () => {
        const one = await read(`/${id}`);
        return one?.state === 'GRACE' && one;
      }, first.text);
      expect(await first.interrupt()).toBe(0);

      const second = start('--port', String(base), '--data', dir, '--no-demo');
      const again = await printedCall(second);
      const done = await eventually(async () => {
        const one = await again.read(`/${id}`);
        return one?.ended && one;
      }, second.text);
      expect(done).toMatchObject({ state: 'DONE', promotedVersion: promoted.promotedVersion });
      const plan = await callApi(again.url.replace(/rotations$/, 'rotation-plan'), {
        method: 'POST',
        token: again.token,
      });
      expect(plan.json.baseVersion).toBe(done.promotedVersion);
      // Nothing but what was asked for was rotated.
      expect((await again.read('')).rotations).toHaveLength(1);
      const processes = await below(second.child.pid ?? 0);
      expect(await second.interrupt()).toBe(0);
      await expectGone(processes);
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  }, 120_000);

  it('explains itself', async () => {
    const { code, out } = await run('local/start.ts', '--help');
    expect(code).toBe(0);
    for (const option of ['--port', '--data', '--no-demo', '--help']) expect(out).toContain(option);
  });

  it.each([
    ['an unknown option', ['--prot', '1'], /--prot/],
    ['a port that is none', ['--port', 'many'], /--port.*many/],
    ['something left over', ['now'], /now/],
  ])('refuses %s in one message', async (_what, args, expected) => {
    const { code, out, err } = await run('local/start.ts', ...args);
    expect(code).not.toBe(0);
    expect(out).toBe('');
    expect(err).toMatch(expected);
    expect(err).not.toMatch(/\n +at /);
  });

  it.each([0, 3, 7])(
    'says that port base + %i is taken, and leaves nothing',
    async (offset) => {
      const taken = createServer().listen(base + offset, '127.0.0.1');
      await once(taken, 'listening');
      try {
        const { code, err } = await run('local/start.ts', '--port', String(base));
        expect(code).toBe(1);
        expect(err).toContain(String(base + offset));
        expect(err.trim().split('\n')).toHaveLength(1);
        expect(err).not.toMatch(/\n +at /);
      } finally {
        await new Promise((resolve) => taken.close(resolve));
      }
      expect(await areFree(base)).toBe(true);
    },
    60_000,
  );
});
