import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { KeyVaultEmulator } from '../../local/key-vault/key-vault.ts';
import { type Ground, prepareGround } from './emulator-client.ts';
import { type Control, controlOf, urlOf } from './emulator-control.ts';

let ground: Ground;
let emulator: KeyVaultEmulator;
let control: Control;
let dir: string;
// biome-ignore lint/suspicious/noExplicitAny: it is broken in every way below
let sound: any;

beforeAll(async () => {
  ground = await prepareGround();
  emulator = await ground.startVaults();
  control = controlOf(emulator);
  dir = await mkdtemp(join(tmpdir(), 'keyturn-'));
  const write = async (method: string, path: string, body: unknown) => {
    const url = `${urlOf(emulator)}${path}?api-version=7.4`;
    expect((await ground.call(url, { method, body })).status).toBeLessThan(300);
  };
  await write('PUT', '/secrets/db', { value: '1' });
  await write('POST', '/keys/signing/create', { kty: 'EC' });
  await write('POST', '/certificates/web/create', {
    policy: { issuer: { name: 'Self' }, key_props: { kty: 'EC' }, x509_props: { subject: 'CN=a' } },
  });
  for (let isIssued = false; !isIssued; ) {
    const { main } = (await control('GET', '/state')).json.vaults;
    isIssued = main.certificates.live[0].versions[0]?.cer !== undefined;
  }
  sound = (await control('GET', '/state')).json;
});

afterAll(async () => {
  await ground.stop();
  await rm(dir, { recursive: true });
});

// biome-ignore lint/suspicious/noExplicitAny: as above
type Breakage = (main: any) => void;

const breakages: readonly (readonly [string, Breakage, string])[] = [
  ['a key without operations', ({ keys }) => delete keys.live[0].versions[0].keyOps, 'keyOps'],
  ['an unknown key operation', ({ keys }) => keys.live[0].versions[0].keyOps.push('x'), 'keyOps'],
  [
    'key material without its members',
    ({ keys }) => {
      keys.live[0].versions[0].material = { kty: 'EC' };
    },
    'material',
  ],
  [
    'key material of no curve point',
    ({ keys }) => {
      keys.live[0].versions[0].material.x = 'AAAA';
    },
    'material',
  ],
  [
    'a policy without the properties of the certificate',
    ({ certificates }) => delete certificates.live[0].policy.x509_props,
    'policy.x509_props',
  ],
  [
    'a certificate that is none',
    ({ certificates }) => {
      certificates.live[0].versions[0].cer = 'AAAA';
    },
    'versions[0].cer',
  ],
  [
    'an operation without a draft',
    ({ certificates }) => delete certificates.live[0].pending.draft,
    'pending.draft',
  ],
  [
    'two names that differ only in case',
    ({ secrets }) => secrets.live.push({ ...secrets.live[0], name: 'DB' }),
    'secrets.live',
  ],
  [
    'the same version twice',
    ({ secrets }) => secrets.live[0].versions.push(secrets.live[0].versions[0]),
    'versions[1].version',
  ],
  [
    'contacts that are no list',
    (main) => {
      main.certificateSettings.contacts = {};
    },
    'certificateSettings.contacts',
  ],
];

describe('PUT /state', () => {
  it('takes what GET /state gave', async () => {
    expect((await control('PUT', '/state', sound)).status).toBe(204);
    expect((await control('GET', '/state')).json).toEqual(sound);
  });

  it.each(breakages)('refuses %s, and changes nothing', async (_, spoil, path) => {
    const state = structuredClone(sound);
    spoil(state.vaults.main);
    const { status, json } = await control('PUT', '/state', state);
    expect([status, json?.error.message]).toEqual([400, expect.stringContaining(path)]);
    expect((await control('GET', '/state')).json).toEqual(sound);
  });

  it('refuses a vault that is named twice', async () => {
    const { main } = sound.vaults;
    const { status, json } = await control('PUT', '/state', {
      format: 2,
      vaults: { main, MAIN: main },
    });
    expect([status, json?.error.message]).toEqual([400, expect.stringContaining('vaults.MAIN')]);
  });
});

describe('the data file', () => {
  it.each(breakages)('stops the start with %s', async (_, spoil, path) => {
    const state = structuredClone(sound);
    spoil(state.vaults.main);
    const dataFile = join(dir, 'spoiled.json');
    await writeFile(dataFile, JSON.stringify(state));
    const starting = ground.startVaults({ dataFile });
    await expect(starting).rejects.toThrow(/is no emulator state; move it away/);
    await expect(starting).rejects.toThrow(path);
    expect(existsSync(`${dataFile}.lock`)).toBe(false);
  });

  it('tells a state of another format', async () => {
    const dataFile = join(dir, 'older.json');
    await writeFile(dataFile, JSON.stringify({ format: 1, vaults: {} }));
    await expect(ground.startVaults({ dataFile })).rejects.toThrow(
      /another version of the emulator/,
    );
  });

  it('belongs to one emulator at a time', async () => {
    const dataFile = join(dir, 'shared.json');
    const first = await ground.startVaults({ dataFile });
    const second = ground.startVaults({ dataFile });
    await expect(second).rejects.toThrow(`${dataFile} is in use by another emulator`);
    // What the second one did not get it did not give up.
    await expect(ground.startVaults({ dataFile })).rejects.toThrow('in use');
    await first.stop();
    await (await ground.startVaults({ dataFile })).stop();
  });

  it('is not taken from another process that lives', async () => {
    const dataFile = join(dir, 'elsewhere.json');
    await writeFile(`${dataFile}.lock`, `${process.ppid}\n`);
    await expect(ground.startVaults({ dataFile })).rejects.toThrow(`process ${process.ppid}`);
    expect(existsSync(`${dataFile}.lock`)).toBe(true);
  });

  it.each([
    ['a process that is no more', () => spawnSync(process.execPath, ['--version']).pid],
    ['an earlier process of the same number', () => process.pid],
    ['a process that was stopped while it wrote', () => ''],
  ])('is taken over from %s', async (_, owner) => {
    const dataFile = join(dir, 'left.json');
    await writeFile(`${dataFile}.lock`, `${owner()}`);
    const one = await ground.startVaults({ dataFile });
    await one.stop();
    expect(existsSync(`${dataFile}.lock`)).toBe(false);
  });
});
