import { once } from 'node:events';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DefaultAzureCredential } from '@azure/identity';
import { SecretClient } from '@azure/keyvault-secrets';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import {
  type KeyVaultEmulator,
  startKeyVault,
  type VaultEvent,
} from '../../local/key-vault/key-vault.ts';
import { eventually, type Ground, prepareGround } from './emulator-client.ts';

const version = 'api-version=2026-04-01';
const notFound = (kind: string, id: string) =>
  `A ${kind} with (name/id) ${id} was not found in this key vault. If you recently deleted this ${kind} you may be able to recover it using the correct recovery command. For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125182`;

let ground: Ground;
let emulator: KeyVaultEmulator;
let url: string;
let client: SecretClient;
const events: VaultEvent[] = [];

beforeAll(async () => {
  ground = await prepareGround();
  emulator = await ground.startVaults({
    vaults: [
      { name: 'main' },
      { name: 'protected', purgeProtection: true, retentionDays: 7 },
      { name: 'short', retentionDays: 30 },
    ],
    onEvent: (event) => events.push(event),
  });
  url = vaultUrl('main');
  client = ground.secretClient(url);
});
afterAll(() => ground.stop());

function vaultUrl(name: string, of: KeyVaultEmulator = emulator): string {
  return of.vaults.find((vault) => vault.name === name)!.url;
}

/** A refused call as the SDK reports it. */
async function refusal(promise: Promise<unknown>) {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  // biome-ignore lint/suspicious/noExplicitAny: the shape of RestError is what is tested
  const { code, statusCode, message, details } = (error ?? {}) as any;
  return { code, statusCode, message, inner: details?.error?.innerError?.code };
}

async function control(method: string, path: string, body?: unknown, of = emulator) {
  const response = await fetch(`${of.controlUrl}${path}`, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  return { status: response.status, json: text === '' ? null : JSON.parse(text) };
}

async function withFault<T>(rule: unknown, act: () => Promise<T>): Promise<T> {
  const { json } = await control('POST', '/faults', rule);
  try {
    return await act();
  } finally {
    await control('DELETE', `/faults/${json.id}`);
  }
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

describe('secrets through the SDK', () => {
  it('sets a secret and gets it back with everything that was set', async () => {
    const notBefore = new Date('2027-01-01T00:00:00Z');
    const expiresOn = new Date('2030-01-01T00:00:00Z');
    const set = await client.setSecret('round-trip', 'välue', {
      contentType: 'text/plain',
      tags: { owner: 'ops' },
      notBefore,
      expiresOn,
    });
    const got = await client.getSecret('round-trip');
    expect(got.value).toBe('välue');
    expect(got.properties).toMatchObject({
      name: 'round-trip',
      version: set.properties.version,
      vaultUrl: url,
      contentType: 'text/plain',
      tags: { owner: 'ops' },
      enabled: true,
      notBefore,
      expiresOn,
      recoveryLevel: 'Recoverable+Purgeable',
      recoverableDays: 90,
    });
    expect(got.properties.version).toMatch(/^[0-9a-f]{32}$/);
    expect(Math.abs(got.properties.createdOn!.getTime() - Date.now())).toBeLessThan(5000);
  });

  it('keeps earlier versions, and compares names without regard to case', async () => {
    const first = await client.setSecret('Versioned', 'one');
    const second = await client.setSecret('versioned', 'two');
    expect((await client.getSecret('VERSIONED')).value).toBe('two');
    const old = await client.getSecret('versioned', { version: first.properties.version! });
    expect(old.value).toBe('one');
    expect(second.properties.id).toBe(`${url}/secrets/Versioned/${second.properties.version}`);
  });

  it('takes an empty value', async () => {
    await client.setSecret('empty', '');
    expect((await client.getSecret('empty')).value).toBe('');
  });

  it('updates attributes of one version, replaces tags and leaves out what is not named', async () => {
    const { properties } = await client.setSecret('updated', 'v', {
      tags: { a: '1', b: '2' },
      contentType: 'x',
    });
    const updated = await client.updateSecretProperties('updated', properties.version!, {
      tags: { c: '3' },
    });
    expect(updated).toMatchObject({ tags: { c: '3' }, contentType: 'x', enabled: true });
    const later = await client.updateSecretProperties('updated', properties.version!, {
      expiresOn: new Date('2031-01-01T00:00:00Z'),
    });
    expect(later).toMatchObject({ tags: { c: '3' }, expiresOn: new Date('2031-01-01T00:00:00Z') });
    const cleared = await client.updateSecretProperties('updated', '', { tags: {} });
    expect(cleared.tags).toBeUndefined();
  });

  it('refuses to get a disabled secret, and still updates, lists and deletes it', async () => {
    const { properties } = await client.setSecret('disabled', 'v', { enabled: false });
    expect(await refusal(client.getSecret('disabled'))).toEqual({
      code: 'Forbidden',
      statusCode: 403,
      message: 'Operation get is not allowed on a disabled secret.',
      inner: 'SecretDisabled',
    });
    await client.updateSecretProperties('disabled', properties.version!, { tags: { seen: 'y' } });
    const listed = await collect(client.listPropertiesOfSecrets());
    expect(listed.find(({ name }) => name === 'disabled')).toMatchObject({
      enabled: false,
      tags: { seen: 'y' },
    });
    await client.updateSecretProperties('disabled', properties.version!, { enabled: true });
    expect((await client.getSecret('disabled')).value).toBe('v');
  });

  it('gives a secret outside its validity', async () => {
    await client.setSecret('bygone', 'v', { expiresOn: new Date('2020-01-01T00:00:00Z') });
    expect((await client.getSecret('bygone')).value).toBe('v');
  });

  it('lists every secret once, over pages, in the order of upper-cased names', async () => {
    const vault = ground.secretClient(vaultUrl('short'));
    const names = Array.from({ length: 60 }, (_, index) => `${index % 2 ? 'b' : 'B'}-${index}`);
    for (const name of names) await vault.setSecret(name, 'v');
    const listed = await collect(vault.listPropertiesOfSecrets());
    const expected = names.toSorted((a, b) => (a.toUpperCase() < b.toUpperCase() ? -1 : 1));
    expect(listed.map(({ name }) => name)).toEqual(expected);
    expect(listed[0]!.version).toBeUndefined();
    const pages = await collect(vault.listPropertiesOfSecrets().byPage({ maxPageSize: 7 }));
    expect(pages.map((page) => page.length)).toEqual([7, 7, 7, 7, 7, 7, 7, 7, 4]);
  });

  it('lists versions by version id, without values, and none for an unknown name', async () => {
    for (let index = 0; index < 30; index += 1) await client.setSecret('many', String(index));
    const versions = await collect(client.listPropertiesOfSecretVersions('many'));
    const ids = versions.map((found) => found.version!);
    expect(ids).toHaveLength(30);
    expect(ids).toEqual(ids.toSorted());
    expect(await collect(client.listPropertiesOfSecretVersions('unknown'))).toEqual([]);
  });

  it('deletes, shows, recovers and purges', async () => {
    const { properties } = await client.setSecret('doomed', 'v', { tags: { t: '1' } });
    const deleted = await (await client.beginDeleteSecret('doomed')).pollUntilDone();
    const days = deleted.scheduledPurgeDate!.getTime() - deleted.deletedOn!.getTime();
    expect(days).toBe(90 * 86_400_000);
    expect(deleted).toMatchObject({ recoveryId: `${url}/deletedsecrets/doomed` });
    expect((await client.getDeletedSecret('doomed')).properties.tags).toEqual({ t: '1' });
    const all = await collect(client.listDeletedSecrets());
    expect(all.map(({ name }) => name)).toContain('doomed');
    const listed = await collect(client.listPropertiesOfSecrets());
    expect(listed.map(({ name }) => name)).not.toContain('doomed');

    const recovered = await (await client.beginRecoverDeletedSecret('doomed')).pollUntilDone();
    expect(recovered.id).toBe(properties.id);
    expect((await client.getSecret('doomed')).value).toBe('v');

    await (await client.beginDeleteSecret('doomed')).pollUntilDone();
    await client.purgeDeletedSecret('doomed');
    expect((await refusal(client.getDeletedSecret('doomed'))).statusCode).toBe(404);
    await client.setSecret('doomed', 'again');
    expect(await collect(client.listPropertiesOfSecretVersions('doomed'))).toHaveLength(1);
  });

  it('says what is not found, in the words of the service', async () => {
    expect(await refusal(client.getSecret('nowhere'))).toEqual({
      code: 'SecretNotFound',
      statusCode: 404,
      message: notFound('secret', 'nowhere'),
      inner: undefined,
    });
    await client.setSecret('somewhere', 'v');
    const absent = 'f'.repeat(32);
    const message = notFound('secret', `somewhere/${absent}`);
    expect(await refusal(client.getSecret('somewhere', { version: absent }))).toMatchObject({
      message,
    });
    expect(await refusal(client.getDeletedSecret('somewhere'))).toMatchObject({
      code: 'SecretNotFound',
      message: 'Deleted Secret not found: somewhere',
    });
    expect((await refusal(client.purgeDeletedSecret('somewhere'))).statusCode).toBe(404);
  });

  it('does not let a deleted name be used again', async () => {
    await client.setSecret('taken', 'v');
    await (await client.beginDeleteSecret('taken')).pollUntilDone();
    expect(await refusal(client.setSecret('taken', 'w'))).toEqual({
      code: 'Conflict',
      statusCode: 409,
      message:
        'Secret taken is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the secret can only be recovered or purged.',
      inner: 'ObjectIsDeletedButRecoverable',
    });
  });

  it('does not purge under purge protection', async () => {
    const vault = ground.secretClient(vaultUrl('protected'));
    const { properties } = await vault.setSecret('kept', 'v');
    expect(properties.recoveryLevel).toBe('CustomizedRecoverable');
    expect(properties.recoverableDays).toBe(7);
    await (await vault.beginDeleteSecret('kept')).pollUntilDone();
    expect(await refusal(vault.purgeDeletedSecret('kept'))).toMatchObject({
      code: 'Forbidden',
      statusCode: 403,
      message:
        'Operation "purge" is not allowed because purge protection is enabled for this vault. Key Vault service will automatically purge it after the retention period has passed.\r\nVault: protected;location=local',
    });
  });

  it('serves DefaultAzureCredential unchanged', async () => {
    const plain = new SecretClient(url, new DefaultAzureCredential(), {
      disableChallengeResourceVerification: true,
      tlsOptions: { ca: ground.ca.caPem },
    });
    await plain.setSecret('default-credential', 'v');
    expect((await plain.getSecret('default-credential')).value).toBe('v');
  });
});

describe('the wire', () => {
  it('challenges whatever comes without a token, whatever it asks', async () => {
    for (const path of ['/secrets/x', '/', '/no/such/path', '/secrets/%ZZ?api-version=0']) {
      const reply = await ground.call(`${url}${path}`, { method: 'PUT', token: null, body: '{' });
      expect(reply.status).toBe(401);
      expect(reply.headers['www-authenticate']).toMatch(
        /^Bearer authorization="https:\/\/login\.microsoftonline\.com\/[0-9a-f-]{36}", resource="https:\/\/vault\.azure\.net"$/,
      );
      expect(reply.json).toEqual({
        error: {
          code: 'Unauthorized',
          message: 'AKV10000: Request is missing a Bearer or PoP token.',
        },
      });
    }
  });

  it('refuses tokens for others, of others, expired and forged ones', async () => {
    const issue = ground.identity.issueToken;
    const audience = 'https://vault.azure.net';
    const stranger = await prepareForeignToken(audience);
    const expected = ground.identity.issuer;
    const badSignature = 'The token was refused: no valid signature of the issuer.';
    const cases: readonly (readonly [string, string])[] = [
      [
        await issue({ audience: 'https://other' }),
        'AKV10022: Invalid audience. Expected https://vault.azure.net, found: https://other.',
      ],
      [
        await issue({ audience, claims: { iss: 'https://evil' } }),
        `AKV10032: Invalid issuer. Expected one of ${expected}, found https://evil.`,
      ],
      [
        await issue({ audience, expiresInSeconds: -10 }),
        "[TokenExpired] Error validating token: 'S2S12086'.",
      ],
      [stranger, badSignature],
      [`${ground.token.slice(0, -4)}AAAA`, badSignature],
      ['nonsense', badSignature],
    ];
    for (const [token, message] of cases) {
      const reply = await ground.call(`${url}/secrets?${version}`, { token });
      expect([reply.status, reply.json.error.code]).toEqual([401, 'Unauthorized']);
      expect(reply.json.error.message).toBe(message);
      expect(reply.headers['www-authenticate']).toContain('resource="https://vault.azure.net"');
    }
  });

  it('accepts any token when it has no rules, and answers 503 when the issuer is away', async () => {
    const trusting = await startKeyVault({ vaults: [{ name: 'main' }], tls: ground.ca });
    const open = await ground.call(`${vaultUrl('main', trusting)}/secrets?${version}`, {
      token: 'anything',
    });
    expect(open.status).toBe(200);
    await trusting.stop();

    const log = vi.spyOn(console, 'error').mockImplementation(() => undefined);
    const verifyToken = { jwksUri: 'http://127.0.0.1:9/', issuer: 'i', audience: 'a' };
    const lonely = await ground.startVaults({ verifyToken });
    const reply = await ground.call(`${vaultUrl('main', lonely)}/secrets?${version}`);
    expect([reply.status, reply.json.error.code]).toEqual([503, 'ServiceUnavailable']);
    expect(log).toHaveBeenCalled();
    log.mockRestore();
    await lonely.stop();
  });

  it('echoes the client request id and sends the headers of the service', async () => {
    const reply = await ground.call(`${url}/secrets?${version}`, {
      headers: { 'x-ms-client-request-id': 'mine' },
    });
    expect(reply.headers).toMatchObject({
      'x-ms-client-request-id': 'mine',
      'x-ms-keyvault-region': 'local',
      'cache-control': 'no-cache',
      pragma: 'no-cache',
      expires: '-1',
      'x-content-type-options': 'nosniff',
      'content-type': 'application/json; charset=utf-8',
    });
    expect(reply.headers['x-ms-request-id']).toMatch(/^[0-9a-f-]{36}$/);
    expect(reply.headers['x-ms-keyvault-service-version']).toBeDefined();
    expect(reply.headers['x-ms-keyvault-network-info']).toBeDefined();
    expect(reply.headers['strict-transport-security']).toBeDefined();
  });

  it.each(['7.0', '7.4', '7.6', '7.6-preview.2', '2025-06-01-preview', '2025-07-01', '2026-04-01'])(
    'knows api-version %s, also with an encoded key',
    async (apiVersion) => {
      const reply = await ground.call(`${url}/secrets?api%2Dversion=${apiVersion}`);
      expect(reply.status).toBe(200);
    },
  );

  it('refuses a missing and an unknown api-version', async () => {
    const missing = await ground.call(`${url}/secrets`);
    const unknown = await ground.call(`${url}/secrets?api-version=6.9`);
    expect([missing.status, missing.json.error.code]).toEqual([400, 'BadParameter']);
    expect([unknown.status, unknown.json.error]).toEqual([
      400,
      {
        code: 'BadParameter',
        message:
          'The specified version (6.9) is not recognized. Consider using the latest supported version (2026-04-01).',
      },
    ]);
  });

  it('takes an empty version segment for the latest version', async () => {
    await client.setSecret('slash', 'v');
    const bare = await ground.call(`${url}/secrets/slash?${version}`);
    const slash = await ground.call(`${url}/secrets/slash/?${version}`);
    expect(slash.json).toEqual(bare.json);
    const patched = await ground.call(`${url}/secrets/slash/?${version}`, {
      method: 'PATCH',
      body: { contentType: 'c' },
    });
    expect(patched.json).not.toHaveProperty('value');
    expect(patched.json.contentType).toBe('c');
  });

  it('links pages absolutely, with a skip token of the last name in upper case', async () => {
    const short = vaultUrl('short');
    const first = await ground.call(`${short}/secrets?${version}&maxresults=2`);
    const expected =
      /^(https:\/\/localhost:\d+)\/secrets\?api-version=2026-04-01&\$skiptoken=([\w-]+)&maxresults=2$/;
    const [, origin, token = ''] = expected.exec(first.json.nextLink) ?? [];
    expect(origin).toBe(short);
    const marker = JSON.parse(Buffer.from(token, 'base64url').toString());
    expect(marker).toEqual({ NextMarker: 'secret/B-1', TargetLocation: 0 });
    const second = await ground.call(first.json.nextLink);
    expect(second.json.value).toHaveLength(2);
    expect(second.json.value[0].id).toBe(`${short}/secrets/B-10`);
    const all = await ground.call(`${vaultUrl('protected')}/secrets?${version}`);
    expect(all.json).toEqual({ value: [], nextLink: null });
  });

  it.each(['0', '26', '-1', 'x', '', '1.5'])('refuses maxresults=%s', async (wish) => {
    const reply = await ground.call(`${url}/secrets?${version}&maxresults=${wish}`);
    expect([reply.status, reply.json.error.code]).toEqual([400, 'BadParameter']);
  });

  it('refuses a skip token it has not made', async () => {
    const reply = await ground.call(`${url}/secrets?${version}&$skiptoken=abc`);
    expect([reply.status, reply.json.error.code]).toEqual([400, 'BadParameter']);
  });

  it.each([
    ['PUT', '/secrets/'],
    ['POST', '/secrets/x'],
    ['DELETE', '/secrets/x/0123456789abcdef0123456789abcdef'],
    ['PATCH', '/deletedsecrets/x'],
  ])('does not allow %s %s', async (method, path) => {
    const reply = await ground.call(`${url}${path}?${version}`, { method, body: {} });
    expect([reply.status, reply.json]).toEqual([
      405,
      { error: { code: 'MethodNotAllowed', message: `HTTP ${method} not allowed` } },
    ]);
  });

  it.each([
    ['no body', undefined],
    ['no JSON', '{'],
    ['an array', []],
    ['no value', { contentType: 'x' }],
    ['a numeric value', { value: 1 }],
    ['a negative exp', { value: 'v', attributes: { exp: -2_085_978_496 } }],
    ['a fractional exp', { value: 'v', attributes: { exp: 1.5 } }],
    ['a textual nbf', { value: 'v', attributes: { nbf: '1' } }],
    ['enabled as text', { value: 'v', attributes: { enabled: 'true' } }],
    [
      '16 tags',
      { value: 'v', tags: Object.fromEntries(Array.from({ length: 16 }, (_, i) => [i, 'x'])) },
    ],
    ['a tag of 513 characters', { value: 'v', tags: { t: 'x'.repeat(513) } }],
    ['a tag that is a number', { value: 'v', tags: { t: 1 } }],
    ['a content type of 256 characters', { value: 'v', contentType: 'x'.repeat(256) }],
    ['a value of 25,601 bytes', { value: `${'x'.repeat(25_599)}é` }],
  ])('refuses a secret with %s', async (_, body) => {
    const reply = await ground.call(`${url}/secrets/refused?${version}`, { method: 'PUT', body });
    expect([reply.status, reply.json.error.code]).toEqual([400, 'BadParameter']);
    expect((await ground.call(`${url}/secrets/refused?${version}`)).status).toBe(404);
  });

  it('takes values and tags up to their limits', async () => {
    const tags = Object.fromEntries(
      Array.from({ length: 15 }, (_, i) => [`t${i}`, 'x'.repeat(512)]),
    );
    const body = { value: 'x'.repeat(25_600), contentType: 'x'.repeat(255), tags };
    const reply = await ground.call(`${url}/secrets/full?${version}`, { method: 'PUT', body });
    expect(reply.status).toBe(200);
  });

  it.each(['a_b', 'a.b', 'a%20b', 'x'.repeat(128), '%E4', 'a%2Fb'])(
    'refuses the name %s',
    async (name) => {
      const reply = await ground.call(`${url}/secrets/${name}?${version}`);
      expect([reply.status, reply.json.error.code]).toEqual([400, 'BadParameter']);
      expect(reply.json.error.message).toMatch(/^The request URI contains an invalid name: /);
    },
  );

  it('answers a body beyond all limits with 413', async () => {
    const body = { value: 'x'.repeat(1_100_000) };
    const reply = await ground.call(`${url}/secrets/huge?${version}`, { method: 'PUT', body });
    expect([reply.status, reply.json.error.code]).toEqual([413, 'RequestEntityTooLarge']);
  });

  it('builds ids from the public url', async () => {
    const proxied = await ground.startVaults({
      vaults: [{ name: 'main', publicUrl: 'https://proxy.test:1234/' }],
    });
    const controlled = await control('GET', '/status', undefined, proxied);
    expect(controlled.json.vaults[0].url).toBe('https://proxy.test:1234');
    await proxied.stop();
  });
});

async function prepareForeignToken(audience: string): Promise<string> {
  const { startIdentity } = await import('../../local/identity/identity.ts');
  const other = await startIdentity();
  const token = await other.issueToken({ audience, claims: { iss: ground.identity.issuer } });
  await other.stop();
  return token;
}

describe('random requests', () => {
  it('never get a 5xx or an error that is not JSON', async () => {
    const word = fc.constantFrom(
      'secrets',
      'deletedsecrets',
      'versions',
      'recover',
      'keys',
      'fuzz',
      '',
    );
    const segment = fc.oneof(
      word,
      fc.stringMatching(/^[\x21-\x7e]{0,8}$/).map(tidy),
      fc.string().map(encodeURIComponentSafely),
    );
    const query = fc.oneof(
      fc.constant(`${version}`),
      fc.constant(`${version}&maxresults=3`),
      fc
        .record({ size: fc.string(), token: fc.string() })
        .map(
          ({ size, token }) =>
            `${version}&maxresults=${encodeURIComponentSafely(size)}&$skiptoken=${encodeURIComponentSafely(token)}`,
        ),
      fc.stringMatching(/^[\x21-\x7e]{0,20}$/).map(tidy),
    );
    const attributes = fc.record(
      { enabled: fc.anything(), exp: fc.anything(), nbf: fc.anything() },
      { requiredKeys: [] },
    );
    const body = fc.oneof(
      fc.constant(undefined),
      fc.string(),
      fc.jsonValue(),
      fc
        .record({
          value: fc.oneof(fc.string(), fc.jsonValue()),
          tags: fc.jsonValue(),
          contentType: fc.jsonValue(),
          attributes,
        })
        .map((value) => JSON.stringify(value, (_, x) => (typeof x === 'bigint' ? String(x) : x))),
    );
    const method = fc.constantFrom('GET', 'PUT', 'POST', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE');
    await fc.assert(
      fc.asyncProperty(
        method,
        fc.array(segment, { maxLength: 5 }),
        query,
        body,
        async (m, path, q, b) => {
          const reply = await ground.call(`${url}/${path.join('/')}?${q}`, { method: m, body: b });
          expect(reply.status).toBeLessThan(500);
          if (reply.status >= 400) {
            expect(typeof reply.json.error.code).toBe('string');
            expect(typeof reply.json.error.message).toBe('string');
          }
        },
      ),
      { numRuns: 400 },
    );
  });

  it('get JSON for what is not even HTTP', async () => {
    const { connect } = await import('node:tls');
    const { port } = new URL(url);
    const answer = await new Promise<string>((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port: Number(port), ca: ground.ca.caPem });
      let text = '';
      socket.on('data', (chunk) => {
        text += chunk.toString();
      });
      socket.on('end', () => resolve(text));
      socket.on('error', reject);
      socket.write('NONSENSE\r\n\r\n');
    });
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    expect(JSON.parse(answer.split('\r\n\r\n')[1] ?? '').error.code).toBe('BadRequest');
  });
});

function tidy(text: string): string {
  return text.replaceAll(/[#?]/g, '');
}

function encodeURIComponentSafely(text: string): string {
  return encodeURIComponent(text.toWellFormed());
}

describe('faults', () => {
  it('answer the nth matching call and leave the others alone', async () => {
    const fault = { kind: 'status', status: 429, retryAfter: 1 };
    await withFault({ operation: 'setSecret', object: 'faulty-*', nth: 2, fault }, async () => {
      await client.setSecret('faulty-a', '1');
      await client.setSecret('sound', '1');
      expect(await refusal(client.setSecret('faulty-b', '1'))).toMatchObject({
        code: 'Throttled',
        statusCode: 429,
      });
      await client.setSecret('faulty-b', '2');
      const { json } = await control('GET', '/faults');
      expect(json.value.at(-1)).toMatchObject({ seen: 3, fired: 1 });
    });
  });

  it('carry the wished code, message and Retry-After, for one vault only', async () => {
    const fault = { kind: 'status', status: 503, code: 'Busy', message: 'later', retryAfter: 7 };
    await withFault({ vault: 'main', times: 0, fault }, async () => {
      for (let index = 0; index < 3; index += 1) {
        const reply = await ground.call(`${url}/secrets?${version}`);
        expect([reply.status, reply.json, reply.headers['retry-after']]).toEqual([
          503,
          { error: { code: 'Busy', message: 'later' } },
          '7',
        ]);
      }
      expect((await ground.call(`${vaultUrl('short')}/secrets?${version}`)).status).toBe(200);
    });
    expect((await ground.call(`${url}/secrets?${version}`)).status).toBe(200);
  });

  it('challenge again on an injected 401, which the SDK survives once', async () => {
    await client.setSecret('spurious', 'v');
    const fault = { kind: 'status', status: 401 };
    await withFault({ operation: 'getSecret', fault }, async () => {
      expect((await client.getSecret('spurious')).value).toBe('v');
    });
  });

  it('reset the connection before or after the write', async () => {
    await withFault({ operation: 'setSecret', fault: { kind: 'reset' } }, async () => {
      expect((await refusal(client.setSecret('reset-before', 'v'))).statusCode).toBeUndefined();
    });
    expect((await refusal(client.getSecret('reset-before'))).statusCode).toBe(404);
    await withFault({ operation: 'setSecret', fault: { kind: 'reset-after-commit' } }, async () => {
      expect((await refusal(client.setSecret('reset-after', 'v'))).code).toBe('ECONNRESET');
    });
    expect((await client.getSecret('reset-after')).value).toBe('v');
  });

  it('fail after the write', async () => {
    await withFault({ operation: 'setSecret', fault: { kind: 'fail-after-commit' } }, async () => {
      expect((await refusal(client.setSecret('failed-after', 'v'))).statusCode).toBe(503);
    });
    expect((await client.getSecret('failed-after')).value).toBe('v');
  });

  it('hang until the client gives up', async () => {
    await withFault({ operation: 'getSecret', fault: { kind: 'hang' } }, async () => {
      const abortSignal = AbortSignal.timeout(100);
      const hung = client.getSecret('round-trip', { abortSignal }).then(
        () => 'answered',
        (error: Error) => error.name,
      );
      expect(await hung).toBe('AbortError');
    });
  });

  it.each([
    [{}],
    [{ fault: { kind: 'explode' } }],
    [{ fault: { kind: 'status', status: 200 } }],
    [{ nth: 0, fault: { kind: 'reset' } }],
    [{ fault: { kind: 'reset' }, extra: 1 }],
  ])('are refused when a rule reads %j', async (rule) => {
    expect((await control('POST', '/faults', rule)).status).toBe(400);
  });
});

describe('the control API', () => {
  it('makes a vault read-only as a failover does, and writable again', async () => {
    await client.setSecret('failover', 'v');
    await control('PUT', '/vaults/main/mode', { readOnly: true });
    expect(await refusal(client.setSecret('failover', 'w'))).toMatchObject({
      code: 'ServiceUnavailable',
      statusCode: 503,
      message:
        'Operation "SecretSet" is unavailable: the service is currently in a read-only state.',
    });
    expect((await refusal(client.beginDeleteSecret('failover'))).statusCode).toBe(503);
    expect((await client.getSecret('failover')).value).toBe('v');
    await control('PUT', '/vaults/main/mode', { readOnly: false });
    await client.setSecret('failover', 'w');
  });

  it('lists every call with caller, object, version and status, and no value', async () => {
    await control('DELETE', '/audit');
    const { properties } = await client.setSecret('audited', 'canary-value');
    await refusal(client.getSecret('audited-not'));
    await ground.call(`${url}/secrets?${version}`, { token: null });
    const { json } = await control('GET', '/audit');
    const rows = json.value.slice(-3);
    expect(rows).toMatchObject([
      { operation: 'setSecret', object: 'audited', version: properties.version, status: 200 },
      { operation: 'getSecret', object: 'audited-not', version: null, status: 404 },
      { operation: null, object: null, identity: null, status: 401 },
    ]);
    expect(rows[0]).toMatchObject({ vault: 'main', fault: null });
    expect(rows[0].identity.appId).toMatch(/^[0-9a-f-]{36}$/);
    expect(JSON.stringify(json)).not.toContain('canary-value');
  });

  it('refuses a host name that is not of this machine, as a re-bound web page would send', async () => {
    const { get } = await import('node:http');
    const status = await new Promise((resolve, reject) => {
      const headers = { host: 'evil.example' };
      get(`${emulator.controlUrl}/status`, { headers, agent: false }, (response) => {
        response.resume();
        resolve(response.statusCode);
      }).on('error', reject);
    });
    expect(status).toBe(403);
  });

  it('answers 404 for what it does not know', async () => {
    expect((await control('GET', '/nothing')).status).toBe(404);
    expect((await control('PUT', '/vaults/none/mode', { readOnly: true })).status).toBe(404);
    expect((await control('PUT', '/vaults/main/mode', { readOnly: 1 })).status).toBe(400);
  });
});

describe('events', () => {
  const about = (name: string) => (event: VaultEvent) => event.data.ObjectName === name;
  const inSeconds = (seconds: number) => new Date(Date.now() + seconds * 1000);

  it('tell of every new version, in the Event Grid schema', async () => {
    const expiresOn = new Date('2035-01-01T00:00:00Z');
    const { properties } = await client.setSecret('announced', 'v', { expiresOn });
    const event = await eventually(() => events.find(about('announced')));
    expect(event).toEqual({
      id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      topic: expect.stringMatching(
        /^\/subscriptions\/.+\/providers\/Microsoft\.KeyVault\/vaults\/main$/,
      ),
      subject: 'announced',
      eventType: 'Microsoft.KeyVault.SecretNewVersionCreated',
      eventTime: expect.stringMatching(/Z$/),
      data: {
        Id: properties.id,
        VaultName: 'main',
        ObjectType: 'Secret',
        ObjectName: 'announced',
        Version: properties.version,
        NBF: null,
        EXP: expiresOn.getTime() / 1000,
      },
      dataVersion: '1',
      metadataVersion: '1',
    });
  });

  it('come once for near expiry and once for expiry, of current versions, disabled ones too', async () => {
    const seen: VaultEvent[] = [];
    const quick = await ground.startVaults({
      onEvent: (event) => seen.push(event),
      nearExpiry: { leadSeconds: 86_400, delaySeconds: 0 },
    });
    const vault = ground.secretClient(vaultUrl('main', quick));
    const soon = inSeconds(2);
    await vault.setSecret('replaced', '1', { expiresOn: soon });
    const current = await vault.setSecret('replaced', '2', { expiresOn: new Date('2035-01-01') });
    const brief = await vault.setSecret('brief', '1', { expiresOn: soon, enabled: false });
    await vault.updateSecretProperties('brief', brief.properties.version!, { tags: { a: 'b' } });
    await vault.setSecret('removed', '1', { expiresOn: soon });
    await vault.beginDeleteSecret('removed');
    await eventually(() => seen.find(({ eventType }) => eventType.endsWith('SecretExpired')), 4000);
    await new Promise((resolve) => setTimeout(resolve, 100));
    const kinds = (name: string) =>
      seen
        .filter(about(name))
        .map(({ eventType }) => eventType.replace('Microsoft.KeyVault.Secret', ''));
    expect(kinds('brief')).toEqual(['NewVersionCreated', 'NearExpiry', 'Expired']);
    expect(kinds('replaced')).toEqual(['NewVersionCreated', 'NearExpiry', 'NewVersionCreated']);
    expect(kinds('removed')).toEqual(['NewVersionCreated', 'NearExpiry']);

    const path = '/vaults/main/events/republish';
    const wish = { type: 'SecretNearExpiry', name: 'brief' };
    const again = await control('POST', path, wish, quick);
    const ids = () =>
      seen.filter(about('brief')).filter(({ eventType }) => eventType.endsWith('NearExpiry'));
    await eventually(() => (ids().length === 2 ? true : undefined));
    expect(ids()[0]).toEqual(ids()[1]);
    expect(again.json.id).toBe(ids()[0]!.id);
    const unseen = { type: 'Microsoft.KeyVault.SecretNearExpiry', name: 'replaced' };
    const made = await control('POST', path, unseen, quick);
    expect(made.json.data.Version).toBe(current.properties.version);
    expect((await control('POST', path, { ...wish, type: 'X' }, quick)).status).toBe(400);
    expect((await control('POST', path, { ...wish, name: 'x' }, quick)).status).toBe(404);
    await quick.stop();
  });

  it('wait for the delay when the expiry is nearer than the lead', async () => {
    const seen: VaultEvent[] = [];
    const patient = await ground.startVaults({
      onEvent: (event) => seen.push(event),
      nearExpiry: { delaySeconds: 2 },
    });
    const vault = ground.secretClient(vaultUrl('main', patient));
    const { properties } = await vault.setSecret('patient', '1', { expiresOn: inSeconds(3600) });
    const event = await eventually(
      () => seen.find(({ eventType }) => eventType.endsWith('NearExpiry')),
      4000,
    );
    const waited = Date.parse(event.eventTime) - properties.createdOn!.getTime();
    expect(waited).toBeGreaterThanOrEqual(2000);
    await patient.stop();
  });
});

describe('startKeyVault', () => {
  it('stops at once, hung calls and half-open connections included', async () => {
    const { connect } = await import('node:net');
    const stubborn = await ground.startVaults();
    const target = vaultUrl('main', stubborn);
    await control('POST', '/faults', { fault: { kind: 'hang' } }, stubborn);
    const hung = ground.call(`${target}/secrets?${version}`).catch((error: Error) => error.message);
    const halfOpen = connect(Number(new URL(target).port), '127.0.0.1').on(
      'error',
      () => undefined,
    );
    await once(halfOpen, 'connect');
    await new Promise((resolve) => setTimeout(resolve, 50));
    const before = Date.now();
    await stubborn.stop();
    expect(Date.now() - before).toBeLessThan(500);
    expect(await hung).toMatch(/hang up|ECONNRESET/);
  });

  it.each([
    [
      'a taken port',
      () => [{ name: 'free' }, { name: 'taken', port: Number(new URL(url).port) }],
      /vault taken cannot listen on port \d+/,
    ],
    ['a name twice', () => [{ name: 'same' }, { name: 'SAME' }], /Two vaults/],
    ['no vault', () => [], /at least one/],
    ['a retention of 6 days', () => [{ name: 'main', retentionDays: 6 }], /7 to 90/],
  ])('refuses %s', async (_, vaults, message) => {
    await expect(ground.startVaults({ vaults: vaults() })).rejects.toThrow(message);
  });
});

describe('the data file', () => {
  it('keeps objects, deleted ones and sent events over a restart, under the URL of the day', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'keyturn-'));
    const dataFile = join(dir, 'state', 'key-vault.json');
    const seen: VaultEvent[] = [];
    const options = {
      dataFile,
      nearExpiry: { leadSeconds: 86_400, delaySeconds: 0 },
      onEvent: (event: VaultEvent) => seen.push(event),
    };
    try {
      const first = await ground.startVaults(options);
      const before = ground.secretClient(vaultUrl('main', first));
      await before.setSecret('kept', '1');
      const expiresOn = new Date(Date.now() + 3_600_000);
      const { properties } = await before.setSecret('kept', '2', { tags: { a: 'b' }, expiresOn });
      await before.setSecret('gone', 'v');
      await before.beginDeleteSecret('gone');
      await eventually(() => seen.find(({ eventType }) => eventType.endsWith('NearExpiry')));
      await first.stop();
      expect((await stat(dataFile)).mode & 0o777).toBe(0o600);
      seen.length = 0;

      const second = await ground.startVaults(options);
      const after = ground.secretClient(vaultUrl('main', second));
      const kept = await after.getSecret('kept');
      expect(kept.value).toBe('2');
      expect(kept.properties.version).toBe(properties.version);
      expect(kept.properties.tags).toEqual({ a: 'b' });
      expect(kept.properties.id).toContain(vaultUrl('main', second));
      expect((await after.getDeletedSecret('gone')).name).toBe('gone');
      await after.setSecret('later', 'v');
      await eventually(() => seen.find(({ data }) => data.ObjectName === 'later'));
      expect(seen.filter(({ data }) => data.ObjectName === 'kept')).toEqual([]);
      await new Promise((resolve) => setTimeout(resolve, 150));
      expect(await readFile(dataFile, 'utf8')).toContain('"later"');
      await second.stop();
    } finally {
      await rm(dir, { recursive: true });
    }
  });

  it('stops the start when it cannot be understood', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'keyturn-'));
    const dataFile = join(dir, 'key-vault.json');
    const { writeFile } = await import('node:fs/promises');
    await writeFile(dataFile, '{"format":');
    await expect(ground.startVaults({ dataFile })).rejects.toThrow(/is no emulator state/);
    await rm(dir, { recursive: true });
  });
});
