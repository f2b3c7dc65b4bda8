import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import type { TokenCredential } from '@azure/identity';
import { SecretClient } from '@azure/keyvault-secrets';
import { createLocalCa } from '../local/tls.ts';
import { createVaults } from '../src/core/azure/key-vault.ts';
import type { Answering } from '../src/core/vault/answer.ts';
import { vaultBreaker } from '../src/core/vault/breaker.ts';
import { ObjectCache } from '../src/core/vault/cache.ts';
import { clientVaults } from '../src/core/vault/clients.ts';
import { vaultConcurrency } from '../src/core/vault/concurrency.ts';
import type { SecretService } from '../src/core/vault/ports.ts';
import { median } from './bench.ts';
import { startChild } from './emulator-child.ts';
import type { Served } from './emulator-server.ts';

/** A vault a process away, reached by the bare SDK and by ours, with all guards. */
export interface VaultGround {
  readonly sdk: SecretClient;
  readonly secrets: Answering<SecretService>;
  /** Empties the cache. */
  forget(): void;
  /** Calls that ours has sent so far. */
  calls(): number;
  stop(): void;
}

export async function openVault(): Promise<VaultGround> {
  const { key, cert, caPem } = await createLocalCa();
  setDefaultCACertificates([...getCACertificates('default'), caPem]);
  const child = startChild();
  const { port, token } = await child.ask<Served>({ kind: 'emulator', tls: { key, cert } });
  const url = `https://localhost:${port}`;
  const expiresOnTimestamp = Date.now() + 3_600_000;
  const credential: TokenCredential = { getToken: async () => ({ token, expiresOnTimestamp }) };
  let calls = 0;
  const vaults = createVaults([{ alias: 'main', purpose: 'main', url }], credential, {
    breaker: vaultBreaker,
    concurrency: vaultConcurrency,
    // Charged as always, but never to be waited for: the emulator has no limit.
    budget: { share: 1, transactions: 1e9 },
    observer: {
      callStarted: () => {
        calls++;
        return { ended: () => undefined };
      },
    },
  });
  const cache = new ObjectCache();
  return {
    sdk: new SecretClient(url, credential, { disableChallengeResourceVerification: true }),
    secrets: clientVaults(vaults, { cache }).get('main').secrets,
    forget: () => cache.clear(),
    calls: () => calls,
    stop: () => child.stop(),
  };
}

/** Milliseconds that each takes, median of `rounds`, both in turn; by the clock, as a caller waits for it. */
export async function waitInTurn(
  ours: () => Promise<void>,
  theirs: () => Promise<void>,
  rounds: number,
): Promise<{ ours: number; theirs: number }> {
  const times = { ours: [] as number[], theirs: [] as number[] };
  // The first fifth warms up.
  for (let round = -rounds / 5; round < rounds; round++) {
    const one = await waitFor(ours);
    const other = await waitFor(theirs);
    if (round < 0) continue;
    times.ours.push(one);
    times.theirs.push(other);
  }
  return { ours: median(times.ours), theirs: median(times.theirs) };
}

async function waitFor(run: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await run();
  return performance.now() - start;
}
