import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ManagedIdentityCredential } from '@azure/identity';
import { CertificateClient } from '@azure/keyvault-certificates';
import { CryptographyClient, KeyClient } from '@azure/keyvault-keys';
import { SecretClient } from '@azure/keyvault-secrets';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fast, prepareScene, type Scene } from './certificate-subjects.ts';
import { collect, refusal } from './emulator-control.ts';

let scene: Scene;

beforeAll(async () => {
  scene = await prepareScene();
});
afterAll(() => scene.stop());

describe('the SDK clients', () => {
  it('change issuers', async () => {
    const { client } = scene;
    await client.createIssuer('changed', 'Test', { accountId: 'one' });
    const changed = await client.updateIssuer('changed', { accountId: 'two' });
    expect(changed).toMatchObject({ provider: 'Test', accountId: 'two', enabled: true });
    expect(await client.getIssuer('changed')).toMatchObject({ accountId: 'two', enabled: true });
    expect((await refusal(client.updateIssuer('nobody')))?.code).toBe('CertificateIssuerNotFound');
  });

  it('take contacts away', async () => {
    const { client } = scene;
    await client.setContacts([{ email: 'a@b.example' }]);
    expect(await client.getContacts()).toEqual([{ email: 'a@b.example' }]);
    // The SDK looks for them under another name than the wire has, and finds none.
    expect(await client.deleteContacts()).toEqual([]);
    expect((await refusal(client.getContacts()))?.statusCode).toBe(404);
  });

  it('list certificates, and get a deleted one', async () => {
    const { client, create } = scene;
    for (const name of ['listed-b', 'listed-a']) await (await create(name)).pollUntilDone();
    const listed = await collect(client.listPropertiesOfCertificates());
    expect(listed.map(({ name }) => name)).toEqual(['listed-a', 'listed-b']);
    await (await client.beginDeleteCertificate('listed-a', fast)).pollUntilDone();
    const deleted = await client.getDeletedCertificate('listed-a');
    expect(deleted).toMatchObject({ name: 'listed-a', deletedOn: expect.any(Date) });
    expect((await collect(client.listPropertiesOfCertificates())).map(({ name }) => name)).toEqual([
      'listed-b',
    ]);
  });

  it('use a key through the client of keys', async () => {
    const options = scene.ground.clientOptions;
    const keys = new KeyClient(scene.url, new ManagedIdentityCredential(), options);
    const { properties } = await keys.createKey('used', 'EC');
    const user = keys.getCryptographyClient('used', { keyVersion: properties.version! });
    const data = Buffer.from('text');
    const { result } = await user.signData('ES256', data);
    expect((await user.verifyData('ES256', data, result)).result).toBe(true);
    expect((await user.verifyData('ES256', Buffer.from('other'), result)).result).toBe(false);
  });
});

/** What a class has for its own use, and what reaches no operation of ours. */
const notCalled = [
  ...['constructor', 'vaultUrl', 'keyID', 'fetchKey', 'getKeyMaterial', 'getProvider'],
  ...[
    'ensureValid',
    'initializeIV',
    'disambiguateEncryptArguments',
    'disambiguateDecryptArguments',
  ],
  ...['disambiguateUpdateKeyPropertiesArgs'],
  // Attestation is not imitated.
  'getKeyAttestation',
];

describe('the contract tests', () => {
  const texts = readdirSync(import.meta.dirname)
    .filter((file) => file.startsWith('key-vault-'))
    .map((file) => readFileSync(join(import.meta.dirname, file), 'utf8'))
    .join('\n');
  it.each(
    [SecretClient, KeyClient, CryptographyClient, CertificateClient].map(
      (client) => [client.name, Object.getOwnPropertyNames(client.prototype)] as const,
    ),
  )('call every method of %s', (_, members) => {
    const methods = members.filter((name) => !notCalled.includes(name));
    expect(methods.length).toBeGreaterThan(7);
    expect(methods.filter((name) => !new RegExp(`\\.\\s*${name}\\b`).test(texts))).toEqual([]);
  });
});
