import '../reflect-metadata.ts';
import { createCipheriv, createDecipheriv, hash, pbkdf2, randomBytes } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { promisify } from 'node:util';
import {
  AsnConvert,
  AsnProp,
  AsnPropTypes,
  AsnType,
  AsnTypeTypes,
  OctetString,
} from '@peculiar/asn1-schema';
import { AlgorithmIdentifier } from '@peculiar/asn1-x509';
import { decryptRc2 } from './rc2.ts';

// Encryption under a password as PFX files use it: PKCS#12's own schemes (RFC 7292) and PBES2 (RFC 8018).

/**
 * The two forms in which a password is used. An empty one is written by some programs as a terminator only, by others
 * as nothing at all.
 */
export type Password = { readonly utf8: Buffer; readonly bmp: Buffer };

type Digest = 'sha1' | 'sha224' | 'sha256' | 'sha384' | 'sha512';
type Cipher = { readonly name: string; readonly keyBytes: number; readonly ivBytes: number };

const purposes = { key: 1, iv: 2, mac: 3 } as const;
// For the whole file: 100,000 each for its MAC, its certificates and its key. Counts of millions are attacks on the
// reader's time rather than on an attacker's.
const maxIterations = 300_000;
// About five milliseconds, for which the server answers nobody.
const roundsInOneTurn = 2000;

const tripleDes: Cipher = { name: 'des-ede3-cbc', keyBytes: 24, ivBytes: 8 };
const rc2 = (keyBytes: number): Cipher => ({ name: 'rc2-cbc', keyBytes, ivBytes: 8 });
const pbes2Oid = '1.2.840.113549.1.5.13';
const pbkdf2Oid = '1.2.840.113549.1.5.12';
const tripleDesPbeOid = '1.2.840.113549.1.12.1.3';

const pkcs12Ciphers: Readonly<Record<string, Cipher>> = {
  [tripleDesPbeOid]: tripleDes,
  '1.2.840.113549.1.12.1.4': { name: 'des-ede-cbc', keyBytes: 16, ivBytes: 8 },
  '1.2.840.113549.1.12.1.5': rc2(16),
  '1.2.840.113549.1.12.1.6': rc2(5),
};
const pbes2Ciphers: Readonly<Record<string, Cipher>> = {
  '1.2.840.113549.3.7': tripleDes,
  '2.16.840.1.101.3.4.1.2': { name: 'aes-128-cbc', keyBytes: 16, ivBytes: 16 },
  '2.16.840.1.101.3.4.1.22': { name: 'aes-192-cbc', keyBytes: 24, ivBytes: 16 },
  '2.16.840.1.101.3.4.1.42': { name: 'aes-256-cbc', keyBytes: 32, ivBytes: 16 },
};
const hmacs: Readonly<Record<string, Digest>> = {
  '1.2.840.113549.2.7': 'sha1',
  '1.2.840.113549.2.8': 'sha224',
  '1.2.840.113549.2.9': 'sha256',
  '1.2.840.113549.2.10': 'sha384',
  '1.2.840.113549.2.11': 'sha512',
};
const digests: Readonly<Record<string, Digest>> = {
  '1.3.14.3.2.26': 'sha1',
  '2.16.840.1.101.3.4.2.4': 'sha224',
  '2.16.840.1.101.3.4.2.1': 'sha256',
  '2.16.840.1.101.3.4.2.2': 'sha384',
  '2.16.840.1.101.3.4.2.3': 'sha512',
};

const stretch = promisify(pbkdf2);

class PbeParameters {
  salt = new OctetString();
  iterations = 1;
}
sequence(PbeParameters, { salt: OctetString, iterations: AsnPropTypes.Integer });

class Pbkdf2Parameters {
  salt = new OctetString();
  iterations = 1;
  keyLength?: number;
  prf = new AlgorithmIdentifier({ algorithm: '1.2.840.113549.2.7', parameters: null });
}
sequence(Pbkdf2Parameters, { salt: OctetString, iterations: AsnPropTypes.Integer });
AsnProp({ type: AsnPropTypes.Integer, optional: true })(Pbkdf2Parameters.prototype, 'keyLength');
AsnProp({ type: AlgorithmIdentifier, optional: true })(Pbkdf2Parameters.prototype, 'prf');

class Pbes2Parameters {
  keyDerivation = new AlgorithmIdentifier();
  encryption = new AlgorithmIdentifier();
}
sequence(Pbes2Parameters, { keyDerivation: AlgorithmIdentifier, encryption: AlgorithmIdentifier });

/** Both forms of an empty password, or the one of any other. */
export function passwordForms(password: string): readonly Password[] {
  const utf8 = Buffer.from(password, 'utf8');
  const bmp = Buffer.from(`${password}\0`, 'utf16le').swap16();
  const terminated = { utf8, bmp };
  return password === '' ? [terminated, { utf8, bmp: Buffer.alloc(0) }] : [terminated];
}

/** How many iterations a file may still ask for, over all its parts. */
export class IterationBudget {
  #left = maxIterations;

  /** @throws Error when it is not enough */
  spend(iterations: number): void {
    if (!(iterations >= 1 && iterations <= this.#left))
      throw unsupported(`${iterations} iterations`);
    this.#left -= iterations;
  }
}

/** @throws Error for an unknown scheme, a wrong password, too many iterations or broken data */
export async function decrypt(
  { algorithm, parameters }: AlgorithmIdentifier,
  data: Uint8Array,
  password: Password,
  budget: IterationBudget,
): Promise<Buffer> {
  if (!parameters) throw unsupported(algorithm);
  if (algorithm === pbes2Oid) return decryptPbes2(parameters, data, password, budget);
  const cipher = pkcs12Ciphers[algorithm];
  if (cipher === undefined) throw unsupported(algorithm);
  const { salt, iterations } = AsnConvert.parse(parameters, PbeParameters);
  budget.spend(iterations);
  const derive = (purpose: keyof typeof purposes, size: number): Promise<Buffer> =>
    deriveKeyInTurns({ digest: 'sha1', salt: bytesOf(salt), iterations }, password, purpose, size);
  const key = await derive('key', cipher.keyBytes);
  return decipher(cipher, key, await derive('iv', cipher.ivBytes), data);
}

/** With triple DES, which every reader of PFX files knows, old and new. */
export function encrypt(
  data: Uint8Array,
  password: Password,
  iterations: number,
): { algorithm: AlgorithmIdentifier; data: Buffer } {
  const salt = randomBytes(8);
  const derive = (purpose: keyof typeof purposes, size: number): Buffer =>
    deriveKey({ digest: 'sha1', salt, iterations }, password, purpose, size);
  const { name, keyBytes, ivBytes } = tripleDes;
  const cipher = createCipheriv(name, derive('key', keyBytes), derive('iv', ivBytes));
  const parameters = Object.assign(new PbeParameters(), {
    salt: new OctetString(salt),
    iterations,
  });
  return {
    algorithm: new AlgorithmIdentifier({
      algorithm: tripleDesPbeOid,
      parameters: AsnConvert.serialize(parameters),
    }),
    data: Buffer.concat([cipher.update(data), cipher.final()]),
  };
}

/** @returns `null` for a digest that PFX files do not use */
export function digestOf(oid: string): Digest | null {
  return digests[oid] ?? null;
}

type Derivation = {
  readonly digest: Digest;
  readonly salt: Uint8Array;
  readonly iterations: number;
};

/** At once: for the few iterations of what is written here. */
export function deriveKey(...wanted: Parameters<typeof derivation>): Buffer {
  const steps = derivation(...wanted);
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

/** The same, while others are served: for what came from outside, once its iterations are paid for. */
export async function deriveKeyInTurns(...wanted: Parameters<typeof derivation>): Promise<Buffer> {
  const steps = derivation(...wanted);
  for (;;) {
    // Before each, since many short ones are as long as one that is long.
    await nextTurn();
    const step = steps.next();
    if (step.done) return step.value;
  }
}

/** RFC 7292, appendix B.2; pauses after every turn of rounds. */
function* derivation(
  { digest, salt, iterations }: Derivation,
  password: Password,
  purpose: keyof typeof purposes,
  size: number,
): Generator<void, Buffer> {
  const block = digest === 'sha384' || digest === 'sha512' ? 128 : 64;
  const diversifier = Buffer.alloc(block, purposes[purpose]);
  let input = Buffer.concat([filled(salt, block), filled(password.bmp, block)]);
  const derived: Buffer[] = [];
  for (let bytes = 0; bytes < size; ) {
    let part = hash(digest, Buffer.concat([diversifier, input]), 'buffer');
    for (let round = 1; round < iterations; round += 1) {
      part = hash(digest, part, 'buffer');
      if (round % roundsInOneTurn === 0) yield;
    }
    derived.push(part);
    bytes += part.length;
    input = incremented(input, filled(part, block, block));
  }
  return Buffer.concat(derived).subarray(0, size);
}

async function decryptPbes2(
  parameters: ArrayBuffer,
  data: Uint8Array,
  password: Password,
  budget: IterationBudget,
): Promise<Buffer> {
  const { keyDerivation, encryption } = AsnConvert.parse(parameters, Pbes2Parameters);
  const cipher = pbes2Ciphers[encryption.algorithm];
  const isKnown = keyDerivation.algorithm === pbkdf2Oid && keyDerivation.parameters;
  if (cipher === undefined || !isKnown || !encryption.parameters) {
    throw unsupported(`${keyDerivation.algorithm} ${encryption.algorithm}`);
  }
  const { salt, iterations, prf } = AsnConvert.parse(isKnown, Pbkdf2Parameters);
  const digest = hmacs[prf.algorithm];
  if (digest === undefined) throw unsupported(prf.algorithm);
  budget.spend(iterations);
  const key = await stretch(password.utf8, bytesOf(salt), iterations, cipher.keyBytes, digest);
  return decipher(cipher, key, bytesOf(AsnConvert.parse(encryption.parameters, OctetString)), data);
}

function decipher({ name }: Cipher, key: Buffer, iv: Uint8Array, data: Uint8Array): Buffer {
  // Not in the providers that Node loads.
  if (name === 'rc2-cbc') return decryptRc2(key, iv, data);
  const engine = createDecipheriv(name, key, iv);
  return Buffer.concat([engine.update(data), engine.final()]);
}

/** The bytes, repeated up to a multiple of the block size, or up to a given size. */
function filled(bytes: Uint8Array, block: number, size = Math.ceil(bytes.length / block) * block) {
  return Buffer.alloc(size, bytes.length === 0 ? Buffer.of(0) : bytes);
}

/** Every block of the input plus the addend plus one, modulo its size. */
function incremented(input: Buffer, addend: Buffer): Buffer<ArrayBuffer> {
  const sum = Buffer.from(input);
  for (let start = 0; start < sum.length; start += addend.length) {
    let carry = 1;
    for (let index = addend.length - 1; index >= 0; index -= 1) {
      carry += (sum[start + index] ?? 0) + (addend[index] ?? 0);
      sum[start + index] = carry & 0xff;
      carry >>= 8;
    }
  }
  return sum;
}

function unsupported(what: string): Error {
  return new Error(`unsupported encryption: ${what}`);
}

function bytesOf(text: OctetString): Uint8Array {
  return new Uint8Array(text.buffer);
}

/** The schema of a class: decorators, which Node does not run, called by hand. */
function sequence(
  target: { readonly prototype: object },
  members: Readonly<Record<string, AsnPropTypes | (new () => unknown)>>,
): void {
  AsnType({ type: AsnTypeTypes.Sequence })(target as new () => object);
  for (const [name, type] of Object.entries(members)) {
    AsnProp({ type } as Parameters<typeof AsnProp>[0])(target.prototype, name);
  }
}
