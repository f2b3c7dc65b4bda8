import type { KeyObject } from 'node:crypto';
import { certificateErrors } from './certificate-errors.ts';
import type { ContentType } from './certificate-policy.ts';
import { readEncryptedKey, readKey, readPfx, writePfx } from './pfx.ts';
import { spkiOf } from './x509.ts';
import { readCertificate } from './x509-facts.ts';

// A certificate with its key and chain, as it is imported and as its secret holds it.

export type Contents = {
  /** DER; in the order in which they came, or the leaf first. */
  readonly certificates: readonly Buffer[];
  /** Which of the certificates is the key's. */
  readonly leaf: Buffer;
  /** `null`: not to be shown. */
  readonly privateKey: KeyObject | null;
};

type Parts = { readonly keys: readonly KeyObject[]; readonly certificates: readonly Buffer[] };

const pemBlock = /-----BEGIN ([A-Z0-9 ]{1,40})-----\n([A-Za-z0-9+/=\n]*)\n?-----END \1-----/g;
// A certificate with a chain is a few kilobytes.
const maxCertificates = 50;

/**
 * What the `value` of an import holds: PEM as text or in base64, or PFX in base64.
 *
 * @param wanted what the policy says it is; `null`: it shows
 * @throws VaultError 400
 */
export async function readContents(
  value: string,
  password: string,
  wanted: ContentType | null,
): Promise<{
  readonly contents: Contents & { readonly privateKey: KeyObject };
  readonly type: ContentType;
}> {
  const pem = pemIn(value);
  const type = wanted ?? (pem === null ? 'application/x-pkcs12' : 'application/x-pem-file');
  const parts =
    type === 'application/x-pem-file'
      ? await readPem(pem, password)
      : await readPkcs12(value, password);
  return { contents: contentsOf(parts), type };
}

/** The value of the secret. */
export function writeContents(contents: Contents, type: ContentType): string {
  const { certificates, leaf, privateKey } = contents;
  if (type === 'application/x-pkcs12') {
    const certificateIndex = certificates.findIndex((der) => der.equals(leaf));
    const key = privateKey === null ? null : { privateKey, certificateIndex };
    return writePfx(certificates, key).toString('base64');
  }
  const key =
    privateKey === null ? '' : privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  return key + certificates.map((der) => pemOf('CERTIFICATE', der)).join('');
}

/** The value of a secret that holds a PFX, as PEM. */
export async function pfxToPem(value: string): Promise<string> {
  const { keys, certificates } = await readPfx(Buffer.from(value, 'base64'), '');
  const [leaf = Buffer.alloc(0)] = certificates;
  return writeContents(
    { certificates, leaf, privateKey: keys[0] ?? null },
    'application/x-pem-file',
  );
}

/** The leaf first, then the issuer of each, then what is left in its order. */
export function leafFirst(certificates: readonly Buffer[], leaf: Buffer): Buffer[] {
  const ordered = [leaf];
  const rest = certificates.filter((der) => !der.equals(leaf));
  for (let last = readCertificate(leaf); last !== null; ) {
    const issued = last;
    const at = rest.findIndex((der) => readCertificate(der)?.subject === issued.issuer);
    const [issuer] = at < 0 ? [] : rest.splice(at, 1);
    if (issuer === undefined) break;
    ordered.push(issuer);
    last = readCertificate(issuer);
  }
  return [...ordered, ...rest];
}

/** The certificate for a key; `null` when there is none. */
export function findLeaf(certificates: readonly Buffer[], key: KeyObject): Buffer | null {
  const spki = spkiOf(key);
  const isOfKey = (der: Buffer): boolean => {
    const certificate = readCertificate(der);
    return certificate !== null && spkiOf(certificate.publicKey).equals(spki);
  };
  return certificates.find(isOfKey) ?? null;
}

function contentsOf({ keys, certificates }: Parts): Contents & { readonly privateKey: KeyObject } {
  const [privateKey] = keys;
  if (privateKey === undefined || certificates.length === 0) throw certificateErrors.noPrivateKey();
  if (keys.length > 1) throw certificateErrors.noPrivateKey();
  if (certificates.length > maxCertificates) throw certificateErrors.invalidX509Content();
  if (certificates.some((der) => readCertificate(der) === null))
    throw certificateErrors.invalidX509Content();
  const leaf = findLeaf(certificates, privateKey);
  if (leaf === null) throw certificateErrors.publicKeyMismatch();
  return { certificates, leaf, privateKey };
}

async function readPkcs12(value: string, password: string): Promise<Parts> {
  try {
    return await readPfx(Buffer.from(value, 'base64'), password);
  } catch {
    throw certificateErrors.unreadablePkcs12();
  }
}

/** Only PKCS#8 keys, and only lines that end as UNIX ends them, as the service has it. */
async function readPem(pem: string | null, password: string): Promise<Parts> {
  if (pem === null) throw certificateErrors.unexpectedPem();
  const blocks = [...pem.matchAll(pemBlock)].map(([, label = '', body = '']) => ({ label, body }));
  const keys = blocks.filter(({ label }) => label.endsWith('PRIVATE KEY'));
  const certificates = blocks.filter(({ label }) => label === 'CERTIFICATE');
  if (keys.length + certificates.length === 0) throw certificateErrors.unexpectedPem();
  // More are refused; none of them is worth the work of opening it.
  if (keys.length > 1) throw certificateErrors.noPrivateKey();
  return {
    keys: await Promise.all(keys.map(({ label, body }) => pemKey(label, body, password))),
    certificates: certificates.map(({ body }) => Buffer.from(body, 'base64')),
  };
}

async function pemKey(label: string, body: string, password: string): Promise<KeyObject> {
  const der = Buffer.from(body, 'base64');
  try {
    if (label === 'PRIVATE KEY') return readKey(der);
    if (label === 'ENCRYPTED PRIVATE KEY') return await readEncryptedKey(der, password);
  } catch {
    // The same as for a key of another format.
  }
  throw certificateErrors.unexpectedPem();
}

/** As it stands, or in base64, as the JavaScript SDK sends it when it is not told what it is. */
function pemIn(value: string): string | null {
  const texts = [value, Buffer.from(value, 'base64').toString('utf8')];
  return texts.find((text) => text.includes('-----BEGIN ')) ?? null;
}

function pemOf(label: string, der: Buffer): string {
  const lines = der.toString('base64').replace(/.{64}(?=.)/g, '$&\n');
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`;
}
