/** What can be done with a key: the input as such, and then whether it and the key go together. */
import { AppError } from '../errors.ts';
import { ciphers, familyOf, signatures } from './key-algorithms.ts';
import { checkField, oneOf } from './key-rules.ts';
import {
  type DecryptInput,
  type EncryptInput,
  type EncryptionAlgorithm,
  encryptionAlgorithms,
  type KeyOperation,
  type KeyVersion,
  type SignatureAlgorithm,
  type SignInput,
  signatureAlgorithms,
  type UnwrapInput,
  type VerifyInput,
  type WrapAlgorithm,
  type WrapInput,
  wrapAlgorithms,
} from './keys.ts';

const cbcIvBytes = 16;
const gcmIvBytes = 12;
const gcmTagBytes = 16;

/** @throws AppError `invalid_input` naming what no key can encrypt */
export function checkEncrypt({ algorithm, plaintext, iv, additionalData }: EncryptInput): void {
  checkField(encryptionAlgorithms.includes(algorithm), 'algorithm', () =>
    oneOf(encryptionAlgorithms),
  );
  checkContent('plaintext', plaintext);
  const cipher = ciphers[algorithm];
  const mode = cipher.family === 'RSA' ? 'rsa' : cipher.mode;
  checkAdditionalData(algorithm, additionalData);
  if (mode === 'cbc') checkBlocks('plaintext', plaintext, algorithm);
  // The SDK makes none although it says so, and the vault makes one for GCM only.
  if (isCbc(algorithm)) checkLength('iv', iv, cbcIvBytes, algorithm);
  else checkField(iv === undefined, 'iv', () => `leave it out: ${algorithm} takes none`);
}

/** @throws AppError `invalid_input` naming what no key can decrypt */
export function checkDecrypt(input: DecryptInput): void {
  const { algorithm, ciphertext, iv, tag, additionalData } = input;
  checkField(encryptionAlgorithms.includes(algorithm), 'algorithm', () =>
    oneOf(encryptionAlgorithms),
  );
  checkContent('ciphertext', ciphertext);
  checkAdditionalData(algorithm, additionalData);
  if (isCbc(algorithm)) {
    checkBlocks('ciphertext', ciphertext, algorithm);
    checkLength('iv', iv, cbcIvBytes, algorithm);
  } else if (isGcm(algorithm)) {
    checkLength('iv', iv, gcmIvBytes, algorithm);
    checkLength('tag', tag, gcmTagBytes, algorithm);
  } else {
    checkField(iv === undefined, 'iv', () => `leave it out: ${algorithm} takes none`);
  }
  if (!isGcm(algorithm)) {
    checkField(tag === undefined, 'tag', () => `leave it out: ${algorithm} takes none`);
  }
}

/** @throws AppError `invalid_input` naming what no key can wrap */
export function checkWrap({ algorithm, key }: WrapInput): void {
  checkField(wrapAlgorithms.includes(algorithm), 'algorithm', () => oneOf(wrapAlgorithms));
  checkContent('key', key);
  if (ciphers[algorithm].family === 'RSA') return;
  const isWrappable = key.length >= 16 && key.length % 8 === 0;
  checkField(isWrappable, 'key', () => `${algorithm} takes a multiple of 8 bytes, at least 16`);
}

/** @throws AppError `invalid_input` naming what no key can unwrap */
export function checkUnwrap({ algorithm, wrapped }: UnwrapInput): void {
  checkField(wrapAlgorithms.includes(algorithm), 'algorithm', () => oneOf(wrapAlgorithms));
  checkContent('wrapped', wrapped);
  if (ciphers[algorithm].family === 'RSA') return;
  const isWrapped = wrapped.length >= 24 && wrapped.length % 8 === 0;
  checkField(isWrapped, 'wrapped', () => `${algorithm} gives a multiple of 8 bytes, at least 24`);
}

/** @throws AppError `invalid_input` naming what no key can sign */
export function checkSign({ algorithm, digest }: SignInput): void {
  checkField(signatureAlgorithms.includes(algorithm), 'algorithm', () =>
    oneOf(signatureAlgorithms),
  );
  checkContent('digest', digest);
  const { digestBytes } = signatures[algorithm];
  if (digestBytes !== null) checkLength('digest', digest, digestBytes, algorithm);
}

/** @throws AppError `invalid_input` naming what no key can verify */
export function checkVerify(input: VerifyInput): void {
  checkSign(input);
  checkContent('signature', input.signature);
}

export interface KeyUse {
  readonly operation: Exclude<KeyOperation, 'import' | 'export'>;
  readonly algorithm: EncryptionAlgorithm | WrapAlgorithm | SignatureAlgorithm;
  /** What is to be encrypted, decrypted, wrapped or unwrapped. */
  readonly content?: Uint8Array;
}

/**
 * Whether this key may be used so and now, as the vault itself judges it.
 *
 * @throws AppError `object_disabled` for a disabled key, and for new content outside of its dates; `invalid_input`
 * when it does not permit the operation or does not fit algorithm and content
 */
export function checkUse(key: KeyVersion, use: KeyUse, now: Date): void {
  const { operation, algorithm, content } = use;
  checkTime(key, operation, now);
  const isPermitted = key.operations.includes(operation);
  checkField(isPermitted, 'operation', () => {
    const permitted = key.operations.join(', ');
    return `key ${key.properties.name} does not permit ${operation}, only ${permitted}`;
  });
  checkFit(key, algorithm);
  if (content !== undefined) checkRoom(key, use, content);
}

function checkTime({ properties }: KeyVersion, operation: KeyOperation, now: Date): void {
  const { enabled, notBefore, expiresOn, name: keyName } = properties;
  const refuse = (why: string) =>
    new AppError('object_disabled', { detail: `${operation} with key ${keyName}: ${why}` });
  if (!enabled) throw refuse('it is disabled');
  // Outside its dates a key makes nothing new; it still opens and checks what it made.
  if (operation !== 'encrypt' && operation !== 'wrapKey' && operation !== 'sign') return;
  if (notBefore !== null && now < notBefore) {
    throw refuse(`not to be used before ${notBefore.toISOString()}`);
  }
  if (expiresOn !== null && now >= expiresOn) {
    throw refuse(`it expired at ${expiresOn.toISOString()}; rotate it`);
  }
}

function checkFit(key: KeyVersion, algorithm: KeyUse['algorithm']): void {
  const { publicKey, type } = key;
  const need = algorithm in signatures ? signatures[algorithm as SignatureAlgorithm] : null;
  const { family } = need ?? ciphers[algorithm as EncryptionAlgorithm];
  const isOfFamily = familyOf(type) === family;
  const needs = (what: string) => `${algorithm} needs a key ${what}`;
  checkField(isOfFamily, 'algorithm', () => needs(`of type ${family}, not ${type}`));
  if (need?.family !== 'EC' || publicKey?.kty !== 'EC') return;
  const { crv } = publicKey;
  checkField(crv === need.curve, 'algorithm', () => needs(`on ${need.curve}, not ${crv}`));
}

/** How much fits into RSA. */
function checkRoom({ publicKey }: KeyVersion, use: KeyUse, content: Uint8Array): void {
  if (publicKey?.kty !== 'RSA') return;
  const { operation, algorithm } = use;
  const cipher = ciphers[algorithm as EncryptionAlgorithm];
  if (cipher.family !== 'RSA') return;
  const modulusBytes = Buffer.byteLength(publicKey.n, 'base64url');
  const { length } = content;
  if (operation === 'encrypt' || operation === 'wrapKey') {
    const most = modulusBytes - cipher.paddingBytes;
    const cure = () => `at most ${most} bytes, not ${length}; wrap a data key instead`;
    checkField(length <= most, 'content', cure);
  } else {
    const cure = () => `this key gives ${modulusBytes} bytes, not ${length}`;
    checkField(length === modulusBytes, 'content', cure);
  }
}

function isCbc(algorithm: EncryptionAlgorithm): boolean {
  const cipher = ciphers[algorithm];
  return cipher.family === 'oct' && (cipher.mode === 'cbc' || cipher.mode === 'cbc-pad');
}

function isGcm(algorithm: EncryptionAlgorithm): boolean {
  const cipher = ciphers[algorithm];
  return cipher.family === 'oct' && cipher.mode === 'gcm';
}

function checkContent(field: string, bytes: Uint8Array): void {
  checkField(bytes instanceof Uint8Array && bytes.length > 0, field, 'give at least one byte');
}

function checkBlocks(field: string, bytes: Uint8Array, algorithm: string): void {
  checkField(bytes.length % 16 === 0, field, () => `${algorithm} takes a multiple of 16 bytes`);
}

function checkAdditionalData(algorithm: EncryptionAlgorithm, bytes: Uint8Array | undefined): void {
  const isFree = bytes === undefined || isGcm(algorithm);
  checkField(isFree, 'additionalData', () => `leave it out: ${algorithm} does not authenticate`);
}

function checkLength(
  field: string,
  bytes: Uint8Array | undefined,
  length: number,
  algorithm: string,
): void {
  const found = bytes === undefined ? 'none' : bytes.length;
  checkField(
    bytes?.length === length,
    field,
    () => `${algorithm} needs ${length} bytes, not ${found}`,
  );
}
