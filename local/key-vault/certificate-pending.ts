import { z } from 'zod';
import { AttributesInput, parseBody, TagsInput } from './bundles.ts';
import {
  type Certificate,
  type CertificateOperation,
  certificateKind,
  describeOperation,
  mustNotBePending,
} from './certificate.ts';
import { findLeaf } from './certificate-contents.ts';
import { certificateErrors } from './certificate-errors.ts';
import { mustBeUsable } from './certificate-issuers.ts';
import { beginCreation, complete, findObstacle, materialFor } from './certificate-issuing.ts';
import {
  type CertificatePolicy,
  PolicyInput,
  policyFrom,
  unknownIssuer,
} from './certificate-policy.ts';
import { errors } from './errors.ts';
import { keyObjectOf } from './key-material.ts';
import { idOf, mustBeFree } from './kind.ts';
import { type Answer, type Call, nameOf, type Operation } from './operation.ts';
import type { Vault } from './vault.ts';
import { readCertificate, validityOf } from './x509-facts.ts';

// A certificate on its way: created, looked at, cancelled, forgotten, or merged with what somebody outside has issued.

const CreateBody = z.object({
  policy: PolicyInput.nullish(),
  attributes: AttributesInput,
  tags: TagsInput,
  preserveCertOrder: z.boolean().nullish(),
});
const CancelBody = z.object({ cancellation_requested: z.boolean() });
const MergeBody = z.object({
  x5c: z.array(z.string()).max(50),
  attributes: AttributesInput,
  tags: TagsInput,
});

const pending = '/certificates/{name}/pending';
const retryAfterSeconds = 10;

export const pendingOperations: readonly Operation[] = [
  {
    id: 'createCertificate',
    serviceName: 'CertificateCreate',
    method: 'POST',
    template: '/certificates/{name}/create',
    action: 'certificates/create/action',
    effect: 'write',
    run: createCertificate,
  },
  {
    id: 'getCertificateOperation',
    serviceName: 'CertificatePendingGet',
    method: 'GET',
    template: pending,
    action: 'certificates/read',
    effect: 'read',
    run: getOperation,
  },
  {
    id: 'updateCertificateOperation',
    serviceName: 'CertificatePendingUpdate',
    method: 'PATCH',
    template: pending,
    action: 'certificates/update/action',
    effect: 'write',
    run: cancelOperation,
  },
  {
    id: 'deleteCertificateOperation',
    serviceName: 'CertificatePendingDelete',
    method: 'DELETE',
    template: pending,
    action: 'certificates/update/action',
    effect: 'write',
    run: deleteOperation,
  },
  {
    id: 'mergeCertificate',
    serviceName: 'CertificatePendingMerge',
    method: 'POST',
    template: `${pending}/merge`,
    action: 'certificates/create/action',
    effect: 'write',
    run: mergeCertificate,
  },
];

/**
 * That a new version of the certificate may be begun.
 *
 * @throws VaultError 409 when it, or the key or secret that would belong to it, is in the way
 */
export function mustBeCreatable(call: Call, name: string): Certificate | null {
  const { vault, now } = call;
  mustBeFree(certificateKind, call, name);
  const certificate = vault.certificates.find(name);
  mustNotBePending(certificate);
  mustHaveTheName(vault, name);
  for (const [type, store] of [
    ['Key', vault.keys],
    ['Secret', vault.secrets],
  ] as const) {
    if (store.findDeleted(name, now) !== null) throw errors.deletedButRecoverable(type, name);
  }
  return certificate;
}

/** @throws VaultError 409 */
function mustHaveTheName(vault: Vault, name: string): void {
  const obstacle = findObstacle(vault, name);
  if (obstacle !== null) throw certificateErrors.nameTaken(obstacle, name);
}

/** @throws VaultError 400, also for what is no certificate */
export function mustNotBeExpired(leaf: Buffer, now: number): void {
  const certificate = readCertificate(leaf);
  if (certificate === null) throw certificateErrors.invalidX509Content();
  if (validityOf(certificate).exp <= now) throw certificateErrors.certificateExpired();
}

async function createCertificate(call: Call): Promise<Answer> {
  const { vault, now } = call;
  const name = nameOf(call);
  const input = parseBody(CreateBody, call.body ?? {});
  const policy = policyFor(mustBeCreatable(call, name), input.policy, now);
  mustBeUsable(vault, policy.issuer.name);
  const material = await materialFor(vault, name, policy);
  // Another request may have been quicker.
  mustBeCreatable(call, name);
  const creation = {
    policy,
    material,
    enabled: input.attributes?.enabled ?? true,
    tags: input.tags ?? undefined,
    preserveCertOrder: input.preserveCertOrder ?? undefined,
  };
  const certificate = beginCreation(vault, name, creation, now);
  const answer = operationAnswer(call, certificate, operationOf(certificate));
  const { requestId, draft } = operationOf(certificate);
  const location = `${pendingUrl(call, certificate)}&request_id=${requestId}`;
  call.changed({ type: 'Certificate', object: certificate });
  const headers = { ...answer.headers, location };
  return { ...answer, status: 202, headers, version: draft.version };
}

function getOperation(call: Call): Answer {
  const { certificate, operation } = pendingOf(call);
  return operationAnswer(call, certificate, operation);
}

/** A wish only: the answer still says that it is in progress. */
function cancelOperation(call: Call): Answer {
  const { certificate, operation } = pendingOf(call);
  const { cancellation_requested } = parseBody(CancelBody, call.body);
  if (operation.status !== 'inProgress') throw certificateErrors.operationNotInProgress();
  operation.cancellationRequested = cancellation_requested;
  const body = describeOperation(call.vault, certificate, operation);
  call.changed({ type: 'Certificate', object: certificate });
  return { body, version: operation.draft.version };
}

function deleteOperation(call: Call): Answer {
  const { certificate, operation } = pendingOf(call);
  delete certificate.pending;
  call.changed({ type: 'Certificate', object: certificate });
  const body = describeOperation(call.vault, certificate, operation);
  return { body, version: operation.draft.version };
}

function mergeCertificate(call: Call): Answer {
  const { vault, now } = call;
  const { certificate, operation } = pendingOf(call);
  const input = parseBody(MergeBody, call.body);
  mustBeMergeable(operation);
  const certificates = input.x5c.map(certificateIn);
  if (certificates.length === 0) throw certificateErrors.noMergeableCertificate();
  const privateKey = keyObjectOf(operation.material);
  const leaf = findLeaf(certificates, privateKey);
  if (leaf === null) throw certificateErrors.publicKeyMismatch();
  mustNotBeExpired(leaf, now);
  mustHaveTheName(vault, certificate.name);
  const { enabled = operation.enabled } = input.attributes ?? {};
  const wish: CertificateOperation = Object.assign(operation, {
    enabled: enabled ?? true,
    draft: { ...operation.draft, ...(input.tags ? { tags: input.tags } : {}) },
  });
  const contents = { certificates, leaf, privateKey };
  const version = complete(vault, certificate, wish, { contents, now });
  call.changed({ type: 'Certificate', object: certificate, event: 'new-version' });
  const apiVersion = encodeURIComponent(call.query.get('api-version') ?? '');
  const location = `${idOf(vault, certificateKind, certificate.name)}?api-version=${apiVersion}`;
  const body = certificateKind.bundle(vault, certificate, version);
  return { status: 201, body, headers: { location }, version: version.version };
}

/** @throws VaultError 400 when there is neither a policy in the request nor an earlier one */
function policyFor(
  certificate: Certificate | null,
  input: PolicyInput | null | undefined,
  now: number,
): CertificatePolicy {
  if (input === null || input === undefined) {
    if (certificate === null) throw errors.badProperty('policy');
    return certificate.policy;
  }
  const policy = policyFrom(input, now);
  const { subject, sans } = policy.x509_props;
  const isNamed = subject !== '' || Object.values(sans ?? {}).some((names) => names.length > 0);
  if (!isNamed) throw errors.badProperty('policy');
  return policy;
}

/** While an issuer is at work nobody else may come in; what it gave up may still be completed by hand. */
function mustBeMergeable({ issuer, status }: CertificateOperation): void {
  if (status === 'completed') throw certificateErrors.operationNotInProgress();
  const isWaiting = issuer.name === unknownIssuer || status !== 'inProgress';
  if (!isWaiting) throw certificateErrors.mergeForbidden(issuer.name);
}

/** An entry of `x5c`: DER in base64, or, since SDKs encode whatever they are given, text of it or PEM in base64. */
function certificateIn(entry: string): Buffer {
  const der = Buffer.from(entry, 'base64');
  const text = der.toString('latin1').replace(/-----[A-Z ]+-----|\s/g, '');
  const isText = /^[A-Za-z0-9+/]+=*$/.test(text);
  for (const candidate of isText ? [Buffer.from(text, 'base64'), der] : [der]) {
    const certificate = readCertificate(candidate);
    if (certificate !== null) return certificate.raw;
  }
  throw certificateErrors.noMergeableCertificate();
}

/** What the path, and `request_id` if it is given, names. @throws VaultError 404 */
function pendingOf(call: Call): { certificate: Certificate; operation: CertificateOperation } {
  const name = nameOf(call);
  const certificate = call.vault.certificates.find(name);
  const operation = certificate?.pending;
  const wanted = call.query.get('request_id');
  const isWanted = wanted === null || wanted === operation?.requestId;
  if (!certificate || operation === undefined || !isWanted)
    throw certificateErrors.pendingNotFound(name);
  return { certificate, operation };
}

function operationAnswer(
  { vault }: Call,
  certificate: Certificate,
  operation: CertificateOperation,
): Answer {
  const isAtWork = operation.status === 'inProgress' && operation.issuer.name !== unknownIssuer;
  return {
    body: describeOperation(vault, certificate, operation),
    headers: isAtWork ? { 'retry-after': String(retryAfterSeconds) } : {},
    version: operation.draft.version,
  };
}

function operationOf({ pending: operation }: Certificate): CertificateOperation {
  if (operation === undefined) throw new Error('the certificate has no operation');
  return operation;
}

function pendingUrl({ vault, query }: Call, { name }: Certificate): string {
  const apiVersion = encodeURIComponent(query.get('api-version') ?? '');
  return `${idOf(vault, certificateKind, name)}/pending?api-version=${apiVersion}`;
}
