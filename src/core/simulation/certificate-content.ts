import {
  createPrivateKey,
  createPublicKey,
  type KeyObject,
  type X509Certificate,
} from 'node:crypto';
import { AppError } from '../errors.ts';
import type { CertificateContent } from '../vault/certificate-rules.ts';
import { findCertificate, validityOf } from './x509-facts.ts';

// Certificates that come from outside: imported with their key, or merged with a key that is waiting for them.

export interface Content {
  /** The certificate of the key first, then the issuer of each. */
  readonly chain: readonly X509Certificate[];
  readonly leaf: X509Certificate;
  readonly privateKey: KeyObject;
}

const pemBlock = /-----BEGIN ([A-Z ]+)-----[^-]+-----END \1-----/g;

/** @throws AppError `vault_rejected`, for every PFX too: reading one takes a library that nothing else here needs */
export function readContent({ isPem, text }: CertificateContent, password: string): Content {
  if (!isPem) throw rejected('the simulated vault imports PEM only, no PFX');
  const blocks = [...text.matchAll(pemBlock)].map(([pem, label = '']) => ({ pem, label }));
  const keys = blocks.filter(({ label }) => label.endsWith('PRIVATE KEY'));
  const certificates = blocks.filter(({ label }) => label === 'CERTIFICATE');
  const [key] = keys;
  if (key === undefined || keys.length > 1) throw rejected('there must be exactly one private key');
  const chain = certificates.map(({ pem }) => findCertificate(Buffer.from(pem)));
  return contentOf(chain, readKey(key.pem, password));
}

/** @throws AppError `vault_rejected` when none of the certificates is the key's, or that one has expired */
export function contentOf(
  certificates: readonly (X509Certificate | null)[],
  privateKey: KeyObject,
): Content {
  const known = certificates.filter((each) => each !== null);
  if (known.length < certificates.length) throw rejected('a certificate is unreadable');
  const leaf = known.find((each) => each.checkPrivateKey(privateKey));
  if (leaf === undefined) throw rejected('no certificate is for the private key');
  return { leaf, privateKey, chain: ordered(leaf, known) };
}

/** @throws AppError `vault_rejected` */
export function mustNotBeExpired({ leaf }: Content, now: Date): void {
  if (validityOf(leaf).expiresOn <= now) throw rejected('the certificate has expired');
}

function ordered(leaf: X509Certificate, all: readonly X509Certificate[]): X509Certificate[] {
  const chain = [leaf];
  const rest = all.filter((each) => each !== leaf);
  for (let last: X509Certificate | undefined = leaf; last !== undefined; ) {
    const { issuer }: X509Certificate = last;
    const at = rest.findIndex(({ subject }) => subject === issuer);
    [last] = at < 0 ? [] : rest.splice(at, 1);
    if (last !== undefined) chain.push(last);
  }
  return [...chain, ...rest];
}

function readKey(pem: string, passphrase: string): KeyObject {
  try {
    const key = createPrivateKey({ key: pem, passphrase });
    // What has no public half that node:crypto knows is no key for a certificate.
    createPublicKey(key);
    return key;
  } catch {
    throw rejected('the private key is unreadable');
  }
}

export function rejected(why: string): AppError {
  return new AppError('vault_rejected', { detail: `certificate: ${why}` });
}
