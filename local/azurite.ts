import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { freePort } from './loopback-http.ts';

export interface Azurite {
  readonly connectionString: string;
  readonly ports: { readonly blob: number; readonly queue: number; readonly table: number };
  /** Stops and starts it on the same ports; data survives only in a folder. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

const require = createRequire(import.meta.url);

// Azurite's well-known development account; public, not a secret.
const account = 'devstoreaccount1';
const key =
  'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==';

/**
 * Starts Azurite (blob, queue and table) as a child process on free ports of 127.0.0.1.
 *
 * @param dir where the data is kept; without it all is in memory
 */
export async function startAzurite(dir?: string): Promise<Azurite> {
  const ports = { blob: await freePort(), queue: await freePort(), table: await freePort() };
  const folder = dir ?? null;
  let child = await launch(ports, folder);
  return {
    ports,
    connectionString: connectionString(ports),
    async restart() {
      await end(child, folder !== null);
      child = await launch(ports, folder);
    },
    stop: () => end(child, folder !== null),
  };
}

/** The connection string of an Azurite, or of whatever stands before one, on these ports. */
export function connectionString({ blob, queue, table }: Azurite['ports']): string {
  return [
    'DefaultEndpointsProtocol=http',
    `AccountName=${account}`,
    `AccountKey=${key}`,
    `BlobEndpoint=http://127.0.0.1:${blob}/${account}`,
    `QueueEndpoint=http://127.0.0.1:${queue}/${account}`,
    `TableEndpoint=http://127.0.0.1:${table}/${account}`,
  ].join(';');
}

async function launch(ports: Azurite['ports'], folder: string | null): Promise<ChildProcess> {
  const script = join(require.resolve('azurite/package.json'), '../dist/src/azurite.js');
  const flags = ['--silent', '--skipApiVersionCheck', '--disableTelemetry', '--loose'];
  const place = folder === null ? ['--inMemoryPersistence'] : ['--location', folder];
  const listen = (['blob', 'queue', 'table'] as const).flatMap((name) => [
    `--${name}Host`,
    '127.0.0.1',
    `--${name}Port`,
    String(ports[name]),
  ]);
  // Its standard input ends with this process, and the watch line below ends it then: no Azurite
  // is left behind when a test run is killed.
  const child = spawn(
    process.execPath,
    ['--import', watchParent, script, ...flags, ...place, ...listen],
    // Its own process group: Ctrl-C in the terminal stops us first, and we stop it.
    { stdio: ['pipe', 'pipe', 'inherit'], detached: true },
  );
  await untilListening(child);
  return child;
}

const watchParent = `data:text/javascript,${encodeURIComponent(
  "process.stdin.on('end', () => process.exit(0)).resume();",
)}`;

function untilListening(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let seen = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      seen += chunk.toString();
      const started = seen.match(/service (?:is )?successfully listen/gi)?.length ?? 0;
      if (started >= 3) resolve();
    });
    child.once('exit', (code) => reject(new Error(`Azurite ended with ${code}: ${seen}`)));
  });
}

// Without data to save there is nothing to wait for; a clean stop takes Azurite seconds.
async function end(child: ChildProcess, hasData: boolean): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill(hasData ? 'SIGTERM' : 'SIGKILL');
  const force = setTimeout(() => child.kill('SIGKILL'), 5000);
  await exited;
  clearTimeout(force);
}
