import { VaultError } from './errors.ts';

/** Refusals that only certificates know; see errors.ts. */
export const certificateErrors = {
  pendingNotFound: (name: string) =>
    new VaultError([404, 'PendingCertificateNotFound'], `Pending certificate not found: ${name}`),
  issuerNotFound: () => new VaultError([404, 'CertificateIssuerNotFound'], 'Issuer not found'),
  contactsNotFound: () => new VaultError([404, 'ContactsNotFound'], 'Contacts not found'),
  certificatePending: () =>
    new VaultError(
      [409, 'Forbidden'],
      "A new key vault certificate can not be created or imported while a pending key vault certificate's status is inProgress.",
    ),
  operationNotInProgress: () =>
    new VaultError([403, 'Forbidden'], 'Pending status must be in progress to allow update.'),
  mergeForbidden: (issuer: string) =>
    new VaultError(
      [403, 'Forbidden'],
      // Misspelt by the service.
      `Merge is forbidden on pending object created with issuer : ${issuer} while it is in progess.`,
    ),
  noMergeableCertificate: () =>
    new VaultError(
      [400, 'BadParameter'],
      'Property x5c has invalid value X5C must has at least one valid item',
    ),
  publicKeyMismatch: () =>
    new VaultError(
      [400, 'BadParameter'],
      'The public key of the end-entity certificate in the specified X.509 certificate content does not match the public part of the specified private key. Please check if certificate is valid.',
    ),
  certificateExpired: () =>
    new VaultError([400, 'BadParameter'], 'X509 Certificate is already expired'),
  noPrivateKey: () =>
    new VaultError(
      [400, 'BadParameter'],
      'No certificate with private key found in the specified X.509 certificate content. Please specify X.509 certificate content with only one certificate containing private key.',
    ),
  unreadablePkcs12: () =>
    new VaultError(
      [400, 'BadParameter'],
      'The specified PKCS#12 X.509 certificate content can not be read. Please check if certificate is in valid PKCS#12 format.',
    ),
  unexpectedPem: () =>
    new VaultError(
      [400, 'BadParameter'],
      'The specified PEM X.509 certificate content is in an unexpected format. Please check if certificate is in valid PEM format.',
    ),
  invalidX509Content: () =>
    new VaultError(
      [400, 'BadParameter'],
      'The specified X.509 certificate content is invalid. Error: One or more X.509 properties are invalid.',
    ),
  unsupportedKeyType: () =>
    new VaultError(
      [400, 'BadParameter'],
      'Unsupported key type. Supported types are RSA, and EC on the curves P-256, P-384, P-521 and P-256K.',
    ),
  unsupportedKeyOperations: (wanted: readonly string[], supported: readonly string[]) =>
    new VaultError(
      [400, 'BadParameter'],
      `Unsupported key operation(s): ${quoted(wanted)}. Supported values are ${quoted(supported)}.`,
    ),
  hsmKeyNotExportable: () =>
    new VaultError([400, 'BadParameter'], 'A key in a HSM cannot be exportable.'),
  invalidSubject: () =>
    new VaultError([400, 'BadParameter'], 'The subject name provided is not a valid X500 name.'),
  subjectTooLong: (limit: number) =>
    new VaultError(
      [400, 'BadParameter'],
      `The subject name is too long. Maximum allowed is ${limit}.`,
    ),
  policyOfVersion: () =>
    new VaultError(
      [400, 'BadParameter'],
      'The policy of a certificate cannot be updated on a specific version.',
    ),
  issuerDisabled: (name: string) =>
    new VaultError([403, 'Forbidden'], `Issuer ${name} is disabled.`),
  organizationNotSet: () =>
    new VaultError([400, 'BadParameter'], 'Id in organization details is not set'),
  nameTaken: (type: 'Key' | 'Secret', name: string) =>
    new VaultError(
      [409, 'Conflict'],
      `A ${type.toLowerCase()} with name ${name} exists, and a certificate of that name would need it.`,
    ),
};

function quoted(words: readonly string[]): string {
  return words.map((word) => `"${word}"`).join(', ');
}
