import '../reflect-metadata.ts';
import { createPublicKey, hash, type KeyObject, randomBytes, sign } from 'node:crypto';
import { isIPv6 } from 'node:net';
import { Attributes, CertificationRequest, CertificationRequestInfo } from '@peculiar/asn1-csr';
import { AsnConvert } from '@peculiar/asn1-schema';
import {
  AlgorithmIdentifier,
  Extension as AsnExtension,
  Attribute,
  Certificate,
  Extensions,
  type Name,
  SubjectPublicKeyInfo,
  TBSCertificate,
  Validity,
  Version,
} from '@peculiar/asn1-x509';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  type Extension,
  type JsonGeneralNames,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
} from '@peculiar/x509';
import type { KeyUsage, SubjectAlternativeNames } from './certificate-policy.ts';

// Certificates and requests for them, signed with node:crypto, which knows every curve the service does; the generators
// of @peculiar/x509 sign with WebCrypto, which lacks secp256k1.

export type Subject = {
  readonly name: Name;
  readonly sans: SubjectAlternativeNames;
  readonly ekus: readonly string[];
  readonly keyUsage: readonly KeyUsage[];
  readonly isCa: boolean;
};

/** Who signs, and with which private key. */
export type Signer = { readonly name: Name; readonly key: KeyObject };

const extensionRequestOid = '1.2.840.113549.1.9.14';
const sha256WithRsa = new AlgorithmIdentifier({
  algorithm: '1.2.840.113549.1.1.11',
  parameters: null,
});
const ecdsaWithSha256 = new AlgorithmIdentifier({ algorithm: '1.2.840.10045.4.3.2' });

/** A PKCS#10 request (DER) that proves possession of the key and carries the wished-for extensions. */
export function buildRequest(subject: Subject, key: KeyObject): Buffer {
  const extensions = asnExtensions(subjectExtensions(subject));
  const info = new CertificationRequestInfo({
    subject: subject.name,
    subjectPKInfo: AsnConvert.parse(spkiOf(key), SubjectPublicKeyInfo),
    attributes: new Attributes([
      new Attribute({ type: extensionRequestOid, values: [AsnConvert.serialize(extensions)] }),
    ]),
  });
  const request = new CertificationRequest({
    certificationRequestInfo: info,
    signatureAlgorithm: signatureAlgorithmOf(key),
    signature: signed(AsnConvert.serialize(info), key),
  });
  return Buffer.from(AsnConvert.serialize(request));
}

/**
 * A certificate (DER) of version 3 with a random serial number, signed with SHA-256.
 *
 * @param key the subject's; only its public part goes in
 * @param validity seconds since 1970
 */
export function buildCertificate(
  subject: Subject,
  key: KeyObject,
  signer: Signer,
  validity: { readonly nbf: number; readonly exp: number },
): Buffer {
  const extensions = [
    ...subjectExtensions(subject),
    new AuthorityKeyIdentifierExtension(keyIdOf(signer.key)),
    new SubjectKeyIdentifierExtension(keyIdOf(key)),
  ];
  const content = new TBSCertificate({
    version: Version.v3,
    serialNumber: serialNumber(),
    signature: signatureAlgorithmOf(signer.key),
    issuer: signer.name,
    validity: new Validity({
      notBefore: new Date(validity.nbf * 1000),
      notAfter: new Date(validity.exp * 1000),
    }),
    subject: subject.name,
    subjectPublicKeyInfo: AsnConvert.parse(spkiOf(key), SubjectPublicKeyInfo),
    extensions: asnExtensions(extensions),
  });
  const certificate = new Certificate({
    tbsCertificate: content,
    signatureAlgorithm: signatureAlgorithmOf(signer.key),
    signatureValue: signed(AsnConvert.serialize(content), signer.key),
  });
  return Buffer.from(AsnConvert.serialize(certificate));
}

/** The public key as SubjectPublicKeyInfo (DER), from either half of a pair. */
export function spkiOf(key: KeyObject): Buffer {
  const publicKey = key.type === 'public' ? key : createPublicKey(key);
  return publicKey.export({ type: 'spki', format: 'der' });
}

function subjectExtensions({ sans, ekus, keyUsage, isCa }: Subject): Extension[] {
  const names = generalNames(sans);
  const usages = keyUsage.reduce((flags, usage) => flags | KeyUsageFlags[usage], 0);
  return [
    ...(usages === 0 ? [] : [new KeyUsagesExtension(usages, true)]),
    ...(ekus.length === 0 ? [] : [new ExtendedKeyUsageExtension([...ekus])]),
    ...(names.length === 0 ? [] : [new SubjectAlternativeNameExtension(names)]),
    new BasicConstraintsExtension(isCa, undefined, isCa),
  ];
}

function generalNames(sans: SubjectAlternativeNames): JsonGeneralNames {
  return [
    ...(sans.dns_names ?? []).map((value) => ({ type: 'dns', value }) as const),
    ...(sans.emails ?? []).map((value) => ({ type: 'email', value }) as const),
    ...(sans.upns ?? []).map((value) => ({ type: 'upn', value }) as const),
    ...(sans.uris ?? []).map((value) => ({ type: 'url', value }) as const),
    ...(sans.ipAddresses ?? []).map((text) => ({ type: 'ip', value: plainAddress(text) }) as const),
  ];
}

/** Without the dotted end that an IPv6 address may have, which the library does not read. */
function plainAddress(text: string): string {
  return isIPv6(text) ? new URL(`http://[${text}]`).hostname.slice(1, -1) : text;
}

function asnExtensions(extensions: readonly Extension[]): Extensions {
  return new Extensions(extensions.map(({ rawData }) => AsnConvert.parse(rawData, AsnExtension)));
}

/** RFC 5280 4.2.1.2, method 1. */
function keyIdOf(key: KeyObject): string {
  const { subjectPublicKey } = AsnConvert.parse(spkiOf(key), SubjectPublicKeyInfo);
  return hash('sha1', new Uint8Array(subjectPublicKey), 'hex');
}

function signed(content: ArrayBuffer, key: KeyObject): ArrayBuffer {
  return Uint8Array.from(sign('sha256', new Uint8Array(content), key)).buffer;
}

function signatureAlgorithmOf(key: KeyObject): AlgorithmIdentifier {
  return key.asymmetricKeyType === 'rsa' ? sha256WithRsa : ecdsaWithSha256;
}

/** Positive and never zero-led, as RFC 5280 4.1.2.2 asks. */
function serialNumber(): ArrayBuffer {
  const bytes = Uint8Array.from(randomBytes(16));
  bytes[0] = 0x40 | ((bytes[0] ?? 0) & 0x3f);
  return bytes.buffer;
}
