import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Postgres, startPostgres as start } from '../../local/postgres.ts';

/** A real PostgreSQL with data of its own, removed at the end. */
export async function startPostgres(): Promise<Postgres> {
  const dir = await mkdtemp(join(tmpdir(), 'keyturn-postgres-'));
  await chmod(dir, 0o711);
  const server = await start({ dir });
  return {
    ...server,
    stop: async () => {
      await server.stop();
      await rm(dir, { recursive: true, force: true });
    },
  };
}
