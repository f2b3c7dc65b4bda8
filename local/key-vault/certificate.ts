import { hash } from 'node:crypto';
import { describe } from './bundles.ts';
import { certificateErrors } from './certificate-errors.ts';
import { type CertificatePolicy, describePolicy } from './certificate-policy.ts';
import type { KeyMaterial } from './key-material.ts';
import { idOf, type Kind } from './kind.ts';
import type { StoredObject, Version } from './store.ts';
import type { Vault } from './vault.ts';

// What a certificate is and how it is shown. Its key and its secret lie in their own stores under its name and version.

export type CertificateVersion = Version & {
  /** DER, base64; absent while, or because, it was not issued. */
  readonly cer?: string;
  /** Asked for with it; `true`: certificates stand in the secret in the order in which they came. */
  readonly preserveCertOrder?: boolean;
  /** Its renewal was begun and shall not be begun again, whatever becomes of it. */
  renewalBegun?: true;
};

export type CertificateOperation = {
  /** 32 lower-case hexadecimal digits. */
  readonly requestId: string;
  readonly issuer: CertificatePolicy['issuer'];
  /** PKCS#10, DER, base64. */
  readonly csr: string;
  /** Becomes the public version's key. */
  readonly material: KeyMaterial;
  /** What the version will be, or would have been. */
  readonly draft: CertificateVersion;
  /** For the version, once there is one: what the request said. */
  readonly enabled: boolean;
  /** Seconds since 1970. */
  readonly startedAt: number;
  cancellationRequested: boolean;
  status: 'inProgress' | 'completed' | 'cancelled' | 'failed';
  error?: { readonly code: string; readonly message: string };
};

export type Certificate = StoredObject<CertificateVersion> & {
  /** One for all versions; the next one is made by it. */
  policy: CertificatePolicy;
  /** The latest creation, until it is deleted or another one begins. */
  pending?: CertificateOperation;
};

export const certificateKind: Kind<Certificate> = {
  type: 'Certificate',
  collection: 'certificates',
  idMember: 'id',
  readAction: 'certificates/read',
  storeOf: ({ certificates }) => certificates,
  item: (version) => ({
    ...(version.cer === undefined ? {} : { x5t: thumbprintOf(version.cer) }),
    // Always empty, in every list of the service.
    subject: '',
  }),
  // Lists of certificates leave these two out.
  attributes: () => ({ recoveryLevel: undefined, recoverableDays: undefined }),
  bundle: (vault, certificate, version) => ({
    ...describeVersion(vault, certificate, version),
    policy: describePolicy(
      `${idOf(vault, certificateKind, certificate.name)}/policy`,
      certificate.policy,
    ),
    ...(certificate.pending === undefined
      ? {}
      : { pending: { id: pendingId(vault, certificate) } }),
  }),
  linked: ({ keys, secrets }) => [keys, secrets],
  isListed: (certificate, query) =>
    isIssued(certificate) || query.get('includePending')?.toLowerCase() === 'true',
};

/** A version without what it shares with the others. */
export function describeVersion(
  vault: Vault,
  { name }: Certificate,
  { version, cer, preserveCertOrder, ...rest }: CertificateVersion,
): Record<string, unknown> {
  const id = idOf(vault, certificateKind, name, version);
  const issued =
    cer === undefined
      ? {}
      : {
          kid: idOf(vault, { collection: 'keys' }, name, version),
          sid: idOf(vault, { collection: 'secrets' }, name, version),
          x5t: thumbprintOf(cer),
          cer,
        };
  return {
    id,
    ...issued,
    ...describe(vault, { version, ...rest }),
    ...(preserveCertOrder === undefined ? {} : { preserveCertOrder }),
  };
}

export function describeOperation(
  vault: Vault,
  certificate: Certificate,
  operation: CertificateOperation,
): Record<string, unknown> {
  const { issuer, csr, cancellationRequested, status, error, requestId, draft } = operation;
  const details = statusDetails(operation);
  return {
    id: pendingId(vault, certificate),
    issuer,
    csr,
    cancellation_requested: cancellationRequested,
    status,
    ...(details === null ? {} : { status_details: details }),
    ...(error === undefined ? {} : { error }),
    ...(status === 'completed' ? { target: idOf(vault, certificateKind, certificate.name) } : {}),
    ...(draft.preserveCertOrder === undefined
      ? {}
      : { preserveCertOrder: draft.preserveCertOrder }),
    request_id: requestId,
  };
}

function pendingId(vault: Vault, { name }: Certificate): string {
  return `${idOf(vault, certificateKind, name)}/pending`;
}

/** Whether there is a version that was issued. */
export function isIssued({ versions }: Certificate): boolean {
  return versions.at(-1)?.cer !== undefined;
}

/** @throws VaultError 409 while the certificate of that name is being created */
export function mustNotBePending(certificate: Certificate | null): void {
  if (certificate?.pending?.status === 'inProgress') throw certificateErrors.certificatePending();
}

function statusDetails({ status, issuer }: CertificateOperation): string | null {
  switch (status) {
    case 'inProgress':
      return issuer.name === 'Unknown'
        ? 'Pending certificate created. Please Perform Merge to complete the request.'
        : 'Pending certificate created. Certificate request is in progress. This may take some time based on the issuer provider. Please check again later.';
    case 'failed':
      return '';
    case 'completed':
    case 'cancelled':
      return null;
  }
}

function thumbprintOf(cer: string): string {
  return hash('sha1', Buffer.from(cer, 'base64'), 'buffer').toString('base64url');
}
