/** What the vault's own log calls the methods of the three services, and what they do to a vault. */
import type { CertificateService } from './certificates.ts';
import type { KeyService } from './keys.ts';
import type { ObjectType, SecretService } from './ports.ts';

/** Every method of a service, by the name of its operation. */
export const operationNames = {
  secret: {
    ...{ get: 'getSecret', set: 'setSecret', update: 'updateSecret', erase: 'eraseSecret' },
    ...{ list: 'getSecrets', listVersions: 'getSecretVersions' },
    ...lifecycleNames('Secret'),
  },
  key: {
    ...{ get: 'getKey', create: 'createKey', import: 'importKey', rotate: 'rotateKey' },
    ...{ update: 'updateKey', list: 'getKeys', listVersions: 'getKeyVersions' },
    ...{ getRotationPolicy: 'getKeyRotationPolicy', setRotationPolicy: 'updateKeyRotationPolicy' },
    ...{ encrypt: 'encrypt', decrypt: 'decrypt', wrapKey: 'wrapKey', unwrapKey: 'unwrapKey' },
    ...{ sign: 'sign', verify: 'verify', release: 'release', randomBytes: 'getRandomBytes' },
    ...lifecycleNames('Key'),
  },
  certificate: {
    ...{ get: 'getCertificate', create: 'createCertificate', import: 'importCertificate' },
    ...{ merge: 'mergeCertificate', update: 'updateCertificate' },
    ...{ list: 'getCertificates', listVersions: 'getCertificateVersions' },
    ...{ getPolicy: 'getCertificatePolicy', updatePolicy: 'updateCertificatePolicy' },
    ...{ getOperation: 'getCertificateOperation', cancelOperation: 'cancelCertificateOperation' },
    deleteOperation: 'deleteCertificateOperation',
    ...{ listIssuers: 'getCertificateIssuers', getIssuer: 'getCertificateIssuer' },
    ...{ putIssuer: 'setCertificateIssuer', deleteIssuer: 'deleteCertificateIssuer' },
    ...{ getContacts: 'getCertificateContacts', setContacts: 'setCertificateContacts' },
    ...lifecycleNames('Certificate'),
  },
} as const satisfies {
  secret: Record<keyof SecretService, string>;
  key: Record<keyof KeyService, string>;
  certificate: Record<keyof CertificateService, string>;
};

function lifecycleNames<Type extends 'Secret' | 'Key' | 'Certificate'>(type: Type) {
  return {
    delete: `delete${type}`,
    getDeleted: `getDeleted${type}`,
    listDeleted: `getDeleted${type}s`,
    recover: `recoverDeleted${type}`,
    purge: `purgeDeleted${type}`,
    backup: `backup${type}`,
    restore: `restore${type}`,
  } as const;
}

export type VaultMethod = keyof SecretService | keyof KeyService | keyof CertificateService;

/** One operation that can be done to a vault. */
export interface VaultOperation {
  readonly name: string;
  readonly type: ObjectType;
  readonly method: VaultMethod;
  /** `use`: what is done with a key, which changes nothing. */
  readonly effect: 'read' | 'write' | 'use';
  /** Whether its answer is a list, which comes in pages. */
  readonly isList: boolean;
}

const uses: readonly VaultMethod[] = [
  ...(['encrypt', 'decrypt', 'wrapKey', 'unwrapKey'] as const),
  ...(['sign', 'verify', 'release', 'randomBytes'] as const),
];

const operations = new Map(
  (Object.keys(operationNames) as ObjectType[])
    .flatMap((type) =>
      Object.entries(operationNames[type]).map(([method, name]) =>
        describe(name, type, method as VaultMethod),
      ),
    )
    .map((operation) => [operation.name, operation]),
);

function describe(name: string, type: ObjectType, method: VaultMethod): VaultOperation {
  const isRead = /^(get|list|backup)/.test(method);
  const effect = uses.includes(method) ? 'use' : isRead ? 'read' : 'write';
  return { name, type, method, effect, isList: method.startsWith('list') };
}

/** The operation of this name; null when there is none. */
export function findOperation(name: string): VaultOperation | null {
  return operations.get(name) ?? null;
}
