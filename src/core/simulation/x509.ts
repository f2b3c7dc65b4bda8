import { createPublicKey, type KeyObject, randomBytes, sign } from 'node:crypto';
import { keyUsages } from '../vault/certificate-policy.ts';
import type { CertificatePolicy } from '../vault/certificates.ts';
import {
  bitString,
  context,
  encode,
  integer,
  octetString,
  oid,
  sequence,
  tags,
  time,
} from './der.ts';
import { type AlternativeNames, encodeAlternativeNames } from './x509-names.ts';

// Certificates (RFC 5280) and requests for them (RFC 2986), signed with SHA-256. Written out rather than taken from a
// library: it is little, and no library that is at hand signs on every curve that a vault has.

export interface Subject
  extends AlternativeNames,
    Pick<CertificatePolicy, 'keyUsage' | 'enhancedKeyUsage'> {
  /** DER. */
  readonly name: Uint8Array;
  readonly isCa: boolean;
}

export interface Validity {
  readonly notBefore: Date;
  readonly expiresOn: Date;
}

export const extensionIds = {
  keyUsage: '2.5.29.15',
  alternativeNames: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  enhancedKeyUsage: '2.5.29.37',
} as const;

const extensionRequest = '1.2.840.113549.1.9.14';
const ecdsaWithSha256 = sequence(oid('1.2.840.10045.4.3.2'));
const sha256WithRsa = sequence(oid('1.2.840.113549.1.1.11'), encode(tags.null));
const isTrue = encode(tags.boolean, Buffer.from([0xff]));

/** A PKCS #10 request, DER. */
export function buildRequest(subject: Subject, key: KeyObject): Buffer {
  const wishes = sequence(...extensionsOf(subject));
  const attribute = sequence(oid(extensionRequest), encode(tags.set, wishes));
  return signed(
    sequence(integer(0), subject.name, publicKeyOf(key), encode(context(0), attribute)),
    key,
  );
}

/**
 * A certificate, DER.
 *
 * @param key the subject's; only its public part goes in
 * @param signer whose name and key vouch for it
 */
export function buildCertificate(
  subject: Subject,
  key: KeyObject,
  signer: { readonly name: Uint8Array; readonly key: KeyObject },
  { notBefore, expiresOn }: Validity,
): Buffer {
  const content = sequence(
    encode(context(0), integer(2)),
    integer(0x40, ...randomBytes(15)),
    signatureAlgorithm(signer.key),
    signer.name,
    sequence(time(notBefore), time(expiresOn)),
    subject.name,
    publicKeyOf(key),
    encode(context(3), sequence(...extensionsOf(subject))),
  );
  return signed(content, signer.key);
}

function signed(content: Buffer, key: KeyObject): Buffer {
  const signature = sign('sha256', content, key);
  return sequence(content, signatureAlgorithm(key), bitString(signature));
}

function signatureAlgorithm(key: KeyObject): Buffer {
  return key.asymmetricKeyType === 'rsa' ? sha256WithRsa : ecdsaWithSha256;
}

function publicKeyOf(key: KeyObject): Buffer {
  return createPublicKey(key).export({ type: 'spki', format: 'der' });
}

function extensionsOf(subject: Subject): Buffer[] {
  const { keyUsage, enhancedKeyUsage, isCa } = subject;
  const names = encodeAlternativeNames(subject);
  return [
    ...(keyUsage.length === 0
      ? []
      : [extension(extensionIds.keyUsage, encodeUsages(keyUsage), isTrue)]),
    ...(enhancedKeyUsage.length === 0
      ? []
      : [extension(extensionIds.enhancedKeyUsage, sequence(...enhancedKeyUsage.map(oid)))]),
    ...(names === null ? [] : [extension(extensionIds.alternativeNames, names)]),
    isCa
      ? extension(extensionIds.basicConstraints, sequence(isTrue), isTrue)
      : extension(extensionIds.basicConstraints, sequence()),
  ];
}

function extension(id: string, value: Uint8Array, ...critical: readonly Uint8Array[]): Buffer {
  return sequence(oid(id), ...critical, octetString(value));
}

/** The first usage is the highest bit of the first byte; zeros at the end are left out. */
function encodeUsages(usages: readonly string[]): Buffer {
  const bits = keyUsages.map((usage) => (usages.includes(usage) ? '1' : '0'));
  const text = bits.join('').replace(/0+$/, '');
  const unusedBits = (8 - (text.length % 8)) % 8;
  const padded = text.padEnd(text.length + unusedBits, '0');
  const bytes = (padded.match(/.{8}/g) ?? []).map((byte) => Number.parseInt(byte, 2));
  return bitString(Buffer.from(bytes), unusedBits);
}
