import { X509Certificate } from 'node:crypto';
import { keyUsages } from '../vault/certificate-policy.ts';
import type { CertificatePolicy } from '../vault/certificates.ts';
import { context, type Element, elementsIn, readOid } from './der.ts';
import { formatName } from './x500-name.ts';
import { extensionIds, type Validity } from './x509.ts';
import { readAlternativeNames } from './x509-names.ts';

// What a certificate that came from outside says.

const averageMonthMs = (365.25 / 12) * 86_400_000;

/** Null for what is no certificate. */
export function findCertificate(der: Uint8Array): X509Certificate | null {
  try {
    return new X509Certificate(der);
  } catch {
    return null;
  }
}

export function validityOf(certificate: X509Certificate): Validity {
  return { notBefore: new Date(certificate.validFrom), expiresOn: new Date(certificate.validTo) };
}

/** The parts of the policy that would make such a certificate again. */
export function policyFacts(certificate: X509Certificate) {
  const { subject, extensions } = readContent(certificate.raw);
  const { notBefore, expiresOn } = validityOf(certificate);
  const months = (expiresOn.getTime() - notBefore.getTime()) / averageMonthMs;
  return {
    subject: formatName(subject),
    ...readAlternativeNames(extensions.get(extensionIds.alternativeNames) ?? null),
    keyUsage: readUsages(extensions.get(extensionIds.keyUsage)),
    enhancedKeyUsage: readOids(extensions.get(extensionIds.enhancedKeyUsage)),
    validityInMonths: Math.max(1, Math.round(months)),
  } satisfies Partial<CertificatePolicy>;
}

function readContent(der: Buffer) {
  const [outer] = elementsIn(der);
  const [content] = elementsIn(outer?.content ?? Buffer.alloc(0));
  const members = elementsIn(content?.content ?? Buffer.alloc(0));
  // The version is left out of the oldest.
  const [serial] = members.filter(({ tag }) => tag !== context(0));
  const at = members.indexOf(serial as Element);
  const listed = members.find(({ tag }) => tag === context(3))?.content ?? Buffer.alloc(0);
  const extensions = elementsIn(listed)
    .flatMap((list) => elementsIn(list.content))
    .map(({ content: extension }): [string, Buffer] => {
      const parts = elementsIn(extension);
      const [id, value] = [parts.at(0), parts.at(-1)];
      return [readOid(id?.content ?? Buffer.alloc(0)), value?.content ?? Buffer.alloc(0)];
    });
  // Serial number, algorithm, issuer, validity, subject.
  const subject = members[at + 4]?.content ?? Buffer.alloc(0);
  return { subject, extensions: new Map(extensions) };
}

function readUsages(value: Buffer | undefined): CertificatePolicy['keyUsage'] {
  const [bits] = elementsIn(value ?? Buffer.alloc(0));
  const bytes = [...(bits?.content.subarray(1) ?? [])];
  const text = bytes.map((byte) => byte.toString(2).padStart(8, '0')).join('');
  return keyUsages.filter((_, at) => text[at] === '1');
}

function readOids(value: Buffer | undefined): string[] {
  const [list] = elementsIn(value ?? Buffer.alloc(0));
  return elementsIn(list?.content ?? Buffer.alloc(0)).map(({ content }) => readOid(content));
}
