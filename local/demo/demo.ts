import { type ChildProcess, fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Stack } from '../stack.ts';
import { type VaultClient, vaultClient } from '../vault-client.ts';
import type { ConsumerReport } from './consumer.ts';
import { parseLogLine, tell } from './timeline.ts';
import { startWebhook, type WebhookReceiver } from './webhook.ts';

export const demoSecret = 'orders-db';
/** The secret's first version lives this long; near expiry is said `leadSeconds` before its end. */
const shortLifeSeconds = 36;
const longLifeSeconds = 30 * 86_400;
export const demoNearExpiry = { leadSeconds: 30, delaySeconds: 0 } as const;

export interface DemoGround {
  readonly webhook: WebhookReceiver;
  readonly documents: string;
}

/**
 * What an operator would prepare: two logins in the database, the first credential and the admin's
 * in the vaults, one policy and one target document. What is there from an earlier start stays.
 */
export async function prepareDemo(
  stack: Stack,
  options: {
    readonly dir: string;
    readonly webhookPort: number;
    /** Whether a first credential is to come near its expiry at once, or not for a month. */
    readonly isNearExpiry: boolean;
    readonly onTold: (text: string) => void;
  },
): Promise<DemoGround> {
  const key = randomBytes(32);
  const webhook = await startWebhook({
    port: options.webhookPort,
    key,
    onTold: ({ valid, version }) =>
      options.onTold(
        valid
          ? `the consumer is told of version ${version.slice(0, 8)} (signature checked)`
          : 'the consumer got a message whose signature is wrong',
      ),
  });
  const { main, pending } = await clients(stack);
  const whsec = `whsec_${key.toString('base64')}`;
  await main.set('webhook-orders', { value: whsec });
  // The vault that only the engine can reach keeps what only the engine may use.
  await pending.set('orders-db-admin', { value: stack.postgres.adminPassword });
  const lifeSeconds = options.isNearExpiry ? shortLifeSeconds : longLifeSeconds;
  if ((await main.get(demoSecret)) === null) await firstCredential(stack, main, lifeSeconds);
  const documents = join(options.dir, 'documents');
  await writeDocuments(documents, stack.postgres.port, webhook.url);
  return { webhook, documents };
}

async function clients(stack: Stack): Promise<{ main: VaultClient; pending: VaultClient }> {
  const token = await stack.identity.issueToken({ audience: 'https://vault.azure.net' });
  const client = (name: string) =>
    vaultClient({
      url: stack.keyVault.vaults.find((vault) => vault.name === name)?.url ?? '',
      ca: stack.ca.caPem,
      token: async () => token,
    });
  return { main: client('main'), pending: client('pending') };
}

async function firstCredential(
  { postgres }: Stack,
  main: VaultClient,
  expiresInSeconds: number,
): Promise<void> {
  const password = randomBytes(18).toString('base64url');
  for (const login of ['app_a', 'app_b']) {
    await postgres.query(`DROP ROLE IF EXISTS ${login}`);
    await postgres.query(`CREATE ROLE ${login} LOGIN`);
  }
  await postgres.query(`ALTER ROLE app_a PASSWORD '${password}'`);
  await main.set(demoSecret, {
    value: JSON.stringify({ username: 'app_a', password }),
    contentType: 'application/json',
    expiresInSeconds,
  });
}

async function writeDocuments(folder: string, port: number, webhook: string): Promise<void> {
  const policy = {
    id: demoSecret,
    covers: [{ vault: 'main', type: 'secret', name: demoSecret }],
    handler: 'postgresql',
    target: demoSecret,
    schedule: { validFor: 'PT5M', leadTime: 'PT30S' },
    grace: 'PT8S',
    value: { shape: 'json', template: { username: '{{username}}', password: '{{password}}' } },
    consumers: [
      {
        kind: 'webhook',
        id: 'orders-service',
        url: webhook,
        signingSecret: { vault: 'main', name: 'webhook-orders' },
      },
    ],
  };
  const target = {
    id: demoSecret,
    handler: 'postgresql',
    objects: [{ vault: 'main', type: 'secret', name: demoSecret }],
    admin: { vault: 'pending', name: 'orders-db-admin', username: 'postgres' },
    settings: {
      host: '127.0.0.1',
      port,
      tls: { mode: 'off' },
      logins: { overlap: 'users', logins: ['app_a', 'app_b'] },
    },
  };
  for (const [kind, body] of Object.entries({ policies: policy, targets: target })) {
    await mkdir(join(folder, kind), { recursive: true });
    await writeFile(join(folder, kind, `${demoSecret}.json`), JSON.stringify(body, null, 2));
  }
}

export interface Demo {
  /** A line of the functions host. */
  readonly onLine: (line: string) => void;
  readonly say: (text: string) => void;
  stop(): Promise<void>;
}

/** Runs the application beside the app and tells, with the seconds gone by, what happens to it. */
export async function runDemo(stack: Stack, print: (text: string) => void): Promise<Demo> {
  const startedAt = Date.now();
  const say = (text: string) => {
    const seconds = ((Date.now() - startedAt) / 1000).toFixed(1).padStart(6);
    print(`${seconds} s  ${text}`);
  };
  const consumer = await startConsumer(stack);
  const { main } = await clients(stack);
  let rotations = 0;
  const finished = async () => {
    rotations++;
    const { logins, failures, user, lastError } = consumer.report();
    const versions = await main.countVersions(demoSecret);
    print('');
    const verdict = failures === 0 ? 'nobody locked out' : 'the application was locked out';
    print(`  rotated: ${rotations} time${rotations === 1 ? '' : 's'}, ${verdict}`);
    print(`  versions of ${demoSecret}: ${versions}, the application logs in as ${user}`);
    print(`  the application logged in ${logins} times, ${failures} failures`);
    if (lastError) print(`  its last failure: ${lastError}`);
    print('');
  };
  const onLine = (text: string) => {
    const line = parseLogLine(text);
    const told = line && tell(line);
    if (told) say(told);
    if (line?.event === 'rotation.moved' && line['to'] === 'DONE') {
      finished().catch((error: unknown) => say(`the summary failed: ${String(error)}`));
    }
  };
  return { onLine, say, stop: consumer.stop };
}

async function startConsumer(stack: Stack): Promise<{
  report(): ConsumerReport;
  stop(): Promise<void>;
}> {
  const token = await stack.identity.issueToken({
    audience: 'https://vault.azure.net',
    subject: 'orders-service',
    expiresInSeconds: 30 * 86_400,
  });
  const settings = {
    vaultUrl: stack.keyVault.vaults[0]?.url,
    caFile: stack.ca.caFile,
    token,
    secret: demoSecret,
    port: stack.postgres.port,
  };
  const child: ChildProcess = fork(join(import.meta.dirname, 'consumer.ts'));
  // Not by its environment: that is there for everybody on the machine to read.
  child.send(settings);
  let report: ConsumerReport = { logins: 0, failures: 0, user: '', lastError: null };
  child.on('message', (message) => {
    report = message as ConsumerReport;
  });
  return {
    report: () => report,
    stop: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exited = once(child, 'exit');
      child.kill('SIGTERM');
      await exited;
    },
  };
}
