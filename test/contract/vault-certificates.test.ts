import { createPublicKey, randomBytes, X509Certificate } from 'node:crypto';
import { createSecureContext, getCACertificates, setDefaultCACertificates } from 'node:tls';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { KeyVaultEmulator } from '../../local/key-vault/key-vault.ts';
import type { ErrorCode } from '../../src/core/errors.ts';
import { SecretString } from '../../src/core/secret-string.ts';
import type {
  CertificateOperation,
  CertificatePolicy,
  CertificateService,
  NewCertificatePolicy,
} from '../../src/core/vault/certificates.ts';
import type { KeyService } from '../../src/core/vault/keys.ts';
import type { SecretService, Vault } from '../../src/core/vault/ports.ts';
import {
  createOutsideAuthority,
  createWorkbench,
  derOf,
  keyPem,
  type OutsideAuthority,
  selfSigned,
} from './certificate-subjects.ts';
import { type Ground, prepareGround } from './emulator-client.ts';
import { adapter, cached, type Subject, simulated } from './vault-subjects.ts';

let ground: Ground;
let emulator: KeyVaultEmulator;
const bench = createWorkbench();
let authority: OutsideAuthority;
beforeAll(async () => {
  ground = await prepareGround();
  setDefaultCACertificates([...getCACertificates('default'), ground.ca.caPem]);
  emulator = await ground.startVaults({ vaults: [{ name: 'main' }] });
  authority = createOutsideAuthority(bench);
});
afterAll(async () => {
  bench.clear();
  await ground?.stop();
});

let names = 0;
const newName = () => `certificate-${++names}`;
const failure = (code: ErrorCode) => expect.objectContaining({ name: 'AppError', code });
const ec = {
  issuer: 'Self',
  subject: 'CN=subject.example',
  keyType: 'EC',
} as const satisfies NewCertificatePolicy;
const pem = 'application/x-pem-file';
/** What a vault makes of `ec`. */
const ecPolicy: CertificatePolicy = {
  ...ec,
  ...{ dnsNames: [], emails: [], userPrincipalNames: [], uris: [], ipAddresses: [] },
  ...{ keySize: 256, keyCurve: 'P-256', exportable: true, reuseKey: false },
  contentType: 'application/x-pkcs12',
  validityInMonths: 12,
  keyUsage: ['digitalSignature'],
  enhancedKeyUsage: ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'],
  lifetimeActions: [{ action: 'AutoRenew', lifetimePercentage: 80 }],
};

/** A certificate whose end is in the past. */
function expired(key: string): string {
  const file = bench.file('expired.key', key);
  const csr = bench.openssl(['req', '-new', '-key', file, '-subj', '/CN=expired.example']);
  return bench.openssl(['x509', '-req', '-signkey', file, '-days', '-1'], csr);
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

describe.each([
  ['a simulated vault', simulated],
  ['Key Vault', () => adapter(ground, emulator)],
  ['Key Vault behind a cache', () => cached(ground, emulator)],
] as const)('certificates of %s', (_name, open) => {
  let subject: Subject;
  let vault: Vault;
  let certificates: CertificateService;
  let keys: KeyService;
  let secrets: SecretService;
  let name: string;
  beforeAll(() => {
    subject = open();
    vault = subject.vaults.get('main');
    ({ certificates, keys, secrets } = vault);
  });
  beforeEach(() => {
    name = newName();
  });

  /** As it is in the vault, without where the answer came from. */
  const read = async (version?: string) => {
    const { served: _, ...certificate } = Object.assign(
      { served: null },
      await certificates.get(name, version),
    );
    return certificate;
  };
  const issued = async (
    policy: NewCertificatePolicy | null = ec,
    changes: Parameters<CertificateService['create']>[2] = {},
  ) => {
    await certificates.create(name, policy, changes);
    await expect.poll(async () => (await certificates.getOperation(name)).status).toBe('completed');
    return read();
  };
  const x509Of = ({ der }: { readonly der: Uint8Array | null }) => new X509Certificate(der!);
  const secretOf = async (version?: string) => (await secrets.get(name, version)).value.expose();

  describe('that sign themselves', () => {
    it('are made by their policy, which the vault completes', async () => {
      const before = Math.floor(Date.now() / 1000) * 1000;
      const made = await issued(ec, { tags: { a: '1' } });
      const { version, created } = made.properties;
      expect(made).toEqual({
        id: `${vault.url}/certificates/${name}/${version}`,
        properties: {
          name,
          version: expect.stringMatching(/^[0-9a-f]{32}$/),
          enabled: true,
          created,
          updated: expect.any(Date),
          notBefore: new Date(created.getTime() - 600_000),
          expiresOn: expect.any(Date),
          tags: { a: '1' },
          thumbprint: x509Of(made).fingerprint.replaceAll(':', '').toLowerCase(),
        },
        der: expect.any(Uint8Array),
        keyId: `${vault.url}/keys/${name}/${version}`,
        secretId: `${vault.url}/secrets/${name}/${version}`,
        policy: ecPolicy,
      });
      expect(created.getTime()).toBeGreaterThanOrEqual(before);
      const certificate = x509Of(made);
      expect(certificate).toMatchObject({ subject: 'CN=subject.example', ca: false });
      expect(certificate.issuer).toBe(certificate.subject);
      expect(certificate.verify(certificate.publicKey)).toBe(true);
      expect(new Date(certificate.validTo)).toEqual(made.properties.expiresOn);
      expect(certificate.keyUsage).toEqual(ecPolicy.enhancedKeyUsage);
      const byVersion = await read(version);
      expect(byVersion).toEqual({ ...made, policy: null });
      expect(await certificates.getPolicy(name)).toEqual(ecPolicy);
    });

    it('say all that a policy can say', async () => {
      const policy: CertificatePolicy = {
        issuer: 'Self',
        subject: 'CN=all.example, O="Example, Inc.", C=DE',
        dnsNames: ['all.example', '*.all.example'],
        emails: ['who@all.example'],
        userPrincipalNames: ['who@directory.example'],
        uris: ['https://all.example/'],
        ipAddresses: ['192.0.2.7', '2001:db8::7'],
        ...{ keyType: 'EC', keySize: 256, keyCurve: 'P-256K', exportable: true, reuseKey: true },
        contentType: pem,
        validityInMonths: 3,
        keyUsage: ['digitalSignature', 'keyAgreement', 'cRLSign'],
        enhancedKeyUsage: ['1.3.6.1.5.5.7.3.1'],
        lifetimeActions: [{ action: 'EmailContacts', daysBeforeExpiry: 20 }],
      };
      const made = await issued(policy);
      expect(made.policy).toEqual(policy);
      const certificate = x509Of(made);
      expect(certificate.subject).toBe('C=DE\nO=Example\\, Inc.\nCN=all.example');
      expect(certificate.subjectAltName?.split(', ')).toEqual([
        ...['DNS:all.example', 'DNS:*.all.example', 'email:who@all.example'],
        ...['othername:UPN:who@directory.example', 'URI:https://all.example/'],
        ...['IP Address:192.0.2.7', 'IP Address:2001:DB8:0:0:0:0:0:7'],
      ]);
      const text = bench.openssl(
        ['x509', '-inform', 'DER', '-noout', '-text'],
        Buffer.from(made.der!),
      );
      expect(text).toContain('Digital Signature, Key Agreement, CRL Sign');
      expect(text).toContain('ASN1 OID: secp256k1');
      const first = certificate.publicKey;
      expect(x509Of(await issued(null)).publicKey.equals(first)).toBe(true);
    });

    it.each([
      ['RSA', { keyType: 'RSA', keySize: 2048 }, { keySize: 2048, keyCurve: null }],
      ['EC', { keyType: 'EC', keySize: 521 }, { keySize: 521, keyCurve: 'P-521' }],
      ['EC', { keyType: 'EC', keyCurve: 'P-384' }, { keySize: 384, keyCurve: 'P-384' }],
      ['EC-HSM', { keyType: 'EC-HSM' }, { keySize: 256, keyCurve: 'P-256', exportable: false }],
    ] as const)('have a key of type %s as wanted: %o', async (type, wanted, kept) => {
      const { policy } = await issued({ issuer: 'Self', subject: 'CN=a', ...wanted });
      expect(policy).toMatchObject({ keyType: type, ...kept });
      expect((await keys.get(name)).type).toBe(type);
    });

    it('bring along a key and a secret of the same version', async () => {
      const made = await issued(ec, { tags: { a: '1' } });
      const { version, created, notBefore, expiresOn } = made.properties;
      const shared = { name, version, enabled: true, created, notBefore, expiresOn };
      const key = await keys.get(name);
      expect(key).toMatchObject({
        id: made.keyId,
        properties: { ...shared, tags: { a: '1' }, managed: true },
        type: 'EC',
        operations: ['sign', 'verify'],
        exportable: false,
      });
      const jwk = x509Of(made).publicKey.export({ format: 'jwk' });
      expect(key.publicKey).toMatchObject({ x: jwk.x, y: jwk.y });
      const digest = randomBytes(32);
      const { result: signature } = await keys.sign(name, { algorithm: 'ES256', digest });
      const verified = await keys.verify(name, { algorithm: 'ES256', digest, signature });
      expect(verified.valid).toBe(true);
      expect((await secrets.get(name)).properties).toMatchObject({
        ...shared,
        contentType: 'application/x-pkcs12',
        managed: true,
      });
    });

    it('can be served from by whoever reads the secret', async () => {
      const made = await issued();
      const pfx = Buffer.from(await secretOf(), 'base64');
      expect(() => createSecureContext({ pfx, passphrase: '' })).not.toThrow();
      const read = bench.openssl(['pkcs12', '-nodes', '-passin', 'pass:'], pfx);
      expect(derOf(/-----BEGIN CERTIFICATE[\s\S]+/.exec(read)![0])).toEqual(Buffer.from(made.der!));
      name = newName();
      const other = await issued({ ...ec, contentType: pem });
      const text = await secretOf();
      expect(text.indexOf('PRIVATE KEY')).toBeLessThan(text.indexOf('CERTIFICATE'));
      expect(() => createSecureContext({ cert: text, key: text })).not.toThrow();
      expect(new X509Certificate(text).raw).toEqual(Buffer.from(other.der!));
    });

    it('keep their key to themselves when it is not exportable', async () => {
      await issued({ ...ec, exportable: false, contentType: pem });
      expect(await secretOf()).not.toContain('PRIVATE KEY');
      expect((await certificates.getPolicy(name)).exportable).toBe(false);
    });

    it('get a new key with every version', async () => {
      const first = await issued();
      const second = await issued(null);
      expect(second.properties.version).not.toBe(first.properties.version);
      expect(x509Of(second).publicKey.equals(x509Of(first).publicKey)).toBe(false);
      const versions = await all(certificates.listVersions(name));
      const ids = [first, second].map(({ properties }) => properties.version).sort();
      expect(versions.map(({ version }) => version)).toEqual(ids);
      expect(versions.find(({ version }) => version === first.properties.version)).toEqual(
        first.properties,
      );
      expect((await read(first.properties.version)).der).toEqual(first.der);
      expect(await all(keys.listVersions(name))).toHaveLength(2);
      expect(await secretOf(first.properties.version)).not.toBe(await secretOf());
    });
  });

  describe('that others sign', () => {
    const unknown = { ...ec, issuer: 'Unknown', contentType: pem } as const;
    const derOfAll = (...pems: string[]) => pems.map(derOf);

    it('are requested, shown as drafts, and merged', async () => {
      const begun = await certificates.create(name, unknown, { tags: { a: '1' } });
      expect(begun).toEqual({
        status: 'inProgress',
        issuer: 'Unknown',
        csr: expect.any(Uint8Array),
        cancellationRequested: false,
        details: expect.any(String),
        error: null,
      });
      expect(await certificates.getOperation(name)).toEqual(begun);
      const verified = bench.openssl(
        ['req', '-inform', 'DER', '-noout', '-verify', '-subject'],
        Buffer.from(begun.csr!),
      );
      expect(verified).toContain('subject.example');

      const draft = await read();
      const { version, created } = draft.properties;
      expect(draft).toMatchObject({ der: null, keyId: null, secretId: null });
      expect(draft.policy).toEqual({
        ...ecPolicy,
        ...unknown,
        lifetimeActions: [{ action: 'EmailContacts', lifetimePercentage: 80 }],
      });
      expect(draft.properties).toMatchObject({ enabled: false, thumbprint: null });
      expect(draft.properties.notBefore).toEqual(new Date(created.getTime() - 600_000));
      expect(await all(certificates.listVersions(name))).toEqual([]);
      await expect(secrets.get(name)).rejects.toEqual(failure('not_found'));
      const taken = secrets.set(name, { value: new SecretString('x') });
      await expect(taken).rejects.toEqual(failure('vault_denied'));
      await expect(keys.create(name, { type: 'EC' })).rejects.toEqual(failure('vault_denied'));

      const leaf = authority.sign(begun.csr!);
      const chain = derOfAll(authority.root, leaf, authority.intermediate);
      const merged = await certificates.merge(name, chain);
      expect(merged).toMatchObject({ der: derOf(leaf), policy: draft.policy });
      const facts = new X509Certificate(leaf);
      expect(merged.properties).toMatchObject({
        ...{ name, version, created, enabled: true, tags: { a: '1' } },
        notBefore: new Date(facts.validFrom),
        expiresOn: new Date(facts.validTo),
      });
      expect(await read()).toEqual(merged);
      expect(await certificates.getOperation(name)).toMatchObject({ status: 'completed' });
      const text = await secretOf(version);
      const inSecret = text.match(/-----BEGIN CERTIFICATE[\s\S]+?-----END CERTIFICATE-----/g);
      expect(inSecret?.map(derOf)).toEqual(derOfAll(leaf, authority.intermediate, authority.root));
    });

    it('leave the version before in force meanwhile', async () => {
      const first = await issued();
      await certificates.create(name, unknown);
      expect(await read()).toMatchObject({ properties: first.properties, der: first.der });
      expect((await keys.get(name)).id).toBe(first.keyId);
      expect(await all(certificates.listVersions(name))).toHaveLength(1);
    });

    it('begin one at a time', async () => {
      await certificates.create(name, unknown);
      await expect(certificates.create(name, unknown)).rejects.toEqual(failure('conflict'));
      const content = new SecretString(`${keyPem()}${authority.root}`);
      const imported = certificates.import(name, { content });
      await expect(imported).rejects.toEqual(failure('conflict'));
    });

    it('can be cancelled, forgotten and begun again', async () => {
      const begun = await certificates.create(name, unknown);
      const heard = await certificates.cancelOperation(name);
      expect(heard).toEqual({ ...begun, cancellationRequested: true });
      const over: CertificateOperation = { ...heard, status: 'cancelled', details: null };
      expect(await certificates.getOperation(name)).toEqual(over);
      await expect(certificates.cancelOperation(name)).rejects.toEqual(failure('conflict'));
      await certificates.deleteOperation(name);
      const gone = failure('not_found');
      await expect(certificates.getOperation(name)).rejects.toEqual(gone);
      await expect(certificates.cancelOperation(name)).rejects.toEqual(gone);
      await expect(certificates.deleteOperation(name)).rejects.toEqual(gone);
      await expect(certificates.merge(name, derOfAll(authority.root))).rejects.toEqual(gone);
      const again = await certificates.create(name, unknown);
      await certificates.merge(name, derOfAll(authority.sign(again.csr!)));
      expect(await all(certificates.listVersions(name))).toHaveLength(1);
    });

    it('may be merged after they were cancelled, and not twice', async () => {
      const { csr } = await certificates.create(name, unknown);
      await certificates.cancelOperation(name);
      const chain = derOfAll(authority.sign(csr!));
      await certificates.merge(name, chain);
      await expect(certificates.merge(name, chain)).rejects.toEqual(failure('conflict'));
    });

    it.each([
      ['another key', () => selfSigned(bench, { key: keyPem() })],
      ['nobody', () => authority.root],
    ])('are not merged with a certificate of %s', async (_of, certificate) => {
      await certificates.create(name, unknown);
      const merge = certificates.merge(name, derOfAll(certificate()));
      await expect(merge).rejects.toEqual(failure('vault_rejected'));
      expect((await certificates.getOperation(name)).status).toBe('inProgress');
    });

    it('heed what is said of the draft', async () => {
      const { csr } = await certificates.create(name, unknown);
      const { version } = (await read()).properties;
      const changes = { enabled: false, tags: { b: '2' } };
      const changed = await certificates.update(name, version, changes);
      expect(changed.properties).toMatchObject({ enabled: false, tags: { b: '2' } });
      const merged = await certificates.merge(name, derOfAll(authority.sign(csr!)));
      expect(merged.properties).toMatchObject({ enabled: false, tags: { b: '2' } });
    });
  });

  describe('that an issuer of the vault signs', () => {
    it('stand under its authority', async () => {
      const issuer = newName();
      await certificates.putIssuer(issuer, { provider: 'Test' });
      const made = await issued({ ...ec, issuer, contentType: pem });
      expect(made.policy?.issuer).toBe(issuer);
      const [leaf, above] = (await secretOf())
        .match(/-----BEGIN CERTIFICATE[\s\S]+?-----END CERTIFICATE-----/g)!
        .map((text) => new X509Certificate(text));
      expect(leaf!.raw).toEqual(Buffer.from(made.der!));
      expect(leaf!.verify(above!.publicKey)).toBe(true);
      expect(leaf!.issuer).toBe(above!.subject);
      await expect(certificates.cancelOperation(name)).rejects.toEqual(failure('conflict'));
    });

    it('are not begun for one that is absent or disabled', async () => {
      const issuer = newName();
      const policy = { ...ec, issuer };
      await expect(certificates.create(name, policy)).rejects.toEqual(failure('not_found'));
      await certificates.putIssuer(issuer, { provider: 'Test', enabled: false });
      await expect(certificates.create(name, policy)).rejects.toEqual(failure('vault_denied'));
      await issued();
      const change = certificates.updatePolicy(name, { issuer });
      await expect(change).rejects.toEqual(failure('vault_denied'));
    });
  });

  describe('that are imported', () => {
    it('bring their policy with them', async () => {
      const key = keyPem();
      const certificate = selfSigned(bench, {
        key,
        subject: '/C=DE/O=Example, Inc./CN=outside.example',
        days: 365,
        extensions: [
          'subjectAltName=DNS:outside.example,DNS:www.outside.example,IP:192.0.2.9,email:a@b.example',
          ...['keyUsage=critical,digitalSignature', 'extendedKeyUsage=serverAuth'],
        ],
      });
      const content = new SecretString(`${key}${certificate}`.replaceAll('\n', '\r\n'));
      const imported = await certificates.import(name, { content, tags: { a: '1' } });
      expect(imported.policy).toEqual({
        ...ecPolicy,
        issuer: 'Unknown',
        subject: 'CN=outside.example, O="Example, Inc.", C=DE',
        dnsNames: ['outside.example', 'www.outside.example'],
        emails: ['a@b.example'],
        ipAddresses: ['192.0.2.9'],
        enhancedKeyUsage: ['1.3.6.1.5.5.7.3.1'],
        contentType: pem,
        lifetimeActions: [{ action: 'EmailContacts', lifetimePercentage: 80 }],
      });
      const facts = new X509Certificate(certificate);
      expect(imported.der).toEqual(facts.raw);
      expect(imported.properties).toMatchObject({
        ...{ name, enabled: true, tags: { a: '1' } },
        notBefore: new Date(facts.validFrom),
        expiresOn: new Date(facts.validTo),
      });
      expect(await read()).toEqual(imported);
      await expect(certificates.getOperation(name)).rejects.toEqual(failure('not_found'));
      expect(createPublicKey(await secretOf()).equals(facts.publicKey)).toBe(true);
    });

    it('come with their chain, an encrypted key and disabled, if wanted', async () => {
      const key = bench.file('import.key', keyPem());
      const csr = bench.openssl(['req', '-new', '-key', key, '-subj', '/CN=a', '-outform', 'PEM']);
      const leaf = authority.sign(derOf(csr));
      const encrypted = bench.openssl(['pkcs8', '-topk8', '-in', key, '-passout', 'pass:open']);
      const imported = await certificates.import(name, {
        content: new SecretString([encrypted, authority.intermediate, leaf].join('')),
        password: new SecretString('open'),
        enabled: false,
      });
      expect(imported).toMatchObject({ der: derOf(leaf), properties: { enabled: false } });
      expect(imported.policy).not.toBeNull();
      expect((await read()).properties.enabled).toBe(false);
      await expect(secrets.get(name)).rejects.toEqual(failure('object_disabled'));
      await certificates.update(name, imported.properties.version, { enabled: true });
      const chain = (await secretOf()).match(/-----BEGIN CERTIFICATE[\s\S]+?-----END/g)!;
      expect(chain.map(derOf)).toEqual([leaf, authority.intermediate].map(derOf));
    });

    it.each([
      ['the key of another', () => `${keyPem()}${selfSigned(bench, { key: keyPem() })}`],
      ['two keys', (key = keyPem()) => `${key}${keyPem()}${selfSigned(bench, { key })}`],
      ['an end in the past', (key = keyPem()) => `${key}${expired(key)}`],
      [
        'an unreadable part',
        (key = keyPem()) => `${key}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n`,
      ],
    ])('are refused with %s', async (_with, content) => {
      const imported = certificates.import(name, { content: new SecretString(content()) });
      await expect(imported).rejects.toEqual(failure('vault_rejected'));
      await expect(read()).rejects.toEqual(failure('not_found'));
    });
  });

  describe('and their policy', () => {
    it('change together, from the next version on', async () => {
      const first = await issued({ ...ec, dnsNames: ['a.example'] });
      const changes = {
        ...{ subject: 'CN=b', dnsNames: [], emails: ['b@b.example'], validityInMonths: 24 },
        ...{ keyCurve: 'P-384', reuseKey: true, contentType: pem },
        lifetimeActions: [{ action: 'AutoRenew', daysBeforeExpiry: 30 }],
      } satisfies Partial<CertificatePolicy>;
      const changed = await certificates.updatePolicy(name, changes);
      expect(changed).toEqual({ ...ecPolicy, ...changes, keySize: 384 });
      expect(await certificates.getPolicy(name)).toEqual(changed);
      expect(await read()).toEqual({ ...first, policy: changed });
    });

    it('take a key of another kind', async () => {
      await issued();
      const policy = await certificates.updatePolicy(name, { keyType: 'RSA', keySize: 3072 });
      expect(policy).toMatchObject({ keyType: 'RSA', keySize: 3072, keyCurve: null });
    });

    it('keep what the vault refuses out', async () => {
      const change = { keyUsage: ['keyEncipherment'] };
      await issued();
      const refused = certificates.updatePolicy(name, change);
      await expect(refused).rejects.toEqual(failure('invalid_input'));
      expect(await certificates.getPolicy(name)).toEqual(ecPolicy);
    });
  });

  describe('and what belongs to them', () => {
    it('are disabled and tagged together', async () => {
      const { properties } = await issued();
      const changes = { enabled: false, tags: { b: '2' } };
      const changed = await certificates.update(name, properties.version, changes);
      expect(changed.policy).toBeNull();
      expect(changed.properties).toEqual({ ...properties, ...changes, updated: expect.any(Date) });
      expect((await read()).properties).toEqual(changed.properties);
      expect((await keys.get(name)).properties).toMatchObject({ enabled: false, tags: { b: '2' } });
      await expect(secrets.get(name)).rejects.toEqual(failure('object_disabled'));
      const again = await certificates.update(name, properties.version, { enabled: true });
      expect(again.properties.tags).toEqual({ b: '2' });
      expect((await secrets.get(name)).properties.tags).toEqual({ b: '2' });
    });

    it('cannot be changed in any other way', async () => {
      const { version } = (await issued()).properties;
      const attempts: (() => Promise<unknown>)[] = [
        () => secrets.set(name, { value: new SecretString('x') }),
        () => secrets.update(name, version, { enabled: false }),
        () => secrets.delete(name),
        () => secrets.erase(name),
        () => secrets.backup(name),
        () => keys.create(name, { type: 'EC' }),
        () => keys.update(name, version, { enabled: false }),
        () => keys.rotate(name),
        () => keys.delete(name),
        () => keys.backup(name),
      ];
      for (const attempt of attempts) {
        await expect(attempt(), String(attempt)).rejects.toEqual(failure('vault_denied'));
      }
    });

    it('are deleted, recovered and purged together', async () => {
      const made = await issued();
      const deleted = await certificates.delete(name);
      expect(deleted.properties).toEqual(made.properties);
      expect(deleted.purgeOn.getTime() - deleted.deletedOn.getTime()).toBe(90 * 86_400_000);
      expect(await certificates.getDeleted(name)).toEqual(deleted);
      const mine = (list: readonly { readonly properties: { readonly name: string } }[]) =>
        list.filter(({ properties }) => properties.name === name);
      expect(mine(await all(certificates.listDeleted()))).toEqual([
        { ...deleted, properties: { ...made.properties, version: '' } },
      ]);
      expect(mine(await all(secrets.listDeleted()))).toEqual([]);
      expect(mine(await all(keys.listDeleted()))).toEqual([]);
      for (const gone of [() => read(), () => keys.get(name), () => secrets.get(name)]) {
        await expect(gone()).rejects.toEqual(failure('not_found'));
      }
      await expect(certificates.create(name, ec)).rejects.toEqual(failure('object_deleted'));
      await expect(secrets.recover(name)).rejects.toEqual(failure('vault_denied'));
      await expect(keys.purge(name)).rejects.toEqual(failure('vault_denied'));

      expect(await certificates.recover(name)).toEqual(made);
      expect(await read()).toEqual(made);
      expect((await keys.get(name)).id).toBe(made.keyId);
      await certificates.delete(name);
      await certificates.purge(name);
      await expect(certificates.getDeleted(name)).rejects.toEqual(failure('not_found'));
      await expect(certificates.recover(name)).rejects.toEqual(failure('not_found'));
      await expect(certificates.purge(name)).rejects.toEqual(failure('not_found'));
      await secrets.set(name, { value: new SecretString('mine now') });
      expect(await secretOf()).toBe('mine now');
    });

    it('are saved and restored together', async () => {
      await issued();
      const made = await issued(null);
      const before = await all(certificates.listVersions(name));
      const value = await secretOf();
      const backup = await certificates.backup(name);
      await expect(certificates.restore(backup)).rejects.toEqual(failure('conflict'));
      await certificates.delete(name);
      await certificates.purge(name);
      expect(await certificates.restore(backup)).toEqual(made);
      expect(await all(certificates.listVersions(name))).toEqual(before);
      expect(await secretOf()).toBe(value);
      expect((await keys.get(name)).properties.managed).toBe(true);
      const forged = certificates.restore(Buffer.from('not a backup'));
      await expect(forged).rejects.toEqual(failure('vault_rejected'));
    });

    it('take no name that a secret or a key has', async () => {
      await secrets.set(name, { value: new SecretString('mine') });
      await expect(certificates.create(name, ec)).rejects.toEqual(failure('conflict'));
      await secrets.delete(name);
      await expect(certificates.create(name, ec)).rejects.toEqual(failure('object_deleted'));
      name = newName();
      await keys.create(name, { type: 'EC' });
      await expect(certificates.create(name, ec)).rejects.toEqual(failure('conflict'));
    });
  });

  it('are listed with the properties of the latest version, drafts only if wanted', async () => {
    const made = await issued();
    // First in the list, whose later pages are fetched by the vault's links.
    const draft = `a-${newName()}`;
    await certificates.create(draft, { ...ec, issuer: 'Unknown' });
    const listed = await all(certificates.list());
    expect(listed.find((each) => each.name === name)).toEqual({ ...made.properties, version: '' });
    expect(listed.map((each) => each.name)).not.toContain(draft);
    const pending = await all(certificates.list({ includePending: true }));
    expect(pending.find((each) => each.name === draft)).toMatchObject({ enabled: false });
  });

  it('are found whatever the case of their names, and not at all under others', async () => {
    const made = await issued();
    const { name: kept } = (await certificates.get(name.toUpperCase())).properties;
    expect([name, name.toUpperCase()]).toContain(kept);
    expect((await certificates.getOperation(name.toUpperCase())).status).toBe('completed');
    const none = failure('not_found');
    const other = newName();
    await expect(certificates.get(other)).rejects.toEqual(none);
    await expect(certificates.get(name, '0'.repeat(32))).rejects.toEqual(none);
    await expect(certificates.getPolicy(other)).rejects.toEqual(none);
    await expect(certificates.updatePolicy(other, {})).rejects.toEqual(none);
    await expect(certificates.update(other, made.properties.version, {})).rejects.toEqual(none);
    await expect(certificates.create(other, null)).rejects.toEqual(none);
    await expect(certificates.getOperation(other)).rejects.toEqual(none);
    await expect(certificates.delete(other)).rejects.toEqual(none);
    await expect(certificates.backup(other)).rejects.toEqual(none);
    expect(await all(certificates.listVersions(other))).toEqual([]);
  });

  it('are told from what no vault takes', async () => {
    const content = new SecretString(`${keyPem()}${authority.root}`);
    const tags = Object.fromEntries(Array.from({ length: 16 }, (_, at) => [`tag-${at}`, 'x']));
    const policy = (changes: object) => () => certificates.create(name, { ...ec, ...changes });
    const action = (trigger: object) => ({
      lifetimeActions: [{ action: 'AutoRenew', ...trigger }],
    });
    const attempts: readonly (readonly [string, () => Promise<unknown>])[] = [
      ['name', () => certificates.get('a/b')],
      ['name', () => certificates.create('issuers', ec)],
      ['name', () => certificates.import('Contacts', { content })],
      ['version', () => certificates.get(name, 'latest')],
      ['subject', () => certificates.create(name, { issuer: 'Self' })],
      ['subject', policy({ subject: 'example.org' })],
      ['subject', policy({ subject: `CN=${'a'.repeat(200)}` })],
      ['dnsNames', policy({ dnsNames: [''] })],
      ['issuer', policy({ issuer: '' })],
      ['keyType', policy({ keyType: 'oct' })],
      ['keySize', policy({ keyType: 'RSA', keySize: 1024 })],
      ['keyCurve', policy({ keyType: 'RSA', keyCurve: 'P-256' })],
      ['keySize', policy({ keyCurve: 'P-384', keySize: 256 })],
      ['exportable', policy({ keyType: 'EC-HSM', exportable: true })],
      ['keyUsage', policy({ keyUsage: ['keyEncipherment'] })],
      ['enhancedKeyUsage', policy({ enhancedKeyUsage: ['serverAuth'] })],
      ['contentType', policy({ contentType: 'text/plain' })],
      ['validityInMonths', policy({ validityInMonths: 0 })],
      ['AutoRenew', policy(action({}))],
      ['AutoRenew', policy(action({ daysBeforeExpiry: 10, lifetimePercentage: 50 }))],
      ['AutoRenew', policy(action({ lifetimePercentage: 100 }))],
      ['AutoRenew', policy({ ...action({ daysBeforeExpiry: 28 }), validityInMonths: 1 })],
      ['tags', () => certificates.create(name, ec, { tags })],
      ['tags', () => certificates.import(name, { content, tags: { a: 'x'.repeat(257) } })],
      ['content', () => certificates.import(name, { content: new SecretString('no base64!') })],
      ['content', () => certificates.import(name, { content: new SecretString(authority.root) })],
      [
        'content',
        () => certificates.import(name, { content: new SecretString('A'.repeat(25_601)) }),
      ],
      ['chain', () => certificates.merge(name, [])],
      ['chain', () => certificates.merge(name, [Buffer.from(authority.root)])],
      ['provider', () => certificates.putIssuer('a', { provider: ' ' })],
      ['contacts', () => certificates.setContacts([{ email: 'nobody' }])],
    ];
    for (const [field, attempt] of attempts) {
      const error = expect.objectContaining({
        code: 'invalid_input',
        detail: expect.stringContaining(field),
      });
      await expect(attempt(), String(attempt)).rejects.toEqual(error);
    }
    await expect(read()).rejects.toEqual(failure('not_found'));
  });

  describe('and their issuers', () => {
    const administrators = [
      { email: 'a@b.example', firstName: 'A', lastName: 'B', phone: '1' },
      { email: 'c@d.example' },
    ];

    it('are kept, listed, replaced and deleted, their passwords never shown', async () => {
      const password = new SecretString('issuer-password');
      const issuer = { provider: 'Test', accountId: 'me', organizationId: 'us', administrators };
      const kept = await certificates.putIssuer(name, { ...issuer, password });
      expect(kept).toEqual({ ...issuer, name, enabled: true });
      expect(await certificates.getIssuer(name.toUpperCase())).toEqual(kept);
      const mine = (list: readonly { readonly name: string }[]) =>
        list.filter((each) => each.name === name);
      expect(mine(await all(certificates.listIssuers()))).toEqual([{ name, provider: 'Test' }]);
      const replaced = await certificates.putIssuer(name, { provider: 'Other', enabled: false });
      const bare = { accountId: null, organizationId: null, administrators: [] };
      expect(replaced).toEqual({ name, provider: 'Other', enabled: false, ...bare });
      expect(await certificates.getIssuer(name)).toEqual(replaced);
      await certificates.deleteIssuer(name);
      await expect(certificates.getIssuer(name)).rejects.toEqual(failure('not_found'));
      await expect(certificates.deleteIssuer(name)).rejects.toEqual(failure('not_found'));
      expect(mine(await all(certificates.listIssuers()))).toEqual([]);
    });

    it('say for whom they issue where a provider wants to know', async () => {
      const bare = certificates.putIssuer(name, { provider: 'DigiCert' });
      await expect(bare).rejects.toEqual(failure('vault_rejected'));
      const whole = await certificates.putIssuer(name, {
        provider: 'DigiCert',
        organizationId: '1',
      });
      expect(whole.organizationId).toBe('1');
    });

    it('are told beside the contacts, which come and go together', async () => {
      await certificates.setContacts([]);
      expect(await certificates.getContacts()).toEqual([]);
      const contacts = [{ email: 'a@b.example', name: 'A', phone: '1' }, { email: 'c@d.example' }];
      await certificates.setContacts(contacts);
      expect(await certificates.getContacts()).toEqual(contacts);
      await certificates.setContacts([]);
      expect(await certificates.getContacts()).toEqual([]);
    });
  });

  it('are only read while the vault is read-only', async () => {
    const made = await issued();
    await subject.setReadOnly(true);
    try {
      const readOnly = failure('vault_read_only');
      await expect(certificates.create(name, ec)).rejects.toEqual(readOnly);
      await expect(certificates.delete(name)).rejects.toEqual(readOnly);
      await expect(certificates.setContacts([{ email: 'a@b.c' }])).rejects.toEqual(readOnly);
      expect((await read()).der).toEqual(made.der);
    } finally {
      await subject.setReadOnly(false);
    }
  });
});
