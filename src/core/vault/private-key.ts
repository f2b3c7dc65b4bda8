import {
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  type JsonWebKey,
  type KeyObject,
  sign,
  verify,
} from 'node:crypto';
import { AppError } from '../errors.ts';
import type { SecretString } from '../secret-string.ts';
import { familyOf, nodeCurve } from './key-algorithms.ts';
import { checkField, octSizes, oneOf, rsaSizes } from './key-rules.ts';
import { type KeyCurve, type KeyOperation, type KeyType, keyCurves, keyTypes } from './keys.ts';

/** A key that is to be imported, found to be whole. */
export interface PrivateKey {
  readonly type: KeyType;
  /** Null unless it is an EC key. */
  readonly curve: KeyCurve | null;
  /** The members of the JSON Web Key that are bytes, as base64url. */
  readonly members: Readonly<Record<string, string>>;
  /** What its `key_ops` say; null when it has none. */
  readonly operations: readonly KeyOperation[] | null;
  /** The private key, or the secret one of type oct. */
  readonly keyObject: KeyObject;
}

const membersOf = {
  RSA: ['n', 'e', 'd', 'p', 'q', 'dp', 'dq', 'qi'],
  EC: ['x', 'y', 'd'],
  oct: ['k'],
} as const;

/**
 * A private JSON Web Key, read and tried out.
 *
 * @throws AppError `invalid_input` for what is no private key, is of a size that no vault takes, or does not belong
 * to its public members; the text is never quoted
 */
export function parsePrivateKey(text: SecretString): PrivateKey {
  const jwk = parseObject(text);
  const type = jwk['kty'] as KeyType;
  checkField(keyTypes.includes(type), 'key.kty', oneOf(keyTypes));
  const family = familyOf(type);
  const members: Record<string, string> = {};
  for (const name of membersOf[family]) {
    const value = jwk[name];
    const isBytes = typeof value === 'string' && /^[\w-]+$/.test(value);
    checkField(isBytes, `key.${name}`, 'give the whole private key, its bytes in base64url');
    members[name] = value as string;
  }
  const curve = family === 'EC' ? (jwk['crv'] as KeyCurve) : null;
  checkField(curve === null || keyCurves.includes(curve), 'key.crv', oneOf(keyCurves));
  const operations = Array.isArray(jwk['key_ops']) ? (jwk['key_ops'] as KeyOperation[]) : null;
  const keyObject = family === 'oct' ? secretKey(members) : privateKey(members, curve);
  return { type, curve, members, operations, keyObject };
}

function parseObject(text: SecretString): Readonly<Record<string, unknown>> {
  let value: unknown = null;
  try {
    value = JSON.parse(text.expose());
  } catch {
    // The parser's words quote what it read.
  }
  checkField(typeof value === 'object' && value !== null, 'key', 'give a JSON Web Key as JSON');
  return value as Readonly<Record<string, unknown>>;
}

function secretKey({ k = '' }: Readonly<Record<string, string>>): KeyObject {
  const bits = Buffer.byteLength(k, 'base64url') * 8;
  checkField(octSizes.includes(bits), 'key.k', `${oneOf(octSizes)} bits, not ${bits}`);
  return createSecretKey(k, 'base64url');
}

type Members = Readonly<Record<string, string>>;

/** Found to be whole here, because OpenSSL takes private members of one key with the public ones of another. */
function privateKey(members: Members, curve: KeyCurve | null): KeyObject {
  const kind = curve === null ? { kty: 'RSA' } : { kty: 'EC', crv: nodeCurve(curve) };
  let key: KeyObject;
  try {
    key = createPrivateKey({ format: 'jwk', key: { ...kind, ...members } as JsonWebKey });
    const isWhole = curve === null ? isRsaPair(members) : isEcPair(key, members, kind);
    if (!isWhole) throw mismatch();
  } catch {
    throw mismatch();
  }
  const { modulusLength } = key.asymmetricKeyDetails ?? {};
  const isSized = modulusLength === undefined || rsaSizes.includes(modulusLength);
  checkField(isSized, 'key.n', `${oneOf(rsaSizes)} bits, not ${modulusLength}`);
  return key;
}

/** RFC 8017, 3.2. Signing would not show it: OpenSSL does without a member that is wrong. */
function isRsaPair(members: Members): boolean {
  const number = (name: string) =>
    BigInt(`0x${Buffer.from(members[name] ?? '', 'base64url').toString('hex')}`);
  const [e, d, p, q] = [number('e'), number('d'), number('p'), number('q')];
  return (
    p * q === number('n') &&
    (e * d) % (p - 1n) === 1n &&
    (e * d) % (q - 1n) === 1n &&
    number('dp') === d % (p - 1n) &&
    number('dq') === d % (q - 1n) &&
    (number('qi') * q) % p === 1n
  );
}

function isEcPair(key: KeyObject, { x, y }: Members, kind: JsonWebKey): boolean {
  const publicKey = createPublicKey({ format: 'jwk', key: { ...kind, x, y } as JsonWebKey });
  const message = Buffer.from('tried out');
  return verify('sha256', message, publicKey, sign('sha256', message, key));
}

function mismatch(): AppError {
  return new AppError('invalid_input', { detail: 'key: its members do not make a private key' });
}
