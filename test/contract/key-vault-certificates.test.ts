import type { CertificateClient } from '@azure/keyvault-certificates';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { VaultEvent } from '../../local/key-vault/key-vault.ts';
import {
  apiVersion,
  certificateClient,
  ecPolicy,
  fast,
  prepareScene,
  type Scene,
} from './certificate-subjects.ts';
import { eventually } from './emulator-client.ts';
import { collect, refusal, urlOf } from './emulator-control.ts';

const outside = { issuerName: 'Unknown' };

let scene: Scene;
let url: string;
let client: CertificateClient;
let call: Scene['call'];
let create: Scene['create'];
const events: VaultEvent[] = [];

beforeAll(async () => {
  const vaults = [{ name: 'main' }, { name: 'other' }];
  scene = await prepareScene({ vaults, onEvent: (event) => events.push(event) });
  ({ url, client, call, create } = scene);
});
afterAll(() => scene.stop());

describe('creating a certificate', () => {
  it('answers 202 in progress, and ends with the certificate, its key and its secret', async () => {
    const body = {
      policy: {
        issuer: { name: 'Self' },
        key_props: { kty: 'EC' },
        x509_props: { subject: 'CN=made' },
      },
      tags: { owner: 'ops' },
    };
    const reply = await call('/certificates/made/create', 'POST', body);
    expect(reply.status).toBe(202);
    expect(reply.json).toEqual({
      id: `${url}/certificates/made/pending`,
      issuer: { name: 'Self' },
      csr: expect.stringMatching(/^MI/),
      cancellation_requested: false,
      status: 'inProgress',
      status_details:
        'Pending certificate created. Certificate request is in progress. This may take some time based on the issuer provider. Please check again later.',
      request_id: expect.stringMatching(/^[0-9a-f]{32}$/),
    });
    expect(reply.headers['retry-after']).toBe('10');
    expect(reply.headers['location']).toBe(
      `${url}/certificates/made/pending?${apiVersion}&request_id=${reply.json.request_id}`,
    );
    const operation = await call('/certificates/made/pending');
    const { status_details: _details, ...ended } = reply.json;
    expect(operation.json).toEqual({
      ...ended,
      status: 'completed',
      target: `${url}/certificates/made`,
    });
    expect(operation.headers['retry-after']).toBeUndefined();

    const made = await call('/certificates/made/');
    const { id, kid, sid, attributes } = made.json;
    expect(Object.keys(made.json).sort()).toEqual(
      ['attributes', 'cer', 'id', 'kid', 'pending', 'policy', 'sid', 'tags', 'x5t'].sort(),
    );
    expect(kid).toBe(id.replace('/certificates/', '/keys/'));
    expect(sid).toBe(id.replace('/certificates/', '/secrets/'));
    expect(made.json.pending).toEqual({ id: `${url}/certificates/made/pending` });
    expect(attributes).toMatchObject({ enabled: true, recoverableDays: 90 });
    expect(attributes.nbf).toBe(attributes.created - 600);
    const aYearLater = new Date(attributes.created * 1000);
    aYearLater.setUTCFullYear(aYearLater.getUTCFullYear() + 1);
    expect(attributes.exp).toBe(aYearLater.getTime() / 1000);

    const byVersion = await call(new URL(id).pathname);
    const { policy: _policy, pending: _pending, ...shown } = made.json;
    expect(byVersion.json).toEqual(shown);
    const { kid: secretKid, managed, contentType, ...secret } = (await call('/secrets/made/')).json;
    expect({ kid: secretKid, managed, contentType }).toEqual({
      kid,
      managed: true,
      contentType: 'application/x-pkcs12',
    });
    expect(secret).toMatchObject({ id: sid, tags: { owner: 'ops' }, attributes });
    expect((await call('/keys/made/')).json).toMatchObject({
      managed: true,
      key: { kid, kty: 'EC', crv: 'P-256', key_ops: ['sign', 'verify'] },
      attributes: { enabled: true, nbf: attributes.nbf, exp: attributes.exp },
    });
  });

  it('fills in what the policy does not say', async () => {
    const body = { policy: { issuer: { name: 'self' }, x509_props: { subject: 'cn=MyCert' } } };
    await call('/certificates/defaults/create', 'POST', body);
    const { policy } = (await call('/certificates/defaults/')).json;
    expect(policy).toEqual({
      id: `${url}/certificates/defaults/policy`,
      key_props: { exportable: true, kty: 'RSA', key_size: 2048, reuse_key: false },
      secret_props: { contentType: 'application/x-pkcs12' },
      x509_props: {
        subject: 'cn=MyCert',
        ekus: ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'],
        key_usage: ['digitalSignature', 'keyEncipherment'],
        validity_months: 12,
        basic_constraints: { ca: false },
      },
      lifetime_actions: [
        { trigger: { lifetime_percentage: 80 }, action: { action_type: 'AutoRenew' } },
      ],
      issuer: { name: 'Self' },
      attributes: expect.objectContaining({ enabled: true }),
    });
    expect((await call('/certificates/defaults/policy')).json).toEqual(policy);
    const { key_ops } = (await call('/keys/defaults/')).json.key;
    expect(key_ops).toEqual(['sign', 'verify', 'wrapKey', 'unwrapKey']);
  });

  it('goes through the poller of the SDK, and keeps the policy for later versions', async () => {
    const poller = await create('polled', { validityInMonths: 24 });
    const first = await poller.pollUntilDone();
    expect(first.policy).toMatchObject({ validityInMonths: 24, keyType: 'EC', issuerName: 'Self' });
    await call('/certificates/polled/create', 'POST', {});
    const second = await client.getCertificate('polled');
    expect(second.properties.version).not.toBe(first.properties.version);
    expect(second.policy).toMatchObject({ validityInMonths: 24 });
    const secret = (await call('/secrets/polled/')).json;
    expect(secret.previousVersion).toBe(first.properties.version);
    const versions = await collect(client.listPropertiesOfCertificateVersions('polled'));
    expect(versions.map((found) => found.version).sort()).toEqual(
      [first, second].map(({ properties }) => properties.version).sort(),
    );
  });

  it('takes a new key for every version unless the policy says otherwise', async () => {
    const keyOf = async (name: string) => (await call(`/keys/${name}/`)).json.key.x;
    for (const [name, reuseKey] of [
      ['fresh', false],
      ['same', true],
    ] as const) {
      await (await create(name, { reuseKey })).pollUntilDone();
      const before = await keyOf(name);
      await call(`/certificates/${name}/create`, 'POST', {});
      expect((await keyOf(name)) === before).toBe(reuseKey);
    }
  });

  it('announces the new version once, and only that of the certificate', async () => {
    await (await create('announced')).pollUntilDone();
    const about = () => events.filter(({ data }) => data?.ObjectName === 'announced');
    await eventually(() => about()[0]);
    expect(about().map(({ eventType }) => eventType)).toEqual([
      'Microsoft.KeyVault.CertificateNewVersionCreated',
    ]);
  });
});

describe('what a certificate owns', () => {
  it('follows it when it is disabled, tagged, deleted, recovered and purged', async () => {
    await (await create('owner')).pollUntilDone();
    const { properties } = await client.getCertificate('owner');
    await client.updateCertificateProperties('owner', properties.version!, {
      enabled: false,
      tags: { a: 'b' },
    });
    expect((await client.getCertificate('owner')).properties).toMatchObject({
      enabled: false,
      tags: { a: 'b' },
    });
    expect((await call('/secrets/owner/')).json.error.innererror).toEqual({
      code: 'SecretDisabled',
    });
    expect((await call('/keys/owner/')).json).toMatchObject({
      attributes: { enabled: false },
      tags: { a: 'b' },
    });
    await call('/certificates/owner/', 'PATCH', { attributes: { enabled: true } });
    expect((await call('/secrets/owner/')).status).toBe(200);

    const deleted = await (await client.beginDeleteCertificate('owner', fast)).pollUntilDone();
    expect(deleted).toMatchObject({
      recoveryId: `${url}/deletedcertificates/owner`,
      policy: { issuerName: 'Self' },
    });
    expect(deleted.cer).toBeDefined();
    expect((await call('/secrets/owner/')).status).toBe(404);
    expect((await call('/keys/owner/')).status).toBe(404);
    const listed = await collect(client.listDeletedCertificates());
    expect(listed.map(({ name }) => name)).toContain('owner');
    for (const type of ['secrets', 'keys']) {
      const { value } = (await call(`/deleted${type}`)).json;
      expect(value.map(({ recoveryId }: { recoveryId: string }) => recoveryId)).not.toContain(
        `${url}/deleted${type}/owner`,
      );
    }
    const recovered = await (
      await client.beginRecoverDeletedCertificate('owner', fast)
    ).pollUntilDone();
    expect(recovered.properties.version).toBe(properties.version);
    expect((await call('/secrets/owner/')).status).toBe(200);

    await (await client.beginDeleteCertificate('owner', fast)).pollUntilDone();
    await client.purgeDeletedCertificate('owner');
    expect((await call('/deletedsecrets/owner')).status).toBe(404);
    await scene.ground.secretClient(url).setSecret('owner', 'free again');
  });

  it('moves with a backup', async () => {
    const original = await (await create('moved')).pollUntilDone();
    const secret = (await call('/secrets/moved/')).json.value;
    const backup = await client.backupCertificate('moved');
    const otherUrl = urlOf(scene.emulator, 'other');
    const other = certificateClient(scene.ground, otherUrl);
    const restored = await other.restoreCertificateBackup(backup!);
    expect(restored.properties.version).toBe(original.properties.version);
    const there = await scene.ground.call(`${otherUrl}/secrets/moved/?${apiVersion}`);
    expect(there.json.value).toBe(secret);
    const conflict = await refusal(other.restoreCertificateBackup(backup!));
    expect(conflict).toMatchObject({ statusCode: 409, code: 'Conflict' });
    expect(conflict!.message).toContain(
      `There was a conflict restoring the certificate '${otherUrl}/certificates/moved'.`,
    );
  });

  it.each([
    ['PUT /secrets/kept', 'Secret', 'set'],
    ['PATCH /secrets/kept/', 'Secret', 'update'],
    ['DELETE /secrets/kept', 'Secret', 'delete'],
    ['POST /secrets/kept/backup', 'Secret', 'backup'],
    ['DELETE /keys/kept', 'Key', 'delete'],
  ])('cannot be had without it: %s', async (request, type, operation) => {
    if ((await call('/certificates/kept/')).status === 404) await create('kept');
    const [method, path] = request.split(' ');
    const reply = await call(path!, method, { value: 'v' });
    expect(reply.status).toBe(403);
    expect(reply.json.error).toEqual({
      code: 'Forbidden',
      message: `Operation "${operation}" is not allowed on this ${type.toLowerCase()}, since it is associated with a certificate. Perform the operation on the corresponding certificate. For more information refer to https://docs.microsoft.com/en-us/azure/key-vault/certificates/about-certificates#composition-of-a-certificate`,
      innererror: { code: `${type}ManagedByKeyVault` },
    });
  });

  it('is listed as managed', async () => {
    if ((await call('/certificates/kept/')).status === 404) await create('kept');
    for (const [type, id] of [
      ['secrets', 'id'],
      ['keys', 'kid'],
    ] as const) {
      const items = [];
      for (let path = `/${type}?${apiVersion}`; path !== ''; ) {
        const { json } = await scene.ground.call(`${url}${path}`);
        items.push(...json.value);
        path = json.nextLink?.slice(url.length) ?? '';
      }
      expect(items.find((item) => item[id] === `${url}/${type}/kept`)).toMatchObject({
        managed: true,
      });
    }
  });

  it('is not made in the place of something else', async () => {
    await scene.ground.secretClient(url).setSecret('occupied', 'v');
    expect(await refusal(create('occupied'))).toMatchObject({ statusCode: 409, code: 'Conflict' });
    await (await scene.ground.secretClient(url).beginDeleteSecret('occupied')).pollUntilDone();
    expect(await refusal(create('occupied'))).toMatchObject({
      statusCode: 409,
      inner: 'ObjectIsDeletedButRecoverable',
    });
    await create('reserved', outside);
    expect(await refusal(scene.ground.secretClient(url).setSecret('reserved', 'v'))).toMatchObject({
      inner: 'SecretManagedByKeyVault',
    });
    const key = await call('/keys/reserved/create', 'POST', { kty: 'EC' });
    expect(key.json.error.innererror).toEqual({ code: 'KeyManagedByKeyVault' });
  });
});

describe('the policy', () => {
  it('is changed member by member', async () => {
    await (await create('policed', { validityInMonths: 6 })).pollUntilDone();
    const changed = await call('/certificates/policed/policy', 'PATCH', {
      x509_props: { validity_months: 3, sans: { dns_names: ['a.example'] } },
      lifetime_actions: [
        { trigger: { days_before_expiry: 30 }, action: { action_type: 'EmailContacts' } },
      ],
    });
    expect(changed.json).toMatchObject({
      key_props: { kty: 'EC', crv: 'P-256', key_size: 256 },
      x509_props: {
        subject: 'CN=subject.example',
        validity_months: 3,
        sans: { dns_names: ['a.example'] },
      },
      lifetime_actions: [
        { trigger: { days_before_expiry: 30 }, action: { action_type: 'EmailContacts' } },
      ],
    });
    // What the SDK sends without being told: empty groups.
    await client.updateCertificatePolicy('policed', { ...ecPolicy, subject: 'CN=b' });
    expect(await client.getCertificatePolicy('policed')).toMatchObject({
      subject: 'CN=b',
      validityInMonths: 3,
      subjectAlternativeNames: { dnsNames: ['a.example'] },
    });
  });

  const base = { issuer: { name: 'Self' }, x509_props: { subject: 'CN=x' } };
  const subject = (text: string) => ({ ...base, x509_props: { subject: text } });
  it.each([
    ['no policy', undefined, 'Property policy has invalid value\r\n'],
    ['a policy of another type', 'Self', 'Property policy has invalid value\r\n'],
    ['no name at all', { issuer: { name: 'Self' } }, 'Property policy has invalid value\r\n'],
    ['a broken subject', subject('no name'), 'The subject name provided is not a valid X500 name.'],
    [
      'an unquoted comma',
      subject('O=Contoso, Ltd., CN=x'),
      'The subject name provided is not a valid X500 name.',
    ],
    [
      'a long subject',
      subject(`CN=${'x'.repeat(200)}`),
      'The subject name is too long. Maximum allowed is 200.',
    ],
    [
      'a small key',
      { ...base, key_props: { key_size: 1024 } },
      'Unsupported key size (1024). Supported sizes are [2048, 3072, 4096]',
    ],
    [
      'a curve with the size of an RSA key',
      { ...base, key_props: { kty: 'EC', key_size: 2048 } },
      'Unsupported key size (2048). Supported sizes are [256, 384, 521]',
    ],
    [
      'a curve that shall wrap keys',
      {
        ...base,
        key_props: { kty: 'EC' },
        x509_props: { subject: 'CN=x', key_usage: ['keyEncipherment'] },
      },
      'Unsupported key operation(s): "wrapKey", "unwrapKey". Supported values are "sign", "verify".',
    ],
    [
      'a symmetric key',
      { ...base, key_props: { kty: 'oct' } },
      'Property policy.key_props.kty has invalid value\r\n',
    ],
    [
      'an exportable key in a HSM',
      { ...base, key_props: { kty: 'RSA-HSM', exportable: true } },
      'A key in a HSM cannot be exportable.',
    ],
    [
      'an unknown content type',
      { ...base, secret_props: { contentType: 'text/plain' } },
      'Property policy.secret_props.contentType has invalid value\r\n',
    ],
    [
      'an action after the whole life',
      {
        ...base,
        lifetime_actions: [
          { trigger: { days_before_expiry: 325 }, action: { action_type: 'AutoRenew' } },
        ],
      },
      'Property policy has invalid value\r\n',
    ],
    [
      'an action without a trigger',
      { ...base, lifetime_actions: [{ trigger: {}, action: { action_type: 'AutoRenew' } }] },
      'Property policy.lifetime_actions.0.trigger has invalid value\r\n',
    ],
    [
      'an address that is none',
      { ...base, x509_props: { subject: 'CN=x', sans: { ipAddresses: ['10.0.0'] } } },
      'Property policy.x509_props.sans.ipAddresses.0 has invalid value\r\n',
    ],
    [
      'a huge validity',
      { ...base, x509_props: { subject: 'CN=x', validity_months: 1e9 } },
      'Property policy.x509_props.validity_months has invalid value\r\n',
    ],
  ])('is refused with %s', async (_, policy, message) => {
    const reply = await call('/certificates/bad-policy/create', 'POST', { policy });
    expect([reply.status, reply.json.error.code, reply.json.error.message]).toEqual([
      400,
      'BadParameter',
      message,
    ]);
    expect((await call('/certificates/bad-policy/')).status).toBe(404);
  });

  it('is not that of one version', async () => {
    await (await create('single')).pollUntilDone();
    const { id } = (await call('/certificates/single/')).json;
    const reply = await call(new URL(id).pathname, 'PATCH', { policy: { issuer: {} } });
    expect(reply.json.error).toMatchObject({ code: 'BadParameter' });
  });
});

describe('nonsense', () => {
  const body = fc.oneof(
    fc.constantFrom(null, [], 5, 'text', true, {}),
    fc.record(
      {
        policy: fc.record(
          {
            issuer: fc.record({ name: fc.constantFrom('Self', 'Unknown', 'nobody', '') }),
            key_props: fc.constant({ kty: 'EC' }),
            x509_props: fc.record(
              {
                subject: fc.oneof(
                  fc.string({ unit: 'binary' }),
                  fc.string({ unit: 'grapheme' }).map((text) => `CN=${text}`),
                ),
                sans: fc.record({ upns: fc.array(fc.string({ unit: 'binary' })) }),
                ekus: fc.array(
                  fc.constantFrom('1.2.3', '2.999.1', '0.40', '1', 'x', '1.2.99999999999999999'),
                ),
                validity_months: fc.oneof(fc.integer(), fc.double(), fc.string()),
              },
              { requiredKeys: [] },
            ),
            lifetime_actions: fc.jsonValue(),
          },
          { requiredKeys: ['key_props'] },
        ),
        tags: fc.jsonValue(),
        value: fc.base64String(),
        x5c: fc.array(fc.base64String()),
        attributes: fc.jsonValue(),
        contacts: fc.jsonValue(),
        provider: fc.jsonValue(),
        credentials: fc.jsonValue(),
        org_details: fc.jsonValue(),
        cancellation_requested: fc.jsonValue(),
      },
      { requiredKeys: [] },
    ),
  );
  const door = fc.constantFrom(
    ['POST', '/certificates/fuzz/create'],
    ['POST', '/certificates/fuzz/import'],
    ['PATCH', '/certificates/fuzz/'],
    ['PATCH', '/certificates/fuzz/policy'],
    ['PATCH', '/certificates/fuzz/pending'],
    ['DELETE', '/certificates/fuzz/pending'],
    ['POST', '/certificates/fuzz/pending/merge'],
    ['PUT', '/certificates/issuers/fuzz'],
    ['PATCH', '/certificates/issuers/fuzz'],
    ['PUT', '/certificates/contacts'],
  );

  it('is refused, and never too much', async () => {
    await fc.assert(
      fc.asyncProperty(door, body, async ([method, path], content) => {
        const reply = await call(path!, method, content);
        expect(reply.status, reply.text).toBeLessThan(500);
        if (reply.status >= 400) expect(reply.json.error.message).not.toBe('');
      }),
      { numRuns: 300 },
    );
  });
});

describe('what is not there', () => {
  it.each([
    ['GET /certificates/none/', 404, 'CertificateNotFound', 'Certificate not found: none'],
    ['DELETE /certificates/none', 404, 'CertificateNotFound', 'Certificate not found: none'],
    ['GET /certificates/none/policy', 404, 'CertificateNotFound', 'Certificate not found: none'],
    [
      'GET /deletedcertificates/none',
      404,
      'CertificateNotFound',
      'Deleted Certificate not found: none',
    ],
    [
      'GET /certificates/none/pending',
      404,
      'PendingCertificateNotFound',
      'Pending certificate not found: none',
    ],
    ['PUT /certificates/none', 405, 'MethodNotAllowed', 'HTTP PUT not allowed'],
    [
      'POST /certificates/a.b/create',
      400,
      'BadParameter',
      'The request URI contains an invalid name: a.b',
    ],
  ])('%s', async (request, status, code, message) => {
    const [method, path] = request.split(' ');
    const reply = await call(path!, method, method === 'POST' ? {} : undefined);
    expect([reply.status, reply.json]).toEqual([status, { error: { code, message } }]);
  });

  it('lists no versions, and not what was deleted', async () => {
    expect((await call('/certificates/none/versions')).json).toEqual({ value: [], nextLink: null });
    expect(await refusal(client.getCertificateVersion('none', '0'.repeat(32)))).toMatchObject({
      message: `Certificate not found: none/${'0'.repeat(32)}`,
    });
  });

  it('may not be made while it is deleted', async () => {
    await (await create('buried')).pollUntilDone();
    await (await client.beginDeleteCertificate('buried', fast)).pollUntilDone();
    const expected = {
      code: 'Conflict',
      statusCode: 409,
      message:
        'Certificate buried is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the certificate can only be recovered or purged.',
      inner: 'ObjectIsDeletedButRecoverable',
    };
    expect(await refusal(create('buried'))).toEqual(expected);
    expect(await refusal(client.importCertificate('buried', Buffer.from('x')))).toEqual(expected);
  });
});
