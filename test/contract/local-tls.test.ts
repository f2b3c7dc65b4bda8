import { X509Certificate } from 'node:crypto';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createLocalCa } from '../../local/tls.ts';

describe('createLocalCa', () => {
  it('signs a server certificate for every name of this machine', async () => {
    const { caPem, cert, caFile } = await createLocalCa();
    const authority = new X509Certificate(caPem);
    const server = new X509Certificate(cert);
    expect(authority.ca).toBe(true);
    expect(server.ca).toBe(false);
    expect(server.checkIssued(authority) && server.verify(authority.publicKey)).toBe(true);
    expect(server.checkHost('localhost')).toBe('localhost');
    expect(server.checkIP('127.0.0.1')).toBe('127.0.0.1');
    expect(server.checkIP('::1')).toBe('::1');
    expect(caFile).toBeUndefined();
  });

  it('keeps the authority of a directory, and makes a new one when it is damaged', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'keyturn-'));
    try {
      const first = await createLocalCa(dir);
      const second = await createLocalCa(dir);
      expect(second.caPem).toBe(first.caPem);
      expect(second.caFile).toBe(join(dir, 'ca.pem'));
      expect((await stat(join(dir, 'ca-key.pem'))).mode & 0o777).toBe(0o600);

      const stranger = await createLocalCa();
      await writeFile(join(dir, 'ca.pem'), stranger.caPem);
      const third = await createLocalCa(dir);
      expect([first.caPem, stranger.caPem]).not.toContain(third.caPem);
      await writeFile(join(dir, 'ca-key.pem'), 'x');
      expect((await createLocalCa(dir)).caPem).not.toBe(third.caPem);
    } finally {
      await rm(dir, { recursive: true });
    }
  });
});
