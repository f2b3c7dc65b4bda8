import type { KeyObject } from 'node:crypto';
import { AppError } from '../errors.ts';
import { checkNewPolicy } from '../vault/certificate-policy.ts';
import {
  checkCertificateChanges,
  checkCertificateName,
  checkChain,
  readImport,
} from '../vault/certificate-rules.ts';
import type { CertificatePolicy, CertificateService } from '../vault/certificates.ts';
import { rsaSizes } from '../vault/key-rules.ts';
import {
  type Content,
  contentOf,
  mustNotBeExpired,
  readContent,
  rejected,
} from './certificate-content.ts';
import { completePolicy, keyPolicyOf } from './certificate-defaults.ts';
import { mustBeUsable } from './certificate-issuers.ts';
import {
  addVersion,
  begin,
  complete,
  findIssued,
  issue,
  newProperties,
  subjectOf,
} from './certificate-issuing.ts';
import type { CertificateTools } from './certificate-store.ts';
import {
  describeCertificate,
  describeOperation,
  type SimulatedOperation,
} from './certificate-version.ts';
import { generateKey } from './key-material.ts';
import { findCertificate, policyFacts } from './x509-facts.ts';

const keptCurves = ['prime256v1', 'secp384r1', 'secp521r1', 'secp256k1'];

type Part<K extends keyof CertificateService> = Pick<CertificateService, K>;

export function simulatedMaking(
  tools: CertificateTools,
): Part<'create' | 'merge' | 'import' | 'getOperation' | 'cancelOperation' | 'deleteOperation'> {
  return { ...making(tools), ...operations(tools) };
}

function making(tools: CertificateTools): Part<'create' | 'merge' | 'import'> {
  const { store, settings, url, perform, now } = tools;
  return {
    create: async (name, policy, changes = {}) => {
      checkCertificateName(name);
      checkCertificateChanges(changes);
      if (policy !== null) checkNewPolicy(policy);
      return perform('create', name, async () => {
        const wanted = policy === null ? store.get(name).policy : completePolicy(policy);
        mustBeMakable(tools, name, wanted);
        const privateKey = await keyFor(tools, name, wanted);
        // While it was made another request may have been quicker.
        mustBeMakable(tools, name, wanted);
        const operation = begin(store, { name, policy: wanted, privateKey, changes }, now());
        if (wanted.issuer !== 'Unknown') {
          complete(store, operation, issue(settings, wanted, operation), now());
        }
        return describeOperation(getOperation(tools, name));
      });
    },
    merge: async (name, chain) => {
      checkCertificateName(name);
      checkChain(chain);
      return perform('merge', name, () => {
        const operation = getOperation(tools, name);
        const { status, issuer, privateKey } = operation;
        const isOver = status === 'completed';
        const isElsewhere = issuer !== 'Unknown' && status === 'inProgress';
        if (isOver || isElsewhere) throw conflict(`merge ${name}: its operation is ${status}`);
        const content = contentOf(chain.map(findCertificate), privateKey);
        mustNotBeExpired(content, now());
        const version = complete(store, operation, content, now());
        return describeCertificate(url, version, version.policy);
      });
    },
    import: async (name, certificate) => {
      checkCertificateName(name);
      const read = readImport(certificate);
      return perform('import', name, () => {
        store.mustBeCreatable(name, now());
        const content = readContent(read, certificate.password?.expose() ?? '');
        mustNotBeExpired(content, now());
        const policy = importedPolicy(content);
        const properties = newProperties(store.freeName(name, now()), certificate, now());
        const version = addVersion(store, { properties, policy, content, operation: null });
        return describeCertificate(url, version, policy);
      });
    },
  };
}

/** @throws AppError */
function mustBeMakable(
  { store, settings, now }: CertificateTools,
  name: string,
  policy: CertificatePolicy,
): void {
  store.mustBeCreatable(name, now());
  mustBeUsable(settings, policy.issuer);
  subjectOf(policy);
}

async function keyFor(
  { store }: CertificateTools,
  name: string,
  { reuseKey, keyType, keySize, keyCurve }: CertificatePolicy,
): Promise<KeyObject> {
  const earlier = reuseKey ? findIssued(store, name) : null;
  if (earlier?.issued) return earlier.issued.privateKey;
  return generateKey({
    type: keyType,
    size: keySize ?? undefined,
    curve: keyCurve ?? undefined,
  });
}

/** @throws AppError `vault_rejected` for a key that no vault keeps */
function importedPolicy({ leaf, privateKey }: Content): CertificatePolicy {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = privateKey;
  const isKept =
    type === 'rsa'
      ? rsaSizes.includes(details?.modulusLength ?? 0)
      : type === 'ec' && keptCurves.includes(details?.namedCurve ?? '');
  if (!isKept) throw rejected('its key is of no type, size or curve that a vault keeps');
  return completePolicy({
    issuer: 'Unknown',
    ...policyFacts(leaf),
    ...keyPolicyOf(privateKey),
    contentType: 'application/x-pem-file',
  });
}

function operations(
  tools: CertificateTools,
): Part<'getOperation' | 'cancelOperation' | 'deleteOperation'> {
  const { store, perform } = tools;
  return {
    getOperation: async (name) => {
      checkCertificateName(name);
      return perform('getOperation', name, () => describeOperation(getOperation(tools, name)));
    },
    cancelOperation: async (name) => {
      checkCertificateName(name);
      return perform('cancelOperation', name, () => {
        const operation = getOperation(tools, name);
        const { status } = operation;
        if (status !== 'inProgress') throw conflict(`cancel ${name}: its operation is ${status}`);
        const wished = { ...operation, cancellationRequested: true };
        store.setOperation(name, { ...wished, status: 'cancelled', details: null });
        // What is answered is that the wish was heard.
        return describeOperation(wished);
      });
    },
    deleteOperation: async (name) => {
      checkCertificateName(name);
      await perform('deleteOperation', name, () => {
        getOperation(tools, name);
        store.setOperation(name, null);
      });
    },
  };
}

/** @throws AppError `not_found` */
function getOperation({ store }: CertificateTools, name: string): SimulatedOperation {
  const { operation } = store.get(name);
  if (operation === null) {
    throw new AppError('not_found', { detail: `operation of certificate ${name}` });
  }
  return operation;
}

function conflict(detail: string): AppError {
  return new AppError('conflict', { detail });
}
