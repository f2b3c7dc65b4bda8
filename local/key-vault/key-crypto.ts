import { z } from 'zod';
import { base64urlToBytes } from './base64url.ts';
import { parseBody } from './bundles.ts';
import { errors } from './errors.ts';
import {
  type CipherData,
  type EncryptionAlgorithm,
  encryptionAlgorithms,
  findMisfit,
  type KeyNeed,
  type SignatureAlgorithm,
  signatureAlgorithms,
} from './key-algorithms.ts';
import { type KeyUse, type KeyVersion, keyKind } from './keys.ts';
import { idOf, targetOf } from './kind.ts';
import type { Answer, Call, Operation } from './operation.ts';

// What is done with a key without showing it.

type Use = Exclude<KeyUse, 'import' | 'export'>;

const serviceNames: Readonly<Record<Use, string>> = {
  encrypt: 'KeyEncrypt',
  decrypt: 'KeyDecrypt',
  wrapKey: 'KeyWrap',
  unwrapKey: 'KeyUnwrap',
  sign: 'KeySign',
  verify: 'KeyVerify',
};

export const keyCryptoOperations: readonly Operation[] = [
  operation('encrypt', (call) => encrypt(call, 'encrypt')),
  operation('decrypt', (call) => decrypt(call, 'decrypt')),
  operation('wrapKey', (call) => encrypt(call, 'wrapKey')),
  operation('unwrapKey', (call) => decrypt(call, 'unwrapKey')),
  operation('sign', sign),
  operation('verify', verify),
];

function operation(use: Use, run: Operation['run']): Operation {
  const word = use.toLowerCase().replace('key', '');
  return {
    id: use,
    action: `keys/${word}/action`,
    serviceName: serviceNames[use],
    method: 'POST',
    template: `/keys/{name}/{version}/${use.toLowerCase()}`,
    // Also what a vault does that takes no writes.
    effect: 'read',
    run,
  };
}

const Body = z.object({
  alg: z.string().nullish(),
  value: z.unknown().optional(),
  digest: z.unknown().optional(),
  iv: z.unknown().optional(),
  tag: z.unknown().optional(),
  aad: z.unknown().optional(),
});
type Body = z.output<typeof Body>;

function encrypt(call: Call, use: 'encrypt' | 'wrapKey'): Answer {
  const { version, kid, body } = begin(call, use);
  const [name, algorithm] = cipherOf(body, use);
  mustFit('encryption', { version, kid }, { name, need: algorithm.need });
  if (algorithm.encryptsWith.iv === undefined && body.iv) throw errors.badProperty('iv');
  const data = cipherData(body, name, algorithm.encryptsWith);
  const made = attempt('The parameter is incorrect.\r\n', () =>
    algorithm.encrypt(version.material, data),
  );
  return answer(version, {
    kid,
    ...encoded(made),
    ...(made.tag && data.aad ? encoded({ aad: data.aad }) : {}),
  });
}

function decrypt(call: Call, use: 'decrypt' | 'unwrapKey'): Answer {
  const { version, kid, body } = begin(call, use);
  const [name, algorithm] = cipherOf(body, use);
  mustFit('encryption', { version, kid }, { name, need: algorithm.need });
  const data = cipherData(body, name, algorithm.decryptsWith);
  const value = attempt(algorithm.decryptionFailure, () =>
    algorithm.decrypt(version.material, data),
  );
  return answer(version, { kid, ...encoded({ value }) });
}

function sign(call: Call): Answer {
  const { version, kid, body } = begin(call, 'sign');
  const [name, algorithm] = signatureAlgorithmOf(body);
  mustFit('signing', { version, kid }, { name, need: algorithm.need });
  const digest = digestOf('value', body.value, name, algorithm);
  const value = attempt('The parameter is incorrect.\r\n', () =>
    algorithm.sign(version.material, digest),
  );
  return answer(version, { kid, ...encoded({ value }) });
}

function verify(call: Call): Answer {
  const { version, kid, body } = begin(call, 'verify');
  const [name, algorithm] = signatureAlgorithmOf(body);
  mustFit('signing', { version, kid }, { name, need: algorithm.need });
  const digest = digestOf('digest', body.digest, name, algorithm);
  const signature = base64urlToBytes('value', body.value);
  return answer(version, { value: algorithm.verify(version.material, digest, signature) });
}

/** The key, which may be used so and now. @throws VaultError 404, 403, 400 */
function begin(call: Call, use: Use): { version: KeyVersion; kid: string; body: Body } {
  const { object, version } = targetOf(keyKind, call);
  mustBeUsable(version, use, call.now);
  const kid = idOf(call.vault, keyKind, object.name, version.version);
  return { version, kid, body: parseBody(Body, call.body) };
}

function mustBeUsable({ enabled, keyOps, nbf, exp }: KeyVersion, use: Use, now: number): void {
  if (!enabled) throw errors.disabled('Key', use);
  // Outside its time a key makes nothing new, and still opens and checks what it made.
  if (use === 'encrypt' || use === 'wrapKey' || use === 'sign') {
    if (nbf !== undefined && now < nbf) throw errors.keyNotYetValid(use);
    if (exp !== undefined && now >= exp) throw errors.keyExpired(use);
  }
  if (!keyOps.includes(use)) throw errors.keyOperationForbidden(use);
}

function cipherOf(body: Body, use: Use): [string, EncryptionAlgorithm] {
  const found = named(encryptionAlgorithms, body.alg);
  const content = use === 'wrapKey' || use === 'unwrapKey' ? 'keys' : 'data';
  const { takes } = found[1];
  if (takes !== 'both' && takes !== content) throw errors.badProperty('alg');
  return found;
}

function signatureAlgorithmOf(body: Body): [string, SignatureAlgorithm] {
  return named(signatureAlgorithms, body.alg);
}

function named<A>(
  algorithms: ReadonlyMap<string, A>,
  name: string | null | undefined,
): [string, A] {
  if (!name) throw errors.requiredProperty('alg');
  const algorithm = algorithms.get(name);
  if (algorithm === undefined) throw errors.badProperty('alg');
  return [name, algorithm];
}

function mustFit(
  purpose: 'signing' | 'encryption',
  { version, kid }: { version: KeyVersion; kid: string },
  { name, need }: { name: string; need: KeyNeed },
): void {
  const misfit = findMisfit(version.material, need);
  if (misfit === null) return;
  const { has, needs } = misfit;
  throw errors.incompatible(purpose, { kid, has }, { name, needs });
}

function cipherData(
  body: Body,
  algorithm: string,
  extras: EncryptionAlgorithm['encryptsWith'],
): CipherData {
  const exact = (property: 'iv' | 'tag'): Partial<CipherData> => {
    const expected = extras[property];
    if (expected === undefined) return {};
    const bytes = base64urlToBytes(property, body[property]);
    mustMeasure(property, bytes, algorithm, expected);
    return { [property]: bytes };
  };
  return {
    value: base64urlToBytes('value', body.value),
    ...exact('iv'),
    ...exact('tag'),
    ...(body.aad ? { aad: base64urlToBytes('aad', body.aad) } : {}),
  };
}

function digestOf(
  property: 'value' | 'digest',
  input: unknown,
  name: string,
  { digestBytes }: SignatureAlgorithm,
): Buffer {
  const digest = base64urlToBytes(property, input);
  if (digestBytes !== null) mustMeasure(property, digest, name, digestBytes);
  return digest;
}

function mustMeasure(property: string, bytes: Buffer, algorithm: string, expected: number): void {
  if (bytes.length === expected) return;
  throw errors.invalidLength(property, bytes.length, algorithm, expected);
}

/** @throws VaultError 400 with that text for content that does not fit the key or its use */
function attempt<T>(refusal: string, run: () => T): T {
  try {
    return run();
  } catch {
    throw errors.badParameter(refusal);
  }
}

function encoded(data: Partial<CipherData>): Record<string, string> {
  const entries = Object.entries(data).map(([name, bytes]) => [name, bytes.toString('base64url')]);
  return Object.fromEntries(entries);
}

function answer(version: KeyVersion, body: unknown): Answer {
  return { body, version: version.version };
}
