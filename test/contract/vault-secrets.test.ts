import { createServer, type Server } from 'node:https';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { FaultRule } from '../../local/key-vault/faults.ts';
import type { KeyVaultEmulator } from '../../local/key-vault/key-vault.ts';
import { processCredential } from '../../src/core/azure/credential.ts';
import { createVaults } from '../../src/core/azure/key-vault.ts';
import { AppError, type ErrorCode } from '../../src/core/errors.ts';
import { SecretString } from '../../src/core/secret-string.ts';
import { simulatedVaults } from '../../src/core/simulation/vault.ts';
import type { Limits } from '../../src/core/vault/pipeline.ts';
import type { SecretService } from '../../src/core/vault/ports.ts';
import { type Ground, prepareGround } from './emulator-client.ts';
import {
  adapter,
  cached,
  control as controlOf,
  patient,
  type Subject,
  simulated,
} from './vault-subjects.ts';

/** For calls that are to fail: as in production, only faster. */
const limits: Limits = { ...patient, perTryMs: 1_000, overallMs: 4_000 };

let ground: Ground;
let emulator: KeyVaultEmulator;
beforeAll(async () => {
  ground = await prepareGround();
  setDefaultCACertificates([...getCACertificates('default'), ground.ca.caPem]);
  emulator = await ground.startVaults({ vaults: [{ name: 'main' }] });
});
afterAll(() => ground?.stop());

const config = [{ alias: 'main', purpose: 'main' }] as const;
const vaultUrl = () => emulator.vaults[0]?.url ?? '';
const azureVaults = (allowed = patient) =>
  createVaults([{ alias: 'main', purpose: 'main', url: vaultUrl() }], processCredential(), {
    limits: allowed,
  });
const impatient: Limits = { ...limits, perTryMs: 400, overallMs: 400 };

const control = <T>(method: string, path: string, body?: unknown) =>
  controlOf<T>(emulator, method, path, body);

let names = 0;
const newName = () => `secret-${++names}`;
const value = (text: string) => ({ value: new SecretString(text) });
const failure = (code: ErrorCode) => expect.objectContaining({ name: 'AppError', code });

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

describe.each([
  ['a simulated vault', simulated],
  ['Key Vault', () => adapter(ground, emulator)],
  ['Key Vault behind a cache', () => cached(ground, emulator)],
] as const)('secrets of %s', (_name, open) => {
  let subject: Subject;
  let secrets: SecretService;
  beforeAll(() => {
    subject = open();
    secrets = subject.vaults.get('main').secrets;
  });

  it('gives back what was set, as the latest and by version', async () => {
    const name = newName();
    const before = Math.floor(Date.now() / 1000) * 1000;
    const expiresOn = new Date('2031-02-03T04:05:06.789Z');
    const tags = { rotationId: '01J', 'läng.uage': 'ü' };
    const first = await secrets.set(name, {
      ...value('one'),
      expiresOn,
      tags,
      contentType: 'text/plain',
    });
    expect(first).toEqual({
      name,
      version: expect.stringMatching(/^[0-9a-f]{32}$/),
      enabled: true,
      created: expect.any(Date),
      updated: first.created,
      notBefore: null,
      expiresOn: new Date('2031-02-03T04:05:06.000Z'),
      contentType: 'text/plain',
      tags,
      managed: false,
    });
    expect(first.created.getTime() % 1000).toBe(0);
    expect(first.created.getTime()).toBeGreaterThanOrEqual(before);
    const second = await secrets.set(name, value('two'));
    expect(second).toMatchObject({ expiresOn: null, contentType: null, tags: {} });
    const latest = await secrets.get(name);
    expect(latest.properties).toEqual(second);
    expect(latest.value.expose()).toBe('two');
    const old = await secrets.get(name, first.version);
    expect(old.properties).toEqual(first);
    expect(old.value.expose()).toBe('one');
  });

  it('keeps any value', async () => {
    const name = newName();
    const anyValue = fc.string({ unit: 'grapheme', maxLength: 300 });
    await fc.assert(
      fc.asyncProperty(anyValue, async (text) => {
        await secrets.set(name, value(text));
        expect((await secrets.get(name)).value.expose()).toBe(text);
      }),
      { numRuns: 20 },
    );
  });

  it('finds names whatever their case', async () => {
    const name = newName();
    await secrets.set(name, value('one'));
    expect((await secrets.get(name.toUpperCase())).value.expose()).toBe('one');
  });

  it('says not_found for what is not there', async () => {
    const name = newName();
    await expect(secrets.get(name)).rejects.toEqual(failure('not_found'));
    await secrets.set(name, value('x'));
    await expect(secrets.get(name, '0'.repeat(32))).rejects.toEqual(failure('not_found'));
    expect(await all(secrets.listVersions(newName()))).toEqual([]);
    expect(() => subject.vaults.get('other')).toThrow(failure('not_found'));
  });

  it('says object_disabled for a disabled version, and lists it all the same', async () => {
    const name = newName();
    const first = await secrets.set(name, value('one'));
    const second = await secrets.set(name, value('two'));
    await subject.disable(name);
    await expect(secrets.get(name)).rejects.toEqual(failure('object_disabled'));
    await expect(secrets.get(name, second.version)).rejects.toEqual(failure('object_disabled'));
    expect((await secrets.get(name, first.version)).value.expose()).toBe('one');
    const versions = await all(secrets.listVersions(name));
    expect(versions.find(({ version }) => version === second.version)?.enabled).toBe(false);
    expect((await all(secrets.list())).find((each) => each.name === name)?.enabled).toBe(false);
  });

  it('says object_deleted when the name is soft-deleted', async () => {
    const name = newName();
    await secrets.set(name, value('one'));
    await subject.softDelete(name);
    await expect(secrets.set(name, value('two'))).rejects.toEqual(failure('object_deleted'));
    await expect(secrets.get(name)).rejects.toEqual(failure('not_found'));
    expect(await all(secrets.listVersions(name))).toEqual([]);
    expect((await all(secrets.list())).map((each) => each.name)).not.toContain(name);
  });

  it('erases the live, the deleted and the absent', async () => {
    const [live, deleted, absent] = [newName(), newName(), newName()];
    await secrets.set(live, value('x'));
    await secrets.set(deleted, value('x'));
    await subject.softDelete(deleted);
    for (const name of [live, deleted, absent]) await secrets.erase(name);
    for (const name of [live, deleted, absent]) {
      await expect(secrets.get(name)).rejects.toEqual(failure('not_found'));
      expect(await subject.deletedNames()).not.toContain(name);
      await secrets.set(name, value('again'));
      expect(await all(secrets.listVersions(name))).toHaveLength(1);
    }
  });

  it('changes what is said of a version, and nothing else', async () => {
    const name = newName();
    const notBefore = new Date('2030-01-01T00:00:00.500Z');
    const first = await secrets.set(name, { ...value('one'), tags: { a: '1' }, enabled: false });
    expect(first.enabled).toBe(false);
    const enabled = await secrets.update(name, first.version, { enabled: true, notBefore });
    const wanted = { ...first, enabled: true, notBefore: new Date('2030-01-01T00:00:00Z') };
    expect(enabled).toEqual({ ...wanted, updated: expect.any(Date) });
    const tagged = await secrets.update(name, first.version, { tags: { b: '2' } });
    expect(tagged).toEqual({ ...wanted, tags: { b: '2' }, updated: expect.any(Date) });
    const { properties, value: kept } = await secrets.get(name, first.version);
    expect(properties).toEqual(tagged);
    expect(kept.expose()).toBe('one');
    const unknown = secrets.update(name, '0'.repeat(32), { enabled: false });
    await expect(unknown).rejects.toEqual(failure('not_found'));
  });

  it('deletes, shows, lists, recovers and purges', async () => {
    const name = newName();
    await secrets.set(name, value('one'));
    const second = await secrets.set(name, value('two'));
    const deleted = await secrets.delete(name);
    expect(deleted.properties).toEqual(second);
    expect(deleted.purgeOn.getTime() - deleted.deletedOn.getTime()).toBe(90 * 86_400_000);
    expect(await secrets.getDeleted(name)).toEqual(deleted);
    const [listed] = (await all(secrets.listDeleted())).filter(
      (each) => each.properties.name === name,
    );
    expect(listed).toEqual({ ...deleted, properties: { ...second, version: '' } });
    await expect(secrets.get(name)).rejects.toEqual(failure('not_found'));
    expect(await secrets.recover(name)).toEqual(second);
    expect((await secrets.get(name)).value.expose()).toBe('two');
    expect(await all(secrets.listVersions(name))).toHaveLength(2);
    await secrets.delete(name);
    await secrets.purge(name);
    await expect(secrets.getDeleted(name)).rejects.toEqual(failure('not_found'));
    for (const act of ['delete', 'recover', 'purge'] as const) {
      await expect(secrets[act](name)).rejects.toEqual(failure('not_found'));
    }
  });

  it('restores all versions from a backup, once the name is free', async () => {
    const name = newName();
    const first = await secrets.set(name, { ...value('one'), tags: { a: '1' } });
    const second = await secrets.set(name, value('two'));
    const backup = await secrets.backup(name);
    expect(Buffer.from(backup).toString('latin1')).not.toContain('two');
    await expect(secrets.restore(backup)).rejects.toEqual(failure('conflict'));
    await secrets.delete(name);
    await expect(secrets.restore(backup)).rejects.toEqual(failure('conflict'));
    await secrets.purge(name);
    expect(await secrets.restore(backup)).toEqual(second);
    expect((await secrets.get(name, first.version)).value.expose()).toBe('one');
    expect((await secrets.get(name)).value.expose()).toBe('two');
    const damaged = secrets.restore(Buffer.from('no backup at all'));
    await expect(damaged).rejects.toEqual(failure('vault_rejected'));
  });

  it('refuses writes in read-only mode, and goes on reading', async () => {
    const name = newName();
    await secrets.set(name, value('one'));
    await subject.setReadOnly(true);
    try {
      await expect(secrets.set(name, value('two'))).rejects.toEqual(failure('vault_read_only'));
      await expect(secrets.erase(name)).rejects.toEqual(failure('vault_read_only'));
      await expect(secrets.delete(name)).rejects.toEqual(failure('vault_read_only'));
      expect((await secrets.get(name)).value.expose()).toBe('one');
    } finally {
      await subject.setReadOnly(false);
    }
    await secrets.set(name, value('two'));
  });

  it('refuses before sending what no vault takes', async () => {
    const refused = (call: () => Promise<unknown>) =>
      expect(call()).rejects.toEqual(failure('invalid_input'));
    for (const name of ['', 'a/b', 'a b', 'ü', '../x', 'a?b', 'x'.repeat(128)]) {
      await refused(() => secrets.get(name));
      await refused(() => secrets.set(name, value('x')));
      await refused(() => secrets.erase(name));
      expect(() => secrets.listVersions(name)).toThrow(failure('invalid_input'));
    }
    await refused(() => secrets.get('x', 'latest'));
    await refused(() => secrets.set('x', value('x'.repeat(25_601))));
    for (const date of ['2038-01-19T03:14:08Z', '2040-01-01', '1969-12-31', 'never']) {
      await refused(() => secrets.set('x', { ...value('x'), expiresOn: new Date(date) }));
    }
    const last = new Date('2038-01-19T03:14:07Z');
    const name = newName();
    expect((await secrets.set(name, { ...value('x'), expiresOn: last })).expiresOn).toEqual(last);
  });

  it('sends nothing when the guard throws', async () => {
    const name = newName();
    await secrets.set(name, value('one'));
    let calls = 0;
    await secrets.set(name, value('two'), { guard: () => void calls++ });
    expect(calls).toBe(1);
    const guard = () => {
      throw new AppError('lease_lost', { detail: 'epoch 2' });
    };
    await expect(secrets.set(name, value('three'), { guard })).rejects.toEqual(
      failure('lease_lost'),
    );
    expect((await secrets.get(name)).value.expose()).toBe('two');
  });

  it('lists the latest of every name, without versions, over several pages', async () => {
    const prefix = newName();
    const wanted = Array.from({ length: 60 }, (_, n) => `${prefix}-${String(n).padStart(2, '0')}`);
    for (const name of wanted) await secrets.set(name, { ...value(name), tags: { name } });
    await secrets.set(wanted[0] ?? '', { ...value('new'), tags: { name: 'newer' } });
    const found = (await all(secrets.list())).filter(({ name }) => name.startsWith(`${prefix}-`));
    expect(found.map(({ name }) => name).sort()).toEqual(wanted);
    expect(found.find(({ name }) => name === wanted[0])?.tags).toEqual({ name: 'newer' });
    expect(found.every(({ version, created }) => version === '' && created instanceof Date)).toBe(
      true,
    );
  });

  it('lists every version, over several pages', async () => {
    const name = newName();
    const made: string[] = [];
    for (let n = 0; n < 30; n++) made.push((await secrets.set(name, value(`${n}`))).version);
    const found = await all(secrets.listVersions(name));
    expect(found.map(({ version }) => version).sort()).toEqual(made.sort());
  });
});

describe('the simulated vault', () => {
  it('lets a hook fail a call before or after its work, and logs every call', async () => {
    let now = new Date('2030-01-01T00:00:00.900Z');
    const vaults = simulatedVaults(config, { now: () => now });
    const { secrets } = vaults.get('main');
    const lost = new AppError('vault_unavailable', { detail: 'lost' });
    vaults.onCall(async ({ operation }, run) => {
      if (operation === 'set') await run();
      throw lost;
    });
    await expect(secrets.set('a', value('x'))).rejects.toBe(lost);
    await expect(secrets.erase('a')).rejects.toBe(lost);
    vaults.onCall(async () => undefined);
    await expect(secrets.get('a')).rejects.toThrow('neither ran nor threw');
    vaults.onCall(null);
    now = new Date('2030-01-01T00:00:01.100Z');
    const [version] = await all(secrets.listVersions('a'));
    expect(version?.created).toEqual(new Date('2030-01-01T00:00:00Z'));
    const seen = vaults.accesses.map(({ operation, name, outcome }) => [operation, name, outcome]);
    expect(seen).toEqual([
      ['set', 'a', 'vault_unavailable'],
      ['erase', 'a', 'vault_unavailable'],
      ['get', 'a', 'internal'],
      ['listVersions', 'a', 'ok'],
    ]);
    vaults.change('main', 'a', { managed: true, version: version?.version ?? '' });
    expect((await secrets.get('a')).properties.managed).toBe(true);
    expect(() => vaults.change('main', 'b', {})).toThrow(failure('not_found'));
    expect(() => vaults.softDelete('main', 'b')).toThrow(failure('not_found'));
    expect(vaults.all().map(({ alias }) => alias)).toEqual(['main']);
    expect(vaults.deletedNames('main')).toEqual([]);
  });
});

describe('Key Vault under faults', () => {
  type Row = { operation: string; status: number | null };
  const rows = async () => (await control<{ value: Row[] }>('GET', '/audit')).value;
  const fault = (operation: string, kind: FaultRule['fault'], more: Partial<FaultRule> = {}) =>
    control('POST', '/faults', { operation, fault: kind, ...more });
  let secrets: SecretService;
  let name: string;
  beforeEach(async () => {
    await control('DELETE', '/faults');
    secrets = azureVaults(limits).get('main').secrets;
    name = newName();
    await secrets.set(name, value('first'));
    await control('DELETE', '/audit');
  });

  const passing: readonly (readonly [string, FaultRule['fault']])[] = [
    ['a bare 429', { kind: 'status', status: 429, code: 'Throttled' }],
    ['a 429 that asks for an hour', { kind: 'status', status: 429, retryAfter: 3600 }],
    ['a 503', { kind: 'status', status: 503 }],
    ['a 500', { kind: 'status', status: 500 }],
    ['a 409 of a name in transition', { kind: 'status', status: 409, code: 'Conflict' }],
    ['a reset', { kind: 'reset' }],
    ['silence', { kind: 'hang' }],
  ];

  it.each(passing)('reads on after %s', async (_what, kind) => {
    await fault('getSecret', kind, { times: 2 });
    expect((await secrets.get(name)).value.expose()).toBe('first');
    expect(await rows()).toHaveLength(3);
    for (let n = 0; n < 30; n++) await secrets.set(name, value(`${n}`));
    await fault('getSecretVersions', kind, { nth: 2 });
    expect(await all(secrets.listVersions(name))).toHaveLength(31);
  });

  it.each(passing)('never repeats a set after %s', async (_what, kind) => {
    await fault('setSecret', kind, { times: 0 });
    const error = await secrets.set(name, value('second')).catch((cause: unknown) => cause);
    expect(error).toMatchObject({ name: 'AppError', retryable: true });
    expect(await rows()).toHaveLength(1);
    expect(await all(secrets.listVersions(name))).toHaveLength(1);
  });

  it.each([
    { kind: 'fail-after-commit', status: 503 },
    { kind: 'fail-after-commit', status: 500 },
    { kind: 'reset-after-commit' },
  ] as const)('writes exactly one version when a set is followed by %o', async (kind) => {
    await fault('setSecret', kind);
    await expect(secrets.set(name, value('second'))).rejects.toEqual(failure('vault_unavailable'));
    expect(await all(secrets.listVersions(name))).toHaveLength(2);
  });

  it.each([
    { kind: 'fail-after-commit', status: 503 },
    { kind: 'reset-after-commit' },
    { kind: 'reset' },
    { kind: 'status', status: 429 },
  ] as const)('erases although deletion and purge meet %o', async (kind) => {
    await fault('deleteSecret', kind);
    await fault('purgeDeletedSecret', kind);
    await secrets.erase(name);
    await secrets.set(name, value('again'));
    expect(await all(secrets.listVersions(name))).toHaveLength(1);
  });

  it('waits until what it deleted shows up among the deleted, and purges it then', async () => {
    const unseen = { kind: 'status', status: 404, code: 'SecretNotFound' } as const;
    await fault('getDeletedSecret', unseen, { times: 2 });
    await fault('purgeDeletedSecret', unseen);
    await secrets.erase(name);
    const calls = (await rows()).map(({ operation, status }) => `${operation} ${status}`);
    expect(calls).toEqual([
      'deleteSecret 200',
      'getDeletedSecret 404',
      'getDeletedSecret 404',
      'deleteSecret 404',
      'getDeletedSecret 200',
      'purgeDeletedSecret 404',
    ]);
  });

  it.each([
    [429, 'vault_throttled'],
    [503, 'vault_unavailable'],
  ] as const)('gives up in time when every answer is %i', async (status, code) => {
    await fault('getSecret', { kind: 'status', status }, { times: 0 });
    await expect(secrets.get(name)).rejects.toEqual(failure(code));
    expect((await rows()).length).toBeLessThan(40);
  });

  it.each([
    [401, 'Unauthorized', 'vault_denied'],
    [403, 'Forbidden', 'vault_denied'],
    [400, 'BadParameter', 'vault_rejected'],
    [405, 'MethodNotAllowed', 'vault_rejected'],
  ] as const)('takes a %i for what it is', async (status, code, expected) => {
    await fault('getSecret', { kind: 'status', status, code }, { times: 0 });
    await expect(secrets.get(name)).rejects.toEqual(failure(expected));
  });

  it('needs two requests for a cold call and one for a warm one', async () => {
    const cold = azureVaults().get('main').secrets;
    await cold.get(name);
    expect((await rows()).map(({ status }) => status)).toEqual([401, 200]);
    await cold.get(name);
    await cold.set(name, value('x'));
    expect((await rows()).map(({ status }) => status)).toEqual([401, 200, 200, 200]);
  });

  it('sends every body whole when the first calls come all at once', async () => {
    for (let round = 0; round < 5; round++) {
      const cold = azureVaults().get('main').secrets;
      await Promise.all(
        Array.from({ length: 8 }, (_, n) => cold.set(`${name}-${n}`, value(`${n}`))),
      );
      for (let n = 0; n < 8; n++) {
        expect((await cold.get(`${name}-${n}`)).value.expose()).toBe(`${n}`);
      }
    }
  });

  it('asks the guard after the token is there, right before each request leaves', async () => {
    let asked = 0;
    const guard = () => {
      // The first request only provokes the challenge; then comes the token, which may take a while.
      if (++asked === 2) throw new AppError('lease_lost', { detail: 'epoch 2' });
    };
    const cold = azureVaults().get('main').secrets;
    await expect(cold.set(name, value('x'), { guard })).rejects.toEqual(failure('lease_lost'));
    expect((await rows()).map(({ status }) => status)).toEqual([401]);
    await cold.set(name, value('y'));
    expect((await cold.get(name)).value.expose()).toBe('y');
  });

  it('waits no longer for a token than for an answer', async () => {
    let asked = 0;
    const credential = {
      getToken: () => {
        asked++;
        return new Promise<never>(() => undefined);
      },
    };
    const vault = { alias: 'main', purpose: 'main', url: vaultUrl() } as const;
    const deaf = createVaults([vault], credential, { limits: impatient }).get('main').secrets;
    await expect(deaf.get(name)).rejects.toEqual(failure('vault_unavailable'));
    expect(asked).toBeGreaterThan(0);
  });

  it('says vault_unavailable at once when there is no identity', async () => {
    const credential = {
      getToken: async () => {
        throw Object.assign(new Error('none'), { name: 'CredentialUnavailableError' });
      },
    };
    const vault = { alias: 'main', purpose: 'main', url: vaultUrl() } as const;
    const nobody = createVaults([vault], credential).get('main').secrets;
    await expect(nobody.get(name)).rejects.toEqual(failure('vault_unavailable'));
  });

  it('shows neither value nor token in an error', async () => {
    const canary = 'canary-7d1f';
    await fault('setSecret', {
      kind: 'status',
      status: 400,
      code: 'BadParameter',
      message: canary,
    });
    const error = await secrets.set(name, value(canary)).catch((cause: unknown) => cause);
    expect(error).toEqual(failure('vault_rejected'));
    const shown = inspect(error, { depth: 20, showHidden: true });
    expect(shown).not.toContain(canary);
    expect(shown).not.toMatch(/Bearer|eyJ/);
  });
});

describe('Key Vault behind somebody else’s answers', () => {
  let server: Server;
  let secrets: SecretService;
  let seen = 0;
  let answer: { status: number; headers?: Record<string, string>; body: string };
  beforeAll(async () => {
    server = createServer(ground.ca, (request, response) => {
      if (request.headers.authorization === undefined) {
        const challenge =
          'Bearer authorization="https://login.microsoftonline.com/t", resource="https://vault.azure.net"';
        response
          .writeHead(401, { 'www-authenticate': challenge })
          .end('{"error":{"code":"Unauthorized","message":"no"}}');
        return;
      }
      seen++;
      response.writeHead(answer.status, { 'content-type': 'application/json', ...answer.headers });
      response.write(answer.body);
      if (answer.headers?.['content-length'] === undefined) response.end();
      else setTimeout(() => response.destroy(), 20);
    });
    server.listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const address = server.address();
    const port = typeof address === 'object' ? address?.port : 0;
    const vault = { alias: 'main', purpose: 'main', url: `https://localhost:${port}` } as const;
    secrets = createVaults([vault], processCredential(), { limits: impatient }).get('main').secrets;
  });
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });

  it.each([
    ['a page in HTML', { status: 200, headers: { 'content-type': 'text/html' }, body: '<html>' }],
    ['an empty object', { status: 200, body: '{}' }],
    ['nothing', { status: 200, body: '' }],
    ['half a body', { status: 200, headers: { 'content-length': '900' }, body: '{"value":"a' }],
    ['cut JSON', { status: 200, body: '{"value":"a' }],
    [
      'a missing page in HTML',
      { status: 404, headers: { 'content-type': 'text/html' }, body: 'no' },
    ],
    ['a refusal in HTML', { status: 403, headers: { 'content-type': 'text/html' }, body: 'no' }],
    ['an error without a body', { status: 404, body: '' }],
    ['an error without a body', { status: 502, body: '' }],
  ])('takes %s for no answer', async (_what, given) => {
    answer = given;
    seen = 0;
    await expect(secrets.get('x')).rejects.toEqual(failure('vault_unavailable'));
    expect(seen).toBeGreaterThan(2);
    seen = 0;
    await expect(secrets.set('x', value('y'))).rejects.toEqual(failure('vault_unavailable'));
    expect(seen).toBe(1);
    await expect(all(secrets.list())).rejects.toEqual(failure('vault_unavailable'));
  });

  it.each([
    '{"value":[],"nextLink":"https://example.com/secrets?x=1"}',
    '{"nextLink" : "https:\\/\\/example.com/secrets?x=1", "value":[]}',
  ])('does not follow a page link to another host: %s', async (body) => {
    answer = { status: 200, body };
    await expect(all(secrets.list())).rejects.toEqual(failure('vault_rejected'));
  });

  it.each(['', ',"nextLink":null', ',"nextLink":""'])(
    'takes a tag of that name for a tag, and this for the end of a list: %j',
    async (end) => {
      const tags = { nextLink: 'https://example.com/secrets?x=1' };
      const attributes = { enabled: true, created: 1, updated: 1 };
      const secret = { id: 'https://localhost/secrets/a', attributes, tags };
      answer = { status: 200, body: `{"value":[${JSON.stringify(secret)}]${end}}` };
      expect((await all(secrets.list())).map((item) => item.tags)).toEqual([tags]);
    },
  );

  it('keeps the resource check for every host but this machine', async () => {
    const vault = { alias: 'main', purpose: 'main', url: 'https://nowhere.invalid' } as const;
    const { secrets: nowhere } = createVaults([vault], processCredential(), {
      limits: impatient,
    }).get('main');
    await expect(nowhere.get('x')).rejects.toEqual(failure('vault_unavailable'));
  });
});
