import fc from 'fast-check';
import type { Operation } from '../../local/key-vault/operation.ts';

// Requests as nobody sends them on purpose: what is right about an operation, broken somewhere.

export type HostileRequest = {
  readonly method: string;
  /** Path and query, as they go over the wire. */
  readonly target: string;
  /** Text, sent as it is; absent: no body. */
  readonly body?: string;
};

/** What exists in the vault that is asked, so that requests get as far as they can. */
export const knownNames = ['secret', 'ec', 'rsa', 'oct', 'cert', 'pending', 'gone'] as const;

const digest = 'A'.repeat(43);
const block = 'AAAAAAAAAAAAAAAAAAAAAA';
const tags = { owner: 'x' };
const attributes = { enabled: true, nbf: 1, exp: 2_000_000_000 };
const policy = {
  issuer: { name: 'Self' },
  key_props: { kty: 'EC', crv: 'P-256', exportable: true, reuse_key: false },
  secret_props: { contentType: 'application/x-pem-file' },
  x509_props: {
    subject: 'CN=x',
    sans: { dns_names: ['x.example'], emails: ['a@x.example'], upns: ['a@x.example'] },
    ekus: ['1.3.6.1.5.5.7.3.1'],
    key_usage: ['digitalSignature'],
    validity_months: 12,
    basic_constraints: { ca: false },
  },
  lifetime_actions: [
    { trigger: { lifetime_percentage: 80 }, action: { action_type: 'AutoRenew' } },
  ],
  attributes: { enabled: true },
};
const releasePolicy = { contentType: 'application/json', data: 'e30', immutable: false };

/** A body that each operation takes, or nearly so. */
const usualBodies: Readonly<Record<string, unknown>> = {
  setSecret: { value: 'v', contentType: 'text/plain', tags, attributes },
  updateSecret: { contentType: 'text/plain', tags, attributes },
  createKey: {
    kty: 'EC',
    crv: 'P-256',
    key_ops: ['sign'],
    attributes,
    tags,
    release_policy: releasePolicy,
  },
  importKey: {
    Hsm: false,
    key: { kty: 'EC', crv: 'P-256', x: digest, y: digest, d: digest, key_ops: ['sign'] },
    attributes,
    tags,
  },
  updateKey: { key_ops: ['sign', 'verify'], attributes, tags, release_policy: releasePolicy },
  encrypt: { alg: 'A256GCM', value: block, iv: block, aad: block, tag: block },
  decrypt: { alg: 'A256CBCPAD', value: block, iv: block, aad: block, tag: block },
  wrapKey: { alg: 'A256KW', value: digest },
  unwrapKey: { alg: 'RSA-OAEP', value: digest },
  sign: { alg: 'ES256', value: digest },
  verify: { alg: 'ES256', digest, value: `${digest}${digest}` },
  updateKeyRotationPolicy: {
    lifetimeActions: [{ trigger: { timeAfterCreate: 'P30D' }, action: { type: 'Rotate' } }],
    attributes: { expiryTime: 'P90D' },
  },
  release: { target: 'e30.e30.AA', nonce: 'n', enc: 'RSA_AES_KEY_WRAP_256' },
  getRandomBytes: { count: 16 },
  setCertificateIssuer: {
    provider: 'Test',
    credentials: { account_id: 'a', pwd: 'p' },
    org_details: { id: 'o', admin_details: [{ first_name: 'A', email: 'a@x.example' }] },
    attributes: { enabled: true },
  },
  updateCertificateIssuer: { provider: 'Test', attributes: { enabled: false } },
  setCertificateContacts: { contacts: [{ email: 'a@x.example', name: 'A', phone: '1' }] },
  createCertificate: { policy, attributes: { enabled: true }, tags },
  updateCertificateOperation: { cancellation_requested: true },
  mergeCertificate: { x5c: ['MIIB', block] },
  importCertificate: { value: 'MIIB', pwd: 'p', policy, attributes: { enabled: true }, tags },
  updateCertificate: { attributes: { enabled: true }, tags, policy },
  updateCertificatePolicy: policy,
};
for (const type of ['Secret', 'Key', 'Certificate']) {
  Object.assign(usualBodies, { [`restore${type}`]: { value: 'AQ' } });
}

const words = fc.constantFrom(
  ...['EC', 'EC-HSM', 'oct-HSM', 'oct', 'P-256', 'P-521', 'P-256K', 'ES256', 'ES256K', 'HS256'],
  ...['RS256', 'PS512', 'RSNULL', 'RSA1_5', 'RSA-OAEP', 'A128GCM', 'A128CBC', 'A192KW'],
  ...['CKM_AES_KEY_WRAP_PAD', 'CKM_RSA_AES_KEY_WRAP', 'sign', 'wrapKey', 'export'],
  ...['P30D', 'P1Y6M', 'P99999999999D', '-P1D', 'Rotate', 'Notify', 'Self', 'Unknown'],
  ...['application/x-pkcs12', 'application/x-pem-file', 'AutoRenew', 'EmailContacts'],
  ...['CN=', 'CN=a,', 'O="', 'CN=\\', 'CN=x+OU=y', '1.2', '1.2.840.99999999999999999999', '..'],
  ...['-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----', '=', '!', ' ', '\u0000'],
  ...['__proto__', 'constructor', 'MAA', 'MIIC', 'BAA=', '\ud800', '💥'],
);
const huge = fc.constantFrom(
  'A'.repeat(30_000),
  'é'.repeat(20_000),
  '9'.repeat(5000),
  '='.repeat(999),
);
const numbers = fc.constantFrom(0, -0, -1, 0.5, 1e21, 1e308, -2_085_978_496, 2 ** 31, 2 ** 53, 25);
const base64url = fc
  .uint8Array({ maxLength: 300 })
  .map((bytes) => Buffer.from(bytes).toString('base64url'));
const leaf = fc.oneof(
  { weight: 4, arbitrary: words },
  { weight: 2, arbitrary: base64url },
  fc.string({ unit: 'binary' }),
  huge,
  numbers,
  fc.boolean(),
  fc.constant(null),
);
const memberNames = fc.oneof(
  fc.constantFrom(
    'value',
    'alg',
    'kty',
    'key',
    'key_ops',
    'exp',
    'tags',
    'policy',
    '__proto__',
    '',
  ),
  fc.string({ maxLength: 5 }),
);
const hostileValue = fc.oneof(
  { weight: 4, arbitrary: leaf },
  fc.array(leaf, { maxLength: 4 }),
  fc.dictionary(memberNames, leaf, { maxKeys: 4 }),
  fc.constant(Object.fromEntries(Array.from({ length: 40 }, (_, index) => [`m${index}`, 'v']))),
  fc.constant(JSON.parse('['.repeat(400) + ']'.repeat(400)) as unknown),
);

type Mutation = {
  readonly at: number;
  readonly how: 'drop' | 'replace' | 'add';
  readonly value: unknown;
};
const mutation: fc.Arbitrary<Mutation> = fc.record({
  at: fc.nat(),
  how: fc.constantFrom('drop', 'replace', 'replace', 'replace', 'add'),
  value: hostileValue,
});

/** @returns a copy in which one place is broken */
function broken(body: unknown, { at, how, value }: Mutation): unknown {
  const copy = structuredClone(body);
  const places: [Record<string, unknown>, string][] = [];
  const visit = (node: unknown): void => {
    if (typeof node !== 'object' || node === null) return;
    for (const [name, child] of Object.entries(node)) {
      places.push([node as Record<string, unknown>, name]);
      visit(child);
    }
  };
  visit(copy);
  const [node, name] = places[at % Math.max(places.length, 1)] ?? [];
  if (node === undefined || name === undefined) return value;
  if (how === 'drop') delete node[name];
  else node[how === 'add' ? 'extra' : name] = value;
  return copy;
}

function bodyOf(id: string): fc.Arbitrary<string | undefined> {
  const usual = usualBodies[id] ?? {};
  const changed = fc
    .array(mutation, { minLength: 0, maxLength: 3 })
    .map((mutations) => JSON.stringify(mutations.reduce(broken, usual)));
  return fc.oneof(
    { weight: 8, arbitrary: changed },
    hostileValue.map((value) => JSON.stringify(value)),
    fc.constantFrom(undefined, '', '{', '{"value":', 'null', '[]', '"', '\u0000', '\ufeff{}'),
    fc.constant('[1'.repeat(100_000)),
  );
}

const segment = fc.oneof(
  { weight: 12, arbitrary: fc.constantFrom(...knownNames) },
  fc.constantFrom(
    'absent',
    'SECRET',
    'restore',
    'issuers',
    'contacts',
    'versions',
    'a'.repeat(128),
  ),
  fc.constantFrom(
    '',
    '.',
    '..',
    '%2e%2e',
    '%',
    '%ZZ',
    '%00',
    '%2F',
    '%E4',
    '%F0%9F%92%A5',
    'a b',
    '~',
  ),
  fc.string({ maxLength: 12 }).map((text) => encodeURIComponent(text.toWellFormed())),
);
const versionSegment = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom('', '0'.repeat(32), 'F'.repeat(32), 'x', 'pending') },
  segment,
);
const query = fc.oneof(
  { weight: 10, arbitrary: fc.constantFrom('api-version=2026-04-01', 'api-version=7.4') },
  fc
    .record({ size: fc.oneof(words, fc.nat().map(String)), token: fc.oneof(base64url, words) })
    .map(
      ({ size, token }) =>
        `api-version=7.6&maxresults=${encoded(size)}&$skiptoken=${encoded(token)}`,
    ),
  fc.constantFrom(
    '',
    'api-version',
    'api-version=&api-version=7.4',
    'api%2Dversion=7.4',
    'api-version=9',
  ),
  fc.string({ maxLength: 20 }).map(encoded),
);

function encoded(text: string): string {
  return encodeURIComponent(text.toWellFormed());
}

/** Requests for one operation, most with its method and a path that fits. */
function requestsFor({ id, method, template }: Operation): fc.Arbitrary<HostileRequest> {
  const parts = template.split('/').map((part) => {
    if (part === '{name}') return segment;
    return part === '{version}' ? versionSegment : fc.constant(part);
  });
  const verb = fc.oneof(
    { weight: 20, arbitrary: fc.constant(method as string) },
    fc.constantFrom('GET', 'PUT', 'POST', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'HEAD'),
  );
  return fc
    .tuple(verb, fc.tuple(...parts), query, bodyOf(id))
    .map(([wanted, path, search, body]) => ({
      method: wanted,
      // Node's client refuses to send these itself.
      target: `${path.join('/').replaceAll(/[\s#?]/g, '')}?${search}`,
      ...(body === undefined ? {} : { body }),
    }));
}

export function hostileRequests(operations: readonly Operation[]): fc.Arbitrary<HostileRequest> {
  return fc.oneof(...operations.map(requestsFor));
}
