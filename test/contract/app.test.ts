import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { localAudience } from '../../local/identity/identity.ts';
import { appSettings, type Stack, startStack } from '../../local/stack.ts';
import { vaultClient } from '../../local/vault-client.ts';
import { createApp } from '../../src/core/app.ts';
import { configFromEnvironment, parseConfig } from '../../src/core/config.ts';
import { operations, serve } from '../../src/core/operations/index.ts';

const policy = {
  id: 'session-keys',
  covers: [{ vault: 'main', type: 'secret', name: 'session-*' }],
  handler: 'generated',
  schedule: { validFor: 'P90D', leadTime: 'P30D' },
  grace: 'P1D',
};

let stack: Stack;
let dir: string;
const certificates = getCACertificates('default');

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'keyturn-app-'));
  await chmod(dir, 0o711);
  stack = await startStack({ dir, keep: false });
  await mkdir(join(dir, 'documents/policies'), { recursive: true });
  await writeFile(join(dir, 'documents/policies/one.json'), JSON.stringify(policy));
  setDefaultCACertificates([...certificates, stack.ca.caPem]);
  for (const name of ['IDENTITY_ENDPOINT', 'IDENTITY_HEADER', 'AZURE_TOKEN_CREDENTIALS']) {
    vi.stubEnv(name, settings()[name]);
  }
});

afterAll(async () => {
  vi.unstubAllEnvs();
  setDefaultCACertificates(certificates);
  await stack.stop();
  await rm(dir, { recursive: true, force: true });
});

function settings(overrides: Record<string, string> = {}) {
  return appSettings(stack, { documents: join(dir, 'documents'), overrides });
}

async function aVault(name: 'main' | 'pending') {
  const token = await stack.identity.issueToken({ audience: 'https://vault.azure.net' });
  const url = stack.keyVault.vaults.find((vault) => vault.name === name)?.url ?? '';
  return vaultClient({ url, ca: stack.ca.caPem, token: async () => token });
}

/** An app of its own: namespace, and what its queues hold, taken out by hand. */
function anApp(namespace: string, overrides: Record<string, string> = {}) {
  const app = createApp(parseConfig(settings({ KEYTURN_NAMESPACE: namespace, ...overrides })));
  return { app, take: (queue: string) => takeMessages(`${namespace}-${queue}`) };
}

async function takeMessages(name: string): Promise<unknown[]> {
  const { QueueClient } = await import('@azure/storage-queue');
  const queue = new QueueClient(stack.azurite.connectionString, name);
  if (!(await queue.exists())) return [];
  const { receivedMessageItems } = await queue.receiveMessages({ numberOfMessages: 32 });
  for (const { messageId, popReceipt } of receivedMessageItems) {
    await queue.deleteMessage(messageId, popReceipt);
  }
  return receivedMessageItems.map((one) =>
    JSON.parse(Buffer.from(one.messageText, 'base64').toString()),
  );
}

function nearExpiry(name: string, version: string) {
  const url = stack.keyVault.vaults[0]?.url;
  const data = {
    Id: `${url}/secrets/${name}/${version}`,
    VaultName: 'main',
    ObjectType: 'Secret',
    ObjectName: name,
    Version: version,
  };
  const topic = '/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/main';
  const eventType = 'Microsoft.KeyVault.SecretNearExpiry';
  return { id: 'e1', topic, subject: name, eventType, data, eventTime: new Date().toISOString() };
}

describe('the composed app', () => {
  it.each([
    ['the pending vault', {}],
    ['the journal', { KEYTURN_PENDING: 'sealed:pending/sealing-key' }],
  ])('rotates on an event, with candidates in %s', async (where, overrides) => {
    const name = `session-${where.length}`;
    const main = await aVault('main');
    await main.set(name, { value: 'old', expiresInSeconds: 3600 });
    const key = Buffer.alloc(32, 1).toString('base64');
    await (await aVault('pending')).set('sealing-key', { value: key });
    const before = await main.get(name);
    const { app, take } = anApp(`app${where.length}`, overrides);
    await app.takeEvent(nearExpiry(name, before?.version ?? ''));
    const [message] = await take('rotations');
    await app.takeRotation(message);
    const after = await main.get(name);
    expect(after?.value).toMatch(/^[A-Za-z0-9]{32}$/);
    await app.takeRotation(message);
    expect(await main.countVersions(name)).toBe(2);
  });

  it('finds what is due without an event, asks once, and sweeps what was left', async () => {
    const main = await aVault('main');
    await main.set('session-due', { value: 'old', expiresInSeconds: 3600 });
    await main.set('session-fresh', { value: 'old', expiresInSeconds: 80 * 86_400 });
    const { app, take } = anApp('appscan', { KEYTURN_LEASE_SECONDS: '1' });
    await app.scan();
    const asked = (await take('rotations')) as { name: string }[];
    expect(asked.map((message) => message.name)).toContain('session-due');
    expect(asked.map((message) => message.name)).not.toContain('session-fresh');
    const due = asked.find((message) => message.name === 'session-due');
    await app.takeRotation(due);
    await app.sweep();
    expect(await main.countVersions('session-due')).toBe(2);
  });

  it('drops messages nobody can read, and says so', async () => {
    const { app } = anApp('appbad');
    const lines = vi.spyOn(console, 'log').mockImplementation(() => undefined);
    await app.takeRotation({ kind: 'nonsense' });
    await app.takePoisonedRotation('nonsense');
    await app.takeNotification({ partition: 1 });
    await app.takeNotification({ partition: 'rotations-0', id: 'active:delivery:none' });
    const refused = lines.mock.calls.filter(([line]) => String(line).includes('message.refused'));
    lines.mockRestore();
    expect(refused).toHaveLength(3);
  });

  it('keeps its documents in storage when told to', async () => {
    const { app } = anApp('appdocs', { KEYTURN_POLICIES: 'storage' });
    const { status, body } = await callHealth(app, 'Keyturn.Health.Read');
    expect([status, body.status]).toEqual([200, 'ok']);
  });

  it('reports documents at fault as failing health', async () => {
    await writeFile(join(dir, 'documents/policies/two.json'), '{"id":"two"}');
    const { status, body } = await callHealth(anApp('apphealth').app, 'Keyturn.Health.Read');
    await rm(join(dir, 'documents/policies/two.json'));
    expect(status).toBe(503);
    expect(body.checks.documents).toMatchObject({ status: 'failing', code: 'bad_configuration' });
  });

  it('reads its settings from the environment', () => {
    for (const [name, value] of Object.entries(settings())) vi.stubEnv(name, value);
    expect(configFromEnvironment().KEYTURN_VAULTS).toHaveLength(2);
  });

  it('takes an account name in place of a connection string', () => {
    const { AzureWebJobsStorage: _, ...rest } = settings();
    const app = createApp(parseConfig({ ...rest, AzureWebJobsStorage__accountName: 'account' }));
    expect(app.http().version).toMatch(/^\d/);
  });
});

async function callHealth(app: ReturnType<typeof createApp>, role: string) {
  const operation = operations.find((one) => one.id === 'health-details')!;
  const token = await stack.identity.issueToken({ audience: localAudience, roles: [role] });
  const answer = await serve(
    operation,
    {
      method: 'GET',
      url: 'http://localhost/api/health/details',
      headers: { authorization: `Bearer ${token}` },
      params: {},
      query: {},
      readBody: async () => new Uint8Array(),
    },
    app.http(),
  );
  return { status: answer.status, body: JSON.parse(answer.body ?? '{}') };
}
