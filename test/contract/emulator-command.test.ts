import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { operations } from '../../local/key-vault/operations.ts';

const children: ChildProcess[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

function run(...args: string[]) {
  const child = spawn(process.execPath, ['local/key-vault/main.ts', ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.push(child);
  const output = { text: '' };
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output.text += chunk.toString();
    });
  }
  const exited = once(child, 'close').then(([code]) => code as number | null);
  const printed = async (text: string) => {
    while (!output.text.includes(text)) {
      const event = await Promise.race([once(child.stdout, 'data'), exited.then(() => 'exit')]);
      if (event === 'exit' && !output.text.includes(text)) throw new Error(output.text);
    }
  };
  return { child, output, exited, printed };
}

describe('npm run emulator', () => {
  it('prints where everything is, and stops on Ctrl-C without leaving anything', async () => {
    const { child, output, exited, printed } = run(
      '--port',
      '0',
      '--vault',
      'one',
      '--vault',
      'two',
    );
    await printed('Ctrl-C');
    expect(output.text).toMatch(/^vault one: https:\/\/localhost:\d+$/m);
    expect(output.text).toMatch(/^vault two: https:\/\/localhost:\d+$/m);
    expect(output.text).toMatch(/^export IDENTITY_HEADER=\S+$/m);
    const controlUrl = /^control API: (\S+)$/m.exec(output.text)?.[1];
    const status = await (await fetch(`${controlUrl}/status`)).json();
    expect(status).toMatchObject({ vaults: [{ name: 'one' }, { name: 'two' }] });
    const caFile = /^export NODE_EXTRA_CA_CERTS=(.+)$/m.exec(output.text)?.[1] ?? '';
    expect(existsSync(caFile)).toBe(true);
    child.kill('SIGINT');
    expect(await exited).toBe(0);
    expect(existsSync(caFile)).toBe(false);
  });

  it('keeps everything in the data directory', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'keyturn-'));
    const { child, exited, printed } = run('--port', '0', '--data', dir);
    await printed('Ctrl-C');
    child.kill('SIGTERM');
    expect(await exited).toBe(0);
    for (const file of ['ca.pem', 'ca-key.pem', 'identity-key.pem']) {
      expect(existsSync(join(dir, file))).toBe(true);
    }
    await rm(dir, { recursive: true });
  });

  it.each([[['--nonsense']], [['--port', 'x']], [['positional']]])(
    'refuses %j with one line',
    async (args) => {
      const { output, exited } = run(...args);
      expect(await exited).toBe(2);
      expect(output.text.trim().split('\n')).toHaveLength(1);
    },
  );

  it('refuses a vault name that is none', async () => {
    const { output, exited } = run('--port', '0', '--vault', 'x');
    expect(await exited).toBe(1);
    expect(output.text).toMatch(/"x" is no vault name/);
  });
});

describe('docs/emulator.md', () => {
  it('names every operation and no option that does not exist', async () => {
    const text = await readFile('docs/emulator.md', 'utf8');
    for (const { id } of operations) expect(text).toContain(`\`${id}\``);
    const { output, exited } = run('--help');
    expect(await exited).toBe(0);
    const options = text.matchAll(/`(--[a-z-]+)/g);
    const named = [...options].map(([, option]) => option);
    expect(named.length).toBeGreaterThan(3);
    for (const option of named) expect(output.text).toContain(option);
  });
});
