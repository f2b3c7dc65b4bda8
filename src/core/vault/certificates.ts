import type { SecretString } from '../secret-string.ts';

export interface CertificateProperties {
  readonly name: string;
  /** 32 hexadecimal digits; empty where a vault does not say it (lists of certificates). */
  readonly version: string;
  readonly enabled: boolean;
  readonly created: Date;
  readonly updated: Date;
  readonly notBefore: Date | null;
  readonly expiresOn: Date | null;
  readonly tags: Readonly<Record<string, string>>;
  /** SHA-1 of the certificate, lower-case hexadecimal; null while it is pending. */
  readonly thumbprint: string | null;
}

export interface CertificateVersion {
  readonly id: string;
  readonly properties: CertificateProperties;
  /** DER; null while it is pending. */
  readonly der: Uint8Array | null;
  readonly keyId: string | null;
  readonly secretId: string | null;
  /** Of the latest version only. */
  readonly policy: CertificatePolicy | null;
}

export interface CertificatePolicy {
  /** `Self`, `Unknown`, or the name of an issuer of the vault. */
  readonly issuer: string;
  readonly subject: string;
  readonly dnsNames: readonly string[];
  readonly emails: readonly string[];
  readonly userPrincipalNames: readonly string[];
  readonly uris: readonly string[];
  readonly ipAddresses: readonly string[];
  readonly keyType: 'RSA' | 'RSA-HSM' | 'EC' | 'EC-HSM';
  readonly keySize: number | null;
  readonly keyCurve: 'P-256' | 'P-384' | 'P-521' | 'P-256K' | null;
  readonly exportable: boolean;
  readonly reuseKey: boolean;
  readonly contentType: 'application/x-pkcs12' | 'application/x-pem-file';
  readonly validityInMonths: number;
  readonly keyUsage: readonly string[];
  readonly enhancedKeyUsage: readonly string[];
  readonly lifetimeActions: readonly {
    readonly action: 'AutoRenew' | 'EmailContacts';
    readonly daysBeforeExpiry?: number;
    readonly lifetimePercentage?: number;
  }[];
}

/** Issuer and subject (or another name) must be said; the vault fills in the rest. */
export type NewCertificatePolicy = Partial<CertificatePolicy> & Pick<CertificatePolicy, 'issuer'>;

/** A creation under way. */
export interface CertificateOperation {
  readonly status: 'inProgress' | 'completed' | 'cancelled' | 'failed';
  readonly issuer: string;
  /** The request to be signed, DER. */
  readonly csr: Uint8Array | null;
  readonly cancellationRequested: boolean;
  readonly details: string | null;
  readonly error: { readonly code: string; readonly message: string } | null;
}

export interface CertificateChanges {
  readonly enabled?: boolean;
  readonly tags?: Readonly<Record<string, string>>;
}

export interface ImportedCertificate extends CertificateChanges {
  /** PFX in base64, or PEM text with an unencrypted PKCS#8 key. */
  readonly content: SecretString;
  readonly password?: SecretString;
}

export interface DeletedCertificate {
  readonly properties: CertificateProperties;
  readonly deletedOn: Date;
  readonly purgeOn: Date;
}

export interface CertificateIssuer {
  readonly name: string;
  readonly provider: string;
  readonly enabled: boolean;
  readonly accountId: string | null;
  readonly organizationId: string | null;
  readonly administrators: readonly CertificateAdministrator[];
}

export interface NewCertificateIssuer {
  readonly provider: string;
  readonly enabled?: boolean;
  readonly accountId?: string;
  readonly password?: SecretString;
  readonly organizationId?: string;
  readonly administrators?: readonly CertificateAdministrator[];
}

export interface CertificateAdministrator {
  readonly email: string;
  readonly firstName?: string;
  readonly lastName?: string;
  readonly phone?: string;
}

export interface CertificateContact {
  readonly email: string;
  readonly name?: string;
  readonly phone?: string;
}

/** Certificates of one vault. Every method throws AppError as secrets do. */
export interface CertificateService {
  /** The latest version, with its policy, or the named one. */
  get(name: string, version?: string): Promise<CertificateVersion>;
  list(options?: { readonly includePending?: boolean }): AsyncIterable<CertificateProperties>;
  listVersions(name: string): AsyncIterable<CertificateProperties>;
  getPolicy(name: string): Promise<CertificatePolicy>;
  /**
   * The policy as it is after the change, read again. Whoever says size, curve or another kind of key says all of
   * them; a list of names is replaced, an empty one removed. Existing versions stay as they are.
   */
  updatePolicy(name: string, policy: Partial<CertificatePolicy>): Promise<CertificatePolicy>;

  /**
   * Starts a new version and answers at once; `getOperation` says how it goes. Never repeated blindly: after
   * `vault_unavailable` it may have begun.
   *
   * @param policy null: that of the certificate, which must exist
   * @throws `conflict` while another one is under way, or when a key or secret that is nobody's has the name;
   * `object_deleted`; `not_found` also for the issuer
   */
  create(
    name: string,
    policy: NewCertificatePolicy | null,
    changes?: CertificateChanges,
  ): Promise<CertificateOperation>;
  /** One that was refused by its issuer is `failed`, and no error. @throws `not_found` when there is none */
  getOperation(name: string): Promise<CertificateOperation>;
  /** The answer is that the wish was heard. @throws `conflict` when the operation is over */
  cancelOperation(name: string): Promise<CertificateOperation>;
  /** The draft, if it was the first, stays. @throws `not_found` */
  deleteOperation(name: string): Promise<void>;
  /**
   * Ends the operation with what was issued elsewhere. Never repeated blindly.
   *
   * @param chain certificates in DER, among them the one for the request
   * @throws `conflict` when there is nothing to merge with; `vault_rejected` for another key, or past its end
   */
  merge(name: string, chain: readonly Uint8Array[]): Promise<CertificateVersion>;
  /**
   * Never repeated blindly. With `enabled: false` the version is enabled until a second call has disabled it.
   * @throws `conflict` while a creation is under way; `vault_rejected` for content that is none, or past its end
   */
  import(name: string, certificate: ImportedCertificate): Promise<CertificateVersion>;
  update(name: string, version: string, changes: CertificateChanges): Promise<CertificateVersion>;

  delete(name: string): Promise<DeletedCertificate>;
  getDeleted(name: string): Promise<DeletedCertificate>;
  listDeleted(): AsyncIterable<DeletedCertificate>;
  recover(name: string): Promise<CertificateVersion>;
  purge(name: string): Promise<void>;
  backup(name: string): Promise<Uint8Array>;
  restore(backup: Uint8Array): Promise<CertificateVersion>;

  listIssuers(): AsyncIterable<Pick<CertificateIssuer, 'name' | 'provider'>>;
  getIssuer(name: string): Promise<CertificateIssuer>;
  putIssuer(name: string, issuer: NewCertificateIssuer): Promise<CertificateIssuer>;
  deleteIssuer(name: string): Promise<void>;
  getContacts(): Promise<readonly CertificateContact[]>;
  /** All at once; an empty list removes them. */
  setContacts(contacts: readonly CertificateContact[]): Promise<void>;
}
