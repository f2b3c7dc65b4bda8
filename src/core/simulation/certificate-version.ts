import { createPrivateKey, type JsonWebKey, type KeyObject } from 'node:crypto';
import { SecretString } from '../secret-string.ts';
import type {
  CertificateOperation,
  CertificatePolicy,
  CertificateProperties,
  CertificateVersion,
} from '../vault/certificates.ts';
import { familyOf } from '../vault/key-algorithms.ts';
import { type KeyOperation, keyOperations } from '../vault/keys.ts';
import type { SecretVersion } from '../vault/ports.ts';
import { exportJwk } from './key-material.ts';
import type { SimulatedKey } from './key-version.ts';
import { writePfx } from './pfx.ts';

// A version of a certificate as a simulated vault keeps it, and what belongs to it: its key and its secret.

export interface SimulatedCertificate {
  readonly properties: CertificateProperties;
  /** Null before the first version of a certificate is issued: until then this is a draft. */
  readonly issued: IssuedContent | null;
  /** Of the certificate; what counts is the latest version's. */
  readonly policy: CertificatePolicy;
  /** The latest creation, of the certificate too; null when there was none, or it was deleted. */
  readonly operation: SimulatedOperation | null;
}

export interface IssuedContent {
  /** DER; the certificate first. */
  readonly chain: readonly Buffer[];
  readonly privateKey: KeyObject;
  /** As the policy had it then. */
  readonly terms: CertificateTerms;
}

type CertificateTerms = Pick<
  CertificatePolicy,
  'keyType' | 'keyUsage' | 'exportable' | 'contentType'
>;

export interface SimulatedOperation extends Omit<CertificateOperation, 'csr'> {
  /** DER. */
  readonly csr: Buffer;
  /** Becomes the version's. */
  readonly privateKey: KeyObject;
  /** What the version will be, disabled. */
  readonly draft: CertificateProperties;
  /** What the version will be, then. */
  readonly enabled: boolean;
}

export function termsOf(policy: CertificatePolicy): CertificateTerms {
  const { keyType, keyUsage, exportable, contentType } = policy;
  return { keyType, keyUsage, exportable, contentType };
}

/** What may be told of it. @param policy null for a version that was asked for by its id */
export function describeCertificate(
  vaultUrl: string,
  { properties, issued }: SimulatedCertificate,
  policy: CertificatePolicy | null,
): CertificateVersion {
  const { name, version } = properties;
  const idIn = (collection: string) => `${vaultUrl}/${collection}/${name}/${version}`;
  return {
    id: idIn('certificates'),
    properties,
    der: issued?.chain[0] ?? null,
    keyId: issued === null ? null : idIn('keys'),
    secretId: issued === null ? null : idIn('secrets'),
    policy,
  };
}

export function describeOperation(operation: SimulatedOperation): CertificateOperation {
  const { status, issuer, csr, cancellationRequested, details, error } = operation;
  return { status, issuer, csr, cancellationRequested, details, error };
}

/** The key of an issued version. */
export function linkedKey({ properties }: SimulatedCertificate, content: IssuedContent) {
  const { thumbprint: _, ...shared } = properties;
  return {
    properties: { ...shared, managed: true },
    type: content.terms.keyType,
    operations: operationsOf(content.terms),
    exportable: false,
    material: content.privateKey,
    rotationPolicy: null,
  } satisfies SimulatedKey;
}

/** The secret of an issued version: the certificate with its chain, and its key if that may leave the vault. */
export function linkedSecret(
  { properties }: SimulatedCertificate,
  { chain, privateKey, terms }: IssuedContent,
): SecretVersion {
  const { thumbprint: _, ...shared } = properties;
  const { contentType, exportable } = terms;
  const key = exportable ? privateKey : null;
  const value =
    contentType === 'application/x-pkcs12'
      ? writePfx(chain, key).toString('base64')
      : writePem(chain, key);
  return {
    properties: { ...shared, contentType, managed: true },
    value: new SecretString(value),
  };
}

function writePem(chain: readonly Buffer[], key: KeyObject | null): string {
  const certificates = chain.map((der) => {
    const lines = der.toString('base64').replaceAll(/.{64}(?=.)/g, '$&\n');
    return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`;
  });
  return [key?.export({ type: 'pkcs8', format: 'pem' }) ?? '', ...certificates].join('');
}

const operationsByUsage: Readonly<Record<string, readonly KeyOperation[]>> = {
  digitalSignature: ['sign', 'verify'],
  nonRepudiation: ['sign', 'verify'],
  keyEncipherment: ['wrapKey', 'unwrapKey'],
  dataEncipherment: ['encrypt', 'decrypt'],
  keyCertSign: ['sign', 'verify'],
  cRLSign: ['sign', 'verify'],
  encipherOnly: ['encrypt'],
  decipherOnly: ['decrypt'],
};

/** The usages, translated; without any, all that the type can do. */
function operationsOf({ keyType, keyUsage }: CertificateTerms): readonly KeyOperation[] {
  const able = keyOperations.filter((operation) =>
    familyOf(keyType) === 'EC'
      ? ['sign', 'verify'].includes(operation)
      : !['import', 'export'].includes(operation),
  );
  if (keyUsage.length === 0) return able;
  const wanted = keyUsage.flatMap((usage) => operationsByUsage[usage] ?? []);
  return able.filter((operation) => wanted.includes(operation));
}

export interface SavedCertificate extends Omit<SimulatedCertificate, 'issued' | 'operation'> {
  readonly issued:
    | (Pick<IssuedContent, 'terms'> & { readonly chain: string[]; readonly jwk: JsonWebKey })
    | null;
  readonly operation:
    | (Omit<SimulatedOperation, 'csr' | 'privateKey'> & {
        readonly csr: string;
        readonly jwk: JsonWebKey;
      })
    | null;
}

export function saveCertificate(certificate: SimulatedCertificate): SavedCertificate {
  const { issued, operation, ...rest } = certificate;
  return {
    ...rest,
    issued: issued && {
      terms: issued.terms,
      chain: issued.chain.map((der) => der.toString('base64')),
      jwk: exportJwk(issued.privateKey),
    },
    operation: operation && savedOperation(operation),
  };
}

function savedOperation({ privateKey, csr, ...rest }: SimulatedOperation) {
  return { ...rest, csr: csr.toString('base64'), jwk: exportJwk(privateKey) };
}

export function loadCertificate(saved: SavedCertificate): SimulatedCertificate {
  const { issued, operation, ...rest } = saved;
  return {
    ...rest,
    issued: issued && {
      terms: issued.terms,
      chain: issued.chain.map((der) => Buffer.from(der, 'base64')),
      privateKey: privateKeyOf(issued.jwk),
    },
    operation: operation && loadedOperation(operation),
  };
}

function loadedOperation({
  jwk,
  csr,
  ...rest
}: NonNullable<SavedCertificate['operation']>): SimulatedOperation {
  return { ...rest, csr: Buffer.from(csr, 'base64'), privateKey: privateKeyOf(jwk) };
}

function privateKeyOf(jwk: JsonWebKey): KeyObject {
  return createPrivateKey({ format: 'jwk', key: jwk });
}
