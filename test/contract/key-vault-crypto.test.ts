import { execFile, execFileSync } from 'node:child_process';
import {
  constants,
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  privateDecrypt,
  privateEncrypt,
  publicDecrypt,
  publicEncrypt,
  randomBytes,
  sign,
  verify,
} from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { CryptographyClient, type KeyVaultKey } from '@azure/keyvault-keys';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type KeyGround, prepareKeyGround, refusal } from './key-ground.ts';

const run = promisify(execFile);
const message = Buffer.from('What is to be signed, encrypted or wrapped.');
const aesKeys = { 128: randomBytes(16), 192: randomBytes(24), 256: randomBytes(32) };
const curves = { 'P-256': 'P-256', 'P-384': 'P-384', 'P-521': 'P-521', 'P-256K': 'secp256k1' };
type Curve = keyof typeof curves;

let at: KeyGround;
let directory: string;
/** Private keys that node:crypto has and the vault got by import, by the name they have in the vault. */
const pairs = new Map<string, KeyObject>();

beforeAll(async () => {
  at = await prepareKeyGround();
  directory = await mkdtemp(join(tmpdir(), 'keys-'));
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  await importPair('RSA', rsa, false);
  await importPair('RSA-HSM', rsa, true);
  for (const [crv, namedCurve] of Object.entries(curves)) {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve });
    await importPair(`EC-${crv}`, privateKey, false, crv);
    await importPair(`EC-HSM-${crv}`, privateKey, true, crv);
  }
  for (const [bits, k] of Object.entries(aesKeys)) {
    const key_ops = ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey', 'sign', 'verify'];
    const key = { kty: 'oct-HSM', k: k.toString('base64url'), key_ops };
    expect((await at.send('PUT', `/keys/oct-${bits}`, { key })).status).toBe(200);
  }
});
afterAll(async () => {
  await at.ground.stop();
  await rm(directory, { recursive: true });
});

async function importPair(name: string, key: KeyObject, Hsm: boolean, crv?: string) {
  pairs.set(name, key);
  const jwk = { ...key.export({ format: 'jwk' }), ...(crv === undefined ? {} : { crv }) };
  const reply = await at.send('PUT', `/keys/${name}`, { key: jwk, Hsm });
  expect([reply.status, reply.json.key.kty]).toEqual([200, Hsm ? `${jwk.kty}-HSM` : jwk.kty]);
}

/** One operation of the vault, by raw request. */
async function ask(name: string, operation: string, body: Record<string, Buffer | string>) {
  const encoded = Object.entries(body).map(([key, value]) => [
    key,
    typeof value === 'string' ? value : value.toString('base64url'),
  ]);
  const reply = await at.send('POST', `/keys/${name}//${operation}`, Object.fromEntries(encoded));
  expect([reply.status, reply.text]).toEqual([200, expect.any(String)]);
  return reply.json;
}

function bytes(text: string): Buffer {
  return Buffer.from(text, 'base64url');
}

function digestOf(hash: string): Buffer {
  return createHash(hash).update(message).digest();
}

type Scheme = {
  readonly alg: string;
  readonly hash: string;
  readonly keys: readonly string[];
  readonly options: Record<string, unknown>;
};
const pss = {
  padding: constants.RSA_PKCS1_PSS_PADDING,
  saltLength: constants.RSA_PSS_SALTLEN_DIGEST,
};
const raw = { dsaEncoding: 'ieee-p1363' };
const rsaKeys = ['RSA', 'RSA-HSM'];
const ecKeys = (curve: Curve) => [`EC-${curve}`, `EC-HSM-${curve}`];
const schemes: readonly Scheme[] = [
  { alg: 'RS256', hash: 'sha256', keys: rsaKeys, options: {} },
  { alg: 'RS384', hash: 'sha384', keys: rsaKeys, options: {} },
  { alg: 'RS512', hash: 'sha512', keys: rsaKeys, options: {} },
  { alg: 'PS256', hash: 'sha256', keys: rsaKeys, options: pss },
  { alg: 'PS384', hash: 'sha384', keys: rsaKeys, options: pss },
  { alg: 'PS512', hash: 'sha512', keys: rsaKeys, options: pss },
  { alg: 'ES256', hash: 'sha256', keys: ecKeys('P-256'), options: raw },
  { alg: 'ES384', hash: 'sha384', keys: ecKeys('P-384'), options: raw },
  { alg: 'ES512', hash: 'sha512', keys: ecKeys('P-521'), options: raw },
  { alg: 'ES256K', hash: 'sha256', keys: ecKeys('P-256K'), options: raw },
];
const signings = schemes.flatMap((scheme) => scheme.keys.map((name) => ({ ...scheme, name })));

describe('signatures between the vault and node:crypto', () => {
  it.each(signings)('$alg made with $name by the vault', async ({ alg, hash, name, options }) => {
    const key = createPublicKey(pairs.get(name)!);
    // Several, because a wrong handling of leading zeros shows in one of 256.
    for (let index = 0; index < 5; index += 1) {
      const { value, kid } = await ask(name, 'sign', { alg, value: digestOf(hash) });
      expect(verify(hash, message, { key, ...options }, bytes(value))).toBe(true);
      expect(kid).toMatch(new RegExp(`/keys/${name}/[0-9a-f]{32}$`));
    }
  });

  it.each(signings)('$alg made with $name by node', async ({ alg, hash, name, options }) => {
    const key = pairs.get(name)!;
    for (let index = 0; index < 5; index += 1) {
      const value = sign(hash, message, { key, ...options });
      const digest = digestOf(hash);
      expect(await ask(name, 'verify', { alg, digest, value })).toEqual({ value: true });
    }
  });

  it.each(signings)('$alg forged, with $name', async ({ alg, hash, name, options }) => {
    const digest = digestOf(hash);
    const value = sign(hash, message, { key: pairs.get(name)!, ...options });
    const flipped = Buffer.from(value.map((byte, index) => (index === 9 ? byte ^ 1 : byte)));
    const forgeries = [
      flipped,
      value.subarray(1),
      Buffer.concat([value, Buffer.alloc(1)]),
      Buffer.alloc(value.length),
      Buffer.alloc(value.length, 0xff),
      Buffer.alloc(1),
    ];
    for (const forgery of forgeries) {
      expect(await ask(name, 'verify', { alg, digest, value: forgery })).toEqual({ value: false });
    }
    const other = createHash(hash).update('other').digest();
    expect(await ask(name, 'verify', { alg, digest: other, value })).toEqual({ value: false });
  });

  it.each(rsaKeys)('RSNULL with %s is PKCS #1 of whatever comes', async (name) => {
    const key = pairs.get(name)!;
    const { value } = await ask(name, 'sign', { alg: 'RSNULL', value: message });
    expect(publicDecrypt(key, bytes(value))).toEqual(message);
    const made = privateEncrypt(key, message);
    const verification = { alg: 'RSNULL', digest: message, value: made };
    expect(await ask(name, 'verify', verification)).toEqual({ value: true });
  });

  it.each([
    ['HS256', 'sha256'],
    ['HS384', 'sha384'],
    ['HS512', 'sha512'],
  ])('%s', async (alg, hash) => {
    const expected = createHmac(hash, aesKeys[256]).update(message).digest();
    const { value } = await ask('oct-256', 'sign', { alg, value: message });
    expect(bytes(value)).toEqual(expected);
    const hexKey = `hexkey:${aesKeys[256].toString('hex')}`;
    const judge = ['dgst', `-${hash}`, '-binary', '-mac', 'HMAC', '-macopt', hexKey];
    expect(bytes(value)).toEqual(execFileSync('openssl', judge, { input: message }));
    const good = { alg, digest: message, value: expected };
    expect(await ask('oct-256', 'verify', good)).toEqual({ value: true });
    for (const forgery of [randomBytes(expected.length), randomBytes(5)]) {
      const bad = { ...good, value: forgery };
      expect(await ask('oct-256', 'verify', bad)).toEqual({ value: false });
    }
  });

  it('ECDSA signatures differ each time, and s is not always low', async () => {
    const half = 2n ** 255n;
    const made = new Set<string>();
    let high = 0;
    for (let index = 0; index < 40; index += 1) {
      const { value } = await ask('EC-P-256K', 'sign', {
        alg: 'ES256K',
        value: digestOf('sha256'),
      });
      made.add(value);
      if (BigInt(`0x${bytes(value).subarray(32).toString('hex')}`) > half) high += 1;
    }
    expect(made.size).toBe(40);
    expect(high).toBeGreaterThan(0);
    expect(high).toBeLessThan(40);
  });
});

const paddings = [
  { alg: 'RSA1_5', options: { padding: constants.RSA_PKCS1_PADDING } },
  { alg: 'RSA-OAEP', options: { oaepHash: 'sha1' } },
  { alg: 'RSA-OAEP-256', options: { oaepHash: 'sha256' } },
];
const rsaRounds = paddings.flatMap((padding) =>
  rsaKeys.flatMap((name) =>
    [
      ['encrypt', 'decrypt'],
      ['wrapkey', 'unwrapkey'],
    ].map(([to = '', from = '']) => ({ ...padding, name, to, from })),
  ),
);

describe('encryption between the vault and node:crypto', () => {
  it.each(rsaRounds)('$alg: $to and $from with $name', async ({ alg, options, name, to, from }) => {
    const key = pairs.get(name)!;
    const there = await ask(name, to, { alg, value: message });
    expect(privateDecrypt({ key, ...options }, bytes(there.value))).toEqual(message);
    const value = publicEncrypt({ key: createPublicKey(key), ...options }, message);
    expect(bytes((await ask(name, from, { alg, value })).value)).toEqual(message);
  });

  it.each([128, 192, 256] as const)('A%iGCM, with and without further data', async (bits) => {
    const alg = `A${bits}GCM`;
    const cipher = `aes-${bits}-gcm` as 'aes-256-gcm';
    for (const aad of [undefined, Buffer.from('further data')]) {
      const extra = aad === undefined ? {} : { aad };
      const sealed = await ask(`oct-${bits}`, 'encrypt', { alg, value: message, ...extra });
      expect([bytes(sealed.iv).length, bytes(sealed.tag).length]).toEqual([12, 16]);
      expect(sealed.aad).toEqual(aad?.toString('base64url'));
      const opener = createDecipheriv(cipher, aesKeys[bits], bytes(sealed.iv));
      opener.setAAD(aad ?? Buffer.alloc(0)).setAuthTag(bytes(sealed.tag));
      const opened = Buffer.concat([opener.update(bytes(sealed.value)), opener.final()]);
      expect(opened).toEqual(message);

      const iv = randomBytes(12);
      const closer = createCipheriv(cipher, aesKeys[bits], iv).setAAD(aad ?? Buffer.alloc(0));
      const value = Buffer.concat([closer.update(message), closer.final()]);
      const own = { alg, value, iv, tag: closer.getAuthTag(), ...extra };
      expect(bytes((await ask(`oct-${bits}`, 'decrypt', own)).value)).toEqual(message);
    }
  });

  it.each([128, 192, 256] as const)('A%iCBC and its padding', async (bits) => {
    const blocks = randomBytes(48);
    for (const [alg, plain] of [
      [`A${bits}CBC`, blocks],
      [`A${bits}CBCPAD`, message],
    ] as const) {
      const iv = randomBytes(16);
      const closer = createCipheriv(`aes-${bits}-cbc`, aesKeys[bits], iv);
      closer.setAutoPadding(alg.endsWith('PAD'));
      const expected = Buffer.concat([closer.update(plain), closer.final()]);
      const sealed = await ask(`oct-${bits}`, 'encrypt', { alg, value: plain, iv });
      expect(sealed).toMatchObject({
        value: expected.toString('base64url'),
        iv: iv.toString('base64url'),
      });
      const opened = await ask(`oct-${bits}`, 'decrypt', { alg, value: expected, iv });
      expect(bytes(opened.value)).toEqual(plain);
    }
  });

  const wrappings = ([128, 192, 256] as const).flatMap((bits) => [
    { alg: `A${bits}KW`, bits, mode: 'wrap', content: randomBytes(32) },
    { alg: 'CKM_AES_KEY_WRAP', bits, mode: 'wrap', content: randomBytes(16) },
    { alg: 'CKM_AES_KEY_WRAP_PAD', bits, mode: 'wrap-pad', content: randomBytes(21) },
    { alg: 'CKM_AES_KEY_WRAP_PAD', bits, mode: 'wrap-pad', content: randomBytes(1) },
  ]);
  it.each(wrappings)('$alg with $bits bits', async ({ alg, bits, mode, content }) => {
    const iv = Buffer.from(mode === 'wrap' ? 'a6a6a6a6a6a6a6a6' : 'a65959a6', 'hex');
    const closer = createCipheriv(`id-aes${bits}-${mode}`, aesKeys[bits], iv);
    const expected = Buffer.concat([closer.update(content), closer.final()]);
    const wrapped = await ask(`oct-${bits}`, 'wrapkey', { alg, value: content });
    expect(bytes(wrapped.value)).toEqual(expected);
    const unwrapped = await ask(`oct-${bits}`, 'unwrapkey', { alg, value: expected });
    expect(bytes(unwrapped.value)).toEqual(content);
  });

  // RFC 3394, 4.6.
  it('wraps as the standard says', async () => {
    const k = '000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F';
    const content = '00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F';
    const wrapped =
      '28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21';
    const key = { kty: 'oct', k: Buffer.from(k, 'hex').toString('base64url') };
    await at.send('PUT', '/keys/rfc3394', { key });
    const { value } = await ask('rfc3394', 'wrapkey', {
      alg: 'A256KW',
      value: Buffer.from(content, 'hex'),
    });
    expect(bytes(value).toString('hex').toUpperCase()).toBe(wrapped);
  });
});

describe('openssl', () => {
  const generated = [
    ...[2048, 3072, 4096].map((key_size) => ({ name: `made-${key_size}`, kty: 'RSA', key_size })),
    { name: 'made-hsm', kty: 'RSA-HSM' },
    ...Object.keys(curves).map((crv) => ({ name: `made-${crv}`, kty: 'EC', crv })),
    ...Object.keys(curves).map((crv) => ({ name: `made-hsm-${crv}`, kty: 'EC-HSM', crv })),
  ];
  const publicFile = (name: string) => join(directory, `${name}.pem`);
  const file = async (name: string, content: Buffer | string): Promise<string> => {
    const path = join(directory, name);
    await writeFile(path, content);
    return path;
  };

  beforeAll(async () => {
    await file('message', message);
    for (const { name, ...body } of generated) {
      const reply = await at.send('POST', `/keys/${name}/create`, body);
      expect(reply.status).toBe(200);
      const { key_ops: _ops, kid: _kid, ...jwk } = reply.json.key;
      const key = {
        ...jwk,
        kty: jwk.kty.replace('-HSM', ''),
        ...(jwk.crv ? { crv: curves[jwk.crv as Curve] } : {}),
      };
      const pem = createPublicKey({ format: 'jwk', key }).export({ format: 'pem', type: 'spki' });
      await file(`${name}.pem`, pem);
    }
  });

  const rsaChecks = ['made-2048', 'made-3072', 'made-4096', 'made-hsm'].flatMap((name) =>
    ['256', '384', '512'].flatMap((bits) => [
      { name, alg: `RS${bits}`, bits },
      { name, alg: `PS${bits}`, bits },
    ]),
  );
  it.each(rsaChecks)('accepts $alg of $name', async ({ name, alg, bits }) => {
    const { value } = await ask(name, 'sign', { alg, value: digestOf(`sha${bits}`) });
    const signature = await file(`${name}.${alg}`, bytes(value));
    const padding = alg.startsWith('PS')
      ? ['-sigopt', 'rsa_padding_mode:pss', '-sigopt', 'rsa_pss_saltlen:digest']
      : [];
    const how = [`-sha${bits}`, ...padding, '-verify', publicFile(name), '-signature', signature];
    const { stdout } = await run('openssl', ['dgst', ...how, join(directory, 'message')]);
    expect(stdout).toBe('Verified OK\n');
  });

  const ecAlgorithms = { 'P-256': 'ES256', 'P-384': 'ES384', 'P-521': 'ES512', 'P-256K': 'ES256K' };
  const ecChecks = Object.entries(ecAlgorithms).flatMap(([crv, alg]) => [
    { name: `made-${crv}`, alg },
    { name: `made-hsm-${crv}`, alg },
  ]);
  it.each(ecChecks)('accepts $alg of $name', async ({ name, alg }) => {
    const bits = { ES384: '384', ES512: '512' }[alg] ?? '256';
    const { value } = await ask(name, 'sign', { alg, value: digestOf(`sha${bits}`) });
    const signature = await file(`${name}.${alg}`, toDer(bytes(value)));
    const how = [`-sha${bits}`, '-verify', publicFile(name), '-signature', signature];
    const { stdout } = await run('openssl', ['dgst', ...how, join(directory, 'message')]);
    expect(stdout).toBe('Verified OK\n');
  });

  it.each(paddings)('encrypts with $alg for the vault', async ({ alg }) => {
    const options = {
      RSA1_5: ['rsa_padding_mode:pkcs1'],
      'RSA-OAEP': ['rsa_padding_mode:oaep'],
      'RSA-OAEP-256': ['rsa_padding_mode:oaep', 'rsa_oaep_md:sha256', 'rsa_mgf1_md:sha256'],
    }[alg]!;
    const out = join(directory, `encrypted.${alg}`);
    await run('openssl', [
      ...['pkeyutl', '-encrypt', '-pubin', '-inkey', publicFile('made-2048')],
      ...['-in', join(directory, 'message'), '-out', out],
      ...options.flatMap((option) => ['-pkeyopt', option]),
    ]);
    const opened = await ask('made-2048', 'decrypt', { alg, value: await readFile(out) });
    expect(bytes(opened.value)).toEqual(message);
  });
});

/** r and s as the ASN.1 sequence that openssl reads. */
function toDer(signature: Buffer): Buffer {
  const integer = (half: Buffer): Buffer => {
    const hex = BigInt(`0x${half.toString('hex')}`).toString(16);
    const even = Buffer.from(hex.padStart(hex.length + (hex.length % 2), '0'), 'hex');
    const positive = even[0]! & 0x80 ? Buffer.concat([Buffer.of(0), even]) : even;
    return Buffer.concat([Buffer.of(2, positive.length), positive]);
  };
  const half = signature.length / 2;
  const both = [integer(signature.subarray(0, half)), integer(signature.subarray(half))];
  const content = Buffer.concat(both);
  const length = content.length > 127 ? [0x81, content.length] : [content.length];
  return Buffer.concat([Buffer.of(0x30, ...length), content]);
}

describe('CryptographyClient', () => {
  async function remoteCalls(operation: string, name: string): Promise<number> {
    const { json } = await at.control('GET', `/audit?operation=${operation}&object=${name}`);
    return json.value.length;
  }

  it('encrypts, wraps and verifies locally what the vault decrypts, unwraps and signs', async () => {
    const key = await at.client.createRsaKey('local-rsa');
    const crypto = at.cryptoOf(key);
    for (const alg of ['RSA1_5', 'RSA-OAEP'] as const) {
      const { result } = await crypto.encrypt(alg, message);
      expect(Buffer.from((await crypto.decrypt(alg, result)).result)).toEqual(message);
      const wrapped = await crypto.wrapKey(alg, message);
      expect(Buffer.from((await crypto.unwrapKey(alg, wrapped.result)).result)).toEqual(message);
    }
    for (const alg of ['RS256', 'RS384', 'RS512'] as const) {
      const { result } = await crypto.signData(alg, message);
      expect((await crypto.verifyData(alg, message, result)).result).toBe(true);
    }
    for (const operation of ['encrypt', 'wrapKey', 'verify']) {
      expect([operation, await remoteCalls(operation, 'local-rsa')]).toEqual([operation, 0]);
    }
    expect(await remoteCalls('sign', 'local-rsa')).toBe(3);
  });

  it('leaves the rest to the vault', async () => {
    const crypto = at.cryptoOf(await at.client.getKey('RSA'));
    const { result } = await crypto.encrypt('RSA-OAEP-256', message);
    expect(Buffer.from((await crypto.decrypt('RSA-OAEP-256', result)).result)).toEqual(message);
    const digest = digestOf('sha256');
    const signed = await crypto.sign('PS256', digest);
    expect((await crypto.verify('PS256', digest, signed.result)).result).toBe(true);
    expect(await remoteCalls('encrypt', 'RSA')).toBeGreaterThan(0);
  });

  it.each([
    ['P-256', 'ES256'],
    ['P-384', 'ES384'],
    ['P-521', 'ES512'],
    ['P-256K', 'ES256K'],
  ] as const)('signs data with %s', async (curve, alg) => {
    const crypto = at.cryptoOf(await at.client.getKey(`EC-${curve}`));
    const { result } = await crypto.signData(alg, message);
    expect((await crypto.verifyData(alg, message, result)).result).toBe(true);
    expect((await crypto.verifyData(alg, Buffer.from('other'), result)).result).toBe(false);
  });

  it('encrypts AES locally with a key that the vault has too, and the other way round', async () => {
    const local = new CryptographyClient({
      kty: 'oct',
      k: aesKeys[256],
      keyOps: ['encrypt', 'decrypt'],
    });
    const remote = at.cryptoOf(await at.client.getKey('oct-256'));
    const iv = randomBytes(16);
    const algorithm = 'A256CBCPAD' as const;
    const made = await local.encrypt({ algorithm, plaintext: message, iv });
    const opened = await remote.decrypt({ algorithm, ciphertext: made.result, iv });
    expect(Buffer.from(opened.result)).toEqual(message);
    const back = await remote.encrypt({ algorithm, plaintext: message, iv });
    expect(Buffer.from(back.result)).toEqual(Buffer.from(made.result));
  });

  it('works with the latest version when the id names none', async () => {
    const crypto = at.cryptoOf(`${at.url}/keys/RSA`);
    const signed = await crypto.sign('RS256', digestOf('sha256'));
    expect(signed.keyID).toBe((await at.client.getKey('RSA')).id);
  });
});

describe('what a key is allowed', () => {
  const past = 1_000_000_000;
  const future = 4_000_000_000;
  const uses = [
    ['encrypt', { alg: 'RSA-OAEP', value: message.toString('base64url') }],
    ['decrypt', { alg: 'RSA-OAEP' }],
    ['wrapKey', { alg: 'RSA-OAEP', value: message.toString('base64url') }],
    ['unwrapKey', { alg: 'RSA-OAEP' }],
    ['sign', { alg: 'RS256', value: digestOf('sha256').toString('base64url') }],
    ['verify', { alg: 'RS256', digest: digestOf('sha256').toString('base64url') }],
  ] as const;
  let values: Record<string, string>;

  beforeAll(async () => {
    const key = pairs.get('RSA')!;
    const sealed = publicEncrypt({ key: createPublicKey(key), oaepHash: 'sha1' }, message);
    values = {
      decrypt: sealed.toString('base64url'),
      unwrapKey: sealed.toString('base64url'),
      verify: sign('sha256', message, key).toString('base64url'),
    };
  });

  async function tryUse(name: string, use: string, body: object) {
    const value = values[use] === undefined ? {} : { value: values[use] };
    const path = `/keys/${name}//${use.toLowerCase()}`;
    const { status, json } = await at.send('POST', path, { ...body, ...value });
    return status === 200 ? 'done' : [status, json];
  }

  async function aKey(name: string, attributes: object, key_ops?: readonly string[]) {
    const jwk = pairs.get('RSA')!.export({ format: 'jwk' });
    const key = { ...jwk, ...(key_ops ? { key_ops } : {}) };
    expect((await at.send('PUT', `/keys/${name}`, { key, attributes })).status).toBe(200);
  }

  const refused = (code: string, text: string) => [
    403,
    { error: { code: 'Forbidden', message: text, innererror: { code } } },
  ];

  it.each(uses)('a disabled key does not %s', async (use, body) => {
    await aKey(`disabled-${use}`, { enabled: false });
    expect(await tryUse(`disabled-${use}`, use, body)).toEqual(
      refused('KeyDisabled', `Operation ${use} is not allowed on a disabled key.`),
    );
    await at.send('PATCH', `/keys/disabled-${use}`, { attributes: { enabled: true } });
    expect(await tryUse(`disabled-${use}`, use, body)).toBe('done');
  });

  it.each(uses)('outside its time a key does %s if that makes nothing new', async (use, body) => {
    await aKey(`expired-${use}`, { exp: past });
    await aKey(`early-${use}`, { nbf: future });
    await aKey(`current-${use}`, { nbf: past, exp: future });
    const makes = ['encrypt', 'wrapKey', 'sign'].includes(use);
    expect(await tryUse(`expired-${use}`, use, body)).toEqual(
      makes ? refused('KeyExpired', `Operation ${use} is not allowed on an expired key.`) : 'done',
    );
    expect(await tryUse(`early-${use}`, use, body)).toEqual(
      makes
        ? refused(
            'KeyNotYetValid',
            `Operation ${use} is not allowed on a key that is not yet valid.`,
          )
        : 'done',
    );
    expect(await tryUse(`current-${use}`, use, body)).toBe('done');
  });

  it.each(uses)('%s only when key_ops say so', async (use, body) => {
    const others = uses.map(([other]) => other).filter((other) => other !== use);
    await aKey(`only-${use}`, {}, [use]);
    await aKey(`never-${use}`, {}, others);
    expect(await tryUse(`only-${use}`, use, body)).toBe('done');
    const refusedText = `Operation ${use} is not permitted on this key.`;
    expect(await tryUse(`never-${use}`, use, body)).toEqual(
      refused('KeyOperationForbidden', refusedText),
    );
    await at.send('PATCH', `/keys/never-${use}`, { key_ops: [use] });
    expect(await tryUse(`never-${use}`, use, body)).toBe('done');
  });

  it('as the SDK reports it', async () => {
    await aKey('sdk-disabled', { enabled: false });
    const key: KeyVaultKey = await at.client.getKey('sdk-disabled');
    expect(await refusal(at.cryptoOf(key).sign('RS256', digestOf('sha256')))).toEqual({
      code: 'Forbidden',
      statusCode: 403,
      message: 'Operation sign is not allowed on a disabled key.',
      inner: 'KeyDisabled',
    });
  });
});

describe('what cannot be done', () => {
  const b64 = (length: number) => Buffer.alloc(length, 7).toString('base64url');
  const value = b64(32);
  const kid = async (name: string) => (await at.client.getKey(name)).id;

  it.each([
    ['EC-P-256K', 'ES256', "uses curve 'P-256K'", "curve 'P-256'"],
    ['EC-P-256', 'ES512', "uses curve 'P-256'", "curve 'P-521'"],
    ['EC-HSM-P-384', 'RS256', "is of type 'EC-HSM'", "type 'RSA' or 'RSA-HSM'"],
    ['RSA', 'ES256', "is of type 'RSA'", "type 'EC' or 'EC-HSM'"],
    ['RSA', 'HS256', "is of type 'RSA'", "type 'oct-HSM'"],
    ['oct-256', 'PS256', "is of type 'oct-HSM'", "type 'RSA' or 'RSA-HSM'"],
  ])('%s does not sign with %s', async (name, alg, has, needs) => {
    const reply = await at.send('POST', `/keys/${name}//sign`, { alg, value });
    expect([reply.status, reply.json.error]).toEqual([
      400,
      {
        code: 'BadParameter',
        message: `Key and signing algorithm are incompatible. Key ${await kid(name)} ${has}, and algorithm '${alg}' can only be used with ${needs}.`,
      },
    ]);
  });

  it.each([
    ['oct-128', 'A256GCM', 'has 128 bits', '256 bits'],
    ['oct-256', 'RSA-OAEP', "is of type 'oct-HSM'", "type 'RSA' or 'RSA-HSM'"],
    ['RSA', 'A128CBC', "is of type 'RSA'", "type 'oct-HSM'"],
  ])('%s does not encrypt with %s', async (name, alg, has, needs) => {
    const reply = await at.send('POST', `/keys/${name}//encrypt`, { alg, value });
    expect(reply.json.error.message).toBe(
      `Key and encryption algorithm are incompatible. Key ${await kid(name)} ${has}, and algorithm '${alg}' can only be used with ${needs}.`,
    );
  });

  async function textOf(useAndKey: string, body: unknown): Promise<string> {
    const [use, name] = useAndKey.split(' ');
    const reply = await at.send('POST', `/keys/${name}//${use}`, body);
    const { message: text } = reply.json.error;
    expect([reply.status, reply.json]).toEqual([
      400,
      { error: { code: 'BadParameter', message: text } },
    ]);
    return text;
  }

  it.each([
    ['sign EC-P-256', { alg: 'ES256', value: b64(44) }, "'value': 44 bytes. ES256 requires 32"],
    ['sign RSA', { alg: 'RS256', value: b64(10) }, "'value': 10 bytes. RS256 requires 32"],
    ['sign RSA', { alg: 'PS512', value }, "'value': 32 bytes. PS512 requires 64"],
    ['verify RSA', { alg: 'RS384', digest: value, value }, "'digest': 32 bytes. RS384 requires 48"],
    [
      'encrypt oct-256',
      { alg: 'A256CBC', value, iv: b64(12) },
      "'iv': 12 bytes. A256CBC requires 16",
    ],
    [
      'decrypt oct-256',
      { alg: 'A256GCM', value, iv: b64(12), tag: b64(8) },
      "'tag': 8 bytes. A256GCM requires 16",
    ],
  ])('%s with %o of a wrong length', async (useAndKey, body, text) => {
    expect(await textOf(useAndKey, body)).toBe(
      `Invalid length of ${text} bytes, encoded with base64url.`,
    );
  });

  const incorrect = 'The parameter is incorrect.\r\n';
  const undecryptable = 'Unable to decrypt specified value with this key.';
  const required = (property: string) => `Property '${property}' is required.\r\n`;
  const invalid = (property: string) => `Property ${property} has invalid value\r\n`;
  const notBase64url = (property: string) =>
    `Content of '${property}' is not base64url.\r\n${required(property)}`;
  it.each([
    ['no body', 'sign RSA', undefined, invalid('')],
    ['no alg', 'sign RSA', { value }, required('alg')],
    ['an unknown alg', 'sign RSA', { alg: 'RS1', value }, invalid('alg')],
    ['an inherited name', 'sign RSA', { alg: 'constructor', value }, invalid('alg')],
    ['an alg that is no text', 'sign RSA', { alg: 1, value }, invalid('alg')],
    ['a wrapping alg', 'encrypt oct-256', { alg: 'A256KW', value }, invalid('alg')],
    ['a data alg', 'wrapkey oct-256', { alg: 'A256GCM', value }, invalid('alg')],
    ['no value', 'encrypt RSA', { alg: 'RSA-OAEP' }, required('value')],
    ['an empty value', 'sign RSA', { alg: 'RS256', value: '' }, required('value')],
    ['a number', 'sign RSA', { alg: 'RS256', value: 1 }, notBase64url('value')],
    ['base64', 'sign RSA', { alg: 'RS256', value: 'ab+/' }, notBase64url('value')],
    ['padding', 'sign RSA', { alg: 'RS256', value: 'YQ==' }, notBase64url('value')],
    ['a torn text', 'sign RSA', { alg: 'RS256', value: 'abcde' }, notBase64url('value')],
    ['a bad digest', 'verify RSA', { alg: 'RS256', digest: '!', value }, notBase64url('digest')],
    ['no iv', 'encrypt oct-256', { alg: 'A256CBCPAD', value }, required('iv')],
    ['an iv for GCM', 'encrypt oct-256', { alg: 'A256GCM', value, iv: b64(12) }, invalid('iv')],
    ['no tag', 'decrypt oct-256', { alg: 'A256GCM', value, iv: b64(12) }, required('tag')],
    ['too long a value', 'encrypt RSA', { alg: 'RSA-OAEP', value: b64(250) }, incorrect],
    ['part of a block', 'encrypt oct-256', { alg: 'A256CBC', value: 'YQ', iv: b64(16) }, incorrect],
    ['too short a key', 'wrapkey oct-256', { alg: 'A256KW', value: b64(8) }, incorrect],
    ['an odd key', 'wrapkey oct-256', { alg: 'A256KW', value: b64(17) }, incorrect],
    ['too long for RSNULL', 'sign RSA', { alg: 'RSNULL', value: b64(246) }, incorrect],
    [
      'foreign OAEP',
      'decrypt RSA',
      { alg: 'RSA-OAEP', value: b64(256) },
      'Error occurred while decoding OAEP padding.',
    ],
    ['foreign PKCS #1', 'unwrapkey RSA', { alg: 'RSA1_5', value: b64(256) }, undecryptable],
    ['half a ciphertext', 'decrypt RSA', { alg: 'RSA1_5', value: b64(100) }, undecryptable],
    [
      'a wrong tag',
      'decrypt oct-256',
      { alg: 'A256GCM', value, iv: b64(12), tag: b64(16) },
      undecryptable,
    ],
    [
      'a foreign block',
      'decrypt oct-256',
      { alg: 'A256CBCPAD', value, iv: b64(16) },
      undecryptable,
    ],
    ['a foreign wrap', 'unwrapkey oct-256', { alg: 'A256KW', value: b64(40) }, undecryptable],
  ])('%s: %s', async (_, useAndKey, body, text) => {
    expect(await textOf(useAndKey, body)).toBe(text);
  });

  it('uses a version that there is not', async () => {
    const absent = 'f'.repeat(32);
    const reply = await at.send('POST', `/keys/RSA/${absent}/sign`, { alg: 'RS256', value });
    expect([reply.status, reply.json.error.code]).toEqual([404, 'KeyNotFound']);
    expect((await at.send('POST', '/keys/RSA//nothing', {})).status).toBe(404);
    expect((await at.send('GET', '/keys/RSA//sign')).status).toBe(405);
  });
});
