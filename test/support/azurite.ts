import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Azurite, startAzurite as start } from '../../local/azurite.ts';

/** Azurite in memory, or with data of its own that survives `restart` and is removed at the end. */
export async function startAzurite(
  options: { readonly persistent?: boolean } = {},
): Promise<Azurite> {
  if (options.persistent !== true) return start();
  const dir = await mkdtemp(join(tmpdir(), 'azurite-'));
  const azurite = await start(dir);
  return {
    ...azurite,
    stop: async () => {
      await azurite.stop();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

export type { Azurite };
