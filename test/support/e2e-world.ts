import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SecretClient } from '@azure/keyvault-secrets';
import pg from 'pg';
import { buildApp } from '../../local/build.ts';
import { type HostProcess, startHostProcess } from '../../local/host-process.ts';
import { localAudience } from '../../local/identity/identity.ts';
import { appSettings, type Stack, startStack, vaultTopic } from '../../local/stack.ts';
import { type AuditFilter, type AuditRecord, readAudit } from '../../src/core/audit/verify.ts';
import { type AzureStorage, createAzureStorage } from '../../src/core/azure/storage.ts';
import { scramVerifier } from '../../src/core/rotation/handlers/scram.ts';
import { SecretString } from '../../src/core/secret-string.ts';

// biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
export type Json = any;

export type Role = 'Keyturn.Rotations.Read' | 'Keyturn.Rotations.Operate' | 'Keyturn.Health.Read';

/** Everything the app talks to, on free ports, and the app's package built from the sources. */
export interface Ground {
  readonly dir: string;
  readonly app: string;
  readonly stack: Stack;
  readonly hook: Hook;
  readonly main: SecretClient;
  readonly pending: SecretClient;
  /** A caller's token for the API. */
  token(...roles: Role[]): Promise<string>;
  /** Makes the login, with the password if it is to have one. */
  login(name: string, password?: string): Promise<void>;
  canLogIn(name: string, password: string): Promise<boolean>;
  /** Calls of the emulated vaults since `forgetVaultCalls`. */
  vaultCalls(): Promise<readonly VaultCall[]>;
  forgetVaultCalls(): Promise<void>;
  control(method: string, path: string, body?: object): Promise<Json>;
  startApp(options?: AppOptions): Promise<RunningApp>;
  /** Settings with which `startApp` would start. */
  settings(options?: AppOptions): Record<string, string>;
  stop(): Promise<void>;
}

export interface VaultCall {
  readonly vault: string;
  readonly operation: string | null;
  readonly object: string | null;
  readonly version: string | null;
  readonly status: number | null;
}

export interface AppOptions {
  /** Keeps tables, queues and blobs of several apps on one stack apart; also the host's id. */
  readonly namespace?: string;
  readonly overrides?: Readonly<Record<string, string>>;
  readonly flags?: readonly string[];
  /** Which events it is subscribed to, as functions of the app; none unless told. */
  readonly subscribe?: readonly string[];
}

/** The built app in a host process of its own. */
export interface RunningApp {
  readonly host: HostProcess;
  readonly storage: AzureStorage;
  /** Everything the host printed. */
  output(): string;
  /** The app's own log lines, parsed. */
  log(event?: string): readonly Json[];
  /** Writes `policies/ID.json` or `targets/ID.json`; text goes in as it stands. */
  document(kind: 'policies' | 'targets', id: string, body: object | string): Promise<void>;
  call(method: string, path: string, wish?: CallWish): Promise<Answer>;
  /** Asks for a rotation as an operator. @returns its id */
  rotate(name: string): Promise<string>;
  rotation(id: string): Promise<Json>;
  rotations(name: string): Promise<readonly Json[]>;
  /** Waits for the end of a rotation. @returns its view */
  ended(id: string): Promise<Json>;
  /** Waits until the object's newest rotation has ended in `state`. */
  newest(name: string, state: string): Promise<Json>;
  audit(filter?: AuditFilter): Promise<readonly AuditRecord[]>;
  stop(): Promise<void>;
}

export interface CallWish {
  readonly token?: string | null;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: object | string;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly json: Json;
}

/** One message a consumer got. */
export interface Told {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** A consumer's web hook that notes what it gets; `answers` says what a path is answered with. */
export interface Hook {
  readonly host: string;
  readonly url: string;
  readonly told: readonly Told[];
  readonly answers: Map<string, { readonly status: number; readonly location?: string }>;
  stop(): Promise<void>;
}

async function startHook(): Promise<Hook> {
  const told: Told[] = [];
  const answers: Hook['answers'] = new Map();
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const path = request.url ?? '';
    told.push({ path, headers: request.headers, body: Buffer.concat(chunks).toString() });
    const { status, location } = answers.get(path) ?? { status: 204 };
    response.writeHead(status, location === undefined ? {} : { location }).end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    ...{ host, url: `http://${host}`, told, answers },
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Secrets whose end is nearer than this are announced at once. */
const nearExpirySeconds = 30;

export interface Recorder {
  readonly port: number;
  /** Everything that went through, both ways. */
  bytes(): Buffer;
  stop(): Promise<void>;
}

/** Passes connections on to `port` of this machine and keeps a copy of every byte. */
export async function startRecorder(port: number): Promise<Recorder> {
  const chunks: Buffer[] = [];
  const sockets = new Set<Socket>();
  const server = createTcpServer((client) => {
    const upstream = connect(port, '127.0.0.1');
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from);
      from.on('data', (chunk: Buffer) => chunks.push(chunk));
      from.on('error', () => to.destroy());
      from.on('close', () => sockets.delete(from));
      from.pipe(to);
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    bytes: () => Buffer.concat(chunks),
    stop: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

export async function startGround(): Promise<Ground> {
  const dir = await mkdtemp(join(tmpdir(), 'keyturn-e2e-'));
  // As root, the database server runs as somebody else and must get through.
  await chmod(dir, 0o711);
  const app = join(dir, 'app');
  const stops: (() => Promise<unknown>)[] = [() => rm(dir, { recursive: true, force: true })];
  const stop = async () => {
    for (const one of stops.splice(0).reverse()) await one();
  };
  try {
    await buildApp(app);
    await mkdir(join(dir, 'stack'), { mode: 0o711 });
    const stack = await startStack({
      dir: join(dir, 'stack'),
      keep: false,
      nearExpiry: { leadSeconds: nearExpirySeconds, delaySeconds: 0 },
    });
    stops.push(() => stack.stop());
    const hook = await startHook();
    stops.push(() => hook.stop());
    const base = { dir, app, stack, hook };
    return assemble(base, { stops, stop });
  } catch (error) {
    await stop();
    throw error;
  }
}

type Base = Pick<Ground, 'dir' | 'app' | 'stack' | 'hook'>;

async function assemble(
  base: Base,
  { stops, stop }: { stops: (() => Promise<unknown>)[]; stop: () => Promise<void> },
): Promise<Ground> {
  const { stack } = base;
  const { postgres, identity } = stack;
  const control: Ground['control'] = async (method, path, body) => {
    const answer = await fetch(`${stack.keyVault.controlUrl}${path}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text === '' ? null : JSON.parse(text);
  };
  const token: Ground['token'] = (...roles) =>
    identity.issueToken({ audience: localAudience, roles, subject: 'tester' });
  const ground: Ground = {
    ...base,
    main: await secretClient(stack, 'main'),
    pending: await secretClient(stack, 'pending'),
    token,
    control,
    login: async (name, password) => {
      await postgres.query(`DROP ROLE IF EXISTS ${name}`);
      await postgres.query(`CREATE ROLE ${name} LOGIN`);
      if (password !== undefined) {
        // As a verifier: a clear password would stand in the server's log for ever.
        const verifier = await scramVerifier(new SecretString(password));
        await postgres.query(`ALTER ROLE ${name} PASSWORD '${verifier}'`);
      }
    },
    canLogIn: (name, password) => canLogIn(postgres.port, name, password),
    vaultCalls: async () => (await control('GET', '/audit')).value,
    forgetVaultCalls: () => control('DELETE', '/audit'),
    settings: (options = {}) => settingsFor(base, options),
    startApp: async (options = {}) => {
      const running = await startApp(base, options, token);
      stops.push(() => running.stop());
      return running;
    },
    stop,
  };
  return ground;
}

async function secretClient({ identity, keyVault, ca }: Stack, name: string) {
  const token = await identity.issueToken({ audience: 'https://vault.azure.net' });
  const url = keyVault.vaults.find((vault) => vault.name === name)?.url ?? '';
  const credential = {
    getToken: async () => ({ token, expiresOnTimestamp: Date.now() + 3_000_000 }),
  };
  return new SecretClient(url, credential, {
    disableChallengeResourceVerification: true,
    retryOptions: { maxRetries: 0 },
    tlsOptions: { ca: ca.caPem },
  });
}

async function canLogIn(port: number, user: string, password: string): Promise<boolean> {
  const client = new pg.Client({
    ...{ host: '127.0.0.1', port, user, password, database: 'postgres' },
    connectionTimeoutMillis: 10_000,
  });
  client.on('error', () => undefined);
  try {
    await client.connect();
    return true;
  } catch (error) {
    // Invalid password, or a login without one.
    if (error instanceof pg.DatabaseError && error.code === '28P01') return false;
    throw error;
  } finally {
    await client.end().catch(() => undefined);
  }
}

function namespaceOf({ namespace = 'keyturn' }: AppOptions): string {
  return namespace;
}

function documentsOf({ dir }: Base, options: AppOptions): string {
  return join(dir, `documents-${namespaceOf(options)}`);
}

function settingsFor(base: Base, options: AppOptions): Record<string, string> {
  return appSettings(base.stack, {
    documents: documentsOf(base, options),
    webhookHosts: [base.hook.host],
    overrides: {
      KEYTURN_NAMESPACE: namespaceOf(options),
      AzureFunctionsWebHost__hostid: namespaceOf(options),
      KEYTURN_SWEEP_SCHEDULE: '* * * * * *',
      // Whoever tests the scan says when.
      KEYTURN_SCAN_SCHEDULE: '0 0 0 1 1 *',
      KEYTURN_RETRY_SECONDS: '0.2',
      ...options.overrides,
    },
  });
}

async function startApp(
  base: Base,
  options: AppOptions,
  token: Ground['token'],
): Promise<RunningApp> {
  const namespace = namespaceOf(options);
  const documents = documentsOf(base, options);
  for (const kind of ['policies', 'targets']) {
    await mkdir(join(documents, kind), { recursive: true });
  }
  const lines: string[] = [];
  const host = await startHostProcess({
    app: base.app,
    port: 0,
    settings: settingsFor(base, options),
    flags: ['--poll-seconds', '0.5', ...(options.flags ?? [])],
    onLine: (line) => lines.push(line),
  });
  const { azurite, eventGrid } = base.stack;
  for (const name of options.subscribe ?? []) await subscribe(eventGrid, host, namespace, name);
  const storage = createAzureStorage(
    { connectionString: azurite.connectionString },
    { table: namespace, container: namespace, queuePrefix: `${namespace}-` },
  );
  const operator = await token('Keyturn.Rotations.Operate');
  const call: RunningApp['call'] = (method, path, wish = {}) =>
    callApi(`${host.url}/api${path}`, { method, token: operator, ...wish });
  const must = async (status: number, method: string, path: string): Promise<Json> => {
    const answer = await call(method, path);
    if (answer.status === status) return answer.json;
    throw new Error(`${method} ${path}: ${answer.status} ${answer.text}`);
  };
  const rotation = (id: string) => must(200, 'GET', `/rotations/${id}`);
  const rotations = async (name: string) =>
    (await must(200, 'GET', `/rotations?vault=main&name=${name}&limit=100`)).rotations;
  const explain = () => lines.slice(-30).join('\n');
  return {
    ...{ host, storage, call, rotation, rotations },
    output: () => lines.join('\n'),
    log: (event) => lines.map(parseLine).filter((line) => line && (!event || line.event === event)),
    document: (kind, id, body) =>
      writeFile(
        join(documents, kind, `${id}.json`),
        typeof body === 'string' ? body : JSON.stringify(body),
      ),
    rotate: async (name) => (await must(202, 'POST', `/vaults/main/secrets/${name}/rotations`)).id,
    ended: (id) =>
      eventually(async () => {
        const answer = await call('GET', `/rotations/${id}`);
        return answer.status === 200 && answer.json.ended ? answer.json : null;
      }, explain),
    newest: (name, state) =>
      eventually(async () => {
        const [first] = await rotations(name);
        return first?.ended && first.state === state ? first : null;
      }, explain),
    audit: (filter) => Array.fromAsync(readAudit(storage.log, filter)),
    stop: () => host.stop(),
  };
}

async function subscribe(
  eventGrid: Stack['eventGrid'],
  host: HostProcess,
  namespace: string,
  name: string,
): Promise<void> {
  const type = `${name.charAt(0).toUpperCase()}${name.slice(1)}`;
  await eventGrid.subscribe({
    topic: vaultTopic,
    name: `${namespace}-${name}`,
    endpoint: `${host.url}/runtime/webhooks/eventgrid?functionName=${name}`,
    schema: 'EventGridSchema',
    filter: { includedEventTypes: [`Microsoft.KeyVault.${type}`] },
    retry: { maxAttempts: 5, scheduleSeconds: [0.5] },
  });
}

export async function callApi(
  url: string,
  { method, token, headers, body }: CallWish & { readonly method: string },
): Promise<Answer> {
  const answer = await fetch(url, {
    method,
    redirect: 'manual',
    headers: {
      ...(token ? { authorization: `Bearer ${token}` } : {}),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  const text = await answer.text();
  return { status: answer.status, headers: answer.headers, text, json: parseOrNull(text) };
}

function parseOrNull(text: string): Json {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function parseLine(line: string): Json {
  return line.startsWith('{"level":') ? parseOrNull(line) : null;
}

/** Waits until `find` gives something. @throws Error with what `explain` says after two minutes */
export async function eventually<T>(
  find: () => Promise<T | null | undefined | false> | T | null | undefined | false,
  explain: () => string = () => '',
): Promise<T> {
  const deadline = Date.now() + 120_000;
  for (;;) {
    const found = await find();
    if (found !== null && found !== undefined && found !== false) return found;
    if (Date.now() > deadline) throw new Error(`waited in vain. ${explain()}`);
    await new Promise((resolve) => setTimeout(resolve, 150));
  }
}

/** A password that no other text resembles. */
export function newPassword(): string {
  return randomBytes(18).toString('base64url');
}

/** A policy over one secret whose versions live for five minutes; `more` wins. */
export function policyFor(name: string, more: Readonly<Record<string, unknown>> = {}) {
  return {
    id: name,
    covers: [{ vault: 'main', type: 'secret', name }],
    handler: 'postgresql',
    target: name,
    schedule: { validFor: 'PT5M', leadTime: 'PT30S' },
    grace: 'PT1S',
    value: jsonValue,
    ...more,
  };
}

export const jsonValue = {
  shape: 'json',
  template: { username: '{{username}}', password: '{{password}}' },
} as const;

/** The PostgreSQL of `ground` as a target for the secret `name`; two logins alternate. */
export function targetFor(
  { stack }: Pick<Ground, 'stack'>,
  name: string,
  logins: readonly [string, string] | string,
  more: Readonly<Record<string, unknown>> = {},
) {
  return {
    id: name,
    handler: 'postgresql',
    objects: [{ vault: 'main', type: 'secret', name }],
    admin: { vault: 'pending', name: 'postgres-admin', username: 'postgres' },
    settings: {
      host: '127.0.0.1',
      port: stack.postgres.port,
      tls: { mode: 'off' },
      logins:
        typeof logins === 'string'
          ? { overlap: 'none', login: logins }
          : { overlap: 'users', logins },
    },
    ...more,
  };
}

/** A webhook consumer as a policy names it. */
export function webhookTo(url: string, id = 'orders-service') {
  return {
    ...{ kind: 'webhook', id, url },
    signingSecret: { vault: 'main', name: 'webhook-orders' },
  };
}

export function fromNow(seconds: number): Date {
  return new Date(Date.now() + seconds * 1000);
}

/** Two logins, of which the first has a password that the secret `name` holds. @returns that password */
export async function seedAlternating(
  ground: Ground,
  name: string,
  expiresOn: Date = fromNow(3600),
): Promise<{ readonly logins: readonly [string, string]; readonly password: string }> {
  const stem = name.replaceAll('-', '_');
  const logins = [`${stem}_a`, `${stem}_b`] as const;
  const password = newPassword();
  await ground.login(logins[0], password);
  await ground.login(logins[1]);
  await ground.main.setSecret(name, JSON.stringify({ username: logins[0], password }), {
    expiresOn,
  });
  return { logins, password };
}

/** One login whose password is the whole secret `name`. @returns that password */
export async function seedSingle(
  ground: Ground,
  name: string,
  expiresOn: Date = fromNow(3600),
): Promise<{ readonly login: string; readonly password: string }> {
  const login = name.replaceAll('-', '_');
  const password = newPassword();
  await ground.login(login, password);
  await ground.main.setSecret(name, password, { expiresOn });
  return { login, password };
}

/** The admin's password where targets look for it. */
export async function seedAdmin(ground: Ground): Promise<void> {
  await ground.pending.setSecret('postgres-admin', ground.stack.postgres.adminPassword);
}
