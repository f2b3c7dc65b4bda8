import { type KeyObject, X509Certificate } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { elementsIn } from '../../../src/core/simulation/der.ts';
import { encodeName, formatName } from '../../../src/core/simulation/x500-name.ts';
import { buildCertificate, buildRequest, type Subject } from '../../../src/core/simulation/x509.ts';
import { policyFacts, validityOf } from '../../../src/core/simulation/x509-facts.ts';
import { keyUsages } from '../../../src/core/vault/certificate-policy.ts';
import { createWorkbench } from '../../contract/certificate-subjects.ts';
import { ecPairs, rsaPair } from '../../support/key-pairs.ts';

const bench = createWorkbench();
afterAll(bench.clear);

const types = ['CN', 'O', 'OU', 'L', 'S', 'E', 'DC', 'OID.1.2.3.45678'];
const attribute = fc
  .tuple(fc.constantFrom(...types), fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }))
  .map(([type, value]) => `${type}="${value.replaceAll('"', '""')}"`);
const nameText = fc.array(attribute, { minLength: 1, maxLength: 5 }).map((all) => all.join(', '));

/** As it would be written back. */
function written(text: string): string | null {
  const der = encodeName(text);
  return der && formatName(elementsIn(der)[0]?.content ?? Buffer.alloc(0));
}

describe('an X.500 name', () => {
  it('means the same when it is written, read and written again', () => {
    fc.assert(
      fc.property(nameText, (text) => {
        const once = written(text);
        expect(once).not.toBeNull();
        expect(written(once ?? '')).toBe(once);
        expect(encodeName(once ?? '')).toEqual(encodeName(text));
      }),
    );
  });

  it.each([
    ['CN=a', 'CN=a'],
    ['cn = a ,o="b, c"', 'CN=a, O="b, c"'],
    ['CN=a\\, b;ST=c+L=d', 'CN="a, b", L=d + S=c'],
    ['', ''],
  ])('%j is written %j', (text, wanted) => expect(written(text)).toBe(wanted));

  it.each(['a', 'CN=', 'XY=a', 'CN=a,', 'CN=a"b', 'CN="a', '=a'])('is not %j', (text) =>
    expect(encodeName(text)).toBeNull(),
  );

  it('is never anything but a name or none', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 60 }), (text) => {
        const der = encodeName(text);
        expect(der === null || elementsIn(der).length === 1).toBe(true);
      }),
    );
  });
});

const seconds = (from: string, until: string) =>
  fc
    .date({ min: new Date(from), max: new Date(until), noInvalidDate: true })
    .map((date) => new Date(Math.floor(date.getTime() / 1000) * 1000));
const domain = fc.domain();
const subject: fc.Arbitrary<Subject> = fc.record({
  name: fc.constant(encodeName('CN=subject.example') ?? Buffer.alloc(0)),
  isCa: fc.constant(false),
  keyUsage: fc.subarray([...keyUsages]),
  enhancedKeyUsage: fc.subarray(['1.3.6.1.5.5.7.3.1', '1.3.6.1.4.1.311.10.3.12', '2.5.29.37.0']),
  dnsNames: fc.uniqueArray(domain, { maxLength: 3 }),
  emails: fc.uniqueArray(fc.emailAddress(), { maxLength: 2 }),
  userPrincipalNames: fc.uniqueArray(fc.string({ minLength: 1, unit: 'grapheme' }), {
    maxLength: 2,
  }),
  uris: fc.uniqueArray(fc.webUrl(), { maxLength: 2 }),
  ipAddresses: fc.uniqueArray(
    fc.oneof(
      fc.ipV4(),
      fc.ipV6().map((address) => new URL(`http://[${address}]`).hostname.slice(1, -1)),
    ),
    { maxLength: 3 },
  ),
});

describe('a certificate', () => {
  it('says what it was made with', () => {
    const { privateKey: key } = ecPairs['P-256'];
    const validity = fc.record({
      notBefore: seconds('1970-01-01', '2060-01-01'),
      expiresOn: seconds('2060-01-02', '9999-12-31'),
    });
    fc.assert(
      fc.property(subject, validity, (wanted, dates) => {
        const der = buildCertificate(wanted, key, { name: wanted.name, key }, dates);
        const certificate = new X509Certificate(der);
        expect(certificate.verify(certificate.publicKey)).toBe(true);
        expect(validityOf(certificate)).toEqual(dates);
        const { name: _, isCa, ...facts } = wanted;
        expect(certificate.ca).toBe(isCa);
        expect(policyFacts(certificate)).toMatchObject({ subject: 'CN=subject.example', ...facts });
      }),
      { numRuns: 50 },
    );
  });

  it.each([
    [['digitalSignature'], '03020780'],
    [['keyCertSign', 'cRLSign'], '03020106'],
    [['digitalSignature', 'decipherOnly'], '0303078080'],
  ])('has no zeros behind its usages %j', (keyUsage, bits) => {
    const { privateKey: key } = ecPairs['P-256'];
    const [some] = fc.sample(subject, { numRuns: 1, seed: 1 });
    const dates = { notBefore: new Date(0), expiresOn: new Date(1) };
    const wanted = { ...some!, keyUsage };
    const der = buildCertificate(wanted, key, { name: wanted.name, key }, dates);
    expect(der.toString('hex')).toContain(
      `0603551d0f0101ff04${bits.length === 8 ? '04' : '05'}${bits}`,
    );
  });

  const keys: readonly (readonly [string, KeyObject])[] = [
    ['RSA', rsaPair.privateKey],
    ...Object.entries(ecPairs).map(([curve, pair]) => [curve, pair.privateKey] as const),
  ];

  it.each(keys)('and its request prove a key of %s to whoever looks', (_of, key) => {
    const [wanted] = fc.sample(subject, { numRuns: 1, seed: 1 });
    const request = buildRequest(wanted!, key);
    const args = ['req', '-inform', 'DER', '-noout', '-verify', '-text'];
    expect(bench.openssl(args, request)).toContain('subject.example');
    const name = wanted!.name;
    const dates = { notBefore: new Date(0), expiresOn: new Date('2051-01-01T00:00:00Z') };
    const der = buildCertificate({ ...wanted!, isCa: true }, key, { name, key }, dates);
    const certificate = new X509Certificate(der);
    expect(certificate.checkPrivateKey(key)).toBe(true);
    expect(certificate.verify(certificate.publicKey)).toBe(true);
    expect(certificate.ca).toBe(true);
  });
});
