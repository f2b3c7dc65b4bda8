import { execFile, spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createLocalCa } from '../../local/tls.ts';
import { type Ground, prepareGround } from './emulator-client.ts';
import { urlOf } from './emulator-control.ts';

// Debian's own: a Python that somebody put before it on the path does not see Debian's packages.
const python = '/usr/bin/python3';
const probe = spawnSync(python, ['-c', 'import azure.keyvault.secrets, azure.identity']);
const isThere = probe.status === 0;
const title = isThere
  ? 'the Azure SDK for Python'
  : 'the Azure SDK for Python (skipped: no python3-azure; apt-get install python3-azure)';

describe.skipIf(!isThere)(title, () => {
  let ground: Ground;
  let dir: string;
  beforeAll(async () => {
    ground = await prepareGround();
    dir = await mkdtemp(join(tmpdir(), 'keyturn-'));
  });
  afterAll(async () => {
    await ground.stop();
    await rm(dir, { recursive: true });
  });

  const run = async (script: string): Promise<unknown> => {
    const ca = await createLocalCa(dir);
    const emulator = await ground.startVaults({ tls: ca });
    const args = [`test/python/${script}`, urlOf(emulator), ca.caFile!];
    const { stdout } = await promisify(execFile)(python, args, { env: process.env });
    return JSON.parse(stdout);
  };

  it('sets, gets, lists, backs up, deletes, recovers, purges and restores over TLS', async () => {
    expect(await run('secrets_over_tls.py')).toEqual({
      value: 'zwei ✓',
      earlier: 'one',
      tags: { by: 'python' },
      versions: 2,
      listed: 31,
      disabled: expect.stringContaining('Operation get is not allowed on a disabled secret.'),
      absent: expect.stringContaining('A secret with (name/id) absent was not found'),
      deleted: ['python'],
      taken: expect.stringContaining('is currently in a deleted but recoverable state'),
      recovered: 'zwei ✓',
      restored: ['python', 'zwei ✓'],
      restoredVersions: 2,
    });
  });
});
