import { generateKeyPairSync, type JsonWebKey, randomBytes } from 'node:crypto';
import type { KeyVaultKey } from '@azure/keyvault-keys';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { VaultError } from '../../local/key-vault/errors.ts';
import { generateMaterial } from '../../local/key-vault/key-material.ts';
import { addManagedKey } from '../../local/key-vault/keys.ts';
import type { Answer, Call } from '../../local/key-vault/operation.ts';
import { operations } from '../../local/key-vault/operations.ts';
import { newVersionId } from '../../local/key-vault/store.ts';
import { createVault } from '../../local/key-vault/vault.ts';
import { eventually } from './emulator-client.ts';
import { apiVersion, collect, type KeyGround, prepareKeyGround, refusal } from './key-ground.ts';

const rsaOps = ['encrypt', 'decrypt', 'sign', 'verify', 'wrapKey', 'unwrapKey'];
const ecOps = ['sign', 'verify'];
const octOps = ['wrapKey', 'unwrapKey', 'decrypt', 'encrypt'];
const notFound = (id: string) =>
  `A key with (name/id) ${id} was not found in this key vault. If you recently deleted this key you may be able to recover it using the correct recovery command. For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125182`;
const invalid = (property: string) => `Property ${property} has invalid value\r\n`;
const required = (property: string) => `Property '${property}' is required.\r\n`;
const isBadParameter = (message: string) => [
  400,
  {
    error: {
      ...{ code: 'BadParameter', message },
      ...(message.startsWith('Unsupported key size')
        ? { innererror: { code: 'KeySizeNotSupported' } }
        : {}),
    },
  },
];

let at: KeyGround;

beforeAll(async () => {
  at = await prepareKeyGround({
    vaults: [
      { name: 'main' },
      { name: 'protected', purgeProtection: true, retentionDays: 7 },
      { name: 'pages' },
    ],
  });
});
afterAll(() => at.ground.stop());

async function create(name: string, body: object) {
  const { status, json } = await at.send('POST', `/keys/${name}/create`, body);
  return [status, json];
}

describe('creating a key', () => {
  const { RSA, HSM } = {
    RSA: { kty: 'RSA', hsmPlatform: '0' },
    HSM: { kty: 'RSA-HSM', hsmPlatform: '2' },
  };
  it.each([
    { body: { kty: 'RSA' }, size: 2048, key_ops: rsaOps, ...RSA },
    { body: { kty: 'RSA', key_size: 3072 }, size: 3072, key_ops: rsaOps, ...RSA },
    { body: { kty: 'RSA-HSM', key_size: 4096 }, size: 4096, key_ops: rsaOps, ...HSM },
    { body: { kty: 'RSA', key_ops: ['sign'] }, size: 2048, key_ops: ['sign'], ...RSA },
  ])('$body', async ({ body, kty, size, key_ops, hsmPlatform }) => {
    const name = `rsa-${size}-${key_ops.length}`;
    const [status, json] = await create(name, body);
    expect(status).toBe(200);
    const now = expect.any(Number);
    expect(json).toEqual({
      key: {
        kid: expect.stringMatching(new RegExp(`^${at.url}/keys/${name}/[0-9a-f]{32}$`)),
        kty,
        key_ops,
        n: expect.any(String),
        e: 'AQAB',
      },
      attributes: {
        enabled: true,
        created: now,
        updated: now,
        recoveryLevel: 'Recoverable+Purgeable',
        recoverableDays: 90,
        exportable: false,
        hsmPlatform,
      },
    });
    expect(Buffer.from(json.key.n, 'base64url').length * 8).toBe(size);
  });

  const coordinates = { 'P-256': 32, 'P-384': 48, 'P-521': 66, 'P-256K': 32 };
  it.each(
    Object.entries(coordinates).flatMap(([crv, bytes]) =>
      ['EC', 'EC-HSM'].map((kty) => ({ kty, crv, bytes })),
    ),
  )('$kty on $crv', async ({ kty, crv, bytes }) => {
    const [status, json] = await create(`${kty}-${crv}`, { kty, crv });
    expect(status).toBe(200);
    const { x, y, ...rest } = json.key;
    expect(rest).toEqual({ kid: expect.any(String), kty, key_ops: ecOps, crv });
    expect([x, y].map((text) => Buffer.from(text, 'base64url').length)).toEqual([bytes, bytes]);
  });

  it('EC is P-256 when no curve is named', async () => {
    const [, json] = await create('curveless', { kty: 'EC' });
    expect(json.key.crv).toBe('P-256');
  });

  it.each([
    [{ kty: 'oct-HSM' }],
    [{ kty: 'oct' }],
    [{ kty: 'oct-HSM', key_size: 128 }],
    [{ kty: 'oct-HSM', key_size: 512 }],
  ])('symmetric, which shows nothing: %o', async (body) => {
    const [status, json] = await create('symmetric', body);
    expect(status).toBe(200);
    const key = { kid: expect.any(String), kty: 'oct-HSM', key_ops: octOps };
    expect(json.key).toEqual(key);
    expect((await at.send('GET', '/keys/symmetric')).json.key).toEqual(key);
  });

  it('through the SDK, with everything that can be said', async () => {
    const notBefore = new Date('2027-01-01T00:00:00Z');
    const expiresOn = new Date('2030-01-01T00:00:00Z');
    const options = { notBefore, expiresOn, enabled: false, tags: { owner: 'ops' } };
    const made = await at.client.createEcKey('said', {
      ...options,
      keyOps: ['verify'],
      curve: 'P-384',
    });
    const got = await at.client.getKey('said');
    expect(got).toEqual(made);
    expect(got).toMatchObject({ name: 'said', keyType: 'EC', keyOperations: ['verify'] });
    expect(got.properties).toMatchObject({ ...options, hsmPlatform: '0', exportable: false });
    expect(got.key).toMatchObject({ crv: 'P-384', x: expect.any(Uint8Array) });
  });

  it('takes a public exponent, and no operation at all', async () => {
    const [, json] = await create('odd', { kty: 'RSA', public_exponent: 3, key_ops: [] });
    expect([json.key.e, json.key.key_ops]).toEqual(['Aw', []]);
  });

  it('adds a version to a key there is, of any type, and says so', async () => {
    const first = await at.client.createEcKey('Grown');
    const second = await at.client.createOctKey('grown', { hsm: true });
    expect(second.id).toMatch(new RegExp(`^${at.url}/keys/Grown/`));
    expect((await at.client.getKey('GROWN')).keyType).toBe('oct-HSM');
    const old = await at.client.getKey('grown', { version: first.properties.version! });
    expect(old.keyType).toBe('EC');
    const seen = await eventually(() => {
      const events = at.events.filter(({ subject }) => subject === 'Grown');
      return events.length === 2 ? events : undefined;
    });
    expect(seen.map(({ eventType, data }) => [eventType, data.Version])).toEqual([
      ['Microsoft.KeyVault.KeyNewVersionCreated', first.properties.version],
      ['Microsoft.KeyVault.KeyNewVersionCreated', second.properties.version],
    ]);
  });

  const sizes = (size: number, supported: string) =>
    `Unsupported key size (${size}). Supported sizes are [${supported}]`;
  it.each([
    ['no body', undefined, invalid('')],
    ['no type', {}, invalid('kty')],
    ['an unknown type', { kty: 'RSA-1' }, invalid('kty')],
    ['a small key', { kty: 'RSA', key_size: 1024 }, sizes(1024, '2048, 3072, 4096')],
    ['a huge key', { kty: 'RSA', key_size: 1e9 }, sizes(1e9, '2048, 3072, 4096')],
    ['a size as text', { kty: 'RSA', key_size: '2048' }, invalid('key_size')],
    ['an even exponent', { kty: 'RSA', public_exponent: 4 }, invalid('public_exponent')],
    ['the exponent one', { kty: 'RSA', public_exponent: 1 }, invalid('public_exponent')],
    ['an unknown curve', { kty: 'EC', crv: 'P-512' }, invalid('crv')],
    ['an odd AES size', { kty: 'oct-HSM', key_size: 200 }, sizes(200, '128, 192, 256, 384, 512')],
    ['an unknown operation', { kty: 'EC', key_ops: ['sing'] }, invalid('key_ops.0')],
    ['operations as text', { kty: 'EC', key_ops: 'sign' }, invalid('key_ops')],
    ['a negative exp', { kty: 'EC', attributes: { exp: -1 } }, invalid('attributes.exp')],
    [
      'enabled as text',
      { kty: 'EC', attributes: { enabled: 'no' } },
      invalid('attributes.enabled'),
    ],
    ['a tag that is no text', { kty: 'EC', tags: { a: 1 } }, invalid('tags.a')],
  ])('is refused with %s', async (_, body, text) => {
    const { status, json } = await at.send('POST', '/keys/refused/create', body);
    expect([status, json]).toEqual(isBadParameter(text));
    expect((await at.send('GET', '/keys/refused')).status).toBe(404);
  });

  it('never blocks the server, nor the pool of threads that checks new tokens', async () => {
    await at.client.createEcKey('quick');
    const audience = 'https://vault.azure.net';
    const issue = (n: number) => at.ground.identity.issueToken({ audience, claims: { n } });
    const tokens = await Promise.all(Array.from({ length: 20 }, (_, n) => issue(n)));
    let made = 0;
    const making = Array.from({ length: 10 }, async (_, index) => {
      await at.client.createRsaKey(`slow-${index}`, { keySize: 3072 });
      made += 1;
    });
    for (const token of tokens) {
      const reply = await at.ground.call(`${at.url}/keys/quick?${apiVersion}`, { token });
      expect(reply.status).toBe(200);
    }
    // A pool that is full lets no token through before seven keys are made.
    expect(made).toBeLessThan(6);
    await Promise.all(making);
  });

  it('does not give a name back to life that is deleted meanwhile', async () => {
    await at.client.createEcKey('racing');
    const making = refusal(at.client.createRsaKey('racing', { keySize: 4096 }));
    await at.send('DELETE', '/keys/racing');
    expect(await making).toMatchObject({
      code: 'Conflict',
      inner: 'ObjectIsDeletedButRecoverable',
    });
    expect((await at.send('GET', '/deletedkeys/racing')).json.key.kty).toBe('EC');
    expect(await collect(at.client.listPropertiesOfKeyVersions('racing'))).toEqual([]);
  });
});

describe('importing a key', () => {
  let rsa: JsonWebKey;
  let ec: JsonWebKey;
  const put = async (body: unknown) => {
    const { status, json } = await at.send('PUT', '/keys/imported', body);
    return [status, json];
  };
  const pair = (curve: string) =>
    generateKeyPairSync('ec', { namedCurve: curve }).privateKey.export({ format: 'jwk' });

  beforeAll(() => {
    rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });
    ec = pair('P-256');
  });

  it('shows the public part only, here and in its versions', async () => {
    const [status, json] = await put({ key: { ...rsa, key_ops: ['sign'] }, tags: { from: 'me' } });
    expect(status).toBe(200);
    expect(json.key).toEqual({
      kid: expect.any(String),
      kty: 'RSA',
      key_ops: ['sign'],
      n: rsa.n,
      e: rsa.e,
    });
    expect(json.tags).toEqual({ from: 'me' });
    const got = await at.send('GET', '/keys/imported');
    expect(got.json).toEqual(json);
    expect(got.text).not.toContain(rsa.d);
  });

  it('through the SDK, into the HSM', async () => {
    const bytes = Object.fromEntries(
      Object.entries(rsa).map(([name, text]) => [
        name,
        name === 'kty' ? text : Buffer.from(String(text), 'base64url'),
      ]),
    );
    const imported = await at.client.importKey('imported-hsm', bytes, { hardwareProtected: true });
    expect(imported).toMatchObject({ keyType: 'RSA-HSM', keyOperations: rsaOps });
    expect(Buffer.from(imported.key!.n!).toString('base64url')).toBe(rsa.n);
  });

  it('takes leading zeros, and does not keep them', async () => {
    const [, json] = await put({ key: { ...rsa, e: 'AAEAAQ' } });
    expect(json.key.e).toBe('AQAB');
  });

  it.each([
    ['EC', false],
    ['EC-HSM', false],
    ['EC', true],
  ])('%s with Hsm %s', async (kty, Hsm) => {
    const [, json] = await put({ key: { ...pair('secp256k1'), kty, crv: 'P-256K' }, Hsm });
    expect(json.key).toMatchObject({ kty: Hsm ? 'EC-HSM' : kty, crv: 'P-256K', key_ops: ecOps });
  });

  it.each(['oct', 'oct-HSM'])('%s', async (kty) => {
    const [status, json] = await put({ key: { kty, k: randomBytes(32).toString('base64url') } });
    expect([status, json.key.kty, json.key.k]).toEqual([200, 'oct-HSM', undefined]);
  });

  const mismatch = 'The members of the key do not make a private key.';
  it.each([
    ['no key', () => ({}), invalid('key')],
    ['no type', () => ({ key: {} }), invalid('key.kty')],
    ['no private part', () => ({ key: { kty: 'RSA', n: rsa.n, e: rsa.e } }), required('d')],
    ['no prime', () => ({ key: { ...rsa, p: undefined } }), required('p')],
    [
      'base64 with padding',
      () => ({ key: { ...rsa, n: `${rsa.n}==` } }),
      `Content of 'n' is not base64url.\r\n${required('n')}`,
    ],
    ['the exponent of another', () => ({ key: { ...rsa, d: rsa.n } }), mismatch],
    ['one for a prime', () => ({ key: { ...rsa, p: 'AQ', q: rsa.n } }), mismatch],
    ['zero for a prime', () => ({ key: { ...rsa, p: 'AA' } }), mismatch],
    ['an even modulus', () => ({ key: { ...rsa, n: 'Ag' } }), mismatch],
    ['the point of another', () => ({ key: { ...ec, x: pair('P-256').x } }), mismatch],
    ['another curve', () => ({ key: { ...ec, crv: 'P-384' } }), mismatch],
    ['a point that is on no curve', () => ({ key: { ...ec, x: 'AQ' } }), mismatch],
    ['no curve', () => ({ key: { ...ec, crv: undefined } }), required('crv')],
    ['an unknown curve', () => ({ key: { ...ec, crv: 'secp256k1' } }), invalid('key.crv')],
    ['a member as number', () => ({ key: { ...ec, x: 1 } }), invalid('key.x')],
    ['Hsm as text', () => ({ key: ec, Hsm: 'true' }), invalid('Hsm')],
    ['an HSM’s own blob', () => ({ key: { kty: 'RSA-HSM', key_hsm: 'YQ' } }), /wrapped for an HSM/],
    ['no bytes', () => ({ key: { kty: 'oct' } }), required('k')],
    [
      'too many bytes',
      () => ({ key: { kty: 'oct', k: randomBytes(65).toString('base64url') } }),
      'JSON Web Key: k property of oct key is too large, maximum size is 64',
    ],
    [
      'bytes too few',
      () => ({ key: { kty: 'oct', k: 'YWJj' } }),
      'Unsupported key size (24). Supported sizes are [128, 192, 256, 384, 512]',
    ],
  ])('is refused with %s', async (_, body, text) => {
    const [status, json] = await put(body());
    expect([status, json.error.code]).toEqual([400, 'BadParameter']);
    expect(json.error.message).toMatch(text instanceof RegExp ? text : literal(text));
  });

  it('is refused for RSA keys that are small', async () => {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 1024 });
    expect(await put({ key: privateKey.export({ format: 'jwk' }) })).toEqual(
      isBadParameter('Unsupported key size (1024). Supported sizes are [2048, 3072, 4096]'),
    );
  });
});

function literal(text: string): RegExp {
  return new RegExp(`^${text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')}$`);
}

describe('what becomes of a key', () => {
  it('gets a disabled key, and one outside its time', async () => {
    const expiresOn = new Date('2020-01-01T00:00:00Z');
    await at.client.createEcKey('past', { enabled: false, expiresOn });
    const got = await at.client.getKey('past');
    expect(got.properties).toMatchObject({ enabled: false, expiresOn });
  });

  it('updates one version, replaces what is named and leaves the rest', async () => {
    const made = await at.client.createEcKey('updated', { tags: { a: '1' } });
    await at.client.createEcKey('updated');
    const { version } = made.properties;
    const expiresOn = new Date('2031-01-01T00:00:00Z');
    const updated = await at.client.updateKeyProperties('updated', version!, {
      keyOps: ['verify'],
      enabled: false,
      expiresOn,
    });
    expect(updated.properties).toMatchObject({
      version,
      enabled: false,
      expiresOn,
      tags: { a: '1' },
    });
    expect(updated.keyOperations).toEqual(['verify']);
    const latest = await at.client.updateKeyProperties('updated', { tags: { b: '2' } });
    expect(latest).toMatchObject({ keyOperations: ecOps, properties: { tags: { b: '2' } } });
    expect(latest.properties.version).not.toBe(version);
    expect((await at.client.getKey('updated', { version: version! })).key).toEqual(
      made.key && {
        ...made.key,
        keyOps: ['verify'],
      },
    );
  });

  it('lists keys and versions, with no material', async () => {
    const client = at.clientOf('pages');
    for (let index = 0; index < 27; index += 1) await client.createEcKey(`k${index}`);
    const listed = await collect(client.listPropertiesOfKeys());
    expect(listed).toHaveLength(27);
    const { json } = await at.send('GET', `${at.urlOf('pages')}/keys`);
    expect(Object.keys(json.value[0])).toEqual(['kid', 'attributes']);
    expect(json.value[0]).toMatchObject({
      kid: `${at.urlOf('pages')}/keys/k0`,
      attributes: { enabled: true, exportable: false, hsmPlatform: '0' },
    });
    for (let index = 0; index < 3; index += 1) await client.createEcKey('k0');
    const versions = await collect(client.listPropertiesOfKeyVersions('k0'));
    const ids = versions.map(({ version }) => version);
    expect(ids).toHaveLength(4);
    expect(ids).toEqual(ids.toSorted());
    expect(await collect(client.listPropertiesOfKeyVersions('unknown'))).toEqual([]);
  });

  it('deletes, shows, recovers and purges', async () => {
    const made = await at.client.createEcKey('doomed', { tags: { t: '1' } });
    const deleted = await (await at.client.beginDeleteKey('doomed')).pollUntilDone();
    expect(deleted).toMatchObject({ name: 'doomed', keyType: 'EC', id: made.id });
    expect(deleted.properties.recoveryId).toBe(`${at.url}/deletedkeys/doomed`);
    const { scheduledPurgeDate, deletedOn } = deleted.properties;
    expect(scheduledPurgeDate!.getTime() - deletedOn!.getTime()).toBe(90 * 86_400_000);
    expect((await at.client.getDeletedKey('doomed')).properties.tags).toEqual({ t: '1' });
    expect((await collect(at.client.listDeletedKeys())).map(({ name }) => name)).toContain(
      'doomed',
    );
    const names = (await collect(at.client.listPropertiesOfKeys())).map(({ name }) => name);
    expect(names).not.toContain('doomed');
    const recovered: KeyVaultKey = await (
      await at.client.beginRecoverDeletedKey('doomed')
    ).pollUntilDone();
    expect(recovered.id).toBe(made.id);
    expect((await at.client.getKey('doomed')).key).toEqual(made.key);
    await (await at.client.beginDeleteKey('doomed')).pollUntilDone();
    await at.client.purgeDeletedKey('doomed');
    expect((await refusal(at.client.getDeletedKey('doomed'))).statusCode).toBe(404);
  });

  it('backs up all versions, which work after they are restored', async () => {
    const first = await at.client.createRsaKey('saved');
    await at.client.createEcKey('saved', { tags: { t: '1' } });
    const crypto = at.cryptoOf(first);
    const { result } = await crypto.encrypt('RSA-OAEP', Buffer.from('before'));
    const backup = (await at.client.backupKey('saved'))!;
    const conflict = await refusal(at.client.restoreKeyBackup(backup));
    expect(conflict).toMatchObject({ code: 'Conflict', statusCode: 409 });
    expect(conflict.message).toContain(
      `There was a conflict restoring the key '${at.url}/keys/saved'. This can happen if either: a second key`,
    );
    await (await at.client.beginDeleteKey('saved')).pollUntilDone();
    expect((await refusal(at.client.restoreKeyBackup(backup))).statusCode).toBe(409);
    await at.client.purgeDeletedKey('saved');
    const restored = await at.client.restoreKeyBackup(backup);
    expect(restored).toMatchObject({ keyType: 'EC', properties: { tags: { t: '1' } } });
    expect(Buffer.from((await crypto.decrypt('RSA-OAEP', result)).result).toString()).toBe(
      'before',
    );
    const saved = Buffer.from(backup).toString('latin1');
    expect(saved).not.toContain('"d"');
  });

  it.each(['', 'AA', 'A'.repeat(200)])('restores no backup that is %o', async (value) => {
    const reply = await at.send('POST', '/keys/restore', { value });
    expect(reply.status).toBe(400);
    if (value === '') return;
    expect(reply.json).toEqual({
      error: {
        code: 'Malformed backup blob',
        message: 'Backup blob contains invalid or corrupt version.',
      },
    });
  });

  it('says what is not there, taken or protected, in the words of the service', async () => {
    const { client } = at;
    const refused = { inner: undefined, statusCode: 404, code: 'KeyNotFound' };
    const missing = { ...refused, message: notFound('nowhere') };
    expect(await refusal(client.getKey('nowhere'))).toEqual(missing);
    expect(await refusal(client.updateKeyProperties('nowhere', {}))).toEqual(missing);
    expect(await refusal(client.beginDeleteKey('nowhere'))).toEqual(missing);
    expect(await refusal(client.backupKey('nowhere'))).toEqual(missing);
    expect(await refusal(client.rotateKey('nowhere'))).toEqual(missing);
    const gone = { ...refused, message: 'Deleted Key not found: nowhere' };
    expect(await refusal(client.getDeletedKey('nowhere'))).toEqual(gone);
    expect(await refusal(client.purgeDeletedKey('nowhere'))).toEqual(gone);
    await client.createEcKey('there');
    const version = 'f'.repeat(32);
    expect(await refusal(client.getKey('there', { version }))).toEqual({
      ...refused,
      message: notFound(`there/${version}`),
    });
    await (await client.beginDeleteKey('there')).pollUntilDone();
    const taken = {
      code: 'Conflict',
      statusCode: 409,
      inner: 'ObjectIsDeletedButRecoverable',
      message:
        'Key there is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the key can only be recovered or purged.',
    };
    expect(await refusal(client.createEcKey('there'))).toEqual(taken);
    const jwk = { kty: 'oct', k: randomBytes(16) } as const;
    expect(await refusal(client.importKey('there', jwk))).toEqual(taken);

    const guarded = at.clientOf('protected');
    const kept = await guarded.createEcKey('kept');
    expect(kept.properties.recoveryLevel).toBe('CustomizedRecoverable');
    await (await guarded.beginDeleteKey('kept')).pollUntilDone();
    expect(await refusal(guarded.purgeDeletedKey('kept'))).toMatchObject({
      code: 'Forbidden',
      statusCode: 403,
      message:
        'Operation "purge" is not allowed because purge protection is enabled for this vault. Key Vault service will automatically purge it after the retention period has passed.\r\nVault: protected;location=local',
    });
  });

  it.each([
    ['PUT', '/keys/'],
    ['POST', '/keys/x'],
    ['DELETE', '/keys/x/0123456789abcdef0123456789abcdef'],
    ['GET', '/keys/x/create'],
    ['GET', '/rng'],
  ])('does not allow %s %s', async (method, path) => {
    const { status, json } = await at.send(method, path, method === 'GET' ? undefined : {});
    // `create` is taken for a version there.
    if (path.endsWith('create')) expect(status).toBe(404);
    else expect([status, json.error.message]).toEqual([405, `HTTP ${method} not allowed`]);
  });
});

describe('random bytes', () => {
  it.each([1, 32, 128])('%i of them', async (count) => {
    const first = await at.client.getRandomBytes(count);
    expect(first).toHaveLength(count);
    if (count > 1) expect(await at.client.getRandomBytes(count)).not.toEqual(first);
  });

  it.each([0, -1, 129])('not %i', async (count) => {
    const { status, json } = await at.send('POST', '/rng', { count });
    expect([status, json]).toEqual(
      isBadParameter('GetRandomBytesRequest: count cannot be greater than 128 or less than 1'),
    );
  });

  it.each([[undefined], [{}], [{ count: '8' }], [{ count: 1.5 }]])('not %o', async (body) => {
    expect((await at.send('POST', '/rng', body)).status).toBe(400);
  });
});

describe('the key of a certificate', () => {
  const vault = createVault({
    ...{ name: 'main', retentionDays: 90, purgeProtection: false },
    ...{ location: 'local', subscriptionId: 's', geography: 'g' },
  });
  const now = 2_000_000_000;
  const perform = (id: string, body: unknown = {}, version = ''): Answer | Promise<Answer> => {
    const params = { name: 'cert', version };
    const call = {
      vault,
      params,
      query: new URLSearchParams(),
      body,
      now,
      changed: () => undefined,
    };
    // Only what operations on keys look at.
    return operations.find((operation) => operation.id === id)!.run(call as unknown as Call);
  };

  const refusalOf = async (id: string, body?: unknown): Promise<unknown[]> => {
    try {
      return [await perform(id, body)];
    } catch (error) {
      if (!(error instanceof VaultError)) throw error;
      return [error.status, error.code, error.innerCode, error.message];
    }
  };

  beforeAll(async () => {
    const material = await generateMaterial({ kty: 'EC', crv: 'P-256' });
    const version = newVersionId();
    const times = { created: now, updated: now, nbf: now - 600, exp: now + 100 };
    addManagedKey(vault, 'cert', { version, material, keyOps: ['sign'], enabled: true, ...times });
  });

  it('is shown as managed, with the time of the certificate, and signs', async () => {
    const { body } = await perform('getKey');
    expect(body).toMatchObject({
      key: { kty: 'EC', crv: 'P-256', key_ops: ['sign'] },
      attributes: { nbf: now - 600, exp: now + 100 },
      managed: true,
    });
    const listed = await perform('getKeys');
    expect(listed.body).toMatchObject({ value: [{ managed: true }] });
    const value = randomBytes(32).toString('base64url');
    expect((await perform('sign', { alg: 'ES256', value })).body).toHaveProperty('value');
  });

  it.each([
    ['deleteKey', 'delete', {}],
    ['createKey', 'create', { kty: 'EC' }],
    ['importKey', 'import', { key: { kty: 'oct', k: randomBytes(16).toString('base64url') } }],
    ['rotateKey', 'rotate', {}],
    ['updateKey', 'update', {}],
    ['backupKey', 'backup', {}],
    ['updateKeyRotationPolicy', 'update', {}],
  ])('refuses %s', async (id, word, body) => {
    expect(await refusalOf(id, body)).toEqual([
      ...[403, 'Forbidden', 'KeyManagedByKeyVault'],
      `Operation "${word}" is not allowed on this key, since it is associated with a certificate. Perform the operation on the corresponding certificate. For more information refer to https://docs.microsoft.com/en-us/azure/key-vault/certificates/about-certificates#composition-of-a-certificate`,
    ]);
    expect(vault.keys.find('cert')!.versions).toHaveLength(1);
  });

  it.each(['recoverDeletedKey', 'purgeDeletedKey'])('refuses %s once deleted', async (id) => {
    const key = vault.keys.find('cert');
    if (key !== null) vault.keys.delete(key, now, 90);
    expect((await refusalOf(id))[2]).toBe('KeyManagedByKeyVault');
    expect((await perform('getDeletedKeys')).body).toMatchObject({ value: [] });
  });
});

describe('random requests', () => {
  it('never get a 5xx or an error that is not JSON', async () => {
    const word = fc.constantFrom(
      ...['create', 'rotate', 'rotationpolicy', 'versions', 'backup', 'restore', 'release'],
      ...['sign', 'verify', 'encrypt', 'decrypt', 'wrapkey', 'unwrapkey', '', 'fuzz', 'fuzz-rsa'],
    );
    const start = fc.constantFrom('keys', 'keys', 'keys', 'deletedkeys', 'rng');
    const text = fc.oneof(fc.base64String(), fc.string(), fc.constantFrom('YWJj', 'AQAB', ''));
    const value = fc.oneof(text, fc.jsonValue());
    const alg = fc.constantFrom('RS256', 'ES256', 'RSA1_5', 'A256GCM', 'A128KW', 'RSNULL', 'HS512');
    const jwk = fc.record(
      {
        kty: fc.constantFrom('RSA', 'EC', 'oct', 'oct-HSM'),
        ...{ n: value, e: value, d: value, p: value, q: value, dp: value, dq: value, qi: value },
        ...{ crv: fc.constantFrom('P-256', 'P-521', 'x'), x: value, y: value, k: value },
      },
      { requiredKeys: ['kty'] },
    );
    const known = fc.record(
      {
        ...{ alg, value, digest: value, iv: value, tag: value, aad: value, count: fc.jsonValue() },
        ...{ kty: fc.constantFrom('EC', 'oct-HSM', 'x'), crv: value, key_size: fc.integer() },
        ...{ key: jwk, Hsm: fc.jsonValue(), key_ops: fc.jsonValue(), attributes: fc.jsonValue() },
        ...{ release_policy: fc.jsonValue(), target: value, enc: value, nonce: value },
        ...{ lifetimeActions: fc.jsonValue() },
      },
      { requiredKeys: [] },
    );
    const body = fc.oneof(fc.constant(undefined), fc.jsonValue(), known, known);
    const method = fc.constantFrom('GET', 'PUT', 'POST', 'POST', 'POST', 'PATCH', 'DELETE');
    await at.client.createRsaKey('fuzz-rsa');
    await fc.assert(
      fc.asyncProperty(
        ...[method, start, fc.array(word, { maxLength: 4 }), body],
        async (m, first, rest, b) => {
          const path = `/${[first, ...rest].join('/')}?${apiVersion}`;
          const reply = await at.send(m, path, b);
          expect([m, path, b, reply.status < 500]).toEqual([m, path, b, true]);
          if (reply.status >= 400) {
            expect(typeof reply.json.error.code).toBe('string');
            expect(typeof reply.json.error.message).toBe('string');
          }
        },
      ),
      { numRuns: 600 },
    );
  });
});
