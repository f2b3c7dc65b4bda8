import { createPrivateKey, createSecretKey, type JsonWebKey, type KeyObject } from 'node:crypto';
import type { KeyVersion, RotationPolicy } from '../vault/keys.ts';
import type { Perform } from './calls.ts';
import { exportJwk, publicKeyOf } from './key-material.ts';
import type { ObjectStore } from './store.ts';

/** A version as a simulated vault keeps it. */
export interface SimulatedKey extends Omit<KeyVersion, 'id' | 'publicKey'> {
  /** The private or secret key. */
  readonly material: KeyObject;
  /** Of the key; what counts is the latest version's. Null when it never got one. */
  readonly rotationPolicy: RotationPolicy | null;
}

export type KeyStore = ObjectStore<SimulatedKey>;

/** What the parts of the service work with. */
export interface KeyTools {
  readonly store: KeyStore;
  readonly url: string;
  readonly perform: Perform;
  readonly now: () => Date;
}

/** What may be told of it. */
export function describeKey(vaultUrl: string, key: SimulatedKey): KeyVersion {
  const { properties, type, operations, exportable, material } = key;
  const id = `${vaultUrl}/keys/${properties.name}/${properties.version}`;
  return { id, properties, type, operations, publicKey: publicKeyOf(material), exportable };
}

export interface SavedKey extends Omit<SimulatedKey, 'material'> {
  readonly jwk: JsonWebKey;
}

export function saveKey({ material, ...rest }: SimulatedKey): SavedKey {
  return { ...rest, jwk: exportJwk(material) };
}

export function loadKey({ jwk, ...rest }: SavedKey): SimulatedKey {
  const material =
    jwk.kty === 'oct'
      ? createSecretKey(jwk.k ?? '', 'base64url')
      : createPrivateKey({ format: 'jwk', key: jwk });
  return { ...rest, material };
}
