import type { SecretString } from '../secret-string.ts';

// What a vault's keys are to us. Private material is the vault's; what is here is public.

export const keyTypes = ['RSA', 'RSA-HSM', 'EC', 'EC-HSM', 'oct', 'oct-HSM'] as const;
export type KeyType = (typeof keyTypes)[number];

export const keyCurves = ['P-256', 'P-384', 'P-521', 'P-256K'] as const;
export type KeyCurve = (typeof keyCurves)[number];

export const keyOperations = [
  ...(['encrypt', 'decrypt', 'sign', 'verify'] as const),
  ...(['wrapKey', 'unwrapKey', 'import', 'export'] as const),
] as const;
export type KeyOperation = (typeof keyOperations)[number];

/** RSA1_5 and RSA-OAEP are for what exists already: for anything new take RSA-OAEP-256. */
export const encryptionAlgorithms = [
  ...(['RSA-OAEP', 'RSA-OAEP-256', 'RSA1_5'] as const),
  ...(['A128GCM', 'A192GCM', 'A256GCM'] as const),
  ...(['A128CBC', 'A192CBC', 'A256CBC', 'A128CBCPAD', 'A192CBCPAD', 'A256CBCPAD'] as const),
] as const;
export type EncryptionAlgorithm = (typeof encryptionAlgorithms)[number];

export const wrapAlgorithms = [
  ...(['RSA-OAEP', 'RSA-OAEP-256', 'RSA1_5'] as const),
  ...(['A128KW', 'A192KW', 'A256KW'] as const),
] as const;
export type WrapAlgorithm = (typeof wrapAlgorithms)[number];

export const signatureAlgorithms = [
  ...(['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'] as const),
  ...(['ES256', 'ES384', 'ES512', 'ES256K', 'HS256', 'HS384', 'HS512'] as const),
] as const;
export type SignatureAlgorithm = (typeof signatureAlgorithms)[number];

export interface KeyProperties {
  readonly name: string;
  /** 32 hexadecimal digits; empty where a vault does not say it (lists of keys). */
  readonly version: string;
  readonly enabled: boolean;
  readonly created: Date;
  readonly updated: Date;
  /** Outside of these encrypt, wrapKey and sign are refused. */
  readonly notBefore: Date | null;
  readonly expiresOn: Date | null;
  readonly tags: Readonly<Record<string, string>>;
  /** True when a certificate owns this key. */
  readonly managed: boolean;
}

export interface KeyVersion {
  /** The full identifier, version included: `https://VAULT/keys/NAME/VERSION`. */
  readonly id: string;
  readonly properties: KeyProperties;
  readonly type: KeyType;
  readonly operations: readonly KeyOperation[];
  /** The public members of the JSON Web Key (`n`, `e`; `crv`, `x`, `y`); null for symmetric keys. */
  readonly publicKey: PublicKey | null;
  /** Whether it may leave the vault, as its release policy says. */
  readonly exportable: boolean;
}

export type PublicKey =
  | { readonly kty: 'RSA'; readonly n: string; readonly e: string }
  | { readonly kty: 'EC'; readonly crv: KeyCurve; readonly x: string; readonly y: string };

/** What is not said stays as it is, or as the vault has it by default; nothing can be taken back to null. */
export interface KeyChanges {
  readonly enabled?: boolean;
  readonly notBefore?: Date | null;
  readonly expiresOn?: Date | null;
  /** All tags at once. */
  readonly tags?: Readonly<Record<string, string>>;
  /** All permitted operations at once. Default for a new key: whatever its type can do. */
  readonly operations?: readonly KeyOperation[];
}

/** For keys in an HSM: both or none. */
interface ReleaseTerms {
  readonly exportable?: boolean;
  /** UTF-8 JSON: who has to attest what. */
  readonly releasePolicy?: Uint8Array;
}

/** The public exponent of RSA is always 65537: the SDK drops any other without a word. */
export interface NewKey extends KeyChanges, ReleaseTerms {
  readonly type: KeyType;
  /** Bits, for RSA (2048, 3072, 4096; default 2048) and oct (128, 192, 256; default 256). */
  readonly size?: number;
  /** For EC. Default: P-256. */
  readonly curve?: KeyCurve;
}

export interface ImportedKey extends KeyChanges, ReleaseTerms {
  /** The private JSON Web Key as JSON text: `kty` RSA, EC or oct, with or without `-HSM`. */
  readonly key: SecretString;
  /** Whether the key is kept in an HSM. */
  readonly hardwareProtected?: boolean;
}

export interface DeletedKey {
  readonly properties: KeyProperties;
  readonly deletedOn: Date;
  readonly purgeOn: Date;
}

/** Durations are ISO 8601 (`P90D`). Each action has one trigger. */
export interface RotationPolicy {
  readonly expiresIn: string | null;
  readonly actions: readonly {
    readonly action: 'Rotate' | 'Notify';
    readonly timeAfterCreate?: string;
    readonly timeBeforeExpiry?: string;
  }[];
}

/** Bytes made with a key, and the version that made them. */
export interface KeyResult {
  /** As `KeyVersion.id`: always with the version, also where the latest was asked for. */
  readonly keyId: string;
  readonly algorithm: string;
  readonly result: Uint8Array;
}

export interface Encrypted extends KeyResult {
  /** Null for RSA. */
  readonly iv: Uint8Array | null;
  /** Of A*GCM, else null. */
  readonly tag: Uint8Array | null;
}

export interface EncryptInput {
  readonly algorithm: EncryptionAlgorithm;
  /** At least one byte; for A*CBC without padding a multiple of 16. */
  readonly plaintext: Uint8Array;
  /** For A*CBC: 16 bytes, never used twice. A*GCM makes its own. */
  readonly iv?: Uint8Array;
  /** For A*GCM. */
  readonly additionalData?: Uint8Array;
}

export interface DecryptInput {
  readonly algorithm: EncryptionAlgorithm;
  readonly ciphertext: Uint8Array;
  /** 16 bytes for A*CBC, 12 for A*GCM. */
  readonly iv?: Uint8Array;
  /** For A*GCM: 16 bytes. */
  readonly tag?: Uint8Array;
  readonly additionalData?: Uint8Array;
}

export interface WrapInput {
  readonly algorithm: WrapAlgorithm;
  /** For A*KW a multiple of 8 bytes, at least 16. */
  readonly key: Uint8Array;
}

export interface UnwrapInput {
  readonly algorithm: WrapAlgorithm;
  readonly wrapped: Uint8Array;
}

export interface SignInput {
  readonly algorithm: SignatureAlgorithm;
  /** Of the length that the algorithm has: 32, 48 or 64 bytes; HS* takes any. */
  readonly digest: Uint8Array;
}

export interface VerifyInput extends SignInput {
  /** Of ES*: r and s, one after the other. */
  readonly signature: Uint8Array;
}

export interface Verified {
  readonly keyId: string;
  readonly algorithm: string;
  readonly valid: boolean;
}

export const releaseAlgorithms = [
  ...(['CKM_RSA_AES_KEY_WRAP', 'RSA_AES_KEY_WRAP_256', 'RSA_AES_KEY_WRAP_384'] as const),
] as const;

export interface ReleaseInput {
  /** The token of an attestation service about the environment that is to have the key. */
  readonly attestation: string;
  readonly nonce?: string;
  readonly algorithm?: (typeof releaseAlgorithms)[number];
}

/**
 * Keys of one vault. Every method throws AppError as secrets do. `version` is the latest when it is not given; the
 * answer says which one it was.
 *
 * What is done with a key throws `object_disabled` when the key is disabled or, for encrypt, wrapKey and sign,
 * outside of its dates; `invalid_input` when it does not permit the operation, does not fit the algorithm, or cannot
 * have made what it is to decrypt. What can be known to be wrong without the vault is refused before anything is sent.
 */
export interface KeyService {
  /** Also a disabled version. @throws `not_found` */
  get(name: string, version?: string): Promise<KeyVersion>;
  /**
   * Never repeated blindly: after `vault_unavailable` the version may or may not exist.
   * @throws `object_deleted` when the name is soft-deleted
   */
  create(name: string, key: NewKey): Promise<KeyVersion>;
  /** Never repeated blindly. @throws `object_deleted` */
  import(name: string, key: ImportedKey): Promise<KeyVersion>;
  /**
   * New material of the same kind as a new version, which expires as the rotation policy says; never repeated
   * blindly.
   * @throws `not_found`
   */
  rotate(name: string): Promise<KeyVersion>;
  /** @throws `not_found` */
  update(name: string, version: string, changes: KeyChanges): Promise<KeyVersion>;
  /**
   * Properties of the latest version of every key; one call per 25. `version` is empty: a vault does not say it
   * here.
   */
  list(): AsyncIterable<KeyProperties>;
  /** Properties of every version, in no promised order; none when the name is unknown. */
  listVersions(name: string): AsyncIterable<KeyProperties>;

  /** All versions; they can be recovered until they are purged. @throws `not_found` */
  delete(name: string): Promise<DeletedKey>;
  /** What was just deleted may take seconds to be here. @throws `not_found` */
  getDeleted(name: string): Promise<DeletedKey>;
  listDeleted(): AsyncIterable<DeletedKey>;
  /** What was just recovered may take seconds to be readable. @throws `not_found` */
  recover(name: string): Promise<KeyVersion>;
  /** For ever. @throws `not_found`, `vault_denied` where purge protection is on */
  purge(name: string): Promise<void>;
  /** All versions, sealed by the vault: to be restored in the same subscription and geography only. */
  backup(name: string): Promise<Uint8Array>;
  /** Never repeated blindly. @throws `conflict` when the name is taken */
  restore(backup: Uint8Array): Promise<KeyVersion>;

  /** Of a key that never got one: to notify 30 days before the expiry. @throws `not_found` */
  getRotationPolicy(name: string): Promise<RotationPolicy>;
  /** The policy as the vault keeps it: it adds a notification where there is none. @throws `not_found` */
  setRotationPolicy(name: string, policy: RotationPolicy): Promise<RotationPolicy>;

  encrypt(name: string, input: EncryptInput, version?: string): Promise<Encrypted>;
  decrypt(name: string, input: DecryptInput, version?: string): Promise<KeyResult>;
  wrapKey(name: string, input: WrapInput, version?: string): Promise<KeyResult>;
  unwrapKey(name: string, input: UnwrapInput, version?: string): Promise<KeyResult>;
  sign(name: string, input: SignInput, version?: string): Promise<KeyResult>;
  verify(name: string, input: VerifyInput, version?: string): Promise<Verified>;

  /**
   * Secure key release: a signed object for the enclave that attests itself.
   * @throws `invalid_input` when the key is not exportable, `vault_denied` when its policy is not met
   */
  release(name: string, input: ReleaseInput, version?: string): Promise<SecretString>;
  /** Managed HSM only; vaults refuse it. 1 to 128 bytes. */
  randomBytes(count: number): Promise<Uint8Array>;
}
