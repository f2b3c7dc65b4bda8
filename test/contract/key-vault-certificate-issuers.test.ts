import type { CertificateClient } from '@azure/keyvault-certificates';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { prepareScene, type Scene } from './certificate-subjects.ts';
import { type Control, collect, refusal } from './emulator-control.ts';

let scene: Scene;
let control: Control;
let url: string;
let client: CertificateClient;
let call: Scene['call'];
let create: Scene['create'];

beforeAll(async () => {
  scene = await prepareScene();
  ({ control, url, client, call, create } = scene);
});
afterAll(() => scene.stop());

const issuerNotFound = {
  error: { code: 'CertificateIssuerNotFound', message: 'Issuer not found' },
};

describe('issuers', () => {
  it('are set, shown without their password, changed, listed and deleted', async () => {
    const set = await call('/certificates/issuers/Mine', 'PUT', {
      provider: 'Test',
      credentials: { account_id: 'account', pwd: 'hidden' },
      org_details: { id: 'org', admin_details: [{ first_name: 'Ada', email: 'a@b.example' }] },
    });
    expect(set.status).toBe(200);
    const expected = {
      id: `${url}/certificates/issuers/Mine`,
      provider: 'Test',
      credentials: { account_id: 'account' },
      org_details: {
        id: 'org',
        zip: 0,
        admin_details: [{ first_name: 'Ada', email: 'a@b.example' }],
      },
      attributes: { enabled: true, created: expect.any(Number), updated: expect.any(Number) },
    };
    expect(set.json).toEqual(expected);
    expect((await call('/certificates/issuers/mine')).json).toEqual(expected);
    const patched = await call('/certificates/issuers/mine', 'PATCH', {
      attributes: { enabled: false },
    });
    expect(patched.json).toMatchObject({ credentials: { account_id: 'account' } });
    expect(patched.json.attributes.enabled).toBe(false);
    await client.createIssuer('another', 'Test');
    const listed = await call('/certificates/issuers?maxresults=1');
    expect(listed.json.value).toEqual([
      { id: `${url}/certificates/issuers/another`, provider: 'Test' },
    ]);
    const all = await collect(client.listPropertiesOfIssuers());
    expect(all.map(({ id }) => id)).toEqual([
      `${url}/certificates/issuers/another`,
      `${url}/certificates/issuers/Mine`,
    ]);
    expect((await client.getIssuer('another')).provider).toBe('Test');
    expect((await call('/certificates/issuers/Mine', 'DELETE')).json).toMatchObject({
      provider: 'Test',
    });
    const gone = await call('/certificates/issuers/Mine');
    expect([gone.status, gone.json]).toEqual([404, issuerNotFound]);
    for (const method of ['PATCH', 'DELETE']) {
      expect((await call('/certificates/issuers/Mine', method, {})).json).toEqual(issuerNotFound);
    }
  });

  it.each([
    [
      'without an organization',
      { provider: 'DigiCert', credentials: {} },
      'Id in organization details is not set',
    ],
    ['without a provider', {}, 'Property provider has invalid value\r\n'],
    [
      'with an account that is no text',
      { provider: 'Test', credentials: { account_id: 5 } },
      'Property credentials.account_id has invalid value\r\n',
    ],
  ])('are refused %s', async (_, body, message) => {
    const reply = await call('/certificates/issuers/bad', 'PUT', body);
    expect([reply.status, reply.json]).toEqual([400, { error: { code: 'BadParameter', message } }]);
  });

  it('may be called as paths are', async () => {
    await client.createIssuer('policy', 'Test');
    expect((await call('/certificates/issuers/policy')).json.provider).toBe('Test');
    await client.deleteIssuer('policy');
  });
});

describe('a certificate of a named issuer', () => {
  it('is issued under an authority, whose chain stands in the secret', async () => {
    await client.createIssuer('test-ca', 'Test');
    const poller = await create('issued', { issuerName: 'test-ca' });
    const certificate = await poller.pollUntilDone();
    expect(certificate.policy).toMatchObject({
      issuerName: 'test-ca',
      lifetimeActions: [{ action: 'AutoRenew', lifetimePercentage: 80 }],
    });
    const { value } = (await call('/secrets/issued/?outContentType=application/x-pem-file')).json;
    expect(value.match(/BEGIN CERTIFICATE/g)).toHaveLength(3);
  });

  it('fails when the issuer refuses, and says why', async () => {
    await client.createIssuer('grim-ca', 'Test');
    const failure = { code: 'Request rejected', message: 'Organization not validated.' };
    const issuance = { issuers: { 'grim-ca': { delaySeconds: 3600, failure } } };
    await scene.switchIssuance(issuance);
    const grim = { issuerName: 'grim-ca' };
    await create('failed', grim);
    expect((await call('/certificates/failed/pending')).json.status).toBe('inProgress');
    await control('POST', '/clock/advance', { seconds: 3601 });
    const operation = await call('/certificates/failed/pending');
    expect(operation.json).toMatchObject({ status: 'failed', status_details: '', error: failure });
    const { attributes, cer } = (await call('/certificates/failed/')).json;
    expect([attributes.enabled, cer]).toEqual([false, undefined]);
    // The next try may do better.
    await scene.switchIssuance({});
    const retry = await create('failed', grim);
    expect((await retry.pollUntilDone()).cer).toBeDefined();
  });

  it('is not asked for where nobody can issue it', async () => {
    const ask = (issuerName: string) => create('nowhere', { issuerName });
    expect(await refusal(ask('stranger'))).toMatchObject({
      statusCode: 404,
      code: 'CertificateIssuerNotFound',
      message: 'Issuer not found',
    });
    await call('/certificates/issuers/asleep', 'PUT', {
      provider: 'Test',
      attributes: { enabled: false },
    });
    expect(await refusal(ask('asleep'))).toMatchObject({ statusCode: 403, code: 'Forbidden' });
  });

  it('fails when its issuer is deleted meanwhile', async () => {
    await client.createIssuer('short-lived', 'Test');
    await scene.switchIssuance({ delaySeconds: 60 });
    await create('orphan', { issuerName: 'short-lived' });
    await client.deleteIssuer('short-lived');
    await scene.switchIssuance({});
    expect((await call('/certificates/orphan/pending')).json).toMatchObject({
      status: 'failed',
      error: { code: 'Certificate issuer error' },
    });
  });
});

describe('contacts', () => {
  it('are set, shown and deleted as one', async () => {
    const notFound = { error: { code: 'ContactsNotFound', message: 'Contacts not found' } };
    for (const method of ['GET', 'DELETE']) {
      const reply = await call('/certificates/contacts', method);
      expect([reply.status, reply.json]).toEqual([404, notFound]);
    }
    const contacts = [{ email: 'a@b.example', name: 'Ada', phone: '1' }, { email: 'c@d.example' }];
    const expected = { id: `${url}/certificates/contacts`, contacts };
    expect((await call('/certificates/contacts', 'PUT', { contacts })).json).toEqual(expected);
    expect((await call('/certificates/contacts')).json).toEqual(expected);
    const known = await client.getContacts();
    expect(known).toMatchObject(contacts);
    expect((await call('/certificates/contacts', 'DELETE')).json).toEqual(expected);
    expect((await call('/certificates/contacts')).json).toEqual(notFound);
    const bad = await call('/certificates/contacts', 'PUT', { contacts: [{ name: 'x' }] });
    expect(bad.json.error.message).toBe('Property contacts.0.email has invalid value\r\n');
  });
});
