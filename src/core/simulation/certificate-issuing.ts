import { hash, type KeyObject } from 'node:crypto';
import type {
  CertificateChanges,
  CertificatePolicy,
  CertificateProperties,
} from '../vault/certificates.ts';
import { addPeriod } from '../vault/period.ts';
import { type Content, rejected } from './certificate-content.ts';
import { authorityOf, type CertificateSettings } from './certificate-issuers.ts';
import type { CertificateStore } from './certificate-store.ts';
import {
  type SimulatedCertificate,
  type SimulatedOperation,
  termsOf,
} from './certificate-version.ts';
import { newVersion, wholeSeconds } from './store.ts';
import { encodeName } from './x500-name.ts';
import { buildCertificate, buildRequest, type Subject } from './x509.ts';
import { findCertificate, validityOf } from './x509-facts.ts';

// From the wish for a certificate to the certificate with its key and its secret.

/** For clients whose clock is behind. */
const backdatedMs = 600_000;

export interface Wish {
  readonly name: string;
  readonly policy: CertificatePolicy;
  readonly privateKey: KeyObject;
  readonly changes: CertificateChanges;
}

/** An operation in progress, in the place of an earlier one. */
export function begin(
  store: CertificateStore,
  { name, policy, privateKey, changes }: Wish,
  now: Date,
): SimulatedOperation {
  const start = wholeSeconds(now);
  const draft: CertificateProperties = {
    ...newProperties(store.freeName(name, now), changes, now),
    enabled: false,
    notBefore: new Date(start.getTime() - backdatedMs),
    expiresOn: addPeriod(start, { months: policy.validityInMonths, days: 0 }),
  };
  const operation: SimulatedOperation = {
    status: 'inProgress',
    issuer: policy.issuer,
    csr: buildRequest(subjectOf(policy), privateKey),
    cancellationRequested: false,
    details: policy.issuer === 'Unknown' ? 'waits for a merge' : 'waits for the issuer',
    error: null,
    ...{ privateKey, draft, enabled: changes.enabled ?? true },
  };
  const earlier = findIssued(store, name);
  // A version is shown before it is issued only when there is no other.
  if (earlier === null) store.addDraft({ properties: draft, issued: null, policy, operation });
  else store.replace({ ...earlier, policy, operation });
  return operation;
}

/** A certificate from the issuer of the policy: the vault itself, or what stands in for all others. */
export function issue(
  settings: CertificateSettings,
  policy: CertificatePolicy,
  { privateKey, draft }: SimulatedOperation,
): Content {
  const subject = subjectOf(policy);
  const authority = policy.issuer === 'Self' ? null : authorityOf(settings);
  const signer = authority ?? { name: subject.name, key: privateKey };
  const validity = {
    notBefore: draft.notBefore ?? new Date(0),
    expiresOn: draft.expiresOn ?? new Date(0),
  };
  const ders = [
    buildCertificate(subject, privateKey, signer, validity),
    ...(authority === null ? [] : [authority.certificate]),
  ];
  const chain = ders.flatMap((der) => findCertificate(der) ?? []);
  const [leaf] = chain;
  if (leaf === undefined) throw rejected('what was issued is unreadable');
  return { leaf, chain, privateKey };
}

/** Ends the operation with a certificate that came from wherever. */
export function complete(
  store: CertificateStore,
  operation: SimulatedOperation,
  content: Content,
  now: Date,
): SimulatedCertificate {
  const { draft, enabled } = operation;
  return addVersion(store, {
    properties: { ...draft, enabled, updated: wholeSeconds(now) },
    content,
    policy: store.get(draft.name).policy,
    // An error would be that of an issuer that gave up before.
    operation: { ...operation, status: 'completed', details: null, error: null },
  });
}

/** A new latest version, with what belongs to it. Its dates are the certificate's. */
export function addVersion(
  store: CertificateStore,
  {
    properties,
    content: { leaf, chain, privateKey },
    ...shared
  }: Pick<SimulatedCertificate, 'properties' | 'policy' | 'operation'> & {
    readonly content: Content;
  },
): SimulatedCertificate {
  const thumbprint = hash('sha1', leaf.raw, 'hex');
  const version: SimulatedCertificate = {
    ...shared,
    properties: { ...properties, ...validityOf(leaf), thumbprint },
    issued: { chain: chain.map(({ raw }) => raw), privateKey, terms: termsOf(shared.policy) },
  };
  store.addIssued(version);
  return version;
}

export function newProperties(
  name: string,
  { enabled = true, tags = {} }: CertificateChanges,
  now: Date,
): CertificateProperties {
  const created = wholeSeconds(now);
  return {
    ...{ name, enabled, created },
    version: newVersion(),
    updated: created,
    ...{ notBefore: null, expiresOn: null, thumbprint: null },
    tags: { ...tags },
  };
}

/** The latest issued version; null when there is none. */
export function findIssued(store: CertificateStore, name: string): SimulatedCertificate | null {
  if (store.versions(name).length === 0) return null;
  const latest = store.get(name);
  return latest.issued === null ? null : latest;
}

/** @throws AppError `vault_rejected` for a subject that is no X.500 name */
export function subjectOf(policy: CertificatePolicy): Subject {
  const name = encodeName(policy.subject);
  if (name === null) throw rejected(`not an X.500 name: ${policy.subject}`);
  return { ...policy, name, isCa: false };
}
