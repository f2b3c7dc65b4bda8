import './reflect-metadata.ts';
import { randomBytes, webcrypto, X509Certificate } from 'node:crypto';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type X509Certificate as IssuedCertificate,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from '@peculiar/x509';

/** A certificate authority of this machine only, and a server certificate under it. All members are PEM. */
export type LocalCa = {
  /** What a client must trust (`NODE_EXTRA_CA_CERTS`, `tlsOptions.ca`). */
  readonly caPem: string;
  readonly key: string;
  readonly cert: string;
  /** Where `caPem` lies; only when a directory was given. */
  readonly caFile?: string;
};

type Authority = { readonly pem: string; readonly keys: CryptoKeyPair };
type CryptoKeyPair = webcrypto.CryptoKeyPair;

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const caName = 'CN=Keyturn local CA';
const dayMs = 86_400_000;
const caDays = 3650;
// Apple's TLS refuses server certificates that are valid for longer than 825 days.
const serverDays = 397;
// An authority about to end is replaced at start rather than in the middle of a run.
const caRenewDays = 30;

/**
 * A local authority with a fresh server certificate for `localhost`, `127.0.0.1` and `::1`.
 *
 * @param dir where the authority is kept (`ca.pem`, `ca-key.pem` with mode 0600); a valid one found there is used
 *   again, so clients that trust it survive a restart. Without it nothing is written.
 */
export async function createLocalCa(dir?: string): Promise<LocalCa> {
  if (dir === undefined) return withServerCertificate(await makeAuthority());
  const caFile = join(dir, 'ca.pem');
  const keyFile = join(dir, 'ca-key.pem');
  const kept = await findAuthority(caFile, keyFile);
  const authority = kept ?? (await makeAuthority());
  if (kept === null) {
    await mkdir(dir, { recursive: true });
    await writePrivate(keyFile, await privateKeyPem(authority.keys.privateKey));
    await writeFile(caFile, authority.pem);
  }
  return { ...(await withServerCertificate(authority)), caFile };
}

async function findAuthority(caFile: string, keyFile: string): Promise<Authority | null> {
  try {
    const pem = await readFile(caFile, 'utf8');
    const keyPem = await readFile(keyFile, 'utf8');
    const certificate = new X509Certificate(pem);
    if (certificate.validToDate.getTime() < Date.now() + caRenewDays * dayMs) return null;
    const [der] = PemConverter.decode(keyPem);
    if (der === undefined) return null;
    const privateKey = await webcrypto.subtle.importKey('pkcs8', der, algorithm, true, ['sign']);
    const spki = certificate.publicKey.export({ type: 'spki', format: 'der' });
    const publicKey = await webcrypto.subtle.importKey('spki', spki, algorithm, true, ['verify']);
    const keys = { privateKey, publicKey };
    return (await belongTogether(keys)) ? { pem, keys } : null;
  } catch {
    // Missing, cut short or edited: a new authority is cheaper than a riddle.
    return null;
  }
}

async function belongTogether(keys: CryptoKeyPair): Promise<boolean> {
  const probe = randomBytes(16);
  const signature = await webcrypto.subtle.sign(algorithm, keys.privateKey, probe);
  return webcrypto.subtle.verify(algorithm, keys.publicKey, signature, probe);
}

async function makeAuthority(): Promise<Authority> {
  const keys = await makeKeys();
  const certificate = await X509CertificateGenerator.create(
    {
      serialNumber: serialNumber(),
      subject: caName,
      issuer: caName,
      ...validFor(caDays),
      publicKey: keys.publicKey,
      signingKey: keys.privateKey,
      signingAlgorithm: algorithm,
      extensions: [
        new BasicConstraintsExtension(true, 0, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
        await SubjectKeyIdentifierExtension.create(keys.publicKey, false, webcrypto),
      ],
    },
    webcrypto,
  );
  return { pem: pemOf(certificate), keys };
}

async function withServerCertificate(authority: Authority): Promise<Omit<LocalCa, 'caFile'>> {
  const keys = await makeKeys();
  const certificate = await X509CertificateGenerator.create(
    {
      serialNumber: serialNumber(),
      subject: 'CN=localhost',
      issuer: caName,
      ...validFor(serverDays),
      publicKey: keys.publicKey,
      signingKey: authority.keys.privateKey,
      signingAlgorithm: algorithm,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
        new SubjectAlternativeNameExtension([
          { type: 'dns', value: 'localhost' },
          { type: 'ip', value: '127.0.0.1' },
          { type: 'ip', value: '::1' },
        ]),
        await AuthorityKeyIdentifierExtension.create(authority.keys.publicKey, false, webcrypto),
      ],
    },
    webcrypto,
  );
  return {
    caPem: authority.pem,
    cert: pemOf(certificate),
    key: await privateKeyPem(keys.privateKey),
  };
}

function makeKeys(): Promise<CryptoKeyPair> {
  return webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
}

/** Positive and never zero-led, as RFC 5280 4.1.2.2 asks. */
function serialNumber(): string {
  return `4${randomBytes(15).toString('hex')}0`;
}

function validFor(days: number): { notBefore: Date; notAfter: Date } {
  // An hour of slack for clients in containers whose clock is behind.
  const now = Date.now();
  return { notBefore: new Date(now - 3_600_000), notAfter: new Date(now + days * dayMs) };
}

function pemOf(certificate: IssuedCertificate): string {
  return `${certificate.toString('pem')}\n`;
}

async function privateKeyPem(key: webcrypto.CryptoKey): Promise<string> {
  const der = await webcrypto.subtle.exportKey('pkcs8', key);
  return `${PemConverter.encode(der, 'PRIVATE KEY')}\n`;
}

async function writePrivate(file: string, text: string): Promise<void> {
  await writeFile(file, text, { mode: 0o600 });
  // `mode` counts for new files only.
  await chmod(file, 0o600);
}
