import { chmod, cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { type Azurite, startAzurite } from '../../local/azurite.ts';
import { type Identity, startIdentity } from '../../local/identity/identity.ts';
import { type Postgres, startPostgres } from '../../local/postgres.ts';
import { createLocalCa, type LocalCa } from '../../local/tls.ts';

/** What the lanes of one test file share. */
export interface Ground {
  readonly dir: string;
  /** A copy of the built app: `dist/` may be built anew meanwhile. */
  readonly app: string;
  readonly ca: LocalCa;
  readonly azurite: Azurite;
  readonly identity: Identity;
  readonly postgres: Postgres;
  /** Runs at the end, last added first, whatever has failed. */
  readonly stops: (() => Promise<void>)[];
  stop(): Promise<void>;
}

export async function startGround(options: { readonly keep?: boolean } = {}): Promise<Ground> {
  const dir = await mkdtemp(join(tmpdir(), 'keyturn-faults-'));
  // As root, the database server runs as somebody else and must get through.
  await chmod(dir, 0o711);
  const stops: (() => Promise<void>)[] = [() => rm(dir, { recursive: true, force: true })];
  const stop = async () => {
    for (const one of stops.splice(0).reverse()) {
      await one().catch((error: unknown) => console.error(`while stopping: ${String(error)}`));
    }
  };
  const kept = async <T extends { stop(): Promise<void> }>(starting: Promise<T>): Promise<T> => {
    const service = await starting;
    stops.push(() => service.stop());
    return service;
  };
  try {
    const app = await copyApp(dir);
    const ca = await createLocalCa(join(dir, 'tls'));
    const azurite = await kept(startAzurite(options.keep ? join(dir, 'azurite') : undefined));
    const identity = await kept(startIdentity({ dir: join(dir, 'identity') }));
    const postgres = await kept(startPostgres({ dir: join(dir, 'postgres') }));
    return { dir, app, ca, azurite, identity, postgres, stops, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function copyApp(dir: string): Promise<string> {
  const app = join(dir, 'app');
  for (let tries = 1; ; tries++) {
    try {
      await cp(process.env['KEYTURN_FAULT_APP'] ?? 'dist', app, { recursive: true });
      return app;
    } catch (cause) {
      await rm(app, { recursive: true, force: true });
      if (tries === 5) throw new Error('there is no dist/: npm run build makes it', { cause });
      await pause(1000);
    }
  }
}
