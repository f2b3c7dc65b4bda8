import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { line } from '../unit/simulation/support.ts';
import { type Ground, prepareGround } from './emulator-client.ts';

interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const run = promisify(execFile);
let folder: string;
let log: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'replay-'));
  log = join(folder, 'access.log');
  writeFileSync(log, `${exampleLog().join('\n')}\n`);
});
afterAll(() => rmSync(folder, { recursive: true }));

async function replay(args: readonly string[], env: Record<string, string> = {}): Promise<Ran> {
  try {
    const options = { env: { ...process.env, ...env }, timeout: 25_000 };
    const { stdout, stderr } = await run(process.execPath, ['src/cli/replay.ts', ...args], options);
    return { code: 0, stdout, stderr };
  } catch (error) {
    return error as Ran;
  }
}

const start = Date.parse('2030-01-01T08:00:00Z');
const at = (ms: number) => new Date(start + ms).toISOString();
const version = (digit: number) => String(digit).repeat(32);

/**
 * The log that `docs/replay.md` tells of: four instances without a cache read 40 secrets in turn, twenty times a
 * second together, for five minutes; after two of them somebody else writes new versions of ten.
 */
function exampleLog(): string[] {
  const everyMs = 50;
  return Array.from({ length: 5 * 60 * 20 }, (_, index) => {
    const secret = (index * 7) % 40;
    const isRotated = secret < 10 && index * everyMs >= 120_000;
    return line({
      at: at(index * everyMs),
      instance: `api-${(index % 4) + 1}`,
      caller: 'orders-api',
      object: `${secret < 20 ? 'orders' : 'mail'}-${secret}`,
      servedVersion: version(isRotated ? 2 : 1),
      ms: 23,
      cache: null,
    });
  });
}

/** The commands of the page, each with the output that follows it. */
function examplesOf(page: string): { args: string[]; output: string }[] {
  const pattern = /```sh\nnpm run replay -- (.*)\n```\n\n```text\n([\s\S]*?)```/g;
  return [...page.matchAll(pattern)].map(([, command = '', output = '']) => ({
    args: command.split(' ').map((arg) => arg.replaceAll("'", '')),
    output,
  }));
}

describe('npm run replay', () => {
  const examples = examplesOf(readFileSync('docs/replay.md', 'utf8'));

  it('is shown at work in docs/replay.md', () => expect(examples.length).toBeGreaterThan(1));

  it.each(examples)('prints what docs/replay.md says for $args', async ({ args, output }) => {
    const ran = await replay(args.map((arg) => (arg === 'access.log' ? log : arg)));
    expect(ran).toEqual({ code: 0, stdout: output, stderr: '' });
  });

  it('gives the whole result as JSON', async () => {
    const { stdout } = await replay([log, '--json', '--against', 'ttl=60']);
    const { badLines, results } = JSON.parse(stdout);
    expect(badLines).toBe(0);
    expect(results).toMatchObject([
      { settings: 'defaults', result: { from: at(0), instances: 4, recorded: { reads: 6_000 } } },
      { settings: 'ttl=60', result: { recorded: { vaultCalls: 6_000 } } },
    ]);
  });

  it('goes on after bad lines, and says which they were', async () => {
    const bad = join(folder, 'bad.log');
    writeFileSync(bad, `{"at":1}\n${exampleLog()[0]}\nnot JSON\n`);
    const { code, stdout, stderr } = await replay([bad]);
    expect(code).toBe(0);
    expect(stderr).toMatch(/^line 1: at: .*; left out\nline 3: is not JSON; left out\n$/);
    expect(stdout).toContain('2 lines left out');
    const strict = await replay([bad, '--strict']);
    expect(strict).toMatchObject({ code: 2, stdout: '' });
    expect(strict.stderr).toMatch(/^line 1: at: .*\n$/);
  });

  it('tells each difference when it is asked to', async () => {
    const { stderr } = await replay([log, '--refresh-at', '1', '--differences']);
    const told = stderr.trim().split('\n');
    expect(JSON.parse(told[0] ?? '')).toMatchObject({ effect: 'worse', operation: 'getSecret' });
  });

  it.each([
    [[], 'LOG is missing'],
    [['nosuch.log'], 'LOG cannot be read'],
    [['a.log', 'b.log'], 'one LOG at a time'],
    [['a.log', '--ttl', 'soon'], '--ttl: ttl takes seconds'],
    [['a.log', '--against', 'tlt=1'], '--against: there is no setting tlt'],
    [['a.log', '--speed', '2'], '--speed is for real vaults; add --vault'],
    [['a.log', '--vault', 'main'], '--vault takes ALIAS=URL'],
    [['a.log', '--vault', 'main=http://x.example'], '--vault takes ALIAS=URL'],
    [['a.log', '--vault', 'main=https://x.example', '--speed', '0'], '--speed takes a number'],
    [['a.log', '--vault', 'main=https://x.example', '--against', 'ttl=1'], '--against compares'],
    [['a.log', '--colour'], "Unknown option '--colour'"],
  ])('refuses %j in one line that says what would do', async (args, says) => {
    const { code, stdout, stderr } = await replay(args);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toContain(says);
    expect(stderr.trim().split('\n')).toHaveLength(1);
  });
});

describe('npm run replay against a real vault', () => {
  let ground: Ground;
  let env: Record<string, string>;
  let url: string;
  beforeAll(async () => {
    ground = await prepareGround();
    const emulator = await ground.startVaults();
    url = emulator.vaults[0]?.url ?? '';
    const ca = join(folder, 'ca.pem');
    writeFileSync(ca, ground.ca.caPem);
    env = { NODE_EXTRA_CA_CERTS: ca };
    await ground.secretClient(url).setSecret('orders-db', 'canary-of-the-replay');
  });
  afterAll(() => ground.stop());

  const entries = [
    line({ at: at(0), cache: null }),
    line({ at: at(500), cache: null }),
    line({ at: at(1_000), object: 'never-there', outcome: 'not_found', cache: null }),
    line({ at: at(1_500), operation: 'getSecrets', object: null, cache: null }),
    line({ at: at(2_000), operation: 'deleteSecret', cache: null }),
    line({ at: at(2_500), operation: 'sign', object: 'a-key', cache: null }),
    line({ at: at(3_000), vault: 'other', cache: null }),
  ];

  it('reads what the log has read, and writes nothing unless it may', async () => {
    const path = join(folder, 'real.log');
    writeFileSync(path, entries.join('\n'));
    const args = [path, '--vault', `main=${url}`, '--speed', '20'];
    const { code, stdout, stderr } = await replay([...args, '--json'], env);
    expect([code, stderr]).toEqual([0, '']);
    const { result } = JSON.parse(stdout).results[0];
    expect(result.replayed).toMatchObject({ operations: 4, reads: 3, vaultCalls: 3 });
    expect(result.replayed.sources).toMatchObject({ miss: 2, uncached: 0 });
    expect(result.differences.total).toBe(0);
    expect(result.skipped).toEqual({
      'it writes, see --allow-writes': 1,
      'sign needs what a log does not hold': 1,
      'there is no --vault other=URL': 1,
    });
    expect(stdout).not.toContain('canary');
    await expect(ground.secretClient(url).getSecret('orders-db')).resolves.toBeDefined();
  });

  it('writes when it may', async () => {
    const path = join(folder, 'writing.log');
    writeFileSync(path, [entries[0], entries[4]].join('\n'));
    const args = [path, '--vault', `main=${url}`, '--speed', '20', '--allow-writes'];
    expect(await replay(args, env)).toMatchObject({ code: 0, stderr: '' });
    await expect(ground.secretClient(url).getSecret('orders-db')).rejects.toMatchObject({
      statusCode: 404,
    });
  });
});
