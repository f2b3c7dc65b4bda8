import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { inspect } from 'node:util';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { FaultRule } from '../../local/key-vault/faults.ts';
import type { KeyVaultEmulator } from '../../local/key-vault/key-vault.ts';
import { processCredential } from '../../src/core/azure/credential.ts';
import { createVaults } from '../../src/core/azure/key-vault.ts';
import type { ErrorCode } from '../../src/core/errors.ts';
import { SecretString } from '../../src/core/secret-string.ts';
import type { CertificateService } from '../../src/core/vault/certificates.ts';
import {
  createOutsideAuthority,
  createWorkbench,
  derOf,
  keyPem,
  selfSigned,
} from './certificate-subjects.ts';
import { type Ground, prepareGround } from './emulator-client.ts';
import { control, patient } from './vault-subjects.ts';

// What the adapter sends to a Key Vault, and what it makes of bad answers.

let ground: Ground;
let emulator: KeyVaultEmulator;
let certificates: CertificateService;
const bench = createWorkbench();
const open = (url: string) => {
  const vault = { alias: 'main', purpose: 'main', url } as const;
  return createVaults([vault], processCredential(), { limits: patient }).get('main').certificates;
};
beforeAll(async () => {
  ground = await prepareGround();
  setDefaultCACertificates([...getCACertificates('default'), ground.ca.caPem]);
  emulator = await ground.startVaults({ vaults: [{ name: 'main' }] });
  certificates = open(emulator.vaults[0]?.url ?? '');
  await certificates.getContacts();
});
afterAll(async () => {
  bench.clear();
  await ground?.stop();
});

const failure = (code: ErrorCode) => expect.objectContaining({ name: 'AppError', code });
type Row = { readonly operation: string; readonly status: number | null };
/** What the vault was asked since the log was last emptied. */
const asked = async () => {
  const { value } = await control<{ value: Row[] }>(emulator, 'GET', '/audit');
  return value.map(({ operation, status }) => `${operation} ${status}`);
};
const forget = () => control(emulator, 'DELETE', '/audit');
const fault = (operation: string, kind: FaultRule['fault']) =>
  control(emulator, 'POST', '/faults', { operation, fault: kind });
const lost = { kind: 'fail-after-commit', status: 503 } as const;

const self = { issuer: 'Self', subject: 'CN=a', keyType: 'EC' } as const;
const unknown = { ...self, issuer: 'Unknown' } as const;
let names = 0;
let name: string;
beforeEach(async () => {
  await control(emulator, 'DELETE', '/faults');
  await control(emulator, 'PATCH', '/vaults/main/switches', { issuance: {} });
  name = `certificate-${++names}`;
  await forget();
});

describe('the requests of a certificate service', () => {
  it('are as few as the SDK can do with', async () => {
    await certificates.create(name, unknown);
    const look = 'getCertificateOperation 200';
    expect(await asked()).toEqual(['createCertificate 202', look]);
    await forget();
    await certificates.getOperation(name);
    await certificates.cancelOperation(name);
    expect(await asked()).toEqual([look, look, 'updateCertificateOperation 200']);
    await forget();
    await certificates.updatePolicy(name, { validityInMonths: 6 });
    const [read, update] = ['getCertificatePolicy 200', 'updateCertificatePolicy 200'];
    expect(await asked()).toEqual([read, update, read]);
    await forget();
    await certificates.get(name);
    expect(await asked()).toEqual(['getCertificate 200']);
  });

  it('are none for what no vault would take', async () => {
    const content = new SecretString('no certificate');
    const attempts = [
      () => certificates.get('a/b'),
      () => certificates.create(name, { issuer: 'Self' }),
      () => certificates.import(name, { content }),
      () => certificates.merge(name, []),
      () => certificates.getIssuer('a/b'),
      () => certificates.setContacts([{ email: '' }]),
    ];
    for (const attempt of attempts) {
      await expect(attempt(), String(attempt)).rejects.toEqual(failure('invalid_input'));
    }
    expect(await asked()).toEqual([]);
  });

  it('are one for each page of a list', async () => {
    for (let at = 0; at < 26; at++) await certificates.putIssuer(`i-${at}`, { provider: 'Test' });
    await forget();
    const listed: string[] = [];
    for await (const issuer of certificates.listIssuers()) listed.push(issuer.name);
    expect(listed).toHaveLength(26);
    expect(new Set(listed).size).toBe(26);
    expect(await asked()).toEqual(Array(2).fill('getCertificateIssuers 200'));
  });

  it('say of a deleted certificate whether it was enabled, which the SDK forgets', async () => {
    await certificates.create(name, self);
    const { properties } = await certificates.get(name);
    await certificates.update(name, properties.version, { enabled: false });
    await certificates.delete(name);
    for await (const deleted of certificates.listDeleted()) {
      if (deleted.properties.name !== name) continue;
      const { notBefore } = properties;
      expect(deleted.properties).toMatchObject({ enabled: false, notBefore });
      return;
    }
    throw new Error(`${name} is not listed`);
  });
});

describe('a creating call', () => {
  const pem = (key = keyPem()) => new SecretString(`${key}${selfSigned(bench, { key })}`);
  const calls: readonly (readonly [string, () => Promise<() => Promise<unknown>>])[] = [
    ['createCertificate', async () => () => certificates.create(name, self)],
    ['importCertificate', async () => () => certificates.import(name, { content: pem() })],
    [
      'mergeCertificate',
      async () => {
        const { csr } = await certificates.create(name, unknown);
        const leaf = createOutsideAuthority(bench).sign(csr ?? new Uint8Array());
        return () => certificates.merge(name, [derOf(leaf)]);
      },
    ],
    [
      'restoreCertificate',
      async () => {
        await certificates.create(name, self);
        const backup = await certificates.backup(name);
        await certificates.delete(name);
        await certificates.purge(name);
        return () => certificates.restore(backup);
      },
    ],
  ];

  it.each(calls)('is not repeated when its answer is lost: %s', async (operation, prepare) => {
    const call = await prepare();
    await fault(operation, lost);
    await forget();
    await expect(call()).rejects.toEqual(failure('vault_unavailable'));
    expect(await asked()).toEqual([`${operation} 503`]);
    // It was done all the same.
    const versions: string[] = [];
    await certificates.get(name);
    for await (const { version } of certificates.listVersions(name)) versions.push(version);
    expect(versions).toHaveLength(1);
  });

  it('succeeds when only the look at what it began fails', async () => {
    await fault('getCertificateOperation', { kind: 'status', status: 500 });
    const begun = await certificates.create(name, unknown);
    expect(begun.status).toBe('inProgress');
    const creations = (await asked()).filter((call) => call.startsWith('createCertificate'));
    expect(creations).toEqual(['createCertificate 202']);
  });

  it('tells a refusal of the vault as it is', async () => {
    await fault('createCertificate', { kind: 'status', status: 403, code: 'Forbidden' });
    await expect(certificates.create(name, self)).rejects.toEqual(failure('vault_denied'));
  });
});

describe('a call that may be repeated', () => {
  it('cancels although the answer was lost', async () => {
    await certificates.create(name, unknown);
    await fault('updateCertificateOperation', lost);
    expect(await certificates.cancelOperation(name)).toMatchObject({
      cancellationRequested: true,
    });
  });

  it.each([
    ['deleteCertificateOperation', () => certificates.deleteOperation(name)],
    ['deleteCertificateIssuer', () => certificates.deleteIssuer(name)],
    ['deleteCertificate', () => certificates.delete(name)],
  ])('finds done what an earlier try did: %s', async (operation, call) => {
    await certificates.create(name, unknown);
    await certificates.putIssuer(name, { provider: 'Test' });
    await fault(operation, lost);
    await expect(call().then(() => 'done')).resolves.toBe('done');
  });
});

describe('an issuer', () => {
  it('that refuses is told of in the operation', async () => {
    await certificates.putIssuer(name, { provider: 'Test' });
    const refusal = { code: 'Request rejected', message: 'Organization not validated.' };
    const issuance = { issuers: { [name]: { failure: refusal } } };
    await control(emulator, 'PATCH', '/vaults/main/switches', { issuance });
    const begun = await certificates.create(name, { ...self, issuer: name });
    expect(begun).toMatchObject({ status: 'failed', issuer: name, details: null, error: refusal });
    expect(await certificates.get(name)).toMatchObject({ der: null });
  });

  it('that takes its time is waited for by nobody', async () => {
    await control(emulator, 'PATCH', '/vaults/main/switches', { issuance: { delaySeconds: 3600 } });
    const begun = await certificates.create(name, self);
    expect(begun).toMatchObject({ status: 'inProgress', issuer: 'Self', error: null });
    const merge = certificates.merge(name, [derOf(selfSigned(bench, { key: keyPem() }))]);
    await expect(merge).rejects.toEqual(failure('conflict'));
  });

  it('has a password that no error repeats', async () => {
    const password = 'issuer-pass-7f3a';
    await fault('setCertificateIssuer', {
      kind: 'status',
      status: 400,
      code: 'BadParameter',
      message: `pwd ${password} is too weak`,
    });
    const issuer = { provider: 'Test', password: new SecretString(password) };
    const error = await certificates.putIssuer(name, issuer).catch((thrown: unknown) => thrown);
    expect(error).toEqual(failure('vault_rejected'));
    expect(inspect(error, { depth: 10 })).not.toContain(password);
  });
});

describe('a Managed HSM', () => {
  it('has no certificates', async () => {
    const hsm = open('https://example.managedhsm.azure.net');
    await expect(hsm.get(name)).rejects.toEqual(failure('invalid_input'));
    expect(() => hsm.list()).toThrow(failure('invalid_input'));
  });
});
