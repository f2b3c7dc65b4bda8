import { SecretString } from '../src/core/secret-string.ts';
import { type Bench, median } from './bench.ts';
import { openVault } from './vault-ground.ts';

const rounds = 9;

/** A secret read from the cache, and by the SDK from a vault a process away; by the clock, as a caller waits for it. */
export const bench: Bench = {
  name: 'cached read ÷ SecretClient.getSecret, rate',
  goal: 1000,
  better: 'higher',
  async measure() {
    const { sdk, secrets, stop } = await openVault();
    try {
      await secrets.set('orders-db', { value: new SecretString('a-password-of-usual-length') });
      const rates = { ours: [] as number[], theirs: [] as number[] };
      for (let round = 0; round <= rounds; round++) {
        const ours = await rateOf(100_000, () => secrets.get('orders-db'));
        const theirs = await rateOf(200, () => sdk.getSecret('orders-db'));
        // The first round warms up, and fills the cache.
        if (round === 0) continue;
        rates.ours.push(ours);
        rates.theirs.push(theirs);
      }
      return { ours: median(rates.ours), theirs: median(rates.theirs) };
    } finally {
      stop();
    }
  },
};

/** Calls a millisecond, one after the other. */
async function rateOf(times: number, call: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  for (let index = 0; index < times; index++) await call();
  return times / (performance.now() - start);
}
