/** What a vault takes with a certificate. Checked before anything is sent: a vault's own words come late and vague. */
import { X509Certificate } from 'node:crypto';
import type {
  CertificateChanges,
  CertificateContact,
  ImportedCertificate,
  NewCertificateIssuer,
} from './certificates.ts';
import { checkField, checkKeyChanges } from './key-rules.ts';

/** Of the secret that holds the certificate, as the vault counts it. */
const contentBytes = 25_600;
/** Paths of a vault: a certificate so named could not be read. */
const takenNames = ['issuers', 'contacts'];

/** @throws AppError `invalid_input` unless `name` is 1 to 127 letters, digits and hyphens, and not a path of the vault */
export function checkCertificateName(name: string): void {
  checkIssuerName(name);
  const isFree = !takenNames.includes(name.toLowerCase());
  checkField(isFree, 'name', `a vault has its own use for ${takenNames.join(' and ')}`);
}

/** @throws AppError `invalid_input` unless `name` is 1 to 127 letters, digits and hyphens */
export function checkIssuerName(name: string): void {
  const isName = /^[0-9a-zA-Z-]{1,127}$/.test(name);
  const shown = JSON.stringify(name.slice(0, 130));
  checkField(isName, 'name', `use 1 to 127 letters, digits and hyphens, not ${shown}`);
}

/** @throws AppError `invalid_input` for tags that no vault takes */
export function checkCertificateChanges({ tags }: CertificateChanges): void {
  if (tags) checkKeyChanges({ tags });
}

/** What an import holds, as it is sent. */
export interface CertificateContent {
  readonly isPem: boolean;
  /** PEM with UNIX line ends, the only ones a vault reads; or PFX in base64. */
  readonly text: string;
}

/** @throws AppError `invalid_input` for what is neither PEM with a PKCS#8 key nor base64, and for too much of it */
export function readImport(certificate: ImportedCertificate): CertificateContent {
  checkCertificateChanges(certificate);
  const content = certificate.content.expose();
  const isPem = content.includes('-----BEGIN ');
  const text = isPem ? content.replaceAll('\r\n', '\n') : content.replaceAll(/\s/g, '');
  if (isPem) {
    const hasKey = /-----BEGIN (ENCRYPTED )?PRIVATE KEY-----/.test(text);
    checkField(hasKey, 'content', 'PEM needs its key as PKCS#8 (openssl pkcs8 -topk8)');
    const hasCertificate = text.includes('-----BEGIN CERTIFICATE-----');
    checkField(hasCertificate, 'content', 'PEM needs the certificate beside its key');
  } else {
    const isBase64 = /^[A-Za-z0-9+/]+={0,2}$/.test(text) && text.length % 4 === 0;
    checkField(isBase64, 'content', 'give PEM, or a PFX in base64');
  }
  const isSmall = Buffer.byteLength(text) <= contentBytes;
  checkField(isSmall, 'content', `at most ${contentBytes} bytes`);
  return { isPem, text };
}

/** @throws AppError `invalid_input` unless it is certificates in DER, at least one */
export function checkChain(chain: readonly Uint8Array[]): void {
  checkField(chain.length > 0, 'chain', 'give at least the certificate that was issued');
  checkField(chain.every(isCertificate), 'chain', 'give certificates in DER');
}

function isCertificate(der: Uint8Array): boolean {
  try {
    // It takes PEM too, which is not what goes into a vault as it stands.
    return new X509Certificate(der).raw.length === der.length;
  } catch {
    return false;
  }
}

/** @throws AppError `invalid_input` */
export function checkNewIssuer({ provider, administrators = [] }: NewCertificateIssuer): void {
  checkField(provider.trim() !== '', 'provider', 'name one, such as DigiCert, GlobalSign or Test');
  checkEmails('administrators', administrators);
}

/** @throws AppError `invalid_input` */
export function checkContacts(contacts: readonly CertificateContact[]): void {
  checkEmails('contacts', contacts);
}

function checkEmails(field: string, people: readonly { readonly email: string }[]): void {
  const areReachable = people.every(({ email }) => /^[^@\s]+@[^@\s]+$/.test(email));
  checkField(areReachable, field, 'each has an email address');
}
