import { createPublicKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { CertificateClient, CertificatePolicy } from '@azure/keyvault-certificates';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  createOutsideAuthority,
  createWorkbench,
  derOf,
  keyPem,
  prepareScene,
  type Scene,
  selfSigned,
} from './certificate-subjects.ts';
import { refusal } from './emulator-control.ts';

// `openssl` judges what the vault makes, and makes what the vault is to read.

const pemType = 'application/x-pem-file';
const pfxType = 'application/x-pkcs12';

const bench = createWorkbench();
const { openssl, file, path: pathOf } = bench;
let scene: Scene;
let client: CertificateClient;
let call: Scene['call'];

beforeAll(async () => {
  scene = await prepareScene();
  ({ client, call } = scene);
});
afterAll(async () => {
  bench.clear();
  await scene.stop();
});

async function create(name: string, policy: Partial<CertificatePolicy> = {}) {
  return (await scene.create(name, policy)).pollUntilDone();
}

async function secretOf(name: string): Promise<string> {
  return (await call(`/secrets/${name}/`)).json.value;
}

/** The blocks of a PEM text, in their order. */
function blocksOf(pem: string): { label: string; pem: string }[] {
  const matches = pem.matchAll(/-----BEGIN ([A-Z ]+)-----[^-]+-----END \1-----\n/g);
  return [...matches].map(([block, label = '']) => ({ label, pem: block }));
}

const labelsOf = (pem: string): string[] => blocksOf(pem).map(({ label }) => label);

const kinds = [
  ['RSA 2048', { keyType: 'RSA', keySize: 2048 }, 'Public-Key: (2048 bit)'],
  ['P-256', { keyCurveName: 'P-256' }, 'ASN1 OID: prime256v1'],
  ['P-384', { keyCurveName: 'P-384' }, 'ASN1 OID: secp384r1'],
  ['P-521', { keyCurveName: 'P-521' }, 'ASN1 OID: secp521r1'],
  ['P-256K', { keyCurveName: 'P-256K' }, 'ASN1 OID: secp256k1'],
] as const;

describe('a request for a certificate', () => {
  it.each(kinds)('with %s proves its key and carries the wishes', async (name, policy, key) => {
    const vaultName = `csr-${name.replace(' ', '-')}`;
    await scene.create(vaultName, {
      ...policy,
      issuerName: 'Unknown',
      subject: 'CN=www.example.com, OU="R+D", O="Contoso, Ltd.", C=US',
      subjectAlternativeNames: {
        dnsNames: ['www.example.com', '*.example.com'],
        emails: ['ops@example.com'],
        userPrincipalNames: ['ada@example.local'],
        uniformResourceIdentifiers: ['https://example.com/a'],
        ipAddresses: ['10.0.0.1', '::ffff:1.2.3.4'],
      },
      enhancedKeyUsage: ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.3'],
      keyUsage: ['digitalSignature', 'cRLSign'],
    });
    const { csr } = (await call(`/certificates/${vaultName}/pending`)).json;
    const text = openssl(
      ['req', '-inform', 'DER', '-noout', '-text', '-verify'],
      Buffer.from(csr, 'base64'),
    );
    expect(text).toContain(key);
    // The last written is the first encoded.
    expect(text).toMatch(/Subject: C ?= ?US, O ?= ?"Contoso, Ltd\.", OU ?= ?"R\+D", CN ?= ?www/);
    expect(text).toMatch(/Key Usage: critical\s+Digital Signature, CRL Sign\n/);
    expect(text).toMatch(/Extended Key Usage: ?\s+TLS Web Server Authentication, Code Signing\n/);
    expect(text).toMatch(/Basic Constraints: ?\s+CA:FALSE/);
    expect(text).toContain(
      'DNS:www.example.com, DNS:*.example.com, email:ops@example.com, othername: UPN::ada@example.local, URI:https://example.com/a, IP Address:10.0.0.1, IP Address:0:0:0:0:0:FFFF:102:304',
    );
    expect(text).toMatch(/Signature Algorithm: (sha256WithRSAEncryption|ecdsa-with-SHA256)/);
  });
});

describe('a certificate that the vault signs itself', () => {
  it.each(kinds)('with %s verifies, and its PFX opens', async (name, policy, key) => {
    const vaultName = `self-${name.replace(' ', '-')}`;
    const certificate = await create(vaultName, policy as Partial<CertificatePolicy>);
    const cer = Buffer.from(certificate.cer!);
    expect(openssl(['x509', '-inform', 'DER', '-noout', '-text'], cer)).toContain(key);
    const pfx = file('self.pfx', Buffer.from(await secretOf(vaultName), 'base64'));
    const pem = openssl(['pkcs12', '-in', pfx, '-passin', 'pass:', '-nodes']);
    expect(labelsOf(pem)).toEqual(['CERTIFICATE', 'PRIVATE KEY']);
    const [leaf, privateKey] = blocksOf(pem).map((block) => block.pem);
    expect(derOf(leaf!)).toEqual(cer);
    expect(openssl(['pkey', '-pubout'], privateKey!)).toBe(
      openssl(['x509', '-inform', 'DER', '-noout', '-pubkey'], cer),
    );
    const self = file('self.pem', leaf!);
    expect(openssl(['verify', '-CAfile', self, self])).toContain('OK');
    // The key of the vault is the same one.
    const { key: jwk } = (await call(`/keys/${vaultName}/`)).json;
    const shown = { ...jwk, crv: jwk.crv === 'P-256K' ? 'secp256k1' : jwk.crv };
    expect(
      createPublicKey({ format: 'jwk', key: shown }).equals(new X509Certificate(cer).publicKey),
    ).toBe(true);
  });

  it('has its dates, its names and a thumbprint', async () => {
    const { properties, cer } = await create('dated', { validityInMonths: 3 });
    const parsed = new X509Certificate(cer!);
    expect(parsed.validFromDate).toEqual(properties.notBefore);
    expect(parsed.validToDate).toEqual(properties.expiresOn);
    expect(parsed.fingerprint.replaceAll(':', '').toLowerCase()).toBe(
      properties.x509ThumbprintString,
    );
    expect(parsed.serialNumber).toMatch(/^[4-7][0-9A-F]{31}$/);
  });

  it('is written as PEM when the policy says so: the key, the certificate, a line end', async () => {
    const certificate = await create('as-pem', { contentType: pemType });
    const value = await secretOf('as-pem');
    expect(labelsOf(value)).toEqual(['PRIVATE KEY', 'CERTIFICATE']);
    expect(value.endsWith('-----END CERTIFICATE-----\n')).toBe(true);
    expect(
      blocksOf(value)
        .map(({ pem }) => pem)
        .join(''),
    ).toBe(value);
    expect(derOf(blocksOf(value)[1]!.pem)).toEqual(Buffer.from(certificate.cer!));
    expect(openssl(['pkey', '-pubout'], value)).toBe(openssl(['x509', '-noout', '-pubkey'], value));
  });

  it.each([pfxType, pemType])('keeps a key to itself that is not exportable: %s', async (type) => {
    const name = `sealed-${type.slice(-3)}`;
    const contentType = type as NonNullable<CertificatePolicy['contentType']>;
    await create(name, { exportable: false, contentType });
    const value = await secretOf(name);
    const pem =
      type === pemType
        ? value
        : openssl(['pkcs12', '-passin', 'pass:', '-nodes'], Buffer.from(value, 'base64'));
    expect(labelsOf(pem)).toEqual(['CERTIFICATE']);
  });

  it('takes a key from the HSM, which is not exportable', async () => {
    const certificate = await create('hsm', {
      keyType: 'RSA-HSM',
      keyCurveName: undefined,
    } as never);
    expect(certificate.policy).toMatchObject({ keyType: 'RSA-HSM', exportable: false });
    expect((await call('/keys/hsm/')).json.key.kty).toBe('RSA-HSM');
    const pfx = Buffer.from(await secretOf('hsm'), 'base64');
    const pem = openssl(['pkcs12', '-passin', 'pass:', '-nodes'], pfx);
    expect(labelsOf(pem)).toEqual(['CERTIFICATE']);
  });
});

describe('a certificate of the test issuer', () => {
  it('verifies up to a root that stands in the PFX', async () => {
    await client.createIssuer('ca', 'Test');
    await create('issued', { issuerName: 'ca' });
    const pfx = Buffer.from(await secretOf('issued'), 'base64');
    const pem = openssl(['pkcs12', '-passin', 'pass:', '-nokeys'], pfx);
    const [leaf, issuing, root] = blocksOf(pem).map((block) => block.pem);
    const verdict = openssl([
      ...['verify', '-x509_strict', '-purpose', 'sslserver'],
      ...['-CAfile', file('issuer-root.pem', root!)],
      ...['-untrusted', file('issuing.pem', issuing!), file('issued.pem', leaf!)],
    ]);
    expect(verdict).toContain('OK');
  });
});

describe('a secret of another type', () => {
  it('is had as PEM instead of PFX', async () => {
    const certificate = await create('convertible');
    const secrets = scene.ground.secretClient(scene.url);
    const secret = await secrets.getSecret('convertible', { outContentType: pemType } as never);
    expect(secret.properties.contentType).toBe(pemType);
    expect(labelsOf(secret.value!)).toEqual(['PRIVATE KEY', 'CERTIFICATE']);
    expect(derOf(blocksOf(secret.value!)[1]!.pem)).toEqual(Buffer.from(certificate.cer!));
    const same = await call(`/secrets/convertible/?outContentType=${pfxType}`);
    expect(same.json.contentType).toBe(pfxType);
  });

  it('is refused where there is no way', async () => {
    await create('pem-already', { contentType: pemType });
    await scene.ground.secretClient(scene.url).setSecret('plain', 'v');
    for (const [name, type] of [
      ['pem-already', pfxType],
      ['pem-already', 'text/plain'],
      ['plain', pemType],
    ]) {
      const reply = await call(`/secrets/${name}/?outContentType=${type}`);
      expect([reply.status, reply.json.error.code]).toEqual([400, 'BadParameter']);
    }
    expect((await call(`/secrets/pem-already/?outContentType=${pemType}`)).status).toBe(200);
  });
});

describe('an import', () => {
  const legacy = '-legacy';
  const inPfx = (name: string, args: readonly string[], password = '') => {
    const key = keyPem();
    const pem = file('import.pem', key + selfSigned(bench, { key }));
    const out = pathOf(`${name}.pfx`);
    openssl([
      'pkcs12',
      '-export',
      '-in',
      pem,
      '-out',
      out,
      '-passout',
      `pass:${password}`,
      ...args,
    ]);
    return { pfx: readFileSync(out), key, pem: readFileSync(pem, 'utf8') };
  };

  it.each([
    ['today', [], ''],
    ['with-password', [], 'pässwörd 😀'],
    ['triple-des', [legacy, '-certpbe', 'PBE-SHA1-3DES'], 'p'],
    ['rc2-40', [legacy], 'p'],
    ['rc2-128', [legacy, '-certpbe', 'PBE-SHA1-RC2-128'], ''],
    ['sha512-aes-128', ['-macalg', 'sha512', '-certpbe', 'AES-128-CBC'], 'p'],
    ['no-mac', ['-nomac'], 'p'],
    ['no-encryption', ['-keypbe', 'NONE', '-certpbe', 'NONE'], 'p'],
  ])('takes a PFX as openssl makes it: %s', async (name, args, password) => {
    const { pfx, pem } = inPfx(name, args, password);
    const imported = await client.importCertificate(`pfx-${name}`, pfx, { password });
    expect(Buffer.from(imported.cer!)).toEqual(derOf(blocksOf(pem)[1]!.pem));
    expect(imported.policy).toMatchObject({
      contentType: pfxType,
      issuerName: 'Unknown',
      keyType: 'EC',
      keyCurveName: 'P-256',
      exportable: true,
    });
    const secret = Buffer.from(await secretOf(`pfx-${name}`), 'base64');
    const out = openssl(['pkcs12', '-passin', 'pass:', '-nodes', '-nocerts'], secret);
    expect(openssl(['pkey', '-pubout'], out)).toBe(openssl(['pkey', '-pubout'], pem));
  });

  const unreadable = {
    code: 'BadParameter',
    statusCode: 400,
    message:
      'The specified PKCS#12 X.509 certificate content can not be read. Please check if certificate is in valid PKCS#12 format.',
    inner: undefined,
  };

  it('refuses a PFX that does not open', async () => {
    const { pfx } = inPfx('locked', [], 'right');
    const cut = pfx.subarray(0, pfx.length - 20);
    const altered = Buffer.from(pfx);
    altered[altered.length >> 1]! ^= 1;
    for (const [content, password] of [
      [pfx, 'wrong'],
      [pfx, ''],
      [cut, 'right'],
      [altered, 'right'],
      [Buffer.from('no PFX at all'), ''],
    ] as const) {
      expect(await refusal(client.importCertificate('locked', content, { password }))).toEqual(
        unreadable,
      );
    }
  });

  it('is not stopped by whatever bytes come', async () => {
    const { pfx } = inPfx('hostile', [], 'p');
    const place = fc.nat({ max: pfx.length - 1 });
    await fc.assert(
      fc.asyncProperty(place, fc.nat({ max: 255 }), async (at, byte) => {
        const altered = Buffer.from(pfx);
        altered[at] = byte;
        const body = { value: altered.toString('base64'), pwd: 'p' };
        const { status, json } = await call('/certificates/hostile/import', 'POST', body);
        expect([200, 400]).toContain(status);
        if (status === 400) expect(json.error.code).toBe('BadParameter');
      }),
      { numRuns: 60 },
    );
  });

  it('reads a PFX that is much work beside everything else', async () => {
    const { pfx } = inPfx('much', [legacy, '-iter', '100000'], 'p');
    let isOver = false;
    const body = { value: pfx.toString('base64'), pwd: 'p' };
    const importing = call('/certificates/much/import', 'POST', body).finally(() => {
      isOver = true;
    });
    let answered = 0;
    while (!isOver) {
      await call('/secrets');
      answered += 1;
    }
    expect((await importing).status).toBe(200);
    expect(answered).toBeGreaterThan(10);
  });

  it.each([
    ['with PBES2', []],
    ['with the older schemes', [legacy]],
  ])('refuses a PFX that is too much work: %s', async (_, args) => {
    // Less than the limit for each part, more for all of them.
    const { pfx } = inPfx('too-much', [...args, '-iter', '100001'], 'p');
    const importing = client.importCertificate('too-much', pfx, { password: 'p' });
    expect(await refusal(importing)).toEqual(unreadable);
  });

  it('takes PEM as text, in base64, and with an encrypted key', async () => {
    const key = keyPem('rsa');
    const certificate = selfSigned(bench, {
      key,
      subject: '/C=AU/ST=Some-State/O=Internet Widgits, Ltd',
      days: 3650,
      extensions: ['subjectAltName=DNS:a.example,IP:10.0.0.1,email:a@b.example'],
    });
    const encrypted = openssl(['pkcs8', '-topk8', '-passout', 'pass:1234'], key);
    const policy = { secret_props: { contentType: pemType }, issuer: { name: 'Self' } };
    const asText = { value: key + certificate, policy };
    const reply = await call('/certificates/pem-text/import', 'POST', asText);
    expect(reply.status).toBe(200);
    expect(reply.json.policy).toMatchObject({
      key_props: { exportable: true, kty: 'RSA', key_size: 2048, reuse_key: false },
      secret_props: { contentType: pemType },
      x509_props: {
        subject: 'O="Internet Widgits, Ltd", S=Some-State, C=AU',
        sans: { dns_names: ['a.example'], emails: ['a@b.example'], ipAddresses: ['10.0.0.1'] },
        ekus: [],
        key_usage: [],
        validity_months: 120,
        basic_constraints: { ca: true },
      },
      lifetime_actions: [
        { trigger: { lifetime_percentage: 80 }, action: { action_type: 'AutoRenew' } },
      ],
      issuer: { name: 'Self' },
    });
    const { validFromDate, validToDate } = new X509Certificate(certificate);
    expect(reply.json.attributes).toMatchObject({
      nbf: validFromDate.getTime() / 1000,
      exp: validToDate.getTime() / 1000,
    });
    const value = await secretOf('pem-text');
    expect(labelsOf(value)).toEqual(['PRIVATE KEY', 'CERTIFICATE']);
    expect(openssl(['pkey', '-pubout'], value)).toBe(openssl(['pkey', '-pubout'], key));

    const locked = { value: certificate + encrypted, pwd: '1234' };
    expect((await call('/certificates/pem-locked/import', 'POST', locked)).status).toBe(200);
    const viaSdk = await client.importCertificate('pem-sdk', Buffer.from(certificate + key), {
      policy: { contentType: pemType, issuerName: 'Unknown', subject: 'CN=x' },
    });
    expect(viaSdk.policy?.contentType).toBe(pemType);
    const base64 = await client.importCertificate('pem-base64', Buffer.from(certificate + key));
    expect(base64.policy?.contentType).toBe(pemType);
  });

  it('puts a chain behind the leaf', async () => {
    const authority = createOutsideAuthority(bench);
    const key = keyPem();
    const csr = derOf(openssl(['req', '-new', '-key', file('leaf.key', key), '-subj', '/CN=leaf']));
    const leaf = authority.sign(csr);
    const chain = [authority.root, leaf, authority.intermediate];
    const imported = await client.importCertificate('chained', Buffer.from(chain.join('') + key));
    expect(Buffer.from(imported.cer!)).toEqual(derOf(leaf));
    const pem = await secretOf('chained');
    const order = blocksOf(pem)
      .slice(1)
      .map((block) => derOf(block.pem).toString('base64'));
    const inOrder = [leaf, authority.intermediate, authority.root];
    expect(order).toEqual(inOrder.map((one) => derOf(one).toString('base64')));
  });

  it('makes a new version, and ends an operation that was over', async () => {
    await create('reimported');
    const key = keyPem();
    const pem = Buffer.from(key + selfSigned(bench, { key }));
    const imported = await client.importCertificate('reimported', pem, { tags: { a: 'b' } });
    expect(imported.properties.tags).toEqual({ a: 'b' });
    expect((await call('/certificates/reimported/pending')).status).toBe(404);
    expect((await call('/certificates/reimported/versions')).json.value).toHaveLength(2);
  });

  const unexpectedPem =
    'The specified PEM X.509 certificate content is in an unexpected format. Please check if certificate is in valid PEM format.';
  const noKey =
    'No certificate with private key found in the specified X.509 certificate content. Please specify X.509 certificate content with only one certificate containing private key.';
  const mismatch =
    'The public key of the end-entity certificate in the specified X.509 certificate content does not match the public part of the specified private key. Please check if certificate is valid.';

  it.each([
    ['a certificate alone', (_key: string, certificate: string) => certificate, noKey],
    ['a key alone', (key: string) => key, noKey],
    ['two keys', (key: string, certificate: string) => key + keyPem() + certificate, noKey],
    ['the key of another', (_key: string, certificate: string) => keyPem() + certificate, mismatch],
    [
      'lines that end as on Windows',
      (key: string, certificate: string) => (key + certificate).replaceAll('\n', '\r\n'),
      unexpectedPem,
    ],
    [
      'a key that is not PKCS#8',
      (key: string, certificate: string) => openssl(['ec'], key) + certificate,
      unexpectedPem,
    ],
    [
      'a key that is locked',
      (key: string, certificate: string) =>
        openssl(['pkcs8', '-topk8', '-passout', 'pass:x'], key) + certificate,
      unexpectedPem,
    ],
    ['blocks without meaning', () => '-----BEGIN X-----\nAAAA\n-----END X-----\n', unexpectedPem],
    [
      'a certificate that is none',
      (key: string) => `${key}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n`,
      'The specified X.509 certificate content is invalid. Error: One or more X.509 properties are invalid.',
    ],
  ])('refuses PEM with %s', async (_, make, message) => {
    const key = keyPem();
    const value = make(key, selfSigned(bench, { key }));
    const reply = await call('/certificates/bad-pem/import', 'POST', { value });
    expect([reply.status, reply.json]).toEqual([400, { error: { code: 'BadParameter', message } }]);
  });

  it('refuses what has expired, keys that are too small or of another kind, and contradictions', async () => {
    const import_ = async (name: string, pem: string, policy?: unknown) =>
      (await call(`/certificates/${name}/import`, 'POST', { value: pem, policy })).json;
    const key = keyPem();
    const certificate = selfSigned(bench, { key });
    const expired = openssl([
      ...['x509', '-req', '-signkey', file('old.key', key), '-days', '-1'],
      ...[
        '-in',
        file('old.csr', openssl(['req', '-new', '-key', pathOf('old.key'), '-subj', '/CN=old'])),
      ],
    ]);
    expect((await import_('old', key + expired)).error).toEqual({
      code: 'BadParameter',
      message: 'X509 Certificate is already expired',
    });
    const small = openssl(['genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:1024']);
    expect((await import_('small', small + selfSigned(bench, { key: small }))).error).toEqual({
      code: 'BadParameter',
      message: 'Unsupported key size (1024). Supported sizes are [2048, 3072, 4096]',
      innererror: { code: 'KeySizeNotSupported' },
    });
    const edwards = openssl(['genpkey', '-algorithm', 'ED25519']);
    expect((await import_('edwards', edwards + selfSigned(bench, { key: edwards }))).error).toEqual(
      expect.objectContaining({ code: 'BadParameter' }),
    );
    const wraps = selfSigned(bench, { key, extensions: ['keyUsage=keyEncipherment'] });
    expect((await import_('wraps', key + wraps)).error).toEqual({
      code: 'BadParameter',
      message:
        'Unsupported key operation(s): "wrapKey", "unwrapKey". Supported values are "sign", "verify".',
    });
    for (const key_props of [{ kty: 'RSA' }, { key_size: 384 }, { crv: 'P-384' }]) {
      expect((await import_('contrary', key + certificate, { key_props })).error).toEqual({
        code: 'BadParameter',
        message: 'Property policy has invalid value\r\n',
      });
    }
    const pfxSaid = { secret_props: { contentType: pfxType } };
    expect((await import_('said', key + certificate, pfxSaid)).error.message).toBe(
      unreadable.message,
    );
  });

  it('takes what the policy wants beyond the certificate', async () => {
    const key = keyPem();
    const value = key + selfSigned(bench, { key });
    const policy = { key_props: { exportable: false, reuse_key: true } };
    const { json } = await call('/certificates/sealed-import/import', 'POST', { value, policy });
    expect(json.policy.key_props).toMatchObject({ exportable: false, reuse_key: true });
    expect(labelsOf(await secretOf('sealed-import'))).toEqual(['CERTIFICATE']);
  });
});

describe('a broken certificate', () => {
  const invalid =
    'The specified X.509 certificate content is invalid. Error: One or more X.509 properties are invalid.';
  const noneValid = 'Property x5c has invalid value X5C must has at least one valid item';
  const p256 = Buffer.from('06082a8648ce3d030107', 'hex');
  const pemOf = (der: Buffer): string =>
    `-----BEGIN CERTIFICATE-----\n${der.toString('base64')}\n-----END CERTIFICATE-----\n`;
  const importPem = (name: string, key: string, ...certificates: readonly Buffer[]) =>
    call(`/certificates/${name}/import`, 'POST', { value: key + certificates.map(pemOf).join('') });
  const merge = (name: string, der: Buffer) =>
    call(`/certificates/${name}/pending/merge`, 'POST', { x5c: [der.toString('base64')] });
  // The same key each time, so that one certificate fits every request.
  const policy = {
    issuer: { name: 'Unknown' },
    key_props: { kty: 'EC', crv: 'P-256', reuse_key: true },
    x509_props: { subject: 'CN=merged' },
  };
  const request = async (name: string): Promise<Buffer> =>
    Buffer.from(
      (await call(`/certificates/${name}/create`, 'POST', { policy })).json.csr,
      'base64',
    );

  /** With the nth UTC time no time any more. */
  function withoutDate(der: Buffer, nth: number): Buffer {
    const broken = Buffer.from(der);
    const tag = Buffer.of(0x17, 13);
    const first = broken.indexOf(tag);
    const at = nth === 0 ? first : broken.indexOf(tag, first + 15);
    expect(at).toBeGreaterThan(0);
    broken.write('99x122211838Z', at + tag.length, 'latin1');
    return broken;
  }

  /** With a key on a curve that there is not. */
  function withoutCurve(der: Buffer): Buffer {
    const broken = Buffer.from(der);
    const at = broken.indexOf(p256);
    expect(at).toBeGreaterThan(0);
    broken[at + p256.length - 1] = 0x7f;
    return broken;
  }

  const faults: readonly (readonly [string, (der: Buffer) => Buffer])[] = [
    ['whose end is no date', (der) => withoutDate(der, 1)],
    ['whose start is no date', (der) => withoutDate(der, 0)],
    ['whose curve is unknown', withoutCurve],
  ];

  it.each(faults)('%s is not imported, nor is a chain with it', async (_, broken) => {
    const key = keyPem();
    const good = derOf(selfSigned(bench, { key }));
    for (const certificates of [[broken(good)], [good, broken(good)]]) {
      const { status, json } = await importPem('broken', key, ...certificates);
      expect([status, json.error]).toEqual([400, { code: 'BadParameter', message: invalid }]);
    }
    expect((await importPem('broken', key, good)).status).toBe(200);
  });

  it.each(faults)('%s is not merged', async (fault, broken) => {
    const name = `unmerged-${fault.replaceAll(' ', '-')}`;
    const good = derOf(createOutsideAuthority(bench).sign(await request(name)));
    const { status, json } = await merge(name, broken(good));
    expect([status, json.error]).toEqual([400, { code: 'BadParameter', message: noneValid }]);
    expect((await merge(name, good)).status).toBe(201);
  });

  const change = (length: number) => fc.tuple(fc.nat({ max: length - 1 }), fc.nat({ max: 255 }));
  const changed = (der: Buffer, [at, byte]: readonly [number, number]): Buffer =>
    Buffer.concat([der.subarray(0, at), Buffer.of(byte), der.subarray(at + 1)]);

  it('stops nothing, whichever byte of an imported one is another', async () => {
    const key = keyPem();
    const good = derOf(selfSigned(bench, { key }));
    await fc.assert(
      fc.asyncProperty(change(good.length), async (at) => {
        const { status, json } = await importPem('mutant', key, changed(good, at));
        expect([200, 400]).toContain(status);
        if (status === 400) expect(json.error.code).toBe('BadParameter');
      }),
      { numRuns: 150 },
    );
    expect((await importPem('mutant', key, good)).status).toBe(200);
  });

  it('stops nothing, whichever byte of a merged one is another', async () => {
    const good = derOf(createOutsideAuthority(bench).sign(await request('mutated')));
    await fc.assert(
      fc.asyncProperty(change(good.length), async (at) => {
        const { status, json } = await merge('mutated', changed(good, at));
        expect([201, 400]).toContain(status);
        if (status === 400) expect(json.error.code).toBe('BadParameter');
        else await request('mutated');
      }),
      { numRuns: 150 },
    );
    expect((await merge('mutated', good)).status).toBe(201);
  });
});

describe('subjects', () => {
  it.each([
    ['CN=a', 'CN = a'],
    ['cn=a;o=b', 'O = b, CN = a'],
    ['CN=Jos\\C3\\A9', 'CN = José'],
    ['CN=José', 'CN = José'],
    ['CN=a\\,b', 'CN = "a,b"'],
    ['CN="say ""x"""', 'CN = say \\"x\\"'],
    ['E=a@b.example, CN=x', 'CN = x, emailAddress = a@b.example'],
    ['DC=example, DC=com', 'DC = com, DC = example'],
    ['CN=a + OU=b, O=c', 'O = c, CN = a + OU = b'],
    ['OID.2.5.4.97=VAT', 'organizationIdentifier = VAT'],
    ['S=WA, ST=OR', 'ST = OR, ST = WA'],
  ])('%s', async (subject, expected) => {
    const policy = {
      issuer: { name: 'Unknown' },
      key_props: { kty: 'EC' },
      x509_props: { subject },
    };
    const name = `named-${Buffer.from(subject).toString('hex')}`;
    const { json } = await call(`/certificates/${name}/create`, 'POST', { policy });
    const args = [
      'req',
      '-inform',
      'DER',
      '-noout',
      '-subject',
      '-nameopt',
      'oneline,-esc_msb,utf8',
    ];
    const shown = openssl(args, Buffer.from(json.csr, 'base64'));
    expect(shown.trim()).toBe(`subject=${expected}`);
  });
});
