import type { Bench } from './bench.ts';
import { openVault, type VaultGround, waitInTurn } from './vault-ground.ts';

const count = 5_000;
const pageSize = 25;

/** A list of many secrets, with every guard on and one call a page, and the same list by the SDK alone. */
export const bench: Bench = {
  name: 'list of 5,000 secrets ÷ bare SDK list',
  goal: 1.15,
  better: 'lower',
  async measure() {
    const ground = await openVault();
    try {
      await fill(ground);
      return await waitInTurn(
        () => listOurs(ground),
        () => countOf(ground.sdk.listPropertiesOfSecrets()),
        15,
      );
    } finally {
      ground.stop();
    }
  },
};

async function fill({ sdk }: VaultGround): Promise<void> {
  let next = 0;
  const fillOn = async () => {
    while (next < count) await sdk.setSecret(`secret-number-${next++}`, 'a-password');
  };
  await sdk.setSecret('secret-number-0', 'a-password');
  await Promise.all(Array.from({ length: 16 }, fillOn));
}

async function listOurs({ secrets, calls }: VaultGround): Promise<void> {
  const before = calls();
  await countOf(secrets.list());
  const sent = calls() - before;
  if (sent !== count / pageSize) throw new Error(`a list of ${count} secrets took ${sent} calls`);
}

async function countOf(items: AsyncIterable<unknown>): Promise<void> {
  let found = 0;
  for await (const _ of items) found++;
  if (found !== count) throw new Error(`${found} of ${count} secrets were listed`);
}
