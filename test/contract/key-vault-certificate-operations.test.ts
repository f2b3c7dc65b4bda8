import type { CertificateClient, CertificatePolicy } from '@azure/keyvault-certificates';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  apiVersion,
  createOutsideAuthority,
  createWorkbench,
  derOf,
  fast,
  type OutsideAuthority,
  prepareScene,
  type Scene,
} from './certificate-subjects.ts';
import { type Control, refusal } from './emulator-control.ts';

const outside = { issuerName: 'Unknown' };

const bench = createWorkbench();
let scene: Scene;
let control: Control;
let url: string;
let client: CertificateClient;
let call: Scene['call'];
let create: Scene['create'];
let authority: OutsideAuthority;

beforeAll(async () => {
  scene = await prepareScene();
  ({ control, url, client, call, create } = scene);
  authority = createOutsideAuthority(bench);
});
afterAll(async () => {
  bench.clear();
  await scene.stop();
});

async function withIssuance<T>(issuance: unknown, act: () => Promise<T>): Promise<T> {
  await scene.switchIssuance(issuance);
  try {
    return await act();
  } finally {
    await scene.switchIssuance({});
  }
}

describe('a certificate that waits for its issuer', () => {
  it('is there without its contents, disabled, and not in lists', async () => {
    await create('waiting', outside, { tags: { a: '1' } });
    const pending = await call('/certificates/waiting/pending');
    expect(pending.json.status_details).toBe(
      'Pending certificate created. Please Perform Merge to complete the request.',
    );
    expect(pending.headers['retry-after']).toBeUndefined();
    const { json } = await call('/certificates/waiting/');
    expect(Object.keys(json).sort()).toEqual(['attributes', 'id', 'pending', 'policy', 'tags']);
    expect(json.attributes).toMatchObject({ enabled: false, nbf: json.attributes.created - 600 });
    expect(json.policy.lifetime_actions[0].action.action_type).toBe('EmailContacts');
    const byVersion = await call(new URL(json.id).pathname);
    expect(Object.keys(byVersion.json)).toEqual(['id', 'attributes', 'tags']);
    expect((await call('/keys/waiting/')).status).toBe(404);
    expect((await call('/secrets/waiting/')).status).toBe(404);

    const listed = async (query: string) => {
      const { value } = (await call(`/certificates?maxresults=25${query}`)).json;
      return value.find((item: { id: string }) => item.id === `${url}/certificates/waiting`);
    };
    expect(await listed('')).toBeUndefined();
    expect(await listed('&includePending=false')).toBeUndefined();
    const { attributes } = json;
    const { recoveryLevel: _level, recoverableDays: _days, ...brief } = attributes;
    expect(await listed('&includePending=true')).toEqual({
      id: `${url}/certificates/waiting`,
      attributes: brief,
      tags: { a: '1' },
      subject: '',
    });
    expect((await call('/certificates/waiting/versions')).json.value).toEqual([]);
    const tagged = await call('/certificates/waiting/', 'PATCH', { tags: { b: '2' } });
    expect(tagged.json.tags).toEqual({ b: '2' });
  });

  it('can be found again, and completes when the delay of its issuer is over', async () => {
    await withIssuance({ delaySeconds: 3600 }, async () => {
      const poller = await create('delayed');
      expect(poller.getOperationState().isCompleted).toBeFalsy();
      const state = await client.getCertificateOperation('delayed', fast);
      expect(state.getOperationState().certificateOperation).toMatchObject({
        status: 'inProgress',
        cancellationRequested: false,
      });
      await control('POST', '/clock/advance', { seconds: 3601 });
      const done = await state.pollUntilDone();
      expect(done.properties.enabled).toBe(true);
      expect(done.properties.updatedOn!.getTime()).toBeGreaterThanOrEqual(
        done.properties.createdOn!.getTime() + 3_600_000,
      );
    });
  });

  it('hears of a shorter delay while it waits', async () => {
    await withIssuance({ issuers: { SELF: { delaySeconds: 86_400 } } }, () => create('hurried'));
    expect((await call('/certificates/hurried/pending')).json.status).toBe('completed');
  });

  it('leaves the version before it in place', async () => {
    const first = await (await create('replaced')).pollUntilDone();
    await create('replaced', outside);
    const pending = await client.getCertificateOperation('replaced', fast);
    expect(pending.getOperationState().certificateOperation?.issuerName).toBe('Unknown');
    const now = await client.getCertificate('replaced');
    expect(now.properties).toMatchObject({ version: first.properties.version, enabled: true });
    expect((await call('/certificates/replaced/versions')).json.value).toHaveLength(1);
  });

  it('refuses another creation or an import meanwhile', async () => {
    await create('busy', outside);
    const expected = {
      code: 'Forbidden',
      statusCode: 409,
      message:
        "A new key vault certificate can not be created or imported while a pending key vault certificate's status is inProgress.",
      inner: undefined,
    };
    expect(await refusal(create('busy'))).toEqual(expected);
    expect(await refusal(client.importCertificate('busy', Buffer.from('x')))).toEqual(expected);
  });

  it('lets one of many creations at once through', async () => {
    const body = { policy: { issuer: { name: 'Unknown' }, x509_props: { subject: 'CN=once' } } };
    const replies = await Promise.all(
      Array.from({ length: 4 }, () => call('/certificates/once/create', 'POST', body)),
    );
    expect(replies.map(({ status }) => status).sort()).toEqual([202, 409, 409, 409]);
  });

  it('is cancelled on request, which is asked only while it waits', async () => {
    await create('cancelled', outside);
    const poller = await client.getCertificateOperation('cancelled', fast);
    const asked = await call('/certificates/cancelled/pending', 'PATCH', {
      cancellation_requested: true,
    });
    expect(asked.json).toMatchObject({ cancellation_requested: true, status: 'inProgress' });
    await poller.poll();
    const state = poller.getOperationState().certificateOperation;
    expect(state).toMatchObject({ status: 'cancelled', cancellationRequested: true });
    expect(await refusal(poller.cancelOperation())).toEqual({
      code: 'Forbidden',
      statusCode: 403,
      message: 'Pending status must be in progress to allow update.',
      inner: undefined,
    });
    const again = await (await create('cancelled')).pollUntilDone();
    expect(again.properties.enabled).toBe(true);
  });

  it('is forgotten when its operation is deleted', async () => {
    await create('forgotten', outside);
    const { request_id } = (await call('/certificates/forgotten/pending')).json;
    const notFound = {
      error: {
        code: 'PendingCertificateNotFound',
        message: 'Pending certificate not found: forgotten',
      },
    };
    const other = await call(`/certificates/forgotten/pending?request_id=${'0'.repeat(32)}`);
    expect(other.json).toEqual(notFound);
    const deleted = await call(
      `/certificates/forgotten/pending?request_id=${request_id}`,
      'DELETE',
    );
    expect(deleted.json).toMatchObject({ status: 'inProgress', request_id });
    for (const method of ['GET', 'DELETE']) {
      const reply = await call('/certificates/forgotten/pending', method);
      expect([reply.status, reply.json]).toEqual([404, notFound]);
    }
    const left = await call('/certificates/forgotten/');
    expect(left.json.attributes.enabled).toBe(false);
    expect(left.json.pending).toBeUndefined();
    const again = await (await create('forgotten')).pollUntilDone();
    expect(again.properties.enabled).toBe(true);
  });
});

describe('merging', () => {
  async function request(name: string, policy: Partial<CertificatePolicy> = outside) {
    await create(name, policy);
    const poller = await client.getCertificateOperation(name, fast);
    return poller.getOperationState().certificateOperation!.csr!;
  }
  const merge = (name: string, x5c: readonly string[], more = {}) =>
    call(`/certificates/${name}/pending/merge`, 'POST', { x5c, ...more });
  const base64 = (pem: string): string => derOf(pem).toString('base64');

  it('completes the creation, answers 201, and puts the leaf first', async () => {
    const leaf = authority.sign(await request('merged'), 90);
    const x5c = [authority.root, authority.intermediate, leaf].map(base64);
    const reply = await merge('merged', x5c, { tags: { from: 'outside' } });
    expect(reply.status).toBe(201);
    expect(reply.headers['location']).toBe(`${url}/certificates/merged?${apiVersion}`);
    expect(reply.json).toMatchObject({
      cer: base64(leaf),
      tags: { from: 'outside' },
      attributes: { enabled: true },
      policy: { issuer: { name: 'Unknown' } },
    });
    const days = (reply.json.attributes.exp - Date.now() / 1000) / 86_400;
    expect(Math.round(days)).toBe(90);
    expect((await call('/certificates/merged/pending')).json.status).toBe('completed');
    const pem = await call('/secrets/merged/?outContentType=application/x-pem-file');
    const blocks = pem.json.value.match(/-----BEGIN CERTIFICATE-----[^-]+/g);
    expect(blocks.map(base64)).toEqual([leaf, authority.intermediate, authority.root].map(base64));
  });

  it('keeps the order of the chain when asked to', async () => {
    const csr = await request('ordered');
    await client.deleteCertificateOperation('ordered');
    await create('ordered', outside, { preserveCertificateOrder: true });
    const operation = (await call('/certificates/ordered/pending')).json;
    expect(operation.preserveCertOrder).toBe(true);
    expect(operation.csr).not.toBe(Buffer.from(csr).toString('base64'));
    const leaf = authority.sign(Buffer.from(operation.csr, 'base64'));
    const chain = [authority.root, authority.intermediate, leaf];
    const reply = await merge('ordered', chain.map(base64));
    expect(reply.json).toMatchObject({ cer: base64(leaf), preserveCertOrder: true });
    const pem = await call('/secrets/ordered/?outContentType=application/x-pem-file');
    const blocks = pem.json.value.match(/-----BEGIN CERTIFICATE-----[^-]+/g);
    expect(blocks.map(base64)).toEqual(chain.map(base64));
  });

  it.each([
    ['DER', (pem: string) => derOf(pem)],
    ['base64 text', (pem: string) => Buffer.from(base64(pem))],
    ['PEM', (pem: string) => Buffer.from(pem)],
  ])('takes %s from the SDK', async (kind, encode) => {
    const name = `merged-${kind.replace(' ', '-')}`;
    const leaf = authority.sign(await request(name));
    const merged = await client.mergeCertificate(name, [encode(leaf)]);
    expect(Buffer.from(merged.cer!)).toEqual(derOf(leaf));
  });

  it('refuses what does not fit', async () => {
    const csr = await request('refused');
    const stranger = authority.sign(await request('stranger'));
    const badParameter = (message: string) => ({ error: { code: 'BadParameter', message } });
    const noItem = badParameter(
      'Property x5c has invalid value X5C must has at least one valid item',
    );
    const mismatch = badParameter(
      'The public key of the end-entity certificate in the specified X.509 certificate content does not match the public part of the specified private key. Please check if certificate is valid.',
    );
    expect((await merge('refused', [base64(stranger)])).json).toEqual(mismatch);
    expect((await merge('refused', [])).json).toEqual(noItem);
    expect((await merge('refused', ['bm90aGluZw=='])).json).toEqual(noItem);
    expect((await call('/certificates/refused/pending/merge', 'POST', { x5c: 5 })).json).toEqual(
      badParameter('Property x5c has invalid value\r\n'),
    );
    expect((await merge('nobody', [base64(stranger)])).json).toEqual({
      error: {
        code: 'PendingCertificateNotFound',
        message: 'Pending certificate not found: nobody',
      },
    });
    const leaf = authority.sign(csr, 1);
    await control('POST', '/clock/advance', { seconds: 2 * 86_400 });
    expect((await merge('refused', [base64(leaf)])).json).toEqual(
      badParameter('X509 Certificate is already expired'),
    );
    expect((await call('/certificates/refused/pending')).json.status).toBe('inProgress');
  });

  it('refuses, and so does an issuer, when a key has come under the name', async () => {
    const foreign = async (name: string) => {
      await call('/keys/foreign/create', 'POST', { kty: 'EC' });
      const backup = (await call('/keys/foreign/backup', 'POST')).json;
      await call('/keys/foreign', 'DELETE');
      await call('/deletedkeys/foreign', 'DELETE');
      const csr = await request('foreign', { issuerName: name });
      expect((await call('/keys/restore', 'POST', backup)).status).toBe(200);
      return csr;
    };
    const taken = {
      code: 'Conflict',
      message: 'A key with name foreign exists, and a certificate of that name would need it.',
    };
    const leaf = authority.sign(await foreign('Unknown'), 400);
    const refused = await merge('foreign', [base64(leaf)]);
    expect([refused.status, refused.json]).toEqual([409, { error: taken }]);
    expect((await call('/keys/foreign/create', 'POST', { kty: 'EC' })).status).toBe(200);
    for (const path of [
      '/certificates/foreign',
      '/deletedcertificates/foreign',
      '/keys/foreign',
      '/deletedkeys/foreign',
    ]) {
      await call(path, 'DELETE');
    }
    await withIssuance({ delaySeconds: 3600 }, () => foreign('Self'));
    expect((await call('/certificates/foreign/pending')).json).toMatchObject({
      status: 'failed',
      error: taken,
    });
  });

  it('refuses while an issuer is at work, and takes over from one that gave up', async () => {
    await withIssuance({ delaySeconds: 86_400 }, async () => {
      const csr = await request('taken-over', {});
      const leaf = authority.sign(csr, 400);
      const reply = await merge('taken-over', [base64(leaf)]);
      expect([reply.status, reply.json]).toEqual([
        403,
        {
          error: {
            code: 'Forbidden',
            message:
              'Merge is forbidden on pending object created with issuer : Self while it is in progess.',
          },
        },
      ]);
      await call('/certificates/taken-over/pending', 'PATCH', { cancellation_requested: true });
      expect((await merge('taken-over', [base64(leaf)])).status).toBe(201);
      expect((await merge('taken-over', [base64(leaf)])).status).toBe(403);
    });
  });
});
