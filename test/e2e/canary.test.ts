import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join, relative } from 'node:path';
import { TableClient, TableServiceClient } from '@azure/data-tables';
import { BlobServiceClient } from '@azure/storage-blob';
import { QueueServiceClient } from '@azure/storage-queue';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connectionString } from '../../local/azurite.ts';
import { createAzureStorage } from '../../src/core/azure/storage.ts';
import { type Canary, disguises, findCanaries, type Sink } from '../support/canaries.ts';
import {
  type Answer,
  type CallWish,
  callApi,
  eventually,
  fromNow,
  type Ground,
  newPassword,
  policyFor,
  type Recorder,
  type RunningApp,
  startGround,
  startRecorder,
  targetFor,
  webhookTo,
} from '../support/e2e-world.ts';
import { type OtlpReceiver, startOtlpReceiver } from '../support/otlp-receiver.ts';

// Every secret there is, looked for everywhere it must not be. Where a value must be, and is not
// looked for: the values of the vaults themselves (their tags and properties are searched), the
// calls to them inside TLS, the identity's answers, the host's own AzureWebJobsStorage and
// IDENTITY_HEADER, the folder of the database server with its fixture password, and the app's
// package, which is older than every secret and holds the storage SDK's own copy of Azurite's key.

let ground: Ground;
let app: RunningApp;
let sealed: RunningApp;
let telemetry: OtlpReceiver;
const recorders: Record<string, Recorder> = {};
const answers: Buffer[] = [];
const canaries: Canary[] = [];
const children: ChildProcess[] = [];

/** Characters that every encoding spells differently. */
function oddPassword(): string {
  return `é"\\ /+<&>%${newPassword()}`;
}

function plant(name: string, value: string): string {
  canaries.push({ name, value });
  return value;
}

beforeAll(async () => {
  ground = await startGround();
  const { azurite, postgres, identity } = ground.stack;
  for (const [name, port] of Object.entries(azurite.ports)) {
    recorders[name] = await startRecorder(port);
  }
  telemetry = await startOtlpReceiver();
  recorders['postgres'] = await startRecorder(postgres.port);
  recorders['identity'] = await startRecorder(Number(new URL(identity.url).port));
  const { endpoint, header } = identity.managedIdentity;
  plant('identity header', header);
  plant('storage account key', /AccountKey=([^;]+)/.exec(azurite.connectionString)?.[1] ?? '');
  await ground.pending.setSecret('postgres-admin', plant('admin password', postgres.adminPassword));
  const key = randomBytes(32);
  plant('webhook signing key', key.toString('base64'));
  plant('webhook signing key, its bytes', key.toString('latin1'));
  await ground.main.setSecret('webhook-orders', `whsec_${key.toString('base64')}`);
  const sealingKey = plant('sealing key', randomBytes(32).toString('base64'));
  await ground.pending.setSecret('sealing-key', sealingKey);
  const overrides = {
    KEYTURN_RETRY_SECONDS: '1',
    OTEL_EXPORTER_OTLP_ENDPOINT: telemetry.url,
    OTEL_METRIC_EXPORT_INTERVAL: '1000',
    AzureWebJobsStorage: recordedStorage(),
    IDENTITY_ENDPOINT: endpoint.replace(/:\d+/, `:${recorders['identity'].port}`),
  };
  app = await ground.startApp({ overrides, subscribe: ['secretNearExpiry'] });
  sealed = await ground.startApp({
    namespace: 'sealed',
    overrides: { ...overrides, KEYTURN_PENDING: 'sealed:pending/sealing-key' },
  });
}, 120_000);

afterAll(async () => {
  for (const child of children) child.kill('SIGKILL');
  await ground?.stop();
  await telemetry?.stop();
  await Promise.all(Object.values(recorders).map((recorder) => recorder.stop()));
}, 60_000);

/** The connection string of Azurite behind the recorders. */
function recordedStorage(): string {
  const port = (name: string) => recorders[name]!.port;
  return connectionString({ blob: port('blob'), queue: port('queue'), table: port('table') });
}

/** A call whose answer is kept, headers and all. */
async function call(method: string, url: string, wish: CallWish = {}): Promise<Answer> {
  const answer = await callApi(url, { method, ...wish });
  const headers = [...answer.headers.entries()].map((pair) => pair.join(': ')).join('\n');
  answers.push(Buffer.from(`${answer.status}\n${headers}\n\n${answer.text}\n`));
  return answer;
}

async function allTables(): Promise<Buffer> {
  const { connectionString: account } = ground.stack.azurite;
  const options = { allowInsecureConnection: true };
  const parts: string[] = [];
  const service = TableServiceClient.fromConnectionString(account, options);
  for await (const { name } of service.listTables()) {
    parts.push(name ?? '');
    const table = TableClient.fromConnectionString(account, name ?? '', options);
    for await (const entity of table.listEntities()) {
      for (const [column, value] of Object.entries(entity)) parts.push(`${column}=${value}`);
    }
  }
  return Buffer.from(parts.join('\n'));
}

/** As far as peeking goes; what has passed through is in the recorded traffic. */
async function allQueues(): Promise<Buffer> {
  const service = QueueServiceClient.fromConnectionString(ground.stack.azurite.connectionString);
  const parts: string[] = [];
  for await (const { name } of service.listQueues()) {
    const peeked = await service.getQueueClient(name).peekMessages({ numberOfMessages: 32 });
    for (const { messageText } of peeked.peekedMessageItems) {
      parts.push(name, messageText, Buffer.from(messageText, 'base64').toString());
    }
  }
  return Buffer.from(parts.join('\n'));
}

/** All that passed, and every message of it as its receiver reads it. */
function queueTraffic(): Buffer {
  const bytes = recorders['queue']!.bytes();
  const texts = [...bytes.toString('latin1').matchAll(/<MessageText>([^<]+)</g)];
  return Buffer.concat([bytes, ...texts.map(([, text = '']) => Buffer.from(text, 'base64'))]);
}

async function allBlobs(): Promise<Buffer> {
  const service = BlobServiceClient.fromConnectionString(ground.stack.azurite.connectionString);
  const parts: Buffer[] = [];
  for await (const { name } of service.listContainers()) {
    const container = service.getContainerClient(name);
    for await (const blob of container.listBlobsFlat({ includeMetadata: true })) {
      parts.push(Buffer.from(`\n${JSON.stringify(blob)}\n`));
      parts.push(await container.getBlobClient(blob.name).downloadToBuffer());
    }
  }
  return Buffer.concat(parts);
}

/** All that a vault says of its objects but their values. */
async function vaultProperties(): Promise<Buffer> {
  const parts: unknown[] = [];
  for (const vault of [ground.main, ground.pending]) {
    for await (const secret of vault.listPropertiesOfSecrets()) {
      parts.push(secret);
      for await (const version of vault.listPropertiesOfSecretVersions(secret.name)) {
        parts.push(version, ...Object.values(version.tags ?? {}));
      }
    }
    for await (const secret of vault.listDeletedSecrets()) parts.push(secret.properties);
  }
  return Buffer.from(
    parts.map((one) => (typeof one === 'string' ? one : JSON.stringify(one))).join('\n'),
  );
}

async function emulatorControl(): Promise<Buffer> {
  const all = await Promise.all(
    ['/audit', '/status', '/faults'].map((path) => ground.control('GET', path)),
  );
  return Buffer.from(JSON.stringify(all));
}

/** Pids of every process below this one. */
async function descendants(): Promise<readonly number[]> {
  const parents = new Map<number, number>();
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const stat = await readFile(`/proc/${entry}/stat`, 'utf8').catch(() => '');
    const parent = /^\d+ \(.*\) \S (\d+) /s.exec(stat)?.[1];
    if (parent) parents.set(Number(entry), Number(parent));
  }
  const isBelow = (pid: number | undefined): boolean =>
    pid !== undefined && (parents.get(pid) === process.pid || isBelow(parents.get(pid)));
  return [...parents.keys()].filter(isBelow);
}

/** Arguments and environment of every child; but for the two settings that the host must have. */
async function processes(): Promise<Buffer> {
  const parts: string[] = [];
  for (const pid of await descendants()) {
    parts.push(await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => ''));
    const environment = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '');
    const isHost = pid === app.host.child.pid || pid === sealed.host.child.pid;
    const mayHave = isHost ? /^(AzureWebJobsStorage|IDENTITY_HEADER)=/ : /^$/;
    parts.push(...environment.split('\0').filter((line) => !mayHave.test(line)));
  }
  return Buffer.from(parts.join('\n'));
}

async function files(): Promise<Buffer> {
  const parts: Buffer[] = [];
  const visit = async (dir: string): Promise<void> => {
    for (const entry of await readdir(dir, { withFileTypes: true })) {
      const path = join(dir, entry.name);
      if (['app', join('stack', 'postgres')].includes(relative(ground.dir, path))) continue;
      parts.push(Buffer.from(`\n${path}\n`));
      if (entry.isDirectory()) await visit(path);
      else if (entry.isFile()) parts.push(await readFile(path));
    }
  };
  await visit(ground.dir);
  return Buffer.concat(parts);
}

const sinks: readonly Sink[] = [
  { name: 'output of the host', read: () => Buffer.from(`${app.output()}\n${sealed.output()}`) },
  { name: 'tables', read: allTables },
  { name: 'queues', read: allQueues },
  { name: 'blobs, the audit log among them', read: allBlobs },
  { name: 'what went to and from tables', read: () => recorders['table']!.bytes() },
  { name: 'what went to and from queues', read: queueTraffic },
  { name: 'what went to and from blobs', read: () => recorders['blob']!.bytes() },
  { name: 'what went to and from PostgreSQL', read: () => recorders['postgres']!.bytes() },
  { name: 'log of PostgreSQL', read: () => Buffer.from(ground.stack.postgres.logText()) },
  {
    name: 'webhooks',
    read: () =>
      Buffer.from(
        ground.hook.told
          .map(
            ({ path, headers, body }) =>
              `${path}\n${Object.entries(headers).flat().join('\n')}\n${body}`,
          )
          .join('\n'),
      ),
  },
  {
    name: 'spans and metrics',
    read: () =>
      Buffer.from(
        telemetry
          .bodies()
          .map(({ text }) => text)
          .join('\n'),
      ),
  },
  { name: 'answers of the API', read: () => Buffer.concat(answers) },
  { name: 'tags and properties in the vaults', read: vaultProperties },
  { name: 'audit of the emulated vaults', read: emulatorControl },
  { name: 'arguments and environments of processes', read: processes },
  { name: 'files, dead letters of Event Grid among them', read: files },
];

describe('the search', () => {
  /** How to leave a text in each sink on purpose. */
  const ways: Readonly<Record<string, (text: string) => Promise<unknown>>> = {
    'output of the host': (text) => sendForeignEvent(text),
    tables: (text) =>
      app.storage.documents.put('bait', randomBytes(8).toString('hex'), { text }, 'any'),
    queues: (text) => app.storage.queue(`bait${randomBytes(2).toString('hex')}`).send({ text }),
    'blobs, the audit log among them': (text) => sendForeignEvent(text),
    'what went to and from tables': (text) =>
      recorded().documents.put('bait', randomBytes(8).toString('hex'), { text }, 'any'),
    'what went to and from queues': (text) => recorded().queue('baits').send({ text }),
    'what went to and from blobs': (text) =>
      recorded().log.append(`bait/${randomBytes(8).toString('hex')}`, 0, Buffer.from(text)),
    'what went to and from PostgreSQL': (text) => query(text),
    'log of PostgreSQL': (text) => query(text),
    webhooks: (text) => callApi(`${ground.hook.url}/bait`, { method: 'POST', body: { text } }),
    'spans and metrics': (text) => callApi(`${telemetry.url}/bait`, { method: 'POST', body: text }),
    'answers of the API': (text) => {
      const location = `http://x.example/${Buffer.from(text).toString('latin1')}`;
      ground.hook.answers.set('/echo', { status: 302, location });
      return call('GET', `${ground.hook.url}/echo`);
    },
    'tags and properties in the vaults': (text) =>
      ground.main.setSecret('bait', 'x', { tags: { text } }),
    'audit of the emulated vaults': (text) => ground.main.getSecret(text).catch(() => undefined),
    'arguments and environments of processes': async (text) => {
      const asArgument = Math.random() < 0.5;
      const child = spawn(
        process.execPath,
        ['-e', 'setTimeout(() => {}, 100_000)', ...(asArgument ? [text] : [])],
        { stdio: 'ignore', ...(asArgument ? {} : { env: { BAIT: text } }) },
      );
      children.push(child);
    },
    'files, dead letters of Event Grid among them': async (text) => {
      const { eventGrid } = ground.stack;
      eventGrid.publish('bait', { subject: 'bait', eventType: 'Bait', data: { text } });
      await eventGrid.idle();
    },
  };

  function recorded() {
    const names = { table: 'bait', container: 'bait', queuePrefix: 'bait-' };
    return createAzureStorage({ connectionString: recordedStorage() }, names);
  }

  async function query(text: string): Promise<void> {
    const client = new pg.Client({
      ...{ host: '127.0.0.1', port: recorders['postgres']!.port, user: 'postgres' },
      password: ground.stack.postgres.adminPassword,
    });
    await client.connect();
    await client.query(`SELECT '${text.replaceAll("'", "''")}'`);
    await client.end();
  }

  /** An event of a vault that is none of ours: its id comes into the log and the audit. */
  async function sendForeignEvent(text: string): Promise<void> {
    const url = `${app.host.url}/runtime/webhooks/eventgrid?functionName=secretNearExpiry`;
    const version = '0'.repeat(32);
    const event = {
      ...{
        id: text,
        topic: '/x/vaults/other',
        subject: 'x',
        dataVersion: '1',
        metadataVersion: '1',
      },
      eventType: 'Microsoft.KeyVault.SecretNearExpiry',
      eventTime: new Date().toISOString(),
      data: {
        ...{
          Id: `https://other.vault.azure.net/secrets/x/${version}`,
          VaultName: 'other',
          EXP: null,
        },
        ...{ ObjectType: 'Secret', ObjectName: 'x', Version: version, NBF: null },
      },
    };
    const headers = { 'aeg-event-type': 'Notification' };
    const { status } = await callApi(url, { method: 'POST', headers, body: [event] });
    expect(status).toBe(202);
  }

  /** What may be part of a URL path or a header is narrower than what may leak. */
  const onlyNames = ['audit of the emulated vaults'];
  const onlyLatin = ['answers of the API'];

  function bait(sink: string, disguise: (text: string) => string): string {
    if (!onlyNames.includes(sink)) {
      return onlyLatin.includes(sink) ? oddPassword().slice(1) : oddPassword();
    }
    for (;;) {
      const text = randomBytes(9).toString('hex').slice(0, 17);
      if (/^[0-9a-zA-Z-]+=*$/.test(disguise(text))) return text;
    }
  }

  // A subscriber that takes the handshake and no event.
  const refuser = createServer((incoming, response) => {
    const isHandshake = incoming.method === 'OPTIONS';
    incoming.resume();
    response.writeHead(isHandshake ? 200 : 400, { 'webhook-allowed-origin': '*' }).end();
  });

  beforeAll(async () => {
    refuser.listen(0, '127.0.0.1');
    await once(refuser, 'listening');
    const { port } = refuser.address() as AddressInfo;
    const endpoint = `http://127.0.0.1:${port}/`;
    const subscription = { topic: 'bait', name: 'bait', endpoint };
    await ground.stack.eventGrid.subscribe({ ...subscription, schema: 'CloudEventSchemaV1_0' });
  });

  afterAll(() => {
    refuser.closeAllConnections();
    refuser.close();
  });

  it.each(sinks)(
    'finds what was left on purpose, however spelled: $name',
    async ({ name, read }) => {
      const planted: Canary[] = [];
      for (const [spelling, disguise] of Object.entries(disguises)) {
        if (onlyNames.includes(name) && /URL|form|JSON/.test(spelling)) continue;
        const value = bait(name, disguise);
        planted.push({ name: spelling, value });
        // Padding says nothing of the text, and a name cannot hold it.
        await ways[name]!(disguise(value).replace(/=+$/, ''));
      }
      // What a process prints, and what a server logs, arrives a moment later.
      const isThere = async () => findCanaries(planted, await read()).length === planted.length;
      for (let tries = 0; tries < 20 && !(await isThere()); tries++) {
        await new Promise((resolve) => setTimeout(resolve, 250));
      }
      const found = findCanaries(planted, await read()).map((line) => line.replace(/ \(.*/, ''));
      expect(found).toEqual(planted.map((one) => one.name));
    },
    60_000,
  );

  it('finds nothing where nothing is', () => {
    expect(findCanaries([{ name: 'x', value: newPassword() }], randomBytes(100_000))).toEqual([]);
  });
});

describe('a secret', () => {
  const symbols = { length: 40, classes: ['lower', 'upper', 'digit', 'symbol'] };
  const operate = () => ground.token('Keyturn.Rotations.Operate');

  /** The database behind its recorder. */
  function target(name: string, logins: Parameters<typeof targetFor>[2]) {
    const made = targetFor(ground, name, logins);
    return { ...made, settings: { ...made.settings, port: recorders['postgres']!.port } };
  }

  async function prepare(
    on: RunningApp,
    name: string,
    more: { readonly policy?: object; readonly target?: object; readonly stored?: string } = {},
  ): Promise<void> {
    const stem = name.replaceAll('-', '_');
    const password = plant(`base password of ${name}`, oddPassword());
    await ground.login(`${stem}_a`, password);
    await ground.login(`${stem}_b`);
    const stored = more.stored ?? JSON.stringify({ username: `${stem}_a`, password });
    await ground.main.setSecret(name, stored, { expiresOn: fromNow(3600) });
    const made = target(name, [`${stem}_a`, `${stem}_b`]);
    await on.document('targets', name, { ...made, ...more.target });
    await on.document('policies', name, {
      ...policyFor(name, { generator: symbols }),
      ...more.policy,
    });
  }

  async function rotate(on: RunningApp, name: string): Promise<string> {
    const token = plant(`caller’s token for ${name}`, await operate());
    plant(`its signature`, token.split('.')[2] ?? '');
    const answer = await call('POST', `${on.host.url}/api/vaults/main/secrets/${name}/rotations`, {
      token,
    });
    expect(answer.status, answer.text).toBe(202);
    await call('GET', `${on.host.url}/api/rotations?limit=100`, { token });
    return answer.json.id;
  }

  async function plantLatest(name: string): Promise<void> {
    const { value = '' } = await ground.main.getSecret(name);
    const password = value.startsWith('{') ? JSON.parse(value).password : value;
    plant(`new value of ${name}`, password);
  }

  async function endsAs(on: RunningApp, name: string, state: string): Promise<void> {
    const ended = await on.ended(await rotate(on, name));
    expect(ended.state, JSON.stringify(ended.outcome)).toBe(state);
    await call('GET', `${on.host.url}/api/rotations/${ended.id}`, { token: await operate() });
  }

  const scenes: Readonly<Record<string, () => Promise<void>>> = {
    'alternating logins, consumers told and not': async () => {
      ground.hook.answers.set('/broken', { status: 500 });
      const consumers = [
        webhookTo(`${ground.hook.url}/told`, 'told'),
        webhookTo(`${ground.hook.url}/broken`, 'broken'),
        webhookTo('https://elsewhere.example.com/', 'refused'),
      ];
      await prepare(app, 'canary-users', { policy: { consumers } });
      await endsAs(app, 'canary-users', 'DONE');
      await plantLatest('canary-users');
      await eventually(() => ground.hook.told.some(({ path }) => path === '/broken'));
    },
    'one login': async () => {
      const password = plant('base password of canary-one', oddPassword());
      await ground.login('canary_one', password);
      await ground.main.setSecret('canary-one', password, { expiresOn: fromNow(3600) });
      await app.document('targets', 'canary-one', target('canary-one', 'canary_one'));
      const value = { shape: 'raw' };
      await app.document(
        'policies',
        'canary-one',
        policyFor('canary-one', { value, generator: symbols }),
      );
      await endsAs(app, 'canary-one', 'DONE');
      await plantLatest('canary-one');
    },
    'a value without a target': async () => {
      await ground.main.setSecret('canary-value', plant('first value', oddPassword()));
      const more = {
        handler: 'generated',
        target: null,
        value: { shape: 'raw' },
        generator: symbols,
      };
      await app.document('policies', 'canary-value', policyFor('canary-value', more));
      await endsAs(app, 'canary-value', 'DONE');
      await plantLatest('canary-value');
    },
    'a candidate sealed in the journal': async () => {
      await prepare(sealed, 'canary-sealed');
      await endsAs(sealed, 'canary-sealed', 'DONE');
      await plantLatest('canary-sealed');
    },
    'a target that refuses the stored password': async () => {
      const password = plant('a password that was never right', oddPassword());
      const stored = JSON.stringify({ username: 'canary_wrong_a', password });
      await prepare(app, 'canary-wrong', { stored });
      await endsAs(app, 'canary-wrong', 'FAILED_CLEAN');
    },
    'an admin whose password is wrong': async () => {
      await ground.pending.setSecret('wrong-admin', plant('wrong admin password', oddPassword()));
      const admin = { vault: 'pending', name: 'wrong-admin', username: 'postgres' };
      await prepare(app, 'canary-admin', { target: { admin } });
      await endsAs(app, 'canary-admin', 'FAILED_CLEAN');
    },
    'a stored value that cannot be read': async () => {
      const garbled = `{"username": "canary_garbled_a", "password": ${plant('garbled', oddPassword())}`;
      await prepare(app, 'canary-garbled', { stored: garbled });
      await endsAs(app, 'canary-garbled', 'FAILED_CLEAN');
    },
    'a vault that refuses the new version': async () => {
      await prepare(app, 'canary-refused');
      const fault = { kind: 'status', status: 400, code: 'BadParameter', message: 'not today' };
      const rule = { operation: 'setSecret', object: 'canary-refused', times: 0, fault };
      const { id } = await ground.control('POST', '/faults', rule);
      await endsAs(app, 'canary-refused', 'ROLLED_BACK');
      await ground.control('DELETE', `/faults/${id}`);
    },
    'a target that is down, and a rotation called off': async () => {
      const settings = { ...target('x', 'x').settings, port: 9 };
      const logins = { overlap: 'users', logins: ['canary_down_a', 'canary_down_b'] };
      await prepare(app, 'canary-down', { target: { settings: { ...settings, logins } } });
      const id = await rotate(app, 'canary-down');
      await eventually(async () => (await app.call('GET', `/rotations/${id}`)).json?.resumeAt);
      await call('POST', `${app.host.url}/api/rotations/${id}/cancel`, { token: await operate() });
      expect((await app.ended(id)).state).toBe('FAILED_CLEAN');
    },
    'tokens and secrets in the wrong place': async () => {
      const url = `${app.host.url}/api/vaults/main/secrets/canary-users/rotations`;
      const token = plant('token in the query', await operate());
      const secret = plant('secret in the body', oddPassword());
      await call('POST', `${url}?token=${token}`, { token });
      await call('POST', url, { token, body: { password: secret } });
      await call('POST', url, { token, body: `{"password": ${secret}` });
      await call('GET', `${app.host.url}/api/rotations?limit=${encodeURIComponent(secret)}`, {
        token,
      });
      await call('POST', url, {
        token: plant('forged token', `${token.slice(0, -12)}AAAAAAAAAAAA`),
      });
      const headers = { 'x-ms-client-principal': plant('a principal', newPassword()) };
      await call('POST', url, { token: plant('nonsense token', newPassword()), headers });
    },
  };

  it.each(Object.keys(scenes))(
    'is used: %s',
    async (scene) => {
      await scenes[scene]!();
    },
    120_000,
  );

  it('is used: a candidate that is staged and never promoted', async () => {
    await prepare(app, 'canary-staged');
    await ground.control('PUT', '/vaults/main/mode', { readOnly: true });
    const id = await rotate(app, 'canary-staged');
    const { value = '' } = await eventually(() =>
      ground.pending.getSecret(`wal-${id}`).catch(() => null),
    );
    plant('staged candidate', JSON.parse(value).password);
    await call('POST', `${app.host.url}/api/rotations/${id}/cancel`, { token: await operate() });
    await ground.control('PUT', '/vaults/main/mode', { readOnly: false });
    expect((await app.ended(id)).ended).toBe(true);
  }, 120_000);

  it('was given to the app as a token for the vaults, too', () => {
    const traffic = recorders['identity']!.bytes().toString();
    const tokens = [...traffic.matchAll(/"access_token":"([^"]+)"/g)].map(
      ([, token = '']) => token,
    );
    expect(tokens.length).toBeGreaterThan(0);
    for (const token of tokens) plant('the app’s token for the vault', token);
  });

  it.each(sinks)(
    'is not in: $name',
    async ({ read }) => {
      expect(canaries.length).toBeGreaterThan(40);
      const bytes = await read();
      expect(bytes.length).toBeGreaterThan(0);
      expect(findCanaries(canaries, bytes)).toEqual([]);
    },
    60_000,
  );
});
