import {
  createPrivateKey,
  createSecretKey,
  generateKeyPair,
  type JsonWebKey,
  type KeyObject,
  randomBytes,
} from 'node:crypto';
import { promisify } from 'node:util';

// Private keys as they are kept, and where they come from. Members are named as in a JWK and hold base64url.

export type RsaMaterial = {
  readonly kty: 'RSA' | 'RSA-HSM';
  readonly n: string;
  readonly e: string;
  readonly d: string;
  readonly p: string;
  readonly q: string;
  readonly dp: string;
  readonly dq: string;
  readonly qi: string;
};
export type EcMaterial = {
  readonly kty: 'EC' | 'EC-HSM';
  readonly crv: Curve;
  readonly x: string;
  readonly y: string;
  readonly d: string;
};
export type OctMaterial = { readonly kty: 'oct-HSM'; readonly k: string };
export type KeyMaterial = RsaMaterial | EcMaterial | OctMaterial;

export const curves = ['P-256', 'P-384', 'P-521', 'P-256K'] as const;
/** The service's names: P-256K is what others call secp256k1. */
export type Curve = (typeof curves)[number];

export const rsaSizes = [2048, 3072, 4096];
/** Beyond those of AES: for HMAC. */
export const octSizes = [128, 192, 256, 384, 512];

/** What to generate; sizes in bits. */
export type KeySpec =
  | { readonly kty: RsaMaterial['kty']; readonly size: number; readonly publicExponent?: number }
  | { readonly kty: EcMaterial['kty']; readonly crv: Curve }
  | { readonly kty: OctMaterial['kty']; readonly size: number };

const generatePair = promisify(generateKeyPair);
// Of the four threads of the pool, which the check of every token needs too.
const maxGenerating = 2;
const generating = new Set<Promise<unknown>>();
const keyObjects = new WeakMap<KeyMaterial, KeyObject>();

/** A new private key. RSA takes 0.1 to 1 s of a thread of the pool, never of the caller's; few are made at a time. */
export async function generateMaterial(spec: KeySpec): Promise<KeyMaterial> {
  while (generating.size >= maxGenerating) await Promise.race(generating);
  const made = generate(spec);
  const done = made.finally(() => generating.delete(done)).catch(() => undefined);
  generating.add(done);
  return made;
}

async function generate(spec: KeySpec): Promise<KeyMaterial> {
  switch (spec.kty) {
    case 'RSA':
    case 'RSA-HSM': {
      const { kty, size: modulusLength, publicExponent = 65_537 } = spec;
      const pair = await generatePair('rsa', { modulusLength, publicExponent });
      return materialOf(pair.privateKey, kty);
    }
    case 'EC':
    case 'EC-HSM': {
      const pair = await generatePair('ec', { namedCurve: nodeCurve(spec.crv) });
      return materialOf(pair.privateKey, spec.kty);
    }
    case 'oct-HSM':
      return { kty: 'oct-HSM', k: randomBytes(spec.size / 8).toString('base64url') };
  }
}

/**
 * A private key of node:crypto in the form that is kept.
 *
 * @param kty RSA or EC as the key is, with `-HSM` when it shall be told to be in a HSM
 */
export function materialOf(privateKey: KeyObject, kty: 'RSA' | 'RSA-HSM'): RsaMaterial;
export function materialOf(privateKey: KeyObject, kty: 'EC' | 'EC-HSM'): EcMaterial;
export function materialOf(privateKey: KeyObject, kty: 'RSA' | 'RSA-HSM' | 'EC' | 'EC-HSM') {
  const jwk = privateKey.export({ format: 'jwk' });
  // The type of a JWK has every member optional; a private key's has all of its type.
  if (kty === 'RSA' || kty === 'RSA-HSM') return { ...jwk, kty } as RsaMaterial;
  const { x, y, d, crv } = jwk;
  return { kty, crv: crv === 'secp256k1' ? 'P-256K' : crv, x, y, d } as EcMaterial;
}

/** The key for node:crypto: a private one, or a secret one for oct-HSM. Made once per material. */
export function keyObjectOf(material: KeyMaterial): KeyObject {
  const known = keyObjects.get(material);
  if (known !== undefined) return known;
  const key = toKeyObject(material);
  keyObjects.set(material, key);
  return key;
}

/** What may be shown of a key. */
export function publicMembers(material: KeyMaterial): Readonly<Record<string, string>> {
  switch (material.kty) {
    case 'RSA':
    case 'RSA-HSM':
      return { n: material.n, e: material.e };
    case 'EC':
    case 'EC-HSM':
      return { crv: material.crv, x: material.x, y: material.y };
    case 'oct-HSM':
      return {};
  }
}

/** What makes another key like this one. */
export function specOf(material: KeyMaterial): KeySpec {
  switch (material.kty) {
    case 'RSA':
    case 'RSA-HSM':
      return { kty: material.kty, size: bits(material.n), publicExponent: exponentOf(material) };
    case 'EC':
    case 'EC-HSM':
      return { kty: material.kty, crv: material.crv };
    case 'oct-HSM':
      return { kty: material.kty, size: bits(material.k) };
  }
}

export function isRsa(material: KeyMaterial): material is RsaMaterial {
  return material.kty === 'RSA' || material.kty === 'RSA-HSM';
}

export function isEc(material: KeyMaterial): material is EcMaterial {
  return material.kty === 'EC' || material.kty === 'EC-HSM';
}

export function isHsm({ kty }: Pick<KeyMaterial, 'kty'>): boolean {
  return kty.endsWith('-HSM');
}

function toKeyObject(material: KeyMaterial): KeyObject {
  if (material.kty === 'oct-HSM') return createSecretKey(material.k, 'base64url');
  return createPrivateKey({ format: 'jwk', key: toJwk(material) });
}

/** As node:crypto wants it: it knows neither HSMs nor P-256K. */
function toJwk(material: RsaMaterial | EcMaterial): JsonWebKey {
  if (isEc(material)) return { ...material, kty: 'EC', crv: nodeCurve(material.crv) };
  return { ...material, kty: 'RSA' };
}

export function nodeCurve(curve: Curve): string {
  return curve === 'P-256K' ? 'secp256k1' : curve;
}

function exponentOf({ e }: RsaMaterial): number {
  return Number(`0x${Buffer.from(e, 'base64url').toString('hex')}`);
}

function bits(base64url: string): number {
  return Buffer.from(base64url, 'base64url').length * 8;
}
