import type { Bench } from './bench.ts';
import { openVault, waitInTurn } from './vault-ground.ts';

const names = Array.from({ length: 100 }, (_, index) => `name-${index}`);
const rounds = 150;

/**
 * Reads that the cache cannot answer, with every guard on, and the same reads by the SDK alone, one after the other.
 * The vault is a process away and answers within a quarter of a millisecond: farther away, the ratio is nearer to 1.
 */
export const bench: Bench = {
  name: 'cache miss ÷ bare SDK call',
  goal: 1.15,
  better: 'lower',
  async measure() {
    const { sdk, secrets, forget, stop } = await openVault();
    try {
      for (const name of names) await sdk.setSecret(name, 'a-password-of-usual-length');
      return await waitInTurn(
        async () => {
          forget();
          for (const name of names) await secrets.get(name);
        },
        async () => {
          for (const name of names) await sdk.getSecret(name);
        },
        rounds,
      );
    } finally {
      stop();
    }
  },
};
