import type { SecretString } from '../secret-string.ts';
import type { CertificateService } from './certificates.ts';
import type { KeyService } from './keys.ts';

export type ObjectType = 'secret' | 'key' | 'certificate';

/** An object of a vault; `vault` is the alias of the configuration, never a URL. */
export interface ObjectRef {
  readonly vault: string;
  readonly type: ObjectType;
  readonly name: string;
}

/** `main/secret/orders-db`: for logs and document ids. */
export function objectId(ref: ObjectRef): string {
  return `${ref.vault}/${ref.type}/${ref.name}`;
}

export type VaultPurpose = 'main' | 'pending' | 'replica' | 'scratch';

export interface SecretProperties {
  readonly name: string;
  /** 32 hexadecimal digits. */
  readonly version: string;
  readonly enabled: boolean;
  readonly created: Date;
  readonly updated: Date;
  /** For information: a vault hands the value out before that, too. */
  readonly notBefore: Date | null;
  /** Null when it never expires. Key Vault keeps whole seconds. */
  readonly expiresOn: Date | null;
  readonly contentType: string | null;
  readonly tags: Readonly<Record<string, string>>;
  /** True when a certificate owns this secret: never ours to write. */
  readonly managed: boolean;
}

export interface SecretVersion {
  readonly properties: SecretProperties;
  readonly value: SecretString;
}

/** What is not said stays as it is, or as the vault has it by default; nothing can be taken back to null. */
export interface SecretChanges {
  readonly enabled?: boolean;
  readonly contentType?: string | null;
  readonly notBefore?: Date | null;
  readonly expiresOn?: Date | null;
  /** All tags at once. */
  readonly tags?: Readonly<Record<string, string>>;
}

export interface NewSecret extends SecretChanges {
  readonly value: SecretString;
}

export interface DeletedSecret {
  readonly properties: SecretProperties;
  readonly deletedOn: Date;
  /** When the vault purges it by itself. */
  readonly purgeOn: Date;
}

export interface SetOptions {
  /**
   * Called synchronously as the last thing before the request leaves; when it throws an
   * AppError, nothing is sent and that error is the outcome. For leases that must still hold at that very moment.
   */
  readonly guard?: () => void;
}

/**
 * Secrets of one vault, uncached. Every method throws AppError: `vault_unavailable`,
 * `vault_throttled`, `vault_read_only` (all retryable), `vault_denied`, `vault_rejected`;
 * `invalid_input` for what no vault would take.
 */
export interface SecretService {
  /** The latest version or the named one. @throws `not_found`, `object_disabled` */
  get(name: string, version?: string): Promise<SecretVersion>;
  /**
   * One call writes value, expiry and tags together as a new, latest version.
   * Never repeated blindly: after `vault_unavailable` the version may or may not exist.
   * @throws `object_deleted` when the name is soft-deleted
   */
  set(name: string, secret: NewSecret, options?: SetOptions): Promise<SecretProperties>;
  /**
   * Properties of the latest version of every secret; one call per 25. `version` is empty: a vault
   * does not say it here.
   */
  list(): AsyncIterable<SecretProperties>;
  /** Properties of every version, in no promised order; none when the name is unknown. */
  listVersions(name: string): AsyncIterable<SecretProperties>;
  /** @throws `not_found` */
  update(name: string, version: string, changes: SecretChanges): Promise<SecretProperties>;

  /** All versions; they can be recovered until they are purged. @throws `not_found` */
  delete(name: string): Promise<DeletedSecret>;
  /** What was just deleted may take seconds to be here. @throws `not_found` */
  getDeleted(name: string): Promise<DeletedSecret>;
  listDeleted(): AsyncIterable<DeletedSecret>;
  /** What was just recovered may take seconds to be readable. @throws `not_found` */
  recover(name: string): Promise<SecretProperties>;
  /** For ever. @throws `not_found`, `vault_denied` where purge protection is on */
  purge(name: string): Promise<void>;
  /** All versions, sealed by the vault: to be restored in the same subscription and geography only. */
  backup(name: string): Promise<Uint8Array>;
  /** Never repeated blindly. @throws `conflict` when the name is taken */
  restore(backup: Uint8Array): Promise<SecretProperties>;
  /** Deletes and purges, soft-deleted copies too; done already when there is nothing. */
  erase(name: string): Promise<void>;
}

export interface Vault {
  readonly alias: string;
  readonly url: string;
  readonly purpose: VaultPurpose;
  readonly secrets: SecretService;
  readonly keys: KeyService;
  readonly certificates: CertificateService;
}

/** The configured vaults by alias. */
export interface Vaults {
  /** @throws AppError `not_found` when no vault has this alias */
  get(alias: string): Vault;
  all(): readonly Vault[];
}
