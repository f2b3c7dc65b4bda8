import { type Bench, inTurn } from './bench.ts';
import { openVault } from './vault-ground.ts';

const names = Array.from({ length: 160 }, (_, index) => `name-${index}`);
const atOnce = 16;
const warmUpRounds = 20;
const rounds = 61;

/** CPU of reads that the cache cannot answer, with every guard on, and of the same reads by the SDK alone. */
export const bench: Bench = {
  name: 'cache miss ÷ bare SDK call',
  goal: 1.15,
  better: 'lower',
  async measure() {
    const { sdk, secrets, forget, stop } = await openVault();
    const ours = async () => {
      forget();
      await readAll((name) => secrets.get(name));
    };
    const theirs = () => readAll((name) => sdk.getSecret(name));
    try {
      for (const name of names) await sdk.setSecret(name, 'a-password-of-usual-length');
      await inTurn(ours, theirs, warmUpRounds);
      return await inTurn(ours, theirs, rounds);
    } finally {
      stop();
    }
  },
};

async function readAll(read: (name: string) => Promise<unknown>): Promise<void> {
  const left = [...names];
  const readOn = async () => {
    for (let name = left.pop(); name !== undefined; name = left.pop()) await read(name);
  };
  await Promise.all(Array.from({ length: atOnce }, readOn));
}
