import {
  constants,
  createDecipheriv,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  privateDecrypt,
  randomBytes,
  X509Certificate,
} from 'node:crypto';
import { compactVerify, SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type KeyGround, prepareKeyGround, refusal } from './key-ground.ts';

const authority = 'https://attestation.test/';
const forbidden = [
  403,
  {
    error: {
      code: 'Forbidden',
      message: 'Target environment attestation statement cannot be verified.',
      innererror: { code: 'AccessDenied' },
    },
  },
];
const badParameter = (message: string) => [400, { error: { code: 'BadParameter', message } }];

let at: KeyGround;
let transfer: KeyObject;
let attestation: KeyObject;

beforeAll(async () => {
  at = await prepareKeyGround();
  transfer = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  attestation = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
});
afterAll(() => at.ground.stop());

function policyOf(...conditions: unknown[]) {
  const anyOf = [{ authority, allOf: conditions }];
  return dataOf({ version: '1.0.0', anyOf });
}

function dataOf(policy: unknown): { data: string } {
  return { data: Buffer.from(JSON.stringify(policy)).toString('base64url') };
}

const simple = policyOf({ claim: 'sdk-test', equals: 'true' });
const exportable = { attributes: { exportable: true }, release_policy: simple };

/** A statement as an attestation service makes it. */
async function statement(claims: object = { 'sdk-test': true }, over: object = {}) {
  const { kty, n, e } = createPublicKey(transfer).export({ format: 'jwk' });
  const keys = [
    { kty: 'EC', kid: 'unfit', crv: 'P-256' },
    { kty: 'RSA', kid: 'for-signing', use: 'sig', n, e },
    { kty, n, e, kid: 'transfer', use: 'enc' },
  ];
  return new SignJWT({ iss: authority, 'x-ms-runtime': { keys }, ...claims, ...over })
    .setProtectedHeader({ alg: 'ES256' })
    .setExpirationTime('1h')
    .sign(attestation);
}

async function create(name: string, body: object) {
  const { status, json } = await at.send('POST', `/keys/${name}/create`, body);
  return [status, json];
}

async function release(name: string, target: unknown, more: object = {}) {
  const { status, json } = await at.send('POST', `/keys/${name}/release`, { target, ...more });
  return [status, json];
}

describe('releasing a key', () => {
  const kinds = [
    { kty: 'RSA-HSM' },
    { kty: 'EC-HSM', crv: 'P-521' },
    { kty: 'EC-HSM', crv: 'P-256K' },
    { kty: 'oct-HSM', key_size: 128 },
  ];
  const wrappings = [
    [undefined, 'sha1'],
    ['CKM_RSA_AES_KEY_WRAP', 'sha1'],
    ['RSA_AES_KEY_WRAP_256', 'sha256'],
    ['RSA_AES_KEY_WRAP_384', 'sha384'],
  ] as const;

  it.each(kinds.flatMap((kind) => wrappings.map(([enc, oaepHash]) => ({ kind, enc, oaepHash }))))(
    '$kind with $enc',
    async ({ kind, enc, oaepHash }) => {
      const [, made] = await create('released', { ...kind, ...exportable });
      const more = { ...(enc ? { enc } : {}), nonce: 'mine' };
      const [status, json] = await release('released', await statement(), more);
      expect(status).toBe(200);

      const [head = ''] = json.value.split('.');
      const header = JSON.parse(Buffer.from(head, 'base64url').toString());
      const certificate = new X509Certificate(Buffer.from(header.x5c[0], 'base64'));
      expect(header).toMatchObject({ alg: 'RS256', typ: 'JWT' });
      expect(header.kid).toBe(certificate.fingerprint.replaceAll(':', ''));
      const { payload } = await compactVerify(json.value, certificate.publicKey);
      const { request, response } = JSON.parse(Buffer.from(payload).toString());
      expect(request).toEqual({
        'api-version': '2025-07-01',
        enc: enc ?? 'CKM_RSA_AES_KEY_WRAP',
        kid: `${at.url}/keys/released`,
        nonce: 'mine',
      });
      const { key_hsm, ...publicPart } = response.key.key;
      expect(publicPart).toEqual(made.key);
      expect(response.key.release_policy).toEqual(made.release_policy);

      const sealed = JSON.parse(Buffer.from(key_hsm, 'base64url').toString());
      expect(sealed).toMatchObject({
        schema_version: '1.0',
        header: { kid: 'transfer', alg: 'dir', enc: enc ?? 'CKM_RSA_AES_KEY_WRAP' },
      });
      const opened = unwrap(Buffer.from(sealed.ciphertext, 'base64url'), oaepHash);
      if (kind.kty === 'oct-HSM') expect(opened).toHaveLength(16);
      else expect(belongs(opened, made.key)).toBe(true);
    },
  );

  function unwrap(ciphertext: Buffer, oaepHash: string): Buffer {
    const padding = constants.RSA_PKCS1_OAEP_PADDING;
    const wrappedKey = ciphertext.subarray(0, 256);
    const aesKey = privateDecrypt({ key: transfer, padding, oaepHash }, wrappedKey);
    const decipher = createDecipheriv('id-aes256-wrap-pad', aesKey, Buffer.from('a65959a6', 'hex'));
    return Buffer.concat([decipher.update(ciphertext.subarray(256)), decipher.final()]);
  }

  function belongs(pkcs8: Buffer, shown: { n?: string; x?: string }): boolean {
    const key = createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' });
    const { n, x } = createPublicKey(key).export({ format: 'jwk' });
    return n === shown.n && x === shown.x;
  }

  it('through the SDK, by name and by version', async () => {
    const [, made] = await create('sdk', { kty: 'EC-HSM', ...exportable });
    const { value } = await at.client.releaseKey('sdk', await statement());
    const version = made.key.kid.split('/').at(-1);
    const again = await at.client.releaseKey('sdk', await statement(), { version });
    for (const jws of [value, again.value]) expect(jws.split('.')).toHaveLength(3);
    const [, payload = ''] = again.value.split('.');
    const { request } = JSON.parse(Buffer.from(payload, 'base64url').toString());
    expect(request.kid).toBe(made.key.kid);
  });

  it('also outside its time, and not when it is disabled', async () => {
    const attributes = { exportable: true, exp: 1_000_000_000 };
    await create('expired', { kty: 'EC-HSM', ...exportable, attributes });
    expect((await release('expired', await statement()))[0]).toBe(200);
    await at.send('PATCH', '/keys/expired', { attributes: { enabled: false } });
    expect(await refusal(at.client.releaseKey('expired', await statement()))).toEqual({
      ...{ code: 'Forbidden', statusCode: 403, inner: 'KeyDisabled' },
      message: 'Operation release is not allowed on a disabled key.',
    });
  });

  it('never when it is not exportable', async () => {
    await create('own', { kty: 'EC-HSM' });
    expect(await refusal(at.client.releaseKey('own', await statement()))).toEqual({
      ...{ code: 'Forbidden', statusCode: 403, inner: 'KeyOperationForbidden' },
      message: 'Operation release is not permitted on this key.',
    });
    expect((await release('nowhere', await statement()))[0]).toBe(404);
  });

  describe('to an environment', () => {
    beforeAll(() => create('guarded', { kty: 'EC-HSM', ...exportable }));

    it.each([
      ['with another claim', async () => statement({ 'sdk-test': 'false' })],
      ['without the claim', async () => statement({})],
      ['of another authority', async () => statement({ 'sdk-test': true }, { iss: 'https://x/' })],
      ['of no authority', async () => statement({ 'sdk-test': true }, { iss: undefined })],
      [
        'that was',
        async () =>
          new SignJWT({ iss: authority, 'sdk-test': true })
            .setProtectedHeader({ alg: 'ES256' })
            .setExpirationTime(1_000_000_000)
            .sign(attestation),
      ],
      ['with nonsense', async () => 'nonsense'],
    ])('%s is refused', async (_, target) => {
      expect(await release('guarded', await target())).toEqual(forbidden);
    });

    it.each([
      ['no keys', { 'x-ms-runtime': {} }],
      ['keys that are no RSA', { 'x-ms-runtime': { keys: [{ kty: 'RSA', n: 'AQ', e: 'AQ' }] } }],
    ])('with %s is refused', async (_, over) => {
      expect(await release('guarded', await statement({ 'sdk-test': true }, over))).toEqual(
        badParameter('The attestation token has no RSA key to encrypt the key for.'),
      );
    });

    it.each([
      [{}],
      [{ target: '' }],
      [{ target: 1 }],
      [{ target: 'x', enc: 'none' }],
      [{ target: 'x', nonce: 1 }],
    ])('is not asked for with %o', async (body) => {
      expect((await at.send('POST', '/keys/guarded/release', body)).status).toBe(400);
    });
  });

  const claims = { level: 5, tee: { type: 'sevsnp', debug: false }, 'a.b': 'dotted', list: [1] };
  it.each([
    [{ claim: 'level', equals: 5 }, true],
    [{ claim: 'level', equals: '5' }, true],
    [{ claim: 'level', notEquals: 5 }, false],
    [{ claim: 'level', less: 6 }, true],
    [{ claim: 'level', lessOrEquals: 4 }, false],
    [{ claim: 'level', greater: 5 }, false],
    [{ claim: 'level', greaterOrEquals: '5' }, true],
    [{ claim: 'absent', notEquals: 'x' }, false],
    [{ claim: 'absent', less: 1 }, false],
    [{ claim: 'absent', exists: false }, true],
    [{ claim: 'level', exists: 'true' }, true],
    [{ claim: 'tee.type', equals: 'sevsnp' }, true],
    [{ claim: 'tee.debug', equals: 'false' }, true],
    [{ claim: 'tee.type.more', exists: true }, false],
    [{ claim: 'a.b', equals: 'dotted' }, true],
    [{ claim: 'constructor', exists: true }, false],
    [
      {
        anyOf: [
          { claim: 'level', equals: 1 },
          { claim: 'level', equals: 5 },
        ],
      },
      true,
    ],
    [
      {
        allOf: [
          { claim: 'level', equals: 1 },
          { claim: 'level', equals: 5 },
        ],
      },
      false,
    ],
  ])('when %o holds', async (condition, isAllowed) => {
    await create('ruled', { kty: 'EC-HSM', ...exportable, release_policy: policyOf(condition) });
    const [status] = await release('ruled', await statement(claims));
    expect(status).toBe(isAllowed ? 200 : 403);
  });
});

describe('the terms of release', () => {
  it('are shown as the service writes them', async () => {
    const anyOf = [{ anyOf: [{ equals: 'true', claim: 'sdk-test' }], authority, more: 1 }];
    const release_policy = dataOf({ anyOf, version: '1.0' });
    const [, json] = await create('shown', { kty: 'RSA-HSM', ...exportable, release_policy });
    expect(json.attributes.exportable).toBe(true);
    expect(json.release_policy).toEqual({
      contentType: 'application/json; charset=utf-8',
      data: Buffer.from(
        `{"version":"1.0","anyOf":[{"authority":"${authority}","anyOf":[{"claim":"sdk-test","equals":"true"}]}]}`,
      ).toString('base64url'),
      immutable: false,
    });
    expect((await at.send('GET', '/keys/shown')).json).toEqual(json);
    expect((await at.send('GET', '/keys')).json.value[0]).not.toHaveProperty('release_policy');
  });

  it.each([
    [
      'no policy',
      { kty: 'RSA-HSM', attributes: { exportable: true } },
      'AKV.SKR.1004: Exportable keys must have release policy.',
    ],
    [
      'a policy for nothing',
      { kty: 'RSA-HSM', release_policy: simple },
      'AKV.SKR.1005: Non-exportable keys must not have release policy.',
    ],
    [
      'a software key',
      { kty: 'RSA', ...exportable },
      'AKV.SKR.1006: Exportable keys must be protected by an HSM.',
    ],
  ])('are refused with %s', async (_, body, message) => {
    expect(await create('refused', body)).toEqual(badParameter(message));
    expect((await at.send('GET', '/keys/refused')).status).toBe(404);
  });

  const nested = (depth: number): unknown =>
    depth === 0 ? { claim: 'x', exists: true } : { anyOf: [nested(depth - 1)] };
  // As text, because JSON.stringify does not get that deep.
  const veryDeep = `{"version":"1.0.0","anyOf":[{"authority":"x",${'"anyOf":[{'.repeat(20_000)}"claim":"x"${'}]'.repeat(20_000)}}]}`;
  const version = '1.0.0';
  it.each([
    ['no data', {}, "Property 'data' is required.\r\n"],
    [
      'data that is no base64url',
      { data: '{}' },
      "Content of 'data' is not base64url.\r\nProperty 'data' is required.\r\n",
    ],
    ['data that is no JSON', { data: 'YWJj' }, null],
    ['no authority', dataOf({ version, anyOf: [] }), null],
    ['no conditions', dataOf({ version, anyOf: [{ authority }] }), null],
    ['no version', dataOf({ anyOf: [{ authority, anyOf: [{ claim: 'x', exists: true }] }] }), null],
    ['two comparisons', policyOf({ claim: 'x', equals: 1, less: 2 }), null],
    ['no comparison', policyOf({ claim: 'x' }), null],
    ['anyOf with allOf', policyOf({ anyOf: [nested(0)], allOf: [nested(0)] }), null],
    ['a deep policy', policyOf(nested(11)), null],
    ['a very deep policy', { data: Buffer.from(veryDeep).toString('base64url') }, null],
  ])('are refused with %s', async (_, release_policy, text) => {
    const message = text ?? 'Property release_policy.data has invalid value\r\n';
    const body = { kty: 'RSA-HSM', ...exportable, release_policy };
    expect(await create('refused', body)).toEqual(badParameter(message));
  });

  it('stay with the key: new versions have them, rotated ones too', async () => {
    await create('lasting', { kty: 'EC-HSM', ...exportable });
    const [, second] = await create('lasting', { kty: 'EC-HSM' });
    const third = (await at.send('POST', '/keys/lasting/rotate')).json;
    for (const { attributes, release_policy } of [second, third]) {
      expect(attributes.exportable).toBe(true);
      expect(release_policy.data).toBe(second.release_policy.data);
    }
    const attributes = { exportable: false };
    expect(await create('lasting', { kty: 'EC-HSM', attributes })).toEqual(
      badParameter('AKV.SKR.1003: The exportable attribute of an existing key cannot be changed.'),
    );
  });

  it('come with an imported key', async () => {
    const key = { kty: 'oct', k: randomBytes(32).toString('base64url') };
    const { json } = await at.send('PUT', '/keys/brought', { key, ...exportable });
    expect(json.attributes.exportable).toBe(true);
    expect((await release('brought', await statement()))[0]).toBe(200);
  });

  describe('when they are changed', () => {
    const patch = async (path: string, body: object) => {
      const { status, json } = await at.send('PATCH', `/keys/${path}`, body);
      return [status, json];
    };
    const other = policyOf({ claim: 'other', equals: 'true' });

    it('hold for the next release', async () => {
      await create('changed', { kty: 'EC-HSM', ...exportable });
      const [status, json] = await patch('changed', { release_policy: other });
      expect([status, json.release_policy.data]).toEqual([200, other.data]);
      expect(await release('changed', await statement())).toEqual(forbidden);
      expect((await release('changed', await statement({ other: true })))[0]).toBe(200);
    });

    it('are for the key and not for one version', async () => {
      const [, { key }] = await create('versioned', { kty: 'EC-HSM', ...exportable });
      const path = key.kid.split('/keys/')[1];
      expect(await patch(path, { release_policy: other })).toEqual(
        badParameter('AKV.SKR.1016: Key Release Policy can only be set on versionless key'),
      );
    });

    it('do not change what is immutable, not exportable or exportable already', async () => {
      const release_policy = { ...simple, immutable: true };
      await create('fixed', { kty: 'EC-HSM', ...exportable, release_policy });
      expect(await patch('fixed', { release_policy: other })).toEqual(
        badParameter('AKV.SKR.1020: Immutable Key Release Policy cannot be modified.'),
      );
      await create('plain', { kty: 'EC-HSM' });
      expect(await patch('plain', { release_policy: other })).toEqual(
        badParameter('AKV.SKR.1005: Non-exportable keys must not have release policy.'),
      );
      for (const [name, isExportable] of [
        ['plain', true],
        ['fixed', false],
      ] as const) {
        expect(await patch(name, { attributes: { exportable: isExportable } })).toEqual(
          badParameter('AKV.SKR.1014: Cannot modify the exportable state of a key.'),
        );
        const same = { attributes: { exportable: !isExportable } };
        expect((await patch(name, same))[0]).toBe(200);
      }
    });
  });
});
