import { randomBytes } from 'node:crypto';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { CryptographyClient } from '@azure/keyvault-keys';
import { createLocalCa } from '../local/tls.ts';
import { azureKeys } from '../src/core/azure/key-vault-keys.ts';
import { systemClock } from '../src/core/clock.ts';
import { localKeys } from '../src/core/vault/local-keys.ts';
import { type Bench, median } from './bench.ts';
import { startChild } from './emulator-child.ts';
import type { Served } from './emulator-server.ts';

const input = { algorithm: 'RSA-OAEP-256', plaintext: randomBytes(32) } as const;
const rounds = 9;

/**
 * The same encryption as the SDK does it, which asks the vault: here one that is a process away, and takes no time to
 * answer. By the clock, since most of it is waiting.
 */
export const bench: Bench = {
  name: 'local RSA-OAEP-256 encrypt ÷ SDK remote, rate',
  goal: 10,
  better: 'higher',
  async measure() {
    const { key, cert, caPem } = await createLocalCa();
    setDefaultCACertificates([...getCACertificates('default'), caPem]);
    const server = startChild();
    try {
      const served = await server.ask<Served>({ kind: 'emulator', tls: { key, cert } });
      return await race(served);
    } finally {
      server.stop();
    }
  },
};

async function race({ port, token }: Served) {
  const url = `https://localhost:${port}`;
  const expiresOnTimestamp = Date.now() + 3_600_000;
  const credential = { getToken: async () => ({ token, expiresOnTimestamp }) };
  const remote = azureKeys({ alias: 'main', url }, credential);
  const known = await remote.create('orders', { type: 'RSA' });
  const local = localKeys(remote, { read: async () => known, clock: systemClock });
  const options = { disableChallengeResourceVerification: true };
  const sdk = new CryptographyClient(known.id, credential, options);
  const rates = { ours: [] as number[], theirs: [] as number[] };
  for (let round = 0; round <= rounds; round++) {
    const ours = await rateOf(1000, () => local.encrypt('orders', input));
    const theirs = await rateOf(100, () => sdk.encrypt(input));
    // The first round warms up, and fetches the key.
    if (round === 0) continue;
    rates.ours.push(ours);
    rates.theirs.push(theirs);
  }
  return { ours: median(rates.ours), theirs: median(rates.theirs) };
}

/** Calls a millisecond, one after the other. */
async function rateOf(times: number, call: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  for (let index = 0; index < times; index++) await call();
  return times / (performance.now() - start);
}
