import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import type { CertificatePolicy } from './certificate-policy.ts';
import { type EcMaterial, keyObjectOf, materialOf } from './key-material.ts';
import { parseX500Name } from './x500-name.ts';
import { buildCertificate, type Signer, type Subject } from './x509.ts';
import type { Validity } from './x509-facts.ts';

/** What stands in for every certification authority outside: a root and, under it, the one that issues. */
export type Authority = {
  readonly material: EcMaterial;
  /** DER, base64: the issuing certificate, then its root. */
  readonly chain: readonly string[];
};

const rootName = 'CN=Key Vault emulator root CA';
const issuingName = 'CN=Key Vault emulator issuing CA';
// From and until times that no clock of a test is set to.
const alwaysValid: Validity = { nbf: 946_684_800, exp: 253_402_300_799 };

export function createAuthority(): Authority {
  const root: Signer = { name: nameOf(rootName), key: newKey() };
  const issuing: Signer = { name: nameOf(issuingName), key: newKey() };
  const certify = ({ name, key }: Signer): string =>
    buildCertificate(authoritySubject(name), key, root, alwaysValid).toString('base64');
  return { material: materialOf(issuing.key, 'EC'), chain: [certify(issuing), certify(root)] };
}

/** A certificate (DER) from the authority, or signed with its own key when there is none. */
export function issueCertificate(
  authority: Authority | null,
  policy: CertificatePolicy,
  key: KeyObject,
  validity: Validity,
): Buffer {
  const subject = subjectOf(policy);
  const signer: Signer =
    authority === null
      ? { name: subject.name, key }
      : { name: nameOf(issuingName), key: keyObjectOf(authority.material) };
  return buildCertificate(subject, key, signer, validity);
}

/** What a policy says of the certificates that are made by it. */
export function subjectOf({ x509_props }: CertificatePolicy): Subject {
  return {
    name: nameOf(x509_props.subject),
    sans: x509_props.sans ?? {},
    ekus: x509_props.ekus,
    keyUsage: x509_props.key_usage,
    isCa: x509_props.basic_constraints.ca,
  };
}

function authoritySubject(name: Signer['name']): Subject {
  return { name, sans: {}, ekus: [], keyUsage: ['keyCertSign', 'cRLSign'], isCa: true };
}

function nameOf(text: string): Signer['name'] {
  const name = parseX500Name(text);
  if (name === null) throw new Error(`"${text}" is no X.500 name`);
  return name;
}

function newKey(): KeyObject {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
}
