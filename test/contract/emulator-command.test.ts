import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { afterEach, describe, expect, it } from 'vitest';
import { operations } from '../../local/key-vault/operations.ts';
import { defaultSwitches } from '../../local/key-vault/switches.ts';
import { createLocalCa } from '../../local/tls.ts';

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

function aState(name: string) {
  const empty = { live: [], deleted: [] };
  const version = { version: '0'.repeat(32), value: 'v', enabled: true, created: 1, updated: 1 };
  const secrets = { live: [{ name, versions: [version] }], deleted: [] };
  return { format: 2, vaults: { main: { secrets, keys: empty, certificates: empty } } };
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

  it('leaves nothing either when its terminal is closed', async () => {
    const { child, output, exited, printed } = run('--port', '0');
    await printed('Ctrl-C');
    const caFile = /^export NODE_EXTRA_CA_CERTS=(.+)$/m.exec(output.text)?.[1] ?? '';
    expect(existsSync(caFile)).toBe(true);
    child.kill('SIGHUP');
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

  it('starts with a given state, on a plain port too, and leaves its CA where it is told', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'keyturn-'));
    const [state, caFile] = [join(dir, 'state.json'), join(dir, 'trust.pem')];
    await writeFile(state, JSON.stringify(aState('loaded')));
    const options = ['--port', '0', '--http-port', '0', '--load', state, '--ca-file', caFile];
    const { output, printed } = run(...options);
    await printed('Ctrl-C');
    const control = /^control API: (\S+)$/m.exec(output.text)?.[1];
    const held = (await (await fetch(`${control}/state`)).json()) as ReturnType<typeof aState>;
    expect(held.vaults.main.secrets).toEqual(aState('loaded').vaults.main.secrets);
    const plain = /^vault main, plain: (http:\S+)$/m.exec(output.text)?.[1];
    expect((await fetch(`${plain}/secrets/loaded?api-version=7.4`)).status).toBe(401);
    expect(output.text).toContain(`export NODE_EXTRA_CA_CERTS=${caFile}`);
    expect(await readFile(caFile, 'utf8')).toMatch(/^-----BEGIN CERTIFICATE-----/);
    await rm(dir, { recursive: true });
  });

  it('serves with a certificate from outside', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'keyturn-'));
    const { caPem, cert, key } = await createLocalCa();
    const [certFile, keyFile] = [join(dir, 'cert.pem'), join(dir, 'key.pem')];
    await writeFile(certFile, cert);
    await writeFile(keyFile, key);
    const { output, printed } = run('--port', '0', '--tls-cert', certFile, '--tls-key', keyFile);
    await printed('Ctrl-C');
    expect(output.text).not.toContain('NODE_EXTRA_CA_CERTS');
    const url = new URL(/^vault main: (\S+)$/m.exec(output.text)?.[1] ?? '');
    const socket = connect({ host: 'localhost', port: Number(url.port), ca: caPem });
    await once(socket, 'secureConnect');
    expect(socket.authorized).toBe(true);
    socket.destroy();
    await rm(dir, { recursive: true });
  });

  it.each([
    ['half a certificate', ['--tls-cert', 'x'], 2, /--tls-cert and --tls-key go together/],
    ['a state that is not there', ['--load', '/nowhere/state.json'], 1, /\/nowhere\/state\.json/],
    ['a certificate that is not there', ['--tls-cert', '/a', '--tls-key', '/b'], 1, /ENOENT/],
  ])('refuses %s', async (_, args, code, message) => {
    const { output, exited } = run('--port', '0', ...args);
    expect(await exited).toBe(code);
    expect(output.text.trim()).toMatch(message);
  });

  it.each([
    [['--nonsense']],
    [['--port', 'x']],
    [['positional']],
    [['--port', '65535', '--vault', 'one', '--vault', 'two']],
    [['--port', '0', '--http-port', '65534', '--vault', 'a11', '--vault', 'b22', '--vault', 'c33']],
  ])('refuses %j with one line', async (args) => {
    const { output, exited } = run(...args);
    expect(await exited).toBe(2);
    expect(output.text.trim().split('\n')).toHaveLength(1);
  });

  it('refuses a vault name that is none', async () => {
    const { output, exited } = run('--port', '0', '--vault', 'x');
    expect(await exited).toBe(1);
    expect(output.text).toMatch(/"x" is no vault name/);
  });
});

describe('docs/emulator.md', () => {
  it('names every operation and switch, and no option that does not exist', async () => {
    const text = await readFile('docs/emulator.md', 'utf8');
    for (const { id } of operations) expect(text).toContain(`\`${id}\``);
    for (const name of Object.keys(defaultSwitches)) expect(text).toContain(`\`${name}\``);
    const { output, exited } = run('--help');
    expect(await exited).toBe(0);
    const options = text.matchAll(/`(--[a-z-]+)/g);
    const named = [...options].map(([, option]) => option);
    expect(named.length).toBeGreaterThan(3);
    for (const option of named) expect(output.text).toContain(option);
  });
});
