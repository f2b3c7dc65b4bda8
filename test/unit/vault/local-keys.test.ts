import { constants, createHash, privateEncrypt, randomBytes, sign } from 'node:crypto';
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { AppError, type ErrorCode } from '../../../src/core/errors.ts';
import { type SimulatedVaults, simulatedVaults } from '../../../src/core/simulation/vault.ts';
import type { KeyService, KeyVersion, SignatureAlgorithm } from '../../../src/core/vault/keys.ts';
import { type LocalKeySettings, localKeys } from '../../../src/core/vault/local-keys.ts';
import { ecPairs, importable, rsaPair } from '../../support/key-pairs.ts';

const failure = (code: ErrorCode) => expect.objectContaining({ name: 'AppError', code });
const refused = (code: ErrorCode, call: Promise<unknown>) =>
  expect(call).rejects.toEqual(failure(code));

const start = Date.UTC(2030, 0, 1);
let now: number;
const clock = { now: () => new Date(now) };
let vaults: SimulatedVaults;
let remote: KeyService;
/** Calls that reached the vault. */
const calls = () => vaults.accesses.map(({ operation }) => operation);

beforeEach(() => {
  now = start;
  vaults = simulatedVaults([{ alias: 'main', purpose: 'main' }], clock);
  remote = vaults.get('main').keys;
});

/** Works with that key, whatever it is called; the vault's log begins here. */
function knowing(key: KeyVersion, change: Partial<KeyVersion> = {}) {
  const known: KeyVersion = { ...key, ...change };
  const asked: (readonly [string, string | undefined])[] = [];
  const read: LocalKeySettings['read'] = async (name, version) => {
    asked.push([name, version]);
    return known;
  };
  const before = calls().length;
  return { keys: localKeys(remote, { read, clock }), asked, sent: () => calls().slice(before) };
}

const content = Buffer.from('a data key');
const digest = createHash('sha256').update(content).digest();
const signature = sign('sha256', content, rsaPair.privateKey);

describe('localKeys', () => {
  it('sends nothing for what takes the public key only', async () => {
    const rsa = await remote.import('rsa', importable(rsaPair));
    const { keys, asked, sent } = knowing(rsa);
    const { version } = rsa.properties;
    for (const algorithm of ['RSA1_5', 'RSA-OAEP', 'RSA-OAEP-256'] as const) {
      await keys.encrypt('rsa', { algorithm, plaintext: content });
      await keys.wrapKey('rsa', { algorithm, key: content }, version);
    }
    const input = { algorithm: 'RS256', digest, signature } as const;
    expect(await keys.verify('rsa', input)).toMatchObject({ keyId: rsa.id, valid: true });
    for (const [curve, pair] of Object.entries(ecPairs)) {
      const ec = knowing(await remote.import(curve, importable(pair)));
      const algorithm = `ES${{ 'P-521': '512', 'P-256K': '256K' }[curve] ?? curve.slice(2)}`;
      const length = { ES384: 48, ES512: 64 }[algorithm] ?? 32;
      const verified = await ec.keys.verify(curve, {
        algorithm: algorithm as SignatureAlgorithm,
        ...{ digest: randomBytes(length), signature: randomBytes(2 * length) },
      });
      expect(verified.valid).toBe(false);
      expect(ec.sent()).toEqual([]);
    }
    expect(sent().filter((operation) => operation !== 'import')).toEqual([]);
    expect(asked.slice(0, 2)).toEqual([
      ['rsa', undefined],
      ['rsa', version],
    ]);
  });

  it('sends one request for what takes the private key', async () => {
    const { keys, sent } = knowing(await remote.import('rsa', importable(rsaPair)));
    const { result } = await keys.encrypt('rsa', { algorithm: 'RSA-OAEP', plaintext: content });
    await keys.sign('rsa', { algorithm: 'PS256', digest });
    await keys.decrypt('rsa', { algorithm: 'RSA-OAEP', ciphertext: result });
    await keys.unwrapKey('rsa', { algorithm: 'RSA-OAEP', wrapped: result });
    expect(sent()).toEqual(['sign', 'decrypt', 'unwrapKey']);
  });

  it('sends one request, for the version that was read, to verify what takes the secret key', async () => {
    const operations = ['sign', 'verify'] as const;
    const first = await remote.create('mac', { type: 'oct-HSM', operations });
    const { result: mac } = await remote.sign('mac', { algorithm: 'HS256', digest });
    await remote.create('mac', { type: 'oct-HSM', operations });
    const { keys, sent } = knowing(first);
    const input = { algorithm: 'HS256', digest, signature: mac } as const;
    expect(await keys.verify('mac', input)).toMatchObject({ keyId: first.id, valid: true });
    expect(sent()).toEqual(['verify']);
  });

  it('refuses what key and use do not allow, without a request', async () => {
    const rsa = await remote.import('rsa', importable(rsaPair));
    const expired = { ...rsa.properties, expiresOn: new Date(start) };
    const early = { ...rsa.properties, notBefore: new Date(start + 1) };
    const disabled = { ...rsa.properties, enabled: false };
    const oaep = { algorithm: 'RSA-OAEP', plaintext: content } as const;
    for (const [change, code] of [
      [{ properties: expired }, 'object_disabled'],
      [{ properties: early }, 'object_disabled'],
      [{ properties: disabled }, 'object_disabled'],
      [{ operations: ['verify'] }, 'invalid_input'],
    ] as const) {
      const { keys, sent } = knowing(rsa, change);
      await refused(code, keys.encrypt('rsa', oaep));
      await refused(code, keys.sign('rsa', { algorithm: 'RS256', digest }));
      expect(sent()).toEqual([]);
    }
    const { keys, sent } = knowing(rsa, { properties: expired });
    now = start - 1;
    await keys.encrypt('rsa', oaep);
    await refused('invalid_input', keys.sign('rsa', { algorithm: 'ES256', digest }));
    await refused('invalid_input', keys.sign('../rsa', { algorithm: 'RS256', digest }));
    await refused('invalid_input', keys.sign('rsa', { algorithm: 'RS256', digest }, 'latest'));
    await refused(
      'invalid_input',
      keys.decrypt('rsa', { algorithm: 'RSA-OAEP', ciphertext: digest }),
    );
    expect(sent()).toEqual([]);
  });

  it('leaves all to the vault when it may not read the key, and asks again after five minutes', async () => {
    const rsa = await remote.import('rsa', importable(rsaPair));
    let reads = 0;
    let isDenied = true;
    const read = async () => {
      reads++;
      if (isDenied) throw new AppError('vault_denied', { detail: 'get rsa' });
      return rsa;
    };
    const keys = localKeys(remote, { read, clock });
    const before = calls().length;
    const encrypt = () => keys.encrypt('rsa', { algorithm: 'RSA-OAEP', plaintext: content });
    expect((await encrypt()).keyId).toBe(rsa.id);
    expect(await keys.verify('RSA', { algorithm: 'RS256', digest, signature })).toEqual({
      ...{ keyId: rsa.id, algorithm: 'RS256', valid: true },
    });
    await keys.wrapKey('rsa', { algorithm: 'RSA-OAEP', key: content });
    await refused('invalid_input', keys.sign('rsa', { algorithm: 'ES256', digest }));
    expect(reads).toBe(1);
    expect(calls().slice(before)).toEqual(['encrypt', 'verify', 'wrapKey', 'sign']);
    isDenied = false;
    now += 5 * 60_000 + 1;
    await encrypt();
    expect(reads).toBe(2);
    expect(calls().slice(before)).toHaveLength(4);
  });

  it.each(['not_found', 'vault_unavailable', 'vault_throttled'] as const)(
    'passes a %s of the reader on',
    async (code) => {
      const read = async () => {
        throw new AppError(code, { detail: 'get rsa' });
      };
      const keys = localKeys(remote, { read, clock });
      await refused(code, keys.encrypt('rsa', { algorithm: 'RSA-OAEP', plaintext: content }));
      await refused(code, keys.sign('rsa', { algorithm: 'RS256', digest }));
      expect(calls()).toEqual([]);
    },
  );

  it('leaves everything else as it is', async () => {
    const { keys, sent } = knowing(await remote.import('rsa', importable(rsaPair)));
    await keys.get('rsa');
    await keys.rotate('rsa');
    await keys.delete('rsa');
    expect(sent()).toEqual(['get', 'rotate', 'delete']);
  });
});

describe('a signature that is verified here', () => {
  it('is refused for every flipped bit', async () => {
    const rsa = knowing(await remote.import('rsa', importable(rsaPair))).keys;
    const pss = {
      padding: constants.RSA_PKCS1_PSS_PADDING,
      saltLength: constants.RSA_PSS_SALTLEN_DIGEST,
    };
    const signedPss = sign('sha256', content, { key: rsaPair.privateKey, ...pss });
    const ecKeys = await Promise.all(
      (['P-256', 'P-256K'] as const).map(async (curve) => {
        const { keys } = knowing(await remote.import(curve, importable(ecPairs[curve])));
        const key = { key: ecPairs[curve].privateKey, dsaEncoding: 'ieee-p1363' } as const;
        const algorithm = curve === 'P-256' ? 'ES256' : 'ES256K';
        return { keys, algorithm, signature: sign('sha256', content, key) } as const;
      }),
    );
    const signed = [
      { keys: rsa, algorithm: 'RS256', signature },
      { keys: rsa, algorithm: 'PS256', signature: signedPss },
      ...ecKeys,
    ] as const;
    for (const { keys, algorithm, signature: whole } of signed) {
      expect((await keys.verify('k', { algorithm, digest, signature: whole })).valid).toBe(true);
    }
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...signed),
        fc.nat(),
        fc.boolean(),
        async ({ keys, algorithm, signature: whole }, at, inDigest) => {
          const flipped = (bytes: Uint8Array) => {
            const copy = Buffer.from(bytes);
            copy[Math.floor(at / 8) % copy.length]! ^= 1 << (at % 8);
            return copy;
          };
          const given = inDigest
            ? { algorithm, digest: flipped(digest), signature: whole }
            : { algorithm, digest, signature: flipped(whole) };
          expect((await keys.verify('k', given)).valid).toBe(false);
        },
      ),
      { numRuns: 200 },
    );
  });

  const header = Buffer.from('3031300d060960864801650304020105000420', 'hex');
  const bare = Buffer.from('302f300b0609608648016503040201', 'hex');
  const encoded = (parts: { start?: number[]; padding?: number; tail: Buffer }) => {
    const { start: first = [0, 1], padding = 253 - parts.tail.length, tail } = parts;
    const rest = 256 - first.length - padding - 1 - tail.length;
    return Buffer.concat([
      Buffer.from(first),
      Buffer.alloc(padding, 0xff),
      Buffer.of(0),
      tail,
      Buffer.alloc(rest, 0xaa),
    ]);
  };

  // The owner of a key with a small exponent would not be needed to make these.
  it.each([
    ['right', encoded({ tail: Buffer.concat([header, digest]) }), true],
    ['with bytes behind it', encoded({ padding: 8, tail: Buffer.concat([header, digest]) }), false],
    ['of another type', encoded({ start: [0, 2], tail: Buffer.concat([header, digest]) }), false],
    ['without its parameters', encoded({ tail: Buffer.concat([bare, digest]) }), false],
    ['without its algorithm', encoded({ tail: digest }), false],
  ])('has a padding of PKCS #1 that is %s', async (_what, message, valid) => {
    const { keys } = knowing(await remote.import('rsa', importable(rsaPair)));
    const padding = constants.RSA_NO_PADDING;
    const made = privateEncrypt({ key: rsaPair.privateKey, padding }, message);
    const input = { algorithm: 'RS256', digest, signature: made } as const;
    expect((await keys.verify('rsa', input)).valid).toBe(valid);
  });

  it.each([
    ['RSASSA-PSS', 32, true],
    ['RSASSA-PSS without a salt', 0, false],
    ['RSASSA-PSS with a longer salt', 64, false],
  ] as const)('is %s', async (_what, saltLength, valid) => {
    const { keys } = knowing(await remote.import('rsa', importable(rsaPair)));
    const padding = constants.RSA_PKCS1_PSS_PADDING;
    const made = sign('sha256', content, { key: rsaPair.privateKey, padding, saltLength });
    const input = { algorithm: 'PS256', digest, signature: made } as const;
    expect((await keys.verify('rsa', input)).valid).toBe(valid);
    const asPkcs1 = { ...input, algorithm: 'RS256' } as const;
    expect((await keys.verify('rsa', asPkcs1)).valid).toBe(false);
  });

  /** As RFC 8017, 9.1.1 has it, but for what `spoil` does to it: block, seed and trailer, before and after the mask. */
  function encodedPss(spoil: { block?: (block: Buffer) => void; whole?: (whole: Buffer) => void }) {
    const hash = (...parts: Uint8Array[]) =>
      createHash('sha256').update(Buffer.concat(parts)).digest();
    const salt = randomBytes(32);
    const seed = hash(Buffer.alloc(8), digest, salt);
    const block = Buffer.concat([Buffer.alloc(190), Buffer.of(1), salt]);
    spoil.block?.(block);
    const mask = [...Array(7).keys()].map((round) => hash(seed, Buffer.of(0, 0, 0, round)));
    for (const [at, byte] of Buffer.concat(mask, block.length).entries()) block[at]! ^= byte;
    block[0]! &= 0x7f;
    const whole = Buffer.concat([block, seed, Buffer.of(0xbc)]);
    spoil.whole?.(whole);
    return whole;
  }

  it.each([
    ['right', {}, true],
    ['with another trailer', { whole: (whole: Buffer) => void whole.fill(0xcc, 255) }, false],
    [
      'with its first bit set',
      { whole: (whole: Buffer) => void whole.writeUInt8(whole[0]! | 0x80) },
      false,
    ],
    [
      'with padding other than zeros',
      { block: (block: Buffer) => void block.fill(1, 100, 101) },
      false,
    ],
    [
      'without the one before its salt',
      { block: (block: Buffer) => void block.fill(0, 190, 191) },
      false,
    ],
  ])('has a padding of PSS that is %s', async (_what, spoil, valid) => {
    const { keys } = knowing(await remote.import('rsa', importable(rsaPair)));
    const padding = constants.RSA_NO_PADDING;
    const modulus = Buffer.from(rsaPair.publicKey.export({ format: 'jwk' }).n!, 'base64url');
    let message = encodedPss(spoil);
    // Beyond the modulus it could not be signed at all.
    while (message.compare(modulus) >= 0) message = encodedPss(spoil);
    const made = privateEncrypt({ key: rsaPair.privateKey, padding }, message);
    const input = { algorithm: 'PS256', digest, signature: made } as const;
    expect((await keys.verify('rsa', input)).valid).toBe(valid);
  });

  it('is as long as the modulus, also when its first byte is zero', async () => {
    const { keys } = knowing(await remote.import('rsa', importable(rsaPair)));
    let made: Buffer;
    let message: Buffer;
    do {
      message = randomBytes(8);
      made = sign('sha256', message, rsaPair.privateKey);
    } while (made[0] !== 0);
    const input = {
      algorithm: 'RS256',
      digest: createHash('sha256').update(message).digest(),
      signature: made,
    } as const;
    expect((await keys.verify('rsa', input)).valid).toBe(true);
    const short = { ...input, signature: made.subarray(1) };
    expect((await keys.verify('rsa', short)).valid).toBe(false);
  });

  it('may have s in the upper half of the group, as every other one of a vault has', async () => {
    const { privateKey } = ecPairs['P-256K'];
    const { keys } = knowing(await remote.import('k', importable(ecPairs['P-256K'])));
    const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
    const key = { key: privateKey, dsaEncoding: 'ieee-p1363' } as const;
    const made = sign('sha256', content, key).toString('hex');
    const s = (order - BigInt(`0x${made.slice(64)}`)).toString(16).padStart(64, '0');
    for (const hex of [made, made.slice(0, 64) + s]) {
      const input = { algorithm: 'ES256K', digest, signature: Buffer.from(hex, 'hex') } as const;
      expect((await keys.verify('k', input)).valid).toBe(true);
    }
  });
});
