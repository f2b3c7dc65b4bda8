/** Certificates as the SDK has them, and as we do. */
import type {
  KeyUsageType,
  KeyVaultCertificate,
  CertificatePolicy as SdkPolicy,
  CertificateProperties as SdkProperties,
  SubjectAlternativeNamesAll,
} from '@azure/keyvault-certificates';
import type {
  CertificateChanges,
  CertificateOperation,
  CertificatePolicy,
  CertificateProperties,
  CertificateVersion,
  DeletedCertificate,
} from '../vault/certificates.ts';

export function certificateOf(
  certificate: KeyVaultCertificate & { readonly policy?: SdkPolicy },
): CertificateVersion {
  const { cer, keyId, secretId, properties, policy } = certificate;
  // The SDK says it here only, whatever its types promise.
  if (properties.id === undefined) throw new TypeError('a certificate without an id');
  return {
    id: properties.id,
    properties: propertiesOf(properties),
    der: cer ?? null,
    keyId: keyId ?? null,
    secretId: secretId ?? null,
    policy: policy ? policyOf(policy) : null,
  };
}

export function propertiesOf(properties: SdkProperties): CertificateProperties {
  const { name, createdOn, x509Thumbprint } = properties;
  if (name === undefined || createdOn === undefined) {
    throw new TypeError('a certificate without attributes');
  }
  return {
    name,
    version: properties.version ?? '',
    enabled: properties.enabled ?? true,
    created: createdOn,
    updated: properties.updatedOn ?? createdOn,
    notBefore: properties.notBefore ?? null,
    expiresOn: properties.expiresOn ?? null,
    tags: properties.tags ?? {},
    thumbprint: x509Thumbprint ? Buffer.from(x509Thumbprint).toString('hex') : null,
  };
}

export function deletedOf({
  properties,
  deletedOn,
  scheduledPurgeDate,
}: {
  readonly properties: SdkProperties;
  readonly deletedOn?: Date;
  readonly scheduledPurgeDate?: Date;
}): DeletedCertificate {
  if (!deletedOn || !scheduledPurgeDate) throw new TypeError('a deletion without dates');
  return { properties: propertiesOf(properties), deletedOn, purgeOn: scheduledPurgeDate };
}

/**
 * Of a list. The SDK drops two attributes of its items.
 *
 * @param wire the item as it came
 */
export function deletedItemOf(
  deleted: Parameters<typeof deletedOf>[0],
  wire: () => unknown,
): DeletedCertificate {
  const { attributes } = wire() as {
    readonly attributes?: { readonly enabled?: boolean; readonly nbf?: number };
  };
  const { enabled = true, nbf } = attributes ?? {};
  const { properties, ...dates } = deletedOf(deleted);
  const notBefore = nbf === undefined ? null : new Date(nbf * 1000);
  return { ...dates, properties: { ...properties, enabled, notBefore } };
}

/** An operation as it came; null for an answer that is none. */
export function findOperation(body: unknown): CertificateOperation | null {
  const { status, issuer, csr, cancellation_requested, status_details, error } = Object(
    body,
  ) as WireOperation;
  if (typeof status !== 'string') return null;
  return {
    status: status as CertificateOperation['status'],
    issuer: issuer?.name ?? '',
    csr: csr ? Buffer.from(csr, 'base64') : null,
    cancellationRequested: cancellation_requested === true,
    details: status_details ? status_details : null,
    error: error ? { code: error.code ?? '', message: error.message ?? '' } : null,
  };
}

/** REST: CertificateOperation. */
interface WireOperation {
  readonly status?: string;
  readonly issuer?: { readonly name?: string };
  readonly csr?: string | null;
  readonly cancellation_requested?: boolean;
  readonly status_details?: string | null;
  readonly error?: { readonly code?: string; readonly message?: string } | null;
}

export function changesToSdk({ enabled, tags }: CertificateChanges): {
  enabled?: boolean;
  tags?: Record<string, string>;
} {
  return {
    ...(enabled === undefined ? {} : { enabled }),
    ...(tags ? { tags: { ...tags } } : {}),
  };
}

/** The vault fills in what is not said. */
export function policyToSdk(policy: Partial<CertificatePolicy>): SdkPolicy {
  const said = defined({
    subject: policy.subject ?? '',
    subjectAlternativeNames: namesToSdk(policy),
    issuerName: policy.issuer,
    keyType: policy.keyType,
    keySize: policy.keySize ?? undefined,
    keyCurveName: policy.keyCurve ?? undefined,
    exportable: policy.exportable,
    reuseKey: policy.reuseKey,
    contentType: policy.contentType,
    validityInMonths: policy.validityInMonths,
    keyUsage: policy.keyUsage && [...(policy.keyUsage as readonly KeyUsageType[])],
    enhancedKeyUsage: policy.enhancedKeyUsage && [...policy.enhancedKeyUsage],
    lifetimeActions: policy.lifetimeActions?.map((action) => ({ ...action })),
  });
  // Its names are typed as if there were always one, and some are often empty.
  return said as unknown as SdkPolicy;
}

function namesToSdk(policy: Partial<CertificatePolicy>): Partial<SubjectAlternativeNamesAll> {
  const { dnsNames, emails, userPrincipalNames, uris, ipAddresses } = policy;
  const names = {
    ...{ dnsNames, emails, userPrincipalNames, ipAddresses },
    uniformResourceIdentifiers: uris,
  };
  return defined(names) as Partial<SubjectAlternativeNamesAll>;
}

export function policyOf(policy: SdkPolicy): CertificatePolicy {
  return {
    issuer: policy.issuerName ?? '',
    subject: policy.subject ?? '',
    ...namesOf(policy.subjectAlternativeNames ?? {}),
    ...keyOf(policy),
    contentType: policy.contentType ?? 'application/x-pkcs12',
    validityInMonths: policy.validityInMonths ?? 12,
    keyUsage: [...(policy.keyUsage ?? [])],
    enhancedKeyUsage: [...(policy.enhancedKeyUsage ?? [])],
    lifetimeActions: (policy.lifetimeActions ?? []).flatMap(({ action, ...trigger }) =>
      action === undefined ? [] : [defined({ action, ...trigger })],
    ),
  };
}

function keyOf(
  policy: SdkPolicy,
): Pick<CertificatePolicy, 'keyType' | 'keySize' | 'keyCurve' | 'exportable' | 'reuseKey'> {
  return {
    keyType: (policy.keyType ?? 'RSA') as CertificatePolicy['keyType'],
    keySize: policy.keySize ?? null,
    keyCurve: (policy.keyCurveName ?? null) as CertificatePolicy['keyCurve'],
    exportable: policy.exportable ?? true,
    reuseKey: policy.reuseKey ?? false,
  };
}

function namesOf(names: Partial<SubjectAlternativeNamesAll>) {
  return {
    dnsNames: [...(names.dnsNames ?? [])],
    emails: [...(names.emails ?? [])],
    userPrincipalNames: [...(names.userPrincipalNames ?? [])],
    uris: [...(names.uniformResourceIdentifiers ?? [])],
    ipAddresses: [...(names.ipAddresses ?? [])],
  };
}

/** Without members that are undefined: the SDK would send some of them as null. */
function defined<T extends object>(members: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  const said = Object.entries(members).filter(([, value]) => value !== undefined);
  return Object.fromEntries(said) as { [K in keyof T]: Exclude<T[K], undefined> };
}
