import {
  constants,
  createHash,
  generateKeyPairSync,
  type JsonWebKey,
  privateDecrypt,
  publicEncrypt,
  randomBytes,
  sign,
  verify,
} from 'node:crypto';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { KeyVaultEmulator } from '../../local/key-vault/key-vault.ts';
import type { ErrorCode } from '../../src/core/errors.ts';
import { SecretString } from '../../src/core/secret-string.ts';
import { simulatedVaults } from '../../src/core/simulation/vault.ts';
import type {
  EncryptionAlgorithm,
  KeyCurve,
  KeyService,
  NewKey,
  SignatureAlgorithm,
  WrapAlgorithm,
} from '../../src/core/vault/keys.ts';
import { ecPairs, importable, privateJwk, rsaPair } from '../support/key-pairs.ts';
import { type Ground, prepareGround } from './emulator-client.ts';
import {
  azureKeySubject,
  type KeySubject,
  localKeySubject,
  simulatedKeySubject,
} from './key-subjects.ts';

let ground: Ground;
let emulator: KeyVaultEmulator;
beforeAll(async () => {
  ground = await prepareGround();
  setDefaultCACertificates([...getCACertificates('default'), ground.ca.caPem]);
  emulator = await ground.startVaults({ vaults: [{ name: 'main' }] });
});
afterAll(() => ground?.stop());

let names = 0;
const newName = () => `key-${++names}`;
const failure = (code: ErrorCode) => expect.objectContaining({ name: 'AppError', code });
const refused = (code: ErrorCode, call: () => Promise<unknown>) =>
  expect(call()).rejects.toEqual(failure(code));
const ec: NewKey = { type: 'EC' };
const day = 86_400_000;
const past = new Date('2021-02-03T04:05:06Z');
const future = new Date('2037-02-03T04:05:06Z');

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

const hashes = {
  ...{ RS256: 'sha256', RS384: 'sha384', RS512: 'sha512' },
  ...{ PS256: 'sha256', PS384: 'sha384', PS512: 'sha512' },
  ...{ ES256: 'sha256', ES384: 'sha384', ES512: 'sha512', ES256K: 'sha256' },
} as const;
type Asymmetric = keyof typeof hashes;
const digestOf = (algorithm: Asymmetric, message: Uint8Array) =>
  createHash(hashes[algorithm]).update(message).digest();
const curveOf: Partial<Record<SignatureAlgorithm, KeyCurve>> = {
  ...{ ES256: 'P-256', ES384: 'P-384', ES512: 'P-521', ES256K: 'P-256K' },
};

/** How node:crypto signs messages in the way of an algorithm of the vault. */
function scheme(algorithm: Asymmetric) {
  if (algorithm.startsWith('PS')) {
    const { RSA_PKCS1_PSS_PADDING, RSA_PSS_SALTLEN_DIGEST } = constants;
    return { padding: RSA_PKCS1_PSS_PADDING, saltLength: RSA_PSS_SALTLEN_DIGEST };
  }
  return { dsaEncoding: 'ieee-p1363' } as const;
}

describe.each([
  ['a simulated vault', simulatedKeySubject],
  ['Key Vault', () => azureKeySubject(ground, emulator)],
  ['a simulated vault and this process', () => localKeySubject(simulatedKeySubject())],
  ['Key Vault and this process', () => localKeySubject(azureKeySubject(ground, emulator))],
] as const)('keys of %s', (_name, open) => {
  let subject: KeySubject;
  let keys: KeyService;
  /** Keys that no test changes: `rsa`, one for each curve, and `oct-128` to `oct-256`. */
  const fixed = (kind: string) => `fixed-${kind}-${_name.replaceAll(' ', '-')}`;
  const pairOf = (algorithm: Asymmetric) => {
    const curve = curveOf[algorithm];
    return curve === undefined ? rsaPair : ecPairs[curve];
  };
  const keyFor = (algorithm: SignatureAlgorithm) => fixed(curveOf[algorithm] ?? 'rsa');

  beforeAll(async () => {
    subject = open();
    keys = subject.keys;
    await keys.import(fixed('rsa'), importable(rsaPair));
    for (const [curve, pair] of Object.entries(ecPairs))
      await keys.import(fixed(curve), importable(pair));
    const operations = [
      ...(['encrypt', 'decrypt', 'wrapKey', 'unwrapKey', 'sign', 'verify'] as const),
    ];
    for (const size of [128, 192, 256]) {
      await keys.create(fixed(`oct-${size}`), { type: 'oct-HSM', size, operations });
    }
  });

  describe('as objects', () => {
    it('gives back what was created, as the latest and by version', async () => {
      const name = newName();
      const before = Math.floor(Date.now() / 1000) * 1000;
      const tags = { owner: 'orders', 'läng.uage': 'ü' };
      const expiresOn = new Date('2031-02-03T04:05:06.789Z');
      const first = await keys.create(name, { ...ec, expiresOn, tags });
      expect(first).toEqual({
        id: expect.stringMatching(new RegExp(`^https://[^/]+/keys/${name}/[0-9a-f]{32}$`)),
        properties: {
          name,
          version: first.id.split('/').at(-1),
          enabled: true,
          created: expect.any(Date),
          updated: first.properties.created,
          notBefore: null,
          expiresOn: new Date('2031-02-03T04:05:06.000Z'),
          tags,
          managed: false,
        },
        type: 'EC',
        operations: ['sign', 'verify'],
        publicKey: {
          kty: 'EC',
          crv: 'P-256',
          x: expect.stringMatching(/^[\w-]{43}$/),
          y: expect.stringMatching(/^[\w-]{43}$/),
        },
        exportable: false,
      });
      expect(first.properties.created.getTime()).toBeGreaterThanOrEqual(before);
      const second = await keys.create(name, { ...ec, curve: 'P-384' });
      expect(second.properties).toMatchObject({ expiresOn: null, tags: {} });
      expect(await keys.get(name)).toEqual(second);
      expect(await keys.get(name.toUpperCase(), first.properties.version)).toEqual(first);
    });

    it.each([
      [{ type: 'RSA' }, 'RSA', ['encrypt', 'decrypt', 'sign', 'verify', 'wrapKey', 'unwrapKey']],
      [{ type: 'EC-HSM', curve: 'P-256K' }, 'EC-HSM', ['sign', 'verify']],
      [{ type: 'oct-HSM' }, 'oct-HSM', ['wrapKey', 'unwrapKey', 'decrypt', 'encrypt']],
      [{ type: 'oct', size: 128 }, 'oct-HSM', ['wrapKey', 'unwrapKey', 'decrypt', 'encrypt']],
      [{ type: 'EC', operations: ['verify'] }, 'EC', ['verify']],
    ] as const)('makes %o with the operations of its type', async (key, type, operations) => {
      const made = await keys.create(newName(), key);
      expect(made).toMatchObject({ type, operations });
      expect(made.publicKey === null).toBe(type === 'oct-HSM');
      if (made.publicKey?.kty !== 'RSA') return;
      expect(made.publicKey.e).toBe('AQAB');
      expect(Buffer.from(made.publicKey.n, 'base64url')).toHaveLength(256);
    });

    it('imports a key, and shows its public part only', async () => {
      const { n, e } = rsaPair.publicKey.export({ format: 'jwk' });
      const soft = await keys.get(fixed('rsa'));
      expect(soft.type).toBe('RSA');
      expect(soft.publicKey).toEqual({ kty: 'RSA', n, e });
      const name = newName();
      const more = { hardwareProtected: true, operations: ['sign'], tags: { a: '1' } } as const;
      const hard = await keys.import(name, importable(rsaPair, more));
      expect(hard).toMatchObject({ type: 'RSA-HSM', operations: ['sign'] });
      expect(hard.properties.tags).toEqual({ a: '1' });
      expect(await keys.get(name)).toEqual(hard);
      for (const [crv, pair] of Object.entries(ecPairs)) {
        const { x, y } = pair.publicKey.export({ format: 'jwk' });
        expect((await keys.get(fixed(crv))).publicKey).toEqual({ kty: 'EC', crv, x, y });
      }
    });

    it('heeds the operations that an imported key brings along', async () => {
      const jwk = { ...privateJwk(ecPairs['P-256'].privateKey), key_ops: ['verify'] };
      const key = new SecretString(JSON.stringify(jwk));
      expect((await keys.import(newName(), { key })).operations).toEqual(['verify']);
      const said = await keys.import(newName(), { key, operations: ['sign'] });
      expect(said.operations).toEqual(['sign']);
    });

    it('says not_found for what is not there', async () => {
      const name = newName();
      await refused('not_found', () => keys.get(name));
      await refused('not_found', () => keys.rotate(name));
      await refused('not_found', () => keys.getRotationPolicy(name));
      await refused('not_found', () => keys.update(name, '0'.repeat(32), { enabled: false }));
      await keys.create(name, ec);
      await refused('not_found', () => keys.get(name, '0'.repeat(32)));
      expect(await all(keys.listVersions(newName()))).toEqual([]);
    });

    it('changes what is said of a version, and nothing else', async () => {
      const name = newName();
      const first = await keys.create(name, { ...ec, tags: { a: '1' } });
      const { version } = first.properties;
      const second = await keys.create(name, ec);
      const disabled = await keys.update(name, version, { enabled: false, notBefore: past });
      const properties = {
        ...first.properties,
        ...{ enabled: false, notBefore: past, updated: expect.any(Date) },
      };
      expect(disabled).toEqual({ ...first, properties });
      const limited = await keys.update(name, version, {
        operations: ['verify'],
        tags: { b: '2' },
      });
      expect(limited).toEqual({
        ...first,
        operations: ['verify'],
        properties: { ...properties, tags: { b: '2' } },
      });
      // A disabled key may be read, but not used.
      expect(await keys.get(name, version)).toEqual(limited);
      expect(await keys.get(name)).toEqual(second);
    });

    it('lists every key once, and every version, over several pages', async () => {
      const name = newName();
      const made: string[] = [];
      for (let n = 0; n < 27; n++) made.push((await keys.create(name, ec)).properties.version);
      const versions = await all(keys.listVersions(name));
      expect(versions.map(({ version }) => version).sort()).toEqual(made.sort());
      const { properties } = await keys.get(name);
      const listed = (await all(keys.list())).filter((each) => each.name === name);
      expect(listed).toEqual([{ ...properties, version: '' }]);
      expect(versions).toContainEqual(properties);
    });

    it('deletes, shows, lists, recovers and purges', async () => {
      const name = newName();
      await keys.create(name, ec);
      const second = await keys.create(name, ec);
      const deleted = await keys.delete(name);
      expect(deleted.properties).toEqual(second.properties);
      expect(deleted.purgeOn.getTime() - deleted.deletedOn.getTime()).toBe(90 * day);
      expect(await keys.getDeleted(name)).toEqual(deleted);
      const listed = (await all(keys.listDeleted())).filter(
        ({ properties }) => properties.name === name,
      );
      expect(listed).toEqual([{ ...deleted, properties: { ...second.properties, version: '' } }]);
      await refused('not_found', () => keys.get(name));
      await refused('object_deleted', () => keys.create(name, ec));
      await refused('object_deleted', () => keys.import(name, importable(rsaPair)));
      expect(await all(keys.listVersions(name))).toEqual([]);
      expect(await keys.recover(name)).toEqual(second);
      expect(await all(keys.listVersions(name))).toHaveLength(2);
      await keys.delete(name);
      await keys.purge(name);
      await refused('not_found', () => keys.getDeleted(name));
      for (const act of ['delete', 'recover', 'purge', 'backup'] as const) {
        await refused('not_found', () => keys[act](name));
      }
      await keys.create(name, ec);
      expect(await all(keys.listVersions(name))).toHaveLength(1);
    });

    it('restores all versions from a backup, once the name is free', async () => {
      const name = newName();
      const content = { algorithm: 'A256GCM', plaintext: Buffer.from('content') } as const;
      const first = await keys.create(name, {
        type: 'oct-HSM',
        tags: { a: '1' },
        expiresOn: future,
      });
      const sealed = await keys.encrypt(name, content);
      const second = await keys.import(name, importable(rsaPair));
      const backup = await keys.backup(name);
      await refused('conflict', () => keys.restore(backup));
      await keys.delete(name);
      await refused('conflict', () => keys.restore(backup));
      await keys.purge(name);
      expect(await keys.restore(backup)).toEqual(second);
      const { version } = first.properties;
      expect(await keys.get(name, version)).toEqual(first);
      const { iv, tag, result: ciphertext } = sealed;
      const opened = await keys.decrypt(
        name,
        { algorithm: 'A256GCM', ciphertext, iv: iv!, tag: tag! },
        version,
      );
      expect(Buffer.from(opened.result).toString()).toBe('content');
      await refused('vault_rejected', () => keys.restore(Buffer.from('no backup at all')));
    });

    it('rotates into a new version of the same kind', async () => {
      const name = newName();
      const operations = ['verify'] as const;
      const first = await keys.create(name, {
        ...{ ...ec, curve: 'P-384', operations, tags: { a: '1' } },
        ...{ expiresOn: future, notBefore: past },
      });
      await keys.update(name, first.properties.version, { enabled: false });
      const second = await keys.rotate(name);
      expect(second.properties.version).not.toBe(first.properties.version);
      expect(second).toMatchObject({
        type: 'EC',
        operations,
        properties: { enabled: true, expiresOn: null, notBefore: null, tags: { a: '1' } },
        publicKey: { crv: 'P-384' },
      });
      expect(second.publicKey).not.toEqual(first.publicKey);
      expect(await keys.get(name)).toEqual(second);
      await keys.setRotationPolicy(name, { expiresIn: 'P2M', actions: [] });
      const third = await keys.rotate(name);
      const { created, expiresOn } = third.properties;
      const days = ((expiresOn?.getTime() ?? 0) - created.getTime()) / day;
      expect(days).toBeGreaterThanOrEqual(59);
      expect(days).toBeLessThanOrEqual(62);
    });

    it('keeps a rotation policy, and adds a notification', async () => {
      const name = newName();
      await keys.create(name, ec);
      const notify = { action: 'Notify', timeBeforeExpiry: 'P30D' } as const;
      expect(await keys.getRotationPolicy(name)).toEqual({ expiresIn: null, actions: [notify] });
      const rotate = { action: 'Rotate', timeAfterCreate: 'P1M' } as const;
      const kept = await keys.setRotationPolicy(name, { expiresIn: 'P90D', actions: [rotate] });
      expect(kept).toEqual({ expiresIn: 'P90D', actions: [rotate, notify] });
      expect(await keys.getRotationPolicy(name)).toEqual(kept);
      await keys.rotate(name);
      expect(await keys.getRotationPolicy(name)).toEqual(kept);
      const own = {
        expiresIn: null,
        actions: [{ action: 'Notify', timeBeforeExpiry: 'P1W' }],
      } as const;
      expect(await keys.setRotationPolicy(name, own)).toEqual(own);
    });

    it('refuses writes in read-only mode, and goes on working', async () => {
      const name = newName();
      const { properties } = await keys.create(name, ec);
      const digest = randomBytes(32);
      await subject.setReadOnly(true);
      try {
        await refused('vault_read_only', () => keys.create(name, ec));
        await refused('vault_read_only', () => keys.import(name, importable(rsaPair)));
        await refused('vault_read_only', () => keys.rotate(name));
        await refused('vault_read_only', () => keys.update(name, properties.version, {}));
        const policy = { expiresIn: null, actions: [] };
        await refused('vault_read_only', () => keys.setRotationPolicy(name, policy));
        await refused('vault_read_only', () => keys.delete(name));
        const { result: signature } = await keys.sign(name, { algorithm: 'ES256', digest });
        const input = { algorithm: 'ES256', digest, signature } as const;
        expect(await keys.verify(name, input)).toMatchObject({ valid: true });
      } finally {
        await subject.setReadOnly(false);
      }
    });
  });

  describe('at work', () => {
    it.each(['RSA1_5', 'RSA-OAEP', 'RSA-OAEP-256'] as const)(
      'encrypts and wraps with %s what only the key can open',
      async (algorithm) => {
        const name = fixed('rsa');
        const { id } = await keys.get(name);
        const padding =
          algorithm === 'RSA1_5'
            ? // By hand: OpenSSL gives random bytes for a wrong padding.
              { padding: constants.RSA_NO_PADDING }
            : {
                padding: constants.RSA_PKCS1_OAEP_PADDING,
                oaepHash: algorithm === 'RSA-OAEP' ? 'sha1' : 'sha256',
              };
        const openHere = (bytes: Uint8Array) =>
          privateDecrypt({ key: rsaPair.privateKey, ...padding }, bytes);
        for (const length of [1, 32, 190]) {
          const content = randomBytes(length);
          const encrypted = await keys.encrypt(name, { algorithm, plaintext: content });
          const { result: ciphertext } = encrypted;
          expect(encrypted).toEqual({
            ...{ keyId: id, algorithm, result: expect.any(Uint8Array) },
            ...{ iv: null, tag: null },
          });
          expect(openHere(ciphertext).subarray(-length)).toEqual(content);
          const decrypted = await keys.decrypt(name, { algorithm, ciphertext });
          expect(decrypted).toMatchObject({ keyId: id, algorithm });
          expect(Buffer.from(decrypted.result)).toEqual(content);
          const wrapped = await keys.wrapKey(name, { algorithm, key: content });
          expect(wrapped).toMatchObject({ keyId: id, algorithm });
          expect(openHere(wrapped.result).subarray(-length)).toEqual(content);
          const unwrapped = await keys.unwrapKey(name, { algorithm, wrapped: wrapped.result });
          expect(Buffer.from(unwrapped.result)).toEqual(content);
        }
      },
    );

    it.each([128, 192, 256])('seals with AES of %i bits', async (size) => {
      const name = fixed(`oct-${size}`);
      const { id } = await keys.get(name);
      const gcm = `A${size}GCM` as EncryptionAlgorithm;
      const additionalData = Buffer.from('bound to this');
      const plaintext = randomBytes(33);
      const sealed = await keys.encrypt(name, { algorithm: gcm, plaintext, additionalData });
      expect(sealed).toMatchObject({ keyId: id, algorithm: gcm });
      const {
        result: ciphertext,
        iv,
        tag,
      } = sealed as { iv: Uint8Array; tag: Uint8Array } & {
        result: Uint8Array;
      };
      expect([ciphertext.length, iv.length, tag.length]).toEqual([33, 12, 16]);
      const input = { algorithm: gcm, ciphertext, iv, tag, additionalData };
      expect(Buffer.from((await keys.decrypt(name, input)).result)).toEqual(plaintext);
      const other = { ...input, additionalData: Buffer.from('not to this') };
      await refused('invalid_input', () => keys.decrypt(name, other));
      for (const [suffix, length] of [
        ['CBC', 32],
        ['CBCPAD', 33],
      ] as const) {
        const algorithm = `A${size}${suffix}` as EncryptionAlgorithm;
        const content = plaintext.subarray(0, length);
        const given = randomBytes(16);
        const made = await keys.encrypt(name, { algorithm, plaintext: content, iv: given });
        expect(made).toMatchObject({ keyId: id, tag: null });
        expect(Buffer.from(made.iv ?? [])).toEqual(given);
        const back = { algorithm, ciphertext: made.result, iv: given };
        expect(Buffer.from((await keys.decrypt(name, back)).result)).toEqual(content);
      }
      const algorithm = `A${size}KW` as WrapAlgorithm;
      const { result: wrapped } = await keys.wrapKey(name, { algorithm, key: given32 });
      expect(wrapped).toHaveLength(40);
      const unwrapped = await keys.unwrapKey(name, { algorithm, wrapped });
      expect(Buffer.from(unwrapped.result)).toEqual(given32);
    });
    const given32 = randomBytes(32);

    it.each(Object.keys(hashes) as Asymmetric[])(
      'signs and verifies with %s',
      async (algorithm) => {
        const name = keyFor(algorithm);
        const { id, properties } = await keys.get(name);
        const { publicKey, privateKey } = pairOf(algorithm);
        const options = scheme(algorithm);
        const message = randomBytes(50);
        const digest = digestOf(algorithm, message);
        const hash = hashes[algorithm];
        const signed = await keys.sign(name, { algorithm, digest });
        expect(signed).toMatchObject({ keyId: id, algorithm });
        const { result: signature } = signed;
        expect(verify(hash, message, { key: publicKey, ...options }, signature)).toBe(true);
        const ours = { algorithm, digest, signature };
        expect(await keys.verify(name, ours)).toEqual({ keyId: id, algorithm, valid: true });
        expect(await keys.verify(name, ours, properties.version)).toEqual({
          ...{ keyId: id, algorithm, valid: true },
        });
        const theirs = { ...ours, signature: sign(hash, message, { key: privateKey, ...options }) };
        expect(await keys.verify(name, theirs)).toMatchObject({ valid: true });
        const changed = Buffer.from(signature);
        changed[changed.length - 7]! ^= 1;
        for (const wrong of [
          { ...ours, digest: digestOf(algorithm, Buffer.from('another')) },
          { ...ours, signature: changed },
          { ...ours, signature: signature.subarray(1) },
          { ...ours, signature: Buffer.concat([signature, Buffer.of(0)]) },
          { ...ours, signature: Buffer.alloc(signature.length, 0xff) },
          { ...ours, signature: Buffer.alloc(signature.length) },
        ]) {
          expect(await keys.verify(name, wrong)).toEqual({ keyId: id, algorithm, valid: false });
        }
      },
    );

    it.each(['HS256', 'HS384', 'HS512'] as const)(
      'signs and verifies with %s',
      async (algorithm) => {
        const name = fixed('oct-256');
        const { id } = await keys.get(name);
        const digest = randomBytes(32);
        const { keyId, result: signature } = await keys.sign(name, { algorithm, digest });
        expect(keyId).toBe(id);
        const valid = { keyId: id, algorithm, valid: true };
        expect(await keys.verify(name, { algorithm, digest, signature })).toEqual(valid);
        const other = { algorithm, digest: randomBytes(32), signature };
        expect(await keys.verify(name, other)).toEqual({ ...valid, valid: false });
      },
    );

    it('works with the latest version unless one is named, and says which it was', async () => {
      const name = newName();
      const first = await keys.import(name, importable(rsaPair));
      const input = { algorithm: 'RSA-OAEP-256', plaintext: Buffer.from('x') } as const;
      expect((await keys.encrypt(name, input)).keyId).toBe(first.id);
      const second = await keys.import(name, importable(rsaPair));
      expect((await keys.encrypt(name, input)).keyId).toBe(second.id);
      const { version } = first.properties;
      expect((await keys.encrypt(name, input, version)).keyId).toBe(first.id);
      const digest = randomBytes(32);
      expect((await keys.sign(name, { algorithm: 'RS256', digest })).keyId).toBe(second.id);
      const signed = await keys.sign(name, { algorithm: 'RS256', digest }, version);
      expect(signed.keyId).toBe(first.id);
      const wrapped = await keys.wrapKey(name, { algorithm: 'RSA1_5', key: digest }, version);
      expect(wrapped.keyId).toBe(first.id);
    });

    it('gives random bytes', async () => {
      const bytes = await keys.randomBytes(128);
      expect(bytes).toHaveLength(128);
      expect(bytes).not.toEqual(await keys.randomBytes(128));
    });
  });

  describe('that must not be used', () => {
    /** One call of each operation with the RSA key of that name. */
    const uses = (name: string) => {
      const content = { algorithm: 'RSA-OAEP-256' } as const;
      const sealed = randomBytes(255);
      const ciphertext = Buffer.concat([Buffer.of(0), sealed]);
      const digest = randomBytes(32);
      const signature = ciphertext;
      return {
        encrypt: () => keys.encrypt(name, { ...content, plaintext: Buffer.from('x') }),
        decrypt: () => keys.decrypt(name, { ...content, ciphertext }),
        wrapKey: () => keys.wrapKey(name, { ...content, key: digest }),
        unwrapKey: () => keys.unwrapKey(name, { ...content, wrapped: ciphertext }),
        sign: () => keys.sign(name, { algorithm: 'PS256', digest }),
        verify: () => keys.verify(name, { algorithm: 'PS256', digest, signature }),
      };
    };
    const operations = ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey', 'sign', 'verify'] as const;

    it('says object_disabled for a disabled version', async () => {
      const name = newName();
      const { properties } = await keys.import(name, importable(rsaPair));
      await keys.encrypt(name, { algorithm: 'RSA-OAEP', plaintext: Buffer.from('x') });
      await keys.update(name, properties.version, { enabled: false });
      for (const use of Object.values(uses(name))) await refused('object_disabled', use);
      await keys.update(name, properties.version, { enabled: true });
      await uses(name).sign();
    });

    it.each([
      ['after its expiry', { expiresOn: past }],
      ['before its time', { notBefore: future }],
    ])('makes nothing new %s, and opens and checks what it made', async (_when, dates) => {
      const name = newName();
      const plaintext = Buffer.from('made in time');
      const digest = randomBytes(32);
      const { properties } = await keys.import(name, importable(rsaPair));
      const { result: ciphertext } = await keys.encrypt(name, {
        algorithm: 'RSA-OAEP-256',
        plaintext,
      });
      const { result: signature } = await keys.sign(name, { algorithm: 'PS256', digest });
      await keys.update(name, properties.version, dates);
      const { encrypt, wrapKey, sign: signNew } = uses(name);
      for (const use of [encrypt, wrapKey, signNew]) await refused('object_disabled', use);
      const opened = await keys.decrypt(name, { algorithm: 'RSA-OAEP-256', ciphertext });
      expect(Buffer.from(opened.result)).toEqual(plaintext);
      const input = { algorithm: 'RSA-OAEP-256', wrapped: ciphertext } as const;
      expect(Buffer.from((await keys.unwrapKey(name, input)).result)).toEqual(plaintext);
      const made = { algorithm: 'PS256', digest, signature } as const;
      expect(await keys.verify(name, made)).toMatchObject({ valid: true });
    });

    it('does only what the key permits', async () => {
      for (const permitted of operations) {
        const name = newName();
        await keys.import(name, importable(rsaPair, { operations: [permitted] }));
        for (const operation of operations) {
          const use = uses(name)[operation];
          if (operation !== permitted) await refused('invalid_input', use);
        }
      }
    });

    it('says not_found for a key or version that is not there', async () => {
      for (const use of Object.values(uses(newName()))) await refused('not_found', use);
      const digest = randomBytes(32);
      const version = '0'.repeat(32);
      await refused('not_found', () =>
        keys.sign(fixed('rsa'), { algorithm: 'RS256', digest }, version),
      );
    });

    it.each([
      ['rsa', 'ES256', 32],
      ['P-256', 'RS256', 32],
      ['P-256', 'ES384', 48],
      ['P-256', 'ES256K', 32],
      ['P-256K', 'ES256', 32],
      ['P-521', 'HS256', 32],
      ['oct-256', 'PS512', 64],
    ] as const)('says invalid_input for %s with %s', async (kind, algorithm, length) => {
      const digest = randomBytes(length);
      const name = fixed(kind);
      await refused('invalid_input', () => keys.sign(name, { algorithm, digest }));
      const input = { algorithm, digest, signature: randomBytes(64) };
      await refused('invalid_input', () => keys.verify(name, input));
    });

    it.each([
      ['P-256', 'RSA-OAEP'],
      ['oct-256', 'RSA-OAEP-256'],
      ['rsa', 'A256GCM'],
      ['oct-256', 'A128GCM'],
    ] as const)('says invalid_input for %s with %s', async (kind, algorithm) => {
      const name = newName();
      const operations = ['encrypt', 'decrypt'] as const;
      if (kind === 'P-256') await keys.import(name, importable(ecPairs[kind], { operations }));
      const used = kind === 'P-256' ? name : fixed(kind);
      const plaintext = randomBytes(16);
      await refused('invalid_input', () => keys.encrypt(used, { algorithm, plaintext }));
    });

    const noPadding = { padding: constants.RSA_NO_PADDING };
    it('says invalid_input for what does not fit the key, or was not made with it', async () => {
      const name = fixed('rsa');
      for (const [algorithm, most] of [
        ['RSA1_5', 245],
        ['RSA-OAEP', 214],
        ['RSA-OAEP-256', 190],
      ] as const) {
        await keys.encrypt(name, { algorithm, plaintext: randomBytes(most) });
        const plaintext = randomBytes(most + 1);
        await refused('invalid_input', () => keys.encrypt(name, { algorithm, plaintext }));
        await refused('invalid_input', () => keys.wrapKey(name, { algorithm, key: plaintext }));
        for (const length of [255, 257]) {
          const ciphertext = randomBytes(length);
          await refused('invalid_input', () => keys.decrypt(name, { algorithm, ciphertext }));
        }
        const wrapped = publicEncrypt(
          { key: rsaPair.publicKey, ...noPadding },
          Buffer.alloc(256, 1),
        );
        await refused('invalid_input', () => keys.unwrapKey(name, { algorithm, wrapped }));
      }
      const wrapped = randomBytes(40);
      await refused('invalid_input', () =>
        keys.unwrapKey(fixed('oct-256'), { algorithm: 'A256KW', wrapped }),
      );
      const input = { ciphertext: randomBytes(32), iv: randomBytes(16) };
      await refused('invalid_input', async () => {
        // One padding in 256 is right by chance.
        for (let n = 0; n < 9; n++) {
          await keys.decrypt(fixed('oct-256'), {
            ...input,
            ciphertext: randomBytes(32),
            algorithm: 'A256CBCPAD',
          });
        }
      });
    });

    it('releases no key that is not exportable, and none to a stranger', async () => {
      const attestation = stranger();
      await refused('invalid_input', () => keys.release(fixed('rsa'), { attestation }));
      const name = newName();
      const authority = { authority: 'https://attest.example', allOf: [claim] };
      const policy = JSON.stringify({ version: '1.0.0', anyOf: [authority] });
      const made = await keys.create(name, {
        ...{ type: 'EC-HSM', exportable: true },
        releasePolicy: Buffer.from(policy),
      });
      expect(made.exportable).toBe(true);
      expect((await keys.get(name)).exportable).toBe(true);
      await refused('vault_denied', () => keys.release(name, { attestation }));
      await keys.update(name, made.properties.version, { enabled: false });
      await refused('object_disabled', () => keys.release(name, { attestation }));
    });
    const claim = { claim: 'x-ms-attestation-type', equals: 'sevsnpvm' };
    const stranger = () => {
      const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
      return `${part({ alg: 'none' })}.${part({ iss: 'https://stranger.example' })}.x`;
    };
  });

  describe('that no vault takes', () => {
    const invalid = (call: () => Promise<unknown>) => refused('invalid_input', call);
    const digest = randomBytes(32);

    it('refuses names and versions', async () => {
      for (const name of ['', 'a/b', 'a b', 'ü', '../x', 'a?b', 'x'.repeat(128)]) {
        await invalid(() => keys.get(name));
        await invalid(() => keys.create(name, ec));
        await invalid(() => keys.rotate(name));
        await invalid(() => keys.delete(name));
        await invalid(() => keys.sign(name, { algorithm: 'ES256', digest }));
        await invalid(() => keys.release(name, { attestation: 'x' }));
        expect(() => keys.listVersions(name)).toThrow(failure('invalid_input'));
      }
      await invalid(() => keys.get('x', 'latest'));
      await invalid(() => keys.sign('x', { algorithm: 'ES256', digest }, 'latest'));
      await invalid(() => keys.update('x', 'latest', {}));
    });

    it.each([
      ['a date after 2038-01-19T03:14:07Z', { expiresOn: new Date('2038-01-19T03:14:08Z') }],
      ['a date before 1970', { notBefore: new Date('1969-12-31') }],
      ['no date', { expiresOn: new Date('never') }],
      ['too many tags', { tags: Object.fromEntries([...Array(16).keys()].map((n) => [n, ''])) }],
      ['a tag that is too long', { tags: { a: 'x'.repeat(257) } }],
      ['an unknown operation', { operations: ['dance' as 'sign'] }],
    ])('refuses %s', async (_what, changes) => {
      await invalid(() => keys.create(newName(), { ...ec, ...changes }));
      await invalid(() => keys.import(newName(), importable(rsaPair, changes)));
      await invalid(() => keys.update('x', '0'.repeat(32), changes));
    });

    it.each([
      { type: 'DSA' as 'RSA' },
      { type: 'RSA', size: 1024 },
      { type: 'RSA', size: 2049 },
      { type: 'RSA', curve: 'P-256' },
      { type: 'EC', curve: 'P-224' as 'P-256' },
      { type: 'EC', size: 256 },
      { type: 'oct-HSM', size: 100 },
      { type: 'RSA', exportable: true, releasePolicy: Buffer.from('{}') },
      { type: 'RSA-HSM', exportable: true },
      { type: 'RSA-HSM', releasePolicy: Buffer.from('{}') },
      { type: 'RSA-HSM', exportable: true, releasePolicy: Buffer.from('no JSON') },
    ] as const satisfies readonly NewKey[])('refuses to make %o', async (key) => {
      await invalid(() => keys.create(newName(), key));
    });

    const changedAtEnd = (base64url: string) => {
      const bytes = Buffer.from(base64url, 'base64url');
      bytes[bytes.length - 1]! ^= 2;
      return bytes.toString('base64url');
    };
    it('refuses what is no private key', async () => {
      const rsa = privateJwk(rsaPair.privateKey);
      const p256 = privateJwk(ecPairs['P-256'].privateKey);
      const other = privateJwk(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey);
      const { privateKey: small } = generateKeyPairSync('rsa', { modulusLength: 1024 });
      const bad: (string | JsonWebKey)[] = [
        ...['', 'no JSON', 'null', '"RSA"', '{}'],
        ...[
          { ...rsa, kty: 'DSA' },
          { ...rsa, d: '' },
          { ...rsa, p: 'not base64url!' },
        ],
        ...[
          rsaPair.publicKey.export({ format: 'jwk' }),
          privateJwk(small),
          { ...rsa, q: rsa.p! },
          { ...rsa, dp: rsa.dq! },
          { ...rsa, n: changedAtEnd(rsa.n!) },
        ],
        ...[
          { ...p256, crv: 'P-224' },
          { ...p256, x: other.x! },
          { ...p256, d: other.d! },
        ],
        ...[{ kty: 'oct' }, { kty: 'oct', k: 'AAAA' }],
      ];
      for (const one of bad) {
        const key = new SecretString(typeof one === 'string' ? one : JSON.stringify(one));
        const error = await keys.import(newName(), { key }).catch((cause: unknown) => cause);
        expect(error).toEqual(failure('invalid_input'));
        expect(String((error as Error).stack)).not.toContain(rsa.d);
      }
    });

    it.each([
      ['an algorithm for signing', { algorithm: 'RS256' as 'RSA-OAEP', plaintext: digest }],
      ['nothing', { algorithm: 'RSA-OAEP', plaintext: new Uint8Array() }],
      ['CBC without an iv', { algorithm: 'A256CBCPAD', plaintext: digest }],
      ['CBC with half an iv', { algorithm: 'A128CBC', plaintext: digest, iv: randomBytes(8) }],
      [
        'CBC of half a block',
        { algorithm: 'A256CBC', plaintext: randomBytes(24), iv: randomBytes(16) },
      ],
      ['GCM with an iv', { algorithm: 'A256GCM', plaintext: digest, iv: randomBytes(12) }],
      [
        'RSA with additional data',
        { algorithm: 'RSA-OAEP', plaintext: digest, additionalData: digest },
      ],
    ] as const)('refuses to encrypt %s', async (_what, input) => {
      const kind = input.algorithm.startsWith('A') ? 'oct-256' : 'rsa';
      await invalid(() => keys.encrypt(fixed(kind), input));
    });

    it.each([
      { algorithm: 'A256GCM', ciphertext: digest, iv: randomBytes(12) },
      { algorithm: 'A256GCM', ciphertext: digest, iv: randomBytes(16), tag: randomBytes(16) },
      { algorithm: 'A256GCM', ciphertext: digest, tag: randomBytes(16) },
      { algorithm: 'A256CBC', ciphertext: digest },
      { algorithm: 'A256CBC', ciphertext: randomBytes(33), iv: randomBytes(16) },
      { algorithm: 'RSA-OAEP', ciphertext: randomBytes(256), iv: randomBytes(16) },
      { algorithm: 'RSA-OAEP', ciphertext: randomBytes(256), tag: randomBytes(16) },
    ] as const)('refuses to decrypt %o', async (input) => {
      const kind = input.algorithm.startsWith('A') ? 'oct-256' : 'rsa';
      await invalid(() => keys.decrypt(fixed(kind), input));
    });

    it('refuses to wrap, unwrap, sign and verify what has a wrong length', async () => {
      const aes = fixed('oct-256');
      for (const length of [8, 15, 20]) {
        const key = randomBytes(length);
        await invalid(() => keys.wrapKey(aes, { algorithm: 'A256KW', key }));
      }
      for (const length of [16, 25]) {
        const wrapped = randomBytes(length);
        await invalid(() => keys.unwrapKey(aes, { algorithm: 'A256KW', wrapped }));
      }
      const lengths = { RS256: 32, PS384: 48, ES512: 64, ES256K: 32 } as const;
      await fc.assert(
        fc.asyncProperty(
          fc.constantFrom(...(Object.keys(lengths) as (keyof typeof lengths)[])),
          fc.nat(80),
          async (algorithm, length) => {
            fc.pre(length !== lengths[algorithm]);
            const input = { algorithm, digest: randomBytes(length) };
            await invalid(() => keys.sign(keyFor(algorithm), input));
            const signature = randomBytes(64);
            await invalid(() => keys.verify(keyFor(algorithm), { ...input, signature }));
          },
        ),
        { numRuns: 20 },
      );
      const empty = { algorithm: 'RS256', digest, signature: new Uint8Array() } as const;
      await invalid(() => keys.verify(fixed('rsa'), empty));
    });

    it.each([
      { expiresIn: 'P27D', actions: [] },
      { expiresIn: '90 days', actions: [] },
      { expiresIn: null, actions: [{ action: 'Rotate' }] },
      { expiresIn: null, actions: [{ action: 'Rotate', timeBeforeExpiry: 'P30D' }] },
      { expiresIn: null, actions: [{ action: 'Rotate', timeAfterCreate: 'P6D' }] },
      { expiresIn: 'P30D', actions: [{ action: 'Rotate', timeAfterCreate: 'P24D' }] },
      { expiresIn: null, actions: [{ action: 'Notify', timeAfterCreate: 'P30D' }] },
      { expiresIn: null, actions: Array(2).fill({ action: 'Notify', timeBeforeExpiry: 'P30D' }) },
      {
        expiresIn: 'P90D',
        actions: [{ action: 'Rotate', timeAfterCreate: 'P30D', timeBeforeExpiry: 'P30D' }],
      },
      { expiresIn: null, actions: [{ action: 'Burn' as 'Rotate', timeAfterCreate: 'P30D' }] },
    ] as const)('refuses the rotation policy %o', async (policy) => {
      await invalid(() => keys.setRotationPolicy(fixed('rsa'), policy));
    });

    it('refuses counts of random bytes', async () => {
      for (const count of [0, -1, 1.5, 129]) await invalid(() => keys.randomBytes(count));
    });
  });
});

describe('keys of the simulated vault', () => {
  const open = () => {
    const time = { now: new Date('2030-01-31T10:00:00.900Z') };
    const vaults = simulatedVaults([{ alias: 'main', purpose: 'main' }], { now: () => time.now });
    return { time, vaults, keys: vaults.get('main').keys };
  };

  it('live by the given clock', async () => {
    const { time, keys } = open();
    const digest = randomBytes(32);
    const signNow = () => keys.sign('a', { algorithm: 'ES256', digest });
    const { properties } = await keys.create('a', {
      ...ec,
      notBefore: new Date('2030-02-01T00:00:00Z'),
      expiresOn: new Date('2030-02-02T00:00:00Z'),
    });
    expect(properties.created).toEqual(new Date('2030-01-31T10:00:00Z'));
    for (const [at, outcome] of [
      ['2030-01-31T23:59:59.999Z', 'refused'],
      ['2030-02-01T00:00:00.000Z', 'signed'],
      ['2030-02-01T23:59:59.999Z', 'signed'],
      ['2030-02-02T00:00:00.000Z', 'refused'],
    ] as const) {
      time.now = new Date(at);
      if (outcome === 'signed') await signNow();
      else await refused('object_disabled', signNow);
    }
    await keys.setRotationPolicy('a', { expiresIn: 'P1M', actions: [] });
    time.now = new Date('2030-01-31T10:00:00Z');
    const { expiresOn } = (await keys.rotate('a')).properties;
    expect(expiresOn).toEqual(new Date('2030-02-28T10:00:00Z'));
    await keys.delete('a');
    time.now = new Date('2030-05-01T09:59:59Z');
    await refused('object_deleted', () => keys.create('a', ec));
    time.now = new Date('2030-05-01T10:00:00Z');
    await refused('not_found', () => keys.getDeleted('a'));
    expect(await all(keys.listDeleted())).toEqual([]);
    await keys.create('a', ec);
    expect(await all(keys.listVersions('a'))).toHaveLength(1);
  });

  it('are logged apart from secrets, also when it fails', async () => {
    const { vaults, keys } = open();
    await keys.create('a', ec);
    await keys.sign('a', { algorithm: 'ES256', digest: randomBytes(32) });
    await refused('not_found', () => vaults.get('main').secrets.get('a'));
    await refused('invalid_input', () => keys.encrypt('a', rsaInput));
    await keys.randomBytes(1);
    const seen = vaults.accesses.map(({ at: _, vault: __, ...access }) => access);
    expect(seen).toEqual([
      { type: 'key', operation: 'create', name: 'a', outcome: 'ok' },
      { type: 'key', operation: 'sign', name: 'a', outcome: 'ok' },
      { type: 'secret', operation: 'get', name: 'a', outcome: 'not_found' },
      { type: 'key', operation: 'encrypt', name: 'a', outcome: 'invalid_input' },
      { type: 'key', operation: 'randomBytes', name: '', outcome: 'ok' },
    ]);
  });
  const rsaInput = { algorithm: 'RSA-OAEP', plaintext: Buffer.from('x') } as const;

  it('lose to a deletion that comes while a key is made', async () => {
    const { keys } = open();
    await keys.create('a', ec);
    const made = refused('object_deleted', () => keys.create('a', { type: 'RSA' }));
    const rotated = refused('not_found', () => keys.rotate('a'));
    await keys.delete('a');
    await Promise.all([made, rotated]);
    expect(await all(keys.listVersions('a'))).toEqual([]);
  });

  it('say no more of exportability than the first version did', async () => {
    const { keys } = open();
    const exportable = {
      type: 'EC-HSM',
      exportable: true,
      releasePolicy: Buffer.from('{}'),
    } as const;
    await keys.create('a', exportable);
    expect((await keys.create('a', { type: 'EC-HSM' })).exportable).toBe(true);
    await refused('vault_rejected', () => keys.create('a', { type: 'EC', exportable: false }));
  });
});
