import '../reflect-metadata.ts';
import { createHash, webcrypto } from 'node:crypto';
import { X509CertificateGenerator } from '@peculiar/x509';
import { CompactSign } from 'jose';

// What signs released keys: a certificate of the emulator's own, made when the first key is released.

type Signer = { readonly key: webcrypto.CryptoKey; readonly certificate: Buffer };

const algorithm = {
  name: 'RSASSA-PKCS1-v1_5',
  hash: 'SHA-256',
  publicExponent: new Uint8Array([1, 0, 1]),
  modulusLength: 2048,
};
let signer: Promise<Signer> | null = null;

/** A JWS of a released key, with the certificate that checks it in `x5c`. */
export async function signRelease(payload: unknown): Promise<string> {
  signer ??= createSigner();
  const { key, certificate } = await signer;
  const thumbprint = createHash('sha1').update(certificate);
  const hex = thumbprint.copy().digest('hex').toUpperCase();
  return new CompactSign(Buffer.from(JSON.stringify(payload)))
    .setProtectedHeader({
      alg: 'RS256',
      kid: hex,
      x5t: thumbprint.digest('base64url'),
      typ: 'JWT',
      'x5t#S256': createHash('sha256').update(certificate).digest('base64url'),
      x5c: [certificate.toString('base64')],
    })
    .sign(key);
}

async function createSigner(): Promise<Signer> {
  const keys = await webcrypto.subtle.generateKey(algorithm, false, ['sign', 'verify']);
  const certificate = await X509CertificateGenerator.createSelfSigned({
    name: 'CN=vault.azure.net, O=Key Vault emulator',
    keys,
    signingAlgorithm: algorithm,
    notBefore: new Date(Date.now() - 86_400_000),
    notAfter: new Date(Date.now() + 365 * 86_400_000),
  });
  return { key: keys.privateKey, certificate: Buffer.from(certificate.rawData) };
}
