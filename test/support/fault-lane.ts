import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { request } from 'node:https';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { QueueServiceClient } from '@azure/storage-queue';
import pg from 'pg';
import { connectionString } from '../../local/azurite.ts';
import { type EventGrid, startEventGrid } from '../../local/event-grid/event-grid.ts';
import { type HostProcess, startHostProcess } from '../../local/host-process.ts';
import { localAudience } from '../../local/identity/identity.ts';
import { type KeyVaultEmulator, startKeyVault } from '../../local/key-vault/key-vault.ts';
import { freePort } from '../../local/loopback-http.ts';
import { appSettings } from '../../local/stack.ts';
import { type AuditRecord, readAudit, verifyAudit } from '../../src/core/audit/verify.ts';
import { type AzureStorage, createAzureStorage } from '../../src/core/azure/storage.ts';
import { isEnd, type Journal } from '../../src/core/rotation/journal.ts';
import {
  activeRotationPrefix,
  journalPrefix,
  rowId,
  shardOf,
} from '../../src/core/rotation/records.ts';
import type { DocumentStore, StoredDocument } from '../../src/core/storage/ports.ts';
import type { Ground } from './fault-ground.ts';
import { startPostgresProxy } from './recording-postgres.ts';
import { listenOn, Recorder, type ServiceProxy, startHttpProxy } from './recording-proxy.ts';

export type Strategy = 'none' | 'users';

/** One secret and its logins, new for each run. */
export interface Subject {
  readonly name: string;
  readonly strategy: Strategy;
  readonly login: string;
  /** The second login; the same where there is one only. */
  readonly otherLogin: string;
  readonly password: string;
  readonly version: string;
}

export interface LaneOptions {
  /** Namespace of everything durable; `[a-z][a-z0-9]{2,23}`. */
  readonly name: string;
  readonly leaseSeconds?: number;
  readonly retrySeconds?: number;
  /** Default: never by itself; `nudge` runs it. */
  readonly sweepSchedule?: string;
  readonly grace?: string;
  readonly print?: boolean;
}

/** Members of a subject's documents in place of the usual ones. */
export interface Overrides {
  readonly policy?: object;
  readonly target?: object;
}

export interface Told {
  readonly id: string;
  readonly version: string;
}

interface VaultReply {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
  readonly body: any;
}

const never = '0 0 0 1 1 *';

/**
 * The app in a process of its own with its own vaults, Event Grid, namespace and proxies. What the
 * test asks goes past the proxies.
 */
export class Lane {
  readonly recorder = new Recorder();
  readonly ground: Ground;
  readonly options: LaneOptions;
  readonly told: Told[] = [];
  readonly lines: string[] = [];
  readonly storage: AzureStorage;
  keyVault!: KeyVaultEmulator;
  eventGrid!: EventGrid;
  host: HostProcess | null = null;
  hostPort = 0;
  /** While set, nobody gets through to PostgreSQL from here. */
  isTargetDown = false;
  #proxies: ServiceProxy[] = [];
  #vaultPorts = { main: 0, pending: 0 };
  #settings: Record<string, string> = {};
  #pgPort = 0;
  #webhookUrl = '';
  #token = '';
  #runs = 0;
  #documents: string;
  #written: string[] = [];
  /** Audit segments: read by a check; of a process that is gone; read after that, for good. */
  #audited = { seen: new Set<string>(), ended: new Set<string>(), closed: new Set<string>() };

  constructor(ground: Ground, options: LaneOptions) {
    this.ground = ground;
    this.options = options;
    this.#documents = join(ground.dir, `documents-${options.name}`);
    const names = { table: options.name, container: options.name, queuePrefix: `${options.name}-` };
    this.storage = createAzureStorage({ connectionString: ground.azurite.connectionString }, names);
  }

  async open(): Promise<void> {
    const { ground } = this;
    ground.stops.push(() => this.close());
    this.#token = await ground.identity.issueToken({
      audience: 'https://vault.azure.net',
      expiresInSeconds: 7200,
      subject: 'test',
    });
    this.eventGrid = await startEventGrid();
    await this.#startVaults();
    await this.#prepareServices();
    this.hostPort = await freePort();
    await this.start();
    await this.subscribe(`http://127.0.0.1:${this.hostPort}`, 'EventGridSchema');
  }

  async close(): Promise<void> {
    await this.kill();
    await this.eventGrid?.stop();
    await this.keyVault?.stop();
    await Promise.all(this.#proxies.map((proxy) => proxy.stop()));
  }

  /** A proxy of this lane's recorder before a service. */
  async #proxy(starting: Promise<ServiceProxy>): Promise<number> {
    const proxy = await starting;
    this.#proxies.push(proxy);
    return proxy.port;
  }

  async #startVaults(): Promise<void> {
    const { recorder, ground } = this;
    const { identity, ca } = ground;
    const { jwksUri, issuer, tenantId } = identity;
    const vaults = [];
    for (const name of ['main', 'pending'] as const) {
      const port = await freePort();
      this.#vaultPorts[name] = port;
      const proxied = await this.#proxy(
        startHttpProxy({ service: 'vault', recorder, port: () => port, tls: ca }),
      );
      vaults.push({ name, port, publicUrl: `https://localhost:${proxied}` });
    }
    this.keyVault = await startKeyVault({
      vaults,
      tls: ca,
      tenantId,
      verifyToken: { jwksUri, issuer, audience: 'https://vault.azure.net' },
      onEvent: (event) => this.eventGrid.publish(event.data.VaultName, event),
    });
  }

  async #prepareServices(): Promise<void> {
    const { recorder, ground, options } = this;
    const { azurite, postgres } = ground;
    this.#pgPort = await this.#proxy(
      startPostgresProxy({ recorder, port: () => (this.isTargetDown ? 1 : postgres.port) }),
    );
    const ports = { blob: 0, queue: 0, table: 0 };
    for (const service of ['blob', 'queue', 'table'] as const) {
      const port = () => azurite.ports[service];
      ports[service] = await this.#proxy(startHttpProxy({ service, recorder, port }));
    }
    const receiver = await listenOn(
      createServer(async (incoming, response) => {
        const chunks: Buffer[] = [];
        for await (const chunk of incoming) chunks.push(chunk as Buffer);
        const { data } = JSON.parse(Buffer.concat(chunks).toString()) as {
          data: { version: string };
        };
        this.told.push({ id: String(incoming.headers['webhook-id']), version: data.version });
        response.writeHead(204).end();
      }),
    );
    this.#proxies.push(receiver);
    const webhook = await this.#proxy(
      startHttpProxy({ service: 'webhook', recorder, port: () => receiver.port }),
    );
    this.#webhookUrl = `http://127.0.0.1:${webhook}/rotated`;
    const { keyVault } = this;
    this.#settings = appSettings(
      { ...ground, azurite: { connectionString: connectionString(ports) }, keyVault },
      {
        documents: this.#documents,
        webhookHosts: [`127.0.0.1:${webhook}`],
        overrides: {
          AzureFunctionsWebHost__hostid: options.name,
          KEYTURN_NAMESPACE: options.name,
          KEYTURN_LEASE_SECONDS: String(options.leaseSeconds ?? 2),
          KEYTURN_RETRY_SECONDS: String(options.retrySeconds ?? 0.3),
          KEYTURN_SWEEP_SCHEDULE: options.sweepSchedule ?? never,
          KEYTURN_SCAN_SCHEDULE: never,
        },
      },
    );
    await this.vault('main', 'PUT', '/secrets/webhook-key', {
      value: `whsec_${randomBytes(32).toString('base64')}`,
    });
    await this.vault('pending', 'PUT', '/secrets/pg-admin', { value: postgres.adminPassword });
  }

  /** Settings of another process on the same storage, with `more` in place of its own. */
  settings(more: Readonly<Record<string, string>> = {}): Record<string, string> {
    return { ...this.#settings, ...more };
  }

  async start(): Promise<void> {
    this.recorder.open();
    const host = await this.startProcess(this.hostPort, this.#settings, (line) => this.#line(line));
    this.host = host;
    void host.ended.then((code) => {
      if (this.host === host) this.#line(`the host ended by itself with ${code}`);
    });
  }

  startProcess(
    port: number,
    settings: Readonly<Record<string, string>>,
    onLine: (line: string) => void,
  ): Promise<HostProcess> {
    const starting = startHostProcess({
      app: this.ground.app,
      port,
      settings,
      flags: [
        ...['--poll-seconds', '0.3', '--queue-lock-seconds', '3'],
        ...['--timer-lock-seconds', '2', '--stop-seconds', '1'],
      ],
      onLine,
    });
    return starting.then((host) => {
      const onExit = () => host.child.kill('SIGKILL');
      process.on('exit', onExit);
      void host.ended.then(() => process.off('exit', onExit));
      return host;
    });
  }

  #line(line: string): void {
    this.lines.push(line);
    if (this.lines.length > 400) this.lines.shift();
    if (this.options.print) console.log(`  host | ${line}`);
  }

  /** The end of the process at this very instant; resolves once it is gone. */
  async kill(): Promise<void> {
    const host = this.host;
    if (host === null) return;
    this.host = null;
    for (const name of this.#audited.seen) this.#audited.ended.add(name);
    const { child } = host;
    const isOver = child.exitCode !== null || child.signalCode !== null;
    const exited = isOver ? null : once(child, 'exit');
    child.kill('SIGKILL');
    this.recorder.close();
    await exited;
    for (const proxy of this.#proxies) proxy.cut();
  }

  async subscribe(
    hostUrl: string,
    schema: 'EventGridSchema' | 'CloudEventSchemaV1_0',
    name = 'near',
  ): Promise<void> {
    await this.eventGrid.subscribe({
      topic: 'main',
      name,
      endpoint: webhookOf(hostUrl),
      schema,
      filter: { includedEventTypes: ['Microsoft.KeyVault.SecretNearExpiry'] },
      retry: { scheduleSeconds: [0.5], maxAttempts: 200 },
      deadLetter: (record) => this.#line(`event given up: ${JSON.stringify(record)}`),
    });
  }

  /** A new secret that is near its end, with logins, policy and target of its own. */
  async prepare(strategy: Strategy, more: Overrides = {}): Promise<Subject> {
    const id = `${this.options.name}-${++this.#runs}`;
    const login = `${id}-a`.replaceAll('-', '_');
    const otherLogin = strategy === 'none' ? login : `${id}-b`.replaceAll('-', '_');
    const password = randomBytes(18).toString('base64url');
    const names = new Set([login, otherLogin]);
    const make = [...names].map((name) => `CREATE ROLE ${name} LOGIN`);
    await this.ground.postgres.query(
      [...make, `ALTER ROLE ${login} PASSWORD '${password}'`].join('; '),
    );
    const value = strategy === 'none' ? password : JSON.stringify({ username: login, password });
    const exp = Math.floor(Date.now() / 1000) + 1800;
    const set = await this.vault('main', 'PUT', `/secrets/${id}`, { value, attributes: { exp } });
    const version = versionOf(set.body);
    const subject = { name: id, strategy, login, otherLogin, password, version };
    await this.writeDocuments(subject, more);
    return subject;
  }

  async writeDocuments(subject: Subject, more: Overrides): Promise<void> {
    const { name, strategy, login, otherLogin } = subject;
    const object = { vault: 'main', type: 'secret', name };
    const template = { username: '{{username}}', password: '{{password}}' };
    const documents = {
      policies: {
        id: name,
        covers: [object],
        handler: 'postgresql',
        target: name,
        schedule: { validFor: 'P1D', leadTime: 'PT1H' },
        grace: this.options.grace ?? 'PT1S',
        value: strategy === 'none' ? { shape: 'raw' } : { shape: 'json', template },
        consumers: [
          {
            kind: 'webhook',
            id: 'shop',
            url: this.#webhookUrl,
            signingSecret: { vault: 'main', name: 'webhook-key' },
          },
        ],
        ...more.policy,
      },
      targets: {
        id: name,
        handler: 'postgresql',
        objects: [object],
        admin: { vault: 'pending', name: 'pg-admin', username: 'postgres' },
        settings: {
          host: '127.0.0.1',
          port: this.#pgPort,
          tls: { mode: 'off' },
          logins:
            strategy === 'none'
              ? { overlap: 'none', login }
              : { overlap: 'users', logins: [login, otherLogin] },
        },
        ...more.target,
      },
    };
    const before = this.#written.splice(0);
    // Targets first: a policy without its target would be a fault.
    for (const kind of ['targets', 'policies'] as const) {
      const folder = join(this.#documents, kind);
      await mkdir(folder, { recursive: true });
      const file = join(folder, `${name}.json`);
      await writeFile(file, JSON.stringify(documents[kind]));
      this.#written.push(file);
    }
    for (const file of before) if (!this.#written.includes(file)) await rm(file, { force: true });
  }

  /** The vault's own near-expiry event, over Event Grid, to the host's web hook. */
  async announce(subject: Pick<Subject, 'name'> & { readonly version?: string }): Promise<unknown> {
    const { name, version = '' } = subject;
    const answer = await fetch(`${this.keyVault.controlUrl}/vaults/main/events/republish`, {
      method: 'POST',
      body: JSON.stringify({ type: 'SecretNearExpiry', name, version }),
    });
    if (!answer.ok) throw new Error(`republish: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  /** Brings an event to another instance of the app, as Event Grid does when one does not answer. */
  async deliverTo(hostPort: number, event: unknown): Promise<void> {
    const answer = await fetch(webhookOf(`http://127.0.0.1:${hostPort}`), {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'aeg-event-type': 'Notification' },
      body: JSON.stringify([event]),
    });
    if (!answer.ok) throw new Error(`event: ${answer.status} ${await answer.text()}`);
  }

  /** Control API of the emulator. */
  async control(method: string, path: string, body?: object): Promise<unknown> {
    const init = body === undefined ? { method } : { method, body: JSON.stringify(body) };
    const answer = await fetch(`${this.keyVault.controlUrl}${path}`, init);
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    return answer.status === 204 ? null : answer.json();
  }

  /** Runs the sweep now, through the host. Nothing happens when the host is not there. */
  async nudge(): Promise<void> {
    await fetch(`http://127.0.0.1:${this.hostPort}/admin/functions/sweep`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{}',
    }).catch(() => undefined);
  }

  async journals({ name }: Pick<Subject, 'name'>): Promise<Journal[]> {
    const ref = { vault: 'main', type: 'secret', name } as const;
    const rows = listAll(this.storage.documents, shardOf(ref), journalPrefix);
    const all = await Array.fromAsync(rows, (row) => row.body as unknown as Journal);
    return all.filter((journal) => journal.object.name === name);
  }

  /**
   * Waits until nothing of `subject` is on its way anywhere: no event, message, open journal or
   * notification. Runs the sweep when something is due that nobody works on.
   */
  async settle(
    subject: Pick<Subject, 'name'>,
    options: {
      readonly signal?: AbortSignal;
      readonly withinMs?: number;
      /** False: the app's own timer must do it. */
      readonly nudges?: boolean;
      /** False: not the events, which a process that stands still may hold. */
      readonly events?: boolean;
    } = {},
  ): Promise<void> {
    const { signal, withinMs = 60_000, nudges = true, events = true } = options;
    const end = Date.now() + withinMs;
    let nudgedAt = 0;
    while (!signal?.aborted) {
      const left = await this.unsettled(subject, events);
      if (left === null) return;
      if (Date.now() > end) throw new Error(`not settled after ${withinMs} ms: ${left}`);
      if (nudges && left.startsWith('due') && Date.now() - nudgedAt > 1500) {
        nudgedAt = Date.now();
        await this.nudge();
      }
      await pause(100);
    }
  }

  /** What is still on its way; null when nothing is. `due` when nobody works on it. */
  async unsettled(subject: Pick<Subject, 'name'>, events = true): Promise<string | null> {
    const ref = { vault: 'main', type: 'secret', name: subject.name } as const;
    const shard = shardOf(ref);
    for await (const row of listAll(this.storage.documents, shard, 'active:')) {
      const due = await this.#whyActive(shard, row);
      const messages = due.startsWith('due') ? await this.messages() : 0;
      return messages > 0 ? `${messages} queue messages, ${due.slice(5)}` : due;
    }
    if (events && this.eventGrid.pending() > 0) return 'event under way';
    if ((await this.journals(subject)).length === 0) return 'no journal yet';
    const left = await this.messages();
    return left === 0 ? null : `${left} queue messages`;
  }

  async #whyActive(shard: string, row: StoredDocument): Promise<string> {
    const isFuture = (at: unknown) => new Date(String(at)) > new Date();
    if (!row.id.startsWith(activeRotationPrefix)) {
      const { nextAt } = row.body;
      return isFuture(nextAt) ? `notification until ${nextAt}` : 'due: notification';
    }
    const store = this.storage.documents;
    const id = row.id.slice(activeRotationPrefix.length);
    const held = await store.get(shard, rowId.journal(id));
    if (!held) return `active row without journal: ${id}`;
    const { state, resumeAt, object } = held.body as unknown as Journal;
    const lease = await store.get(shard, rowId.lease(object));
    if (lease && isFuture(lease.body['expiresAt'])) return `leased: ${id} ${state}`;
    return resumeAt && isFuture(resumeAt) ? `waiting: ${id} ${state}` : `due: ${id} ${state}`;
  }

  /** Messages in the app's queues, those being worked on included. */
  async messages(): Promise<number> {
    const service = QueueServiceClient.fromConnectionString(this.ground.azurite.connectionString);
    const counts = ['rotations', 'notifications'].map(async (name) => {
      const queue = service.getQueueClient(`${this.options.name}-${name}`);
      const found = await queue.getProperties().catch((error: { statusCode?: number }) => {
        if (error.statusCode === 404) return { approximateMessagesCount: 0 };
        throw error;
      });
      return found.approximateMessagesCount ?? 0;
    });
    return (await Promise.all(counts)).reduce((sum, count) => sum + count, 0);
  }

  /** Audit records of the namespace, oldest segment first. */
  audit(filter: Parameters<typeof readAudit>[1]): Promise<AuditRecord[]> {
    return Array.fromAsync(readAudit(this.storage.log, filter));
  }

  /** Asks for a rotation over the API, as an operator does. */
  async rotateNow({ name }: Pick<Subject, 'name'>): Promise<void> {
    await this.#operate(`vaults/main/secrets/${name}/rotations`);
  }

  /** Lets a held rotation go on. */
  async resume(id: string): Promise<void> {
    await this.#operate(`rotations/${id}/resume`);
  }

  async #operate(path: string): Promise<void> {
    const token = await this.ground.identity.issueToken({
      audience: localAudience,
      roles: ['Keyturn.Rotations.Operate'],
    });
    const url = `http://127.0.0.1:${this.hostPort}/api/${path}`;
    const headers = { authorization: `Bearer ${token}` };
    const answer = await fetch(url, { method: 'POST', headers });
    if (answer.status !== 202) throw new Error(`POST ${url}: ${answer.status}`);
  }

  /** A message as it was sent before: a queue may deliver anything twice. */
  async sendAgain(queue: 'rotations' | 'notifications', text: string): Promise<void> {
    const service = QueueServiceClient.fromConnectionString(this.ground.azurite.connectionString);
    await service.getQueueClient(`${this.options.name}-${queue}`).sendMessage(text);
  }

  /** What a rotation may change: the versions and the passwords' verifiers. */
  async snapshot(subject: Subject): Promise<object> {
    const { body } = await this.vault('main', 'GET', `/secrets/${subject.name}/versions`);
    const versions = (body.value as { id: string }[]).map(versionOf).sort();
    const { version } = await this.latest(subject);
    const sql = 'SELECT rolname, rolpassword FROM pg_authid WHERE rolname = ANY($1) ORDER BY 1';
    const logins = [subject.login, subject.otherLogin];
    const roles = await this.ground.postgres.query(sql, [logins]);
    // A consumer may be told twice, under one id, which is how it knows.
    const told = new Set(this.told.map(({ id }) => id)).size;
    return { versions, latest: version, roles, told };
  }

  /** Whether PostgreSQL accepts this login now. */
  async logsIn(user: string, password: string): Promise<boolean> {
    const client = new pg.Client({
      ...{ host: '127.0.0.1', port: this.ground.postgres.port, database: 'postgres' },
      ...{ user, password, connectionTimeoutMillis: 10_000 },
    });
    client.on('error', () => undefined);
    try {
      await client.connect();
      return true;
    } catch (error) {
      if ((error as { code?: string }).code === '28P01') return false;
      throw error;
    } finally {
      await client.end().catch(() => undefined);
    }
  }

  /** User, password and version of the latest version. */
  async latest(
    subject: Subject,
  ): Promise<{ readonly user: string; readonly password: string; readonly version: string }> {
    const { body } = await this.vault('main', 'GET', `/secrets/${subject.name}/`);
    const text = String(body.value);
    const version = versionOf(body);
    if (subject.strategy === 'none') return { user: subject.login, password: text, version };
    const { username, password } = JSON.parse(text) as { username: string; password: string };
    return { user: username, password, version };
  }

  async countVersions({ name }: Pick<Subject, 'name'>): Promise<number> {
    const { body } = await this.vault('main', 'GET', `/secrets/${name}/versions`);
    return body.value.length;
  }

  /** Everything that is not as it must be after one rotation; empty when all is well. */
  async faultsAfterRotation(subject: Subject, versions = 2): Promise<string[]> {
    const faults: string[] = [];
    const expect = (holds: boolean, fault: string) => void (holds || faults.push(fault));
    const latest = await this.latest(subject);
    expect(await this.logsIn(latest.user, latest.password), 'the latest version does not log in');
    const count = await this.countVersions(subject);
    expect(count === versions, `${count} versions, not ${versions}`);
    expect(latest.version !== subject.version, 'the latest version is the old one');
    const isOldOpen = await this.logsIn(subject.login, subject.password);
    expect(!isOldOpen, 'the old credential still logs in');
    const journals = await this.journals(subject);
    const done = journals.filter(({ state }) => state === 'DONE');
    expect(done.length === versions - 1, `${done.length} journals are DONE`);
    for (const { id, state } of journals) {
      expect(isEnd(state), `journal ${id} is ${state}`);
      expect(['DONE', 'SKIPPED'].includes(state), `journal ${id} ended ${state}`);
    }
    const told = this.told.filter(({ id }) => done.some((one) => id === `${one.id}.shop`));
    expect(told.length >= done.length, 'the consumer was not told');
    expect(
      done.every((one) => told.some(({ version }) => version === one.promotedVersion)),
      'the consumer was told of another version',
    );
    return [...faults, ...(await this.faultsOfTraces(subject))];
  }

  /** What must hold however a rotation ended: no candidate, no reservation, an audit that verifies. */
  async faultsOfTraces(subject: Subject): Promise<string[]> {
    const faults: string[] = [];
    for (const path of ['/secrets', '/deletedsecrets']) {
      const { body } = await this.vault('pending', 'GET', path);
      for (const { id } of body.value as { id: string }[]) {
        if (id.includes('/wal-')) faults.push(`a candidate is left: ${new URL(id).pathname}`);
      }
    }
    const { documents } = await this.storage.documents.list('reservations');
    for (const { id } of documents) faults.push(`a reservation is left: ${id}`);
    for (const journal of await this.journals(subject)) {
      if (journal.unaudited.length > 0) faults.push(`journal ${journal.id} owes the audit`);
      if (journal.candidate !== null) faults.push(`journal ${journal.id} keeps its candidate`);
    }
    return [...faults, ...(await this.#auditFaults(subject))];
  }

  /** The segments of a process that is gone are read once more, then never again. */
  async #auditFaults(subject: Subject): Promise<string[]> {
    const { log } = this.storage;
    const fresh = async function* (skip: ReadonlySet<string>, prefix: string) {
      for await (const name of log.list(prefix)) if (!skip.has(name)) yield name;
    };
    const { seen, ended, closed } = this.#audited;
    const names = await Array.fromAsync(fresh(closed, 'audit/'));
    const view = { ...log, list: (prefix: string) => fresh(closed, prefix) };
    const { faults } = await verifyAudit(view);
    const found = faults.map(({ segment, line, kind }) => `audit: ${kind} at ${segment}:${line}`);
    const ends = new Set<string>();
    for await (const record of readAudit(view)) {
      const to = String(record.detail?.['to'] ?? '');
      if (record.action === 'rotation.transition') ends.add(`${record.rotationId} ${to}`);
    }
    for (const name of names) (ended.has(name) ? closed : seen).add(name);
    for (const { id, state } of await this.journals(subject)) {
      if (isEnd(state) && !ends.has(`${id} ${state}`)) {
        found.push(`audit: the end ${state} of ${id} is missing`);
      }
    }
    return found;
  }

  /** A call to a vault, past the proxies. */
  vault(
    vault: 'main' | 'pending',
    method: string,
    path: string,
    body?: object,
  ): Promise<VaultReply> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const options = {
      ...{ host: 'localhost', port: this.#vaultPorts[vault], ca: this.ground.ca.caPem },
      ...{ method, path: `${path}?api-version=2025-07-01` },
      headers: {
        authorization: `Bearer ${this.#token}`,
        ...(text === undefined ? {} : { 'content-type': 'application/json' }),
      },
    };
    return new Promise((resolve, reject) => {
      const outgoing = request(options, (answer) => {
        const chunks: Buffer[] = [];
        answer.on('data', (chunk: Buffer) => chunks.push(chunk));
        answer.on('error', reject);
        answer.on('end', () => {
          const { statusCode: status = 0 } = answer;
          resolve({ status, body: JSON.parse(Buffer.concat(chunks).toString() || '{}') });
        });
      });
      outgoing.on('error', reject);
      outgoing.end(text);
    });
  }
}

async function* listAll(
  store: DocumentStore,
  partition: string,
  prefix: string,
): AsyncGenerator<StoredDocument> {
  let cursor: string | null = null;
  do {
    const page = await store.list(partition, { prefix, cursor });
    yield* page.documents;
    cursor = page.cursor;
  } while (cursor !== null);
}

export function versionOf(body: { readonly id?: unknown }): string {
  return String(body.id).split('/').at(-1) ?? '';
}

export async function openLane(ground: Ground, options: LaneOptions): Promise<Lane> {
  const lane = new Lane(ground, options);
  await lane.open();
  return lane;
}

function webhookOf(hostUrl: string): string {
  return `${hostUrl}/runtime/webhooks/eventgrid?functionName=secretNearExpiry`;
}
