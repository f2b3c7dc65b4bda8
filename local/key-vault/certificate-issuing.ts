import { randomUUID } from 'node:crypto';
import {
  type Certificate,
  type CertificateOperation,
  type CertificateVersion,
  isIssued,
} from './certificate.ts';
import { createAuthority, issueCertificate, subjectOf } from './certificate-authority.ts';
import { type Contents, leafFirst, writeContents } from './certificate-contents.ts';
import { type CertificatePolicy, keyOpsOf, keySpecOf, selfIssuer } from './certificate-policy.ts';
import { generateMaterial, type KeyMaterial, keyObjectOf } from './key-material.ts';
import { addManagedKey } from './keys.ts';
import { addManagedSecret } from './secrets.ts';
import { currentVersion, newVersionId, type Stored } from './store.ts';
import type { Vault } from './vault.ts';
import { buildRequest } from './x509.ts';
import { readCertificate, type Validity, validityOf } from './x509-facts.ts';

// From the wish for a certificate to the certificate with its key and its secret.

export type Creation = {
  readonly policy: CertificatePolicy;
  readonly material: KeyMaterial;
  readonly enabled: boolean;
  readonly tags: CertificateVersion['tags'];
  readonly preserveCertOrder?: boolean | undefined;
};

// The service dates its certificates back by ten minutes, for clients whose clock is behind.
const backdatedSeconds = 600;
// What was never issued neither nears its expiry nor expires.
const nothingToAnnounce = ['near-expiry', 'expired'];

/** A key for the next version: the current one's when the policy says so, or a new one. */
export async function materialFor(
  vault: Vault,
  name: string,
  policy: CertificatePolicy,
): Promise<KeyMaterial> {
  const key = policy.key_props.reuse_key ? vault.keys.find(name) : null;
  return key === null ? generateMaterial(keySpecOf(policy)) : currentVersion(key).material;
}

/** The certificate of that name, in the store, with an operation in progress that takes the place of an earlier one. */
export function beginCreation(
  vault: Vault,
  name: string,
  creation: Creation,
  now: number,
): Certificate {
  const { policy, material, enabled, tags, preserveCertOrder } = creation;
  const draft: CertificateVersion = {
    version: newVersionId(),
    enabled: false,
    nbf: now - backdatedSeconds,
    exp: addMonths(now, policy.x509_props.validity_months),
    created: now,
    updated: now,
    announced: [...nothingToAnnounce],
    ...(tags === undefined ? {} : { tags }),
    ...(preserveCertOrder === undefined ? {} : { preserveCertOrder }),
  };
  const pending: CertificateOperation = {
    requestId: randomUUID().replaceAll('-', ''),
    issuer: policy.issuer,
    csr: buildRequest(subjectOf(policy), keyObjectOf(material)).toString('base64'),
    material,
    draft,
    enabled,
    startedAt: now,
    cancellationRequested: false,
    status: 'inProgress',
  };
  const earlier = vault.certificates.find(name);
  if (earlier === null) return vault.certificates.put({ name, versions: [draft], policy, pending });
  // A version is shown before it is issued only when there is no other.
  if (!isIssued(earlier)) earlier.versions[0] = draft;
  return Object.assign(earlier, { policy, pending });
}

/** What stands under the name of a certificate, but is not its own: such a certificate cannot have a version. */
export function findObstacle(vault: Vault, name: string): 'Key' | 'Secret' | null {
  const isForeign = (part: Stored | null): boolean =>
    part !== null && currentVersion(part).managed === undefined;
  if (isForeign(vault.keys.find(name))) return 'Key';
  return isForeign(vault.secrets.find(name)) ? 'Secret' : null;
}

/** Ends the operation with a certificate from the issuer, which is in the vault itself or stands in for one outside. */
export function issue(
  vault: Vault,
  certificate: Certificate,
  operation: CertificateOperation,
  now: number,
): void {
  const privateKey = keyObjectOf(operation.material);
  const authority = operation.issuer.name === selfIssuer ? null : authorityOf(vault);
  // Both were set when the operation began.
  const validity = operation.draft as Validity;
  const leaf = issueCertificate(authority, certificate.policy, privateKey, validity);
  const chain = authority?.chain.map((der) => Buffer.from(der, 'base64')) ?? [];
  const certificates = [leaf, ...chain];
  complete(vault, certificate, operation, { contents: { certificates, leaf, privateKey }, now });
}

/** Ends the operation with a certificate that came from wherever. */
export function complete(
  vault: Vault,
  certificate: Certificate,
  operation: CertificateOperation,
  { contents, now }: { readonly contents: FullContents; readonly now: number },
): CertificateVersion {
  const { draft, enabled, material } = operation;
  const { announced: _nothing, nbf: _from, exp: _until, ...kept } = draft;
  const version = addIssuedVersion(vault, certificate, {
    version: { ...kept, enabled, updated: now },
    contents,
    material,
  });
  operation.status = 'completed';
  // Of an issuer that gave up before.
  delete operation.error;
  return version;
}

type FullContents = Contents & { readonly privateKey: NonNullable<Contents['privateKey']> };

/**
 * A new current version with its key and its secret. The caller has made sure that no others have the name, and reports
 * the change.
 */
export function addIssuedVersion(
  vault: Vault,
  certificate: Certificate,
  {
    version: base,
    contents,
    material,
  }: {
    readonly version: Omit<CertificateVersion, 'cer' | 'nbf' | 'exp'>;
    readonly contents: FullContents;
    readonly material: KeyMaterial;
  },
): CertificateVersion {
  const { name, policy, versions } = certificate;
  const { leaf, certificates, privateKey } = contents;
  const parsed = readCertificate(leaf);
  const validity = parsed === null ? {} : validityOf(parsed);
  const { preserveCertOrder, ...shared } = { ...base, ...validity };
  const version: CertificateVersion = { ...base, ...validity, cer: leaf.toString('base64') };
  const previous = isIssued(certificate) ? versions.at(-1) : undefined;
  if (previous === undefined) versions[0] = version;
  else versions.push(version);
  const { contentType } = policy.secret_props;
  const shown: Contents = {
    leaf,
    certificates: preserveCertOrder ? certificates : leafFirst(certificates, leaf),
    privateKey: policy.key_props.exportable ? privateKey : null,
  };
  // They come to their end with the certificate, which is announced.
  const managed = { ...shared, announced: [...nothingToAnnounce] };
  addManagedKey(vault, name, { ...managed, material, keyOps: keyOpsOf(policy) });
  addManagedSecret(vault, name, {
    ...managed,
    value: writeContents(shown, contentType),
    contentType,
    ...(previous === undefined ? {} : { previousVersion: previous.version }),
  });
  return version;
}

function authorityOf({ certificateSettings }: Vault) {
  certificateSettings.authority ??= createAuthority();
  return certificateSettings.authority;
}

/** The same day and time of a later month, or the month's last day when it has none such. */
function addMonths(seconds: number, months: number): number {
  const date = new Date(seconds * 1000);
  const day = date.getUTCDate();
  date.setUTCDate(1);
  date.setUTCMonth(date.getUTCMonth() + months + 1, 0);
  date.setUTCDate(Math.min(day, date.getUTCDate()));
  return Math.floor(date.getTime() / 1000);
}
