import '../reflect-metadata.ts';
import { X509Certificate } from 'node:crypto';
import { AsnConvert } from '@peculiar/asn1-schema';
import { Certificate } from '@peculiar/asn1-x509';
import {
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  X509Certificate as ParsedCertificate,
  SubjectAlternativeNameExtension,
} from '@peculiar/x509';
import {
  type CertificatePolicy,
  type KeyUsage,
  keyUsages,
  type SubjectAlternativeNames,
} from './certificate-policy.ts';
import { formatX500Name } from './x500-name.ts';

// What a certificate that came from outside says.

/** Seconds since 1970. */
export type Validity = { readonly nbf: number; readonly exp: number };

const averageMonthSeconds = (365.25 / 12) * 86_400;
const sanMembers = {
  dns: 'dns_names',
  email: 'emails',
  upn: 'upns',
  url: 'uris',
  ip: 'ipAddresses',
} as const;

/** @returns `null` for what is no certificate, or has a key or dates that nobody can read */
export function readCertificate(der: Uint8Array): X509Certificate | null {
  try {
    const certificate = new X509Certificate(der);
    const { validFrom, validTo, publicKey } = certificate;
    // Node reads the key only when it is asked for, and its Date for what is no date is any date: only the text tells.
    const isReadable = publicKey.type === 'public' && isDate(validFrom) && isDate(validTo);
    return isReadable ? certificate : null;
  } catch {
    return null;
  }
}

function isDate(text: string): boolean {
  return !Number.isNaN(Date.parse(text));
}

export function validityOf({ validFromDate, validToDate }: X509Certificate): Validity {
  return {
    nbf: Math.floor(validFromDate.getTime() / 1000),
    exp: Math.floor(validToDate.getTime() / 1000),
  };
}

/** The X.509 part of the policy that would make such a certificate again. */
export function x509PropsOf(certificate: X509Certificate): CertificatePolicy['x509_props'] {
  const parsed = new ParsedCertificate(certificate.raw);
  const { nbf, exp } = validityOf(certificate);
  const usages = parsed.getExtension(KeyUsagesExtension)?.usages ?? 0;
  const sans = sansOf(parsed);
  return {
    subject: formatX500Name(AsnConvert.parse(certificate.raw, Certificate).tbsCertificate.subject),
    ...(sans === null ? {} : { sans }),
    ekus: parsed.getExtension(ExtendedKeyUsageExtension)?.usages.map(String) ?? [],
    key_usage: keyUsages.filter((usage: KeyUsage) => (usages & KeyUsageFlags[usage]) !== 0),
    validity_months: Math.max(1, Math.round((exp - nbf) / averageMonthSeconds)),
    basic_constraints: { ca: parsed.getExtension(BasicConstraintsExtension)?.ca ?? false },
  };
}

function sansOf(parsed: ParsedCertificate): SubjectAlternativeNames | null {
  const names = parsed.getExtension(SubjectAlternativeNameExtension)?.names.items ?? [];
  const sans: Partial<Record<keyof SubjectAlternativeNames, string[]>> = {};
  for (const { type, value } of names) {
    const member = type in sanMembers ? sanMembers[type as keyof typeof sanMembers] : null;
    if (member !== null) sans[member] = [...(sans[member] ?? []), value];
  }
  return names.length === 0 ? null : sans;
}
