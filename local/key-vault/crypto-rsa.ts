import {
  constants,
  createHash,
  createPublicKey,
  type KeyObject,
  privateDecrypt,
  privateEncrypt,
  publicDecrypt,
  publicEncrypt,
  randomBytes,
  timingSafeEqual,
} from 'node:crypto';

// RSA on digests, which node:crypto offers on messages only: RFC 8017 over its raw operations.

export type HashName = 'sha1' | 'sha256' | 'sha384' | 'sha512';

const { RSA_NO_PADDING, RSA_PKCS1_OAEP_PADDING, RSA_PKCS1_PADDING } = constants;

/** DER of a DigestInfo up to the digest itself (RFC 8017, 9.2, note 1). */
const digestInfoPrefix: Readonly<Record<Exclude<HashName, 'sha1'>, Buffer>> = {
  sha256: Buffer.from('3031300d060960864801650304020105000420', 'hex'),
  sha384: Buffer.from('3041300d060960864801650304020205000430', 'hex'),
  sha512: Buffer.from('3051300d060960864801650304020305000440', 'hex'),
};

/** RSASSA-PKCS1-v1_5 of a digest; of bare content when there is no hash. */
export function signPkcs1(
  key: KeyObject,
  content: Buffer,
  hash?: keyof typeof digestInfoPrefix,
): Buffer {
  return privateEncrypt({ key, padding: RSA_PKCS1_PADDING }, digestInfo(content, hash));
}

export function verifyPkcs1(
  key: KeyObject,
  content: Buffer,
  signature: Buffer,
  hash?: keyof typeof digestInfoPrefix,
): boolean {
  const signed = opened(key, signature, RSA_PKCS1_PADDING);
  return signed !== null && isSame(signed, digestInfo(content, hash));
}

/** RSASSA-PSS of a digest: MGF1 with the same hash, a salt as long as the digest. */
export function signPss(key: KeyObject, digest: Buffer, hash: HashName): Buffer {
  const salt = randomBytes(digest.length);
  const inner = innerHash(digest, salt, hash);
  const size = modulusBytes(key);
  const data = Buffer.alloc(size - digest.length - 1);
  data[data.length - salt.length - 1] = 1;
  salt.copy(data, data.length - salt.length);
  const masked = xor(data, mgf1(inner, data.length, hash));
  // The modulus has a multiple of eight bits, the encoded message one bit less.
  masked[0] = (masked[0] ?? 0) & 0x7f;
  const encoded = Buffer.concat([masked, inner, Buffer.of(0xbc)]);
  return privateEncrypt({ key, padding: RSA_NO_PADDING }, encoded);
}

export function verifyPss(
  key: KeyObject,
  digest: Buffer,
  signature: Buffer,
  hash: HashName,
): boolean {
  const encoded = opened(key, signature, RSA_NO_PADDING);
  if (encoded === null || encoded.at(-1) !== 0xbc || (encoded[0] ?? 0) & 0x80) return false;
  const inner = encoded.subarray(-digest.length - 1, -1);
  const masked = encoded.subarray(0, -digest.length - 1);
  const data = xor(masked, mgf1(inner, masked.length, hash));
  data[0] = (data[0] ?? 0) & 0x7f;
  const saltAt = data.length - digest.length;
  const isPadded = data.subarray(0, saltAt - 1).every((byte) => byte === 0);
  if (!isPadded || data[saltAt - 1] !== 1) return false;
  return isSame(inner, innerHash(digest, data.subarray(saltAt), hash));
}

/** @param hash of OAEP and its MGF1; absent: PKCS #1 v1.5. @throws when the content is too long for the key */
export function encryptRsa(key: KeyObject, content: Buffer, hash?: HashName): Buffer {
  const padding = hash === undefined ? RSA_PKCS1_PADDING : RSA_PKCS1_OAEP_PADDING;
  return publicEncrypt(
    { key, padding, ...(hash === undefined ? {} : { oaepHash: hash }) },
    content,
  );
}

/** @throws for what was not encrypted for this key, and in this way */
export function decryptRsa(key: KeyObject, content: Buffer, hash?: HashName): Buffer {
  if (hash !== undefined) {
    return privateDecrypt({ key, padding: RSA_PKCS1_OAEP_PADDING, oaepHash: hash }, content);
  }
  // By hand, since OpenSSL answers a wrong padding with random content instead of an error.
  const padded = privateDecrypt({ key, padding: RSA_NO_PADDING }, content);
  const end = padded.indexOf(0, 2);
  if (padded[0] !== 0 || padded[1] !== 2 || end < 10) throw new Error('no PKCS #1 v1.5 padding');
  return padded.subarray(end + 1);
}

function modulusBytes(key: KeyObject): number {
  return (key.asymmetricKeyDetails?.modulusLength ?? 0) / 8;
}

/** What was signed; `null` for a signature that this key cannot have made. */
function opened(key: KeyObject, signature: Buffer, padding: number): Buffer | null {
  if (signature.length !== modulusBytes(key)) return null;
  try {
    return publicDecrypt({ key: createPublicKey(key), padding }, signature);
  } catch {
    return null;
  }
}

function digestInfo(content: Buffer, hash?: keyof typeof digestInfoPrefix): Buffer {
  return hash === undefined ? content : Buffer.concat([digestInfoPrefix[hash], content]);
}

function innerHash(digest: Buffer, salt: Buffer, hash: HashName): Buffer {
  return createHash(hash).update(Buffer.alloc(8)).update(digest).update(salt).digest();
}

function mgf1(seed: Buffer, length: number, hash: HashName): Buffer {
  const blocks: Buffer[] = [];
  for (let made = 0; made < length; made += blocks.at(-1)?.length ?? 0) {
    const counter = Buffer.alloc(4);
    counter.writeUInt32BE(blocks.length);
    blocks.push(createHash(hash).update(seed).update(counter).digest());
  }
  return Buffer.concat(blocks, length);
}

function xor(a: Buffer, b: Buffer): Buffer {
  return Buffer.from(a.map((byte, index) => byte ^ (b[index] ?? 0)));
}

function isSame(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}
