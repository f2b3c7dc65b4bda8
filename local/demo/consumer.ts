import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import pg from 'pg';
import { vaultClient } from '../vault-client.ts';

// The application whose password is rotated, as a process of its own: five times a second it reads
// the latest version of the secret and logs in with it. It tells its parent how that goes.

interface Settings {
  readonly vaultUrl: string;
  readonly caFile: string;
  readonly token: string;
  readonly secret: string;
  readonly port: number;
}

const [settings] = (await once(process, 'message')) as [Settings];
const vault = vaultClient({
  url: settings.vaultUrl,
  ca: readFileSync(settings.caFile, 'utf8'),
  token: async () => settings.token,
});

export interface ConsumerReport {
  readonly logins: number;
  readonly failures: number;
  readonly user: string;
  readonly lastError: string | null;
}

let report: ConsumerReport = { logins: 0, failures: 0, user: '', lastError: null };

async function logIn(): Promise<void> {
  const secret = await vault.get(settings.secret);
  if (!secret) return;
  const { username, password } = JSON.parse(secret.value) as Record<string, string>;
  const client = new pg.Client({
    host: '127.0.0.1',
    port: settings.port,
    database: 'postgres',
    user: username,
    password,
    connectionTimeoutMillis: 2000,
  });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.query('SELECT 1');
    report = { ...report, logins: report.logins + 1, user: username ?? '' };
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function tick(): Promise<void> {
  try {
    await logIn();
  } catch (error) {
    const lastError = error instanceof Error ? error.message : String(error);
    report = { ...report, failures: report.failures + 1, lastError };
  }
  process.send?.(report);
}

process.on('disconnect', () => process.exit(0));
process.on('SIGINT', () => undefined);
for (;;) {
  const next = new Promise((resolve) => setTimeout(resolve, 200));
  await tick();
  await next;
}
