import { type Certificate, type CertificateOperation, isIssued } from './certificate.ts';
import { certificateErrors } from './certificate-errors.ts';
import { findIssuer } from './certificate-issuers.ts';
import { beginCreation, findObstacle, issue, materialFor } from './certificate-issuing.ts';
import { renewalTime, selfIssuer, unknownIssuer } from './certificate-policy.ts';
import type { Clock } from './clock.ts';
import { behaviourOf } from './issuance.ts';
import type { Change } from './operation.ts';
import { currentVersion, keyOf } from './store.ts';
import type { Vault } from './vault.ts';

export type CertificateWatch = {
  /** Looks at the certificate anew; to be called after every change of it, and of how its issuer behaves. */
  readonly watch: (vault: Vault, name: string) => void;
};

/**
 * Ends operations when their issuer is ready, or refuses, and renews certificates when their policy says so.
 *
 * @param changed expected to lead to `watch` again
 */
export function watchCertificates(
  clock: Pick<Clock, 'now' | 'at'>,
  changed: (vault: Vault, change: Change) => void,
): CertificateWatch {
  const waiting = new Map<string, () => void>();
  const seconds = (): number => Math.floor(clock.now() / 1000);

  const settle = (
    vault: Vault,
    certificate: Certificate,
    operation: CertificateOperation,
  ): void => {
    const isNew = conclude(vault, certificate, operation, seconds());
    changed(vault, {
      type: 'Certificate',
      object: certificate,
      ...(isNew ? { event: 'new-version' } : {}),
    });
  };
  const renewIfDue = async (vault: Vault, certificate: Certificate): Promise<void> => {
    const { policy } = certificate;
    if (!isDue(vault, certificate, clock.now())) {
      watch(vault, certificate);
      return;
    }
    currentVersion(certificate).renewalBegun = true;
    const material = await materialFor(vault, certificate.name, policy);
    // While it was made the certificate may have been deleted, given another policy, or asked for by hand.
    const isStillWanted =
      isLive(vault, certificate) &&
      certificate.policy === policy &&
      certificate.pending?.status !== 'inProgress';
    if (isStillWanted) {
      const { tags } = currentVersion(certificate);
      const creation = { policy, material, enabled: true, tags };
      beginCreation(vault, certificate.name, creation, seconds());
    }
    changed(vault, { type: 'Certificate', object: certificate });
  };
  const watch = (vault: Vault, certificate: Certificate): void => {
    const id = `${vault.name} ${keyOf(certificate.name)}`;
    waiting.get(id)?.();
    waiting.delete(id);
    if (!isLive(vault, certificate)) return;
    const { pending } = certificate;
    const readyAt = pending === undefined ? null : readyTime(vault, pending);
    if (pending !== undefined && readyAt !== null && readyAt <= clock.now()) {
      settle(vault, certificate, pending);
      return;
    }
    const renewAt = renewalDue(certificate);
    const next = Math.min(readyAt ?? Number.POSITIVE_INFINITY, renewAt ?? Number.POSITIVE_INFINITY);
    if (next === Number.POSITIVE_INFINITY) return;
    const run = next === readyAt ? watch : renewIfDue;
    waiting.set(
      id,
      clock.at(next, () => run(vault, certificate)),
    );
  };
  return {
    watch: (vault, name) => {
      const certificate = vault.certificates.find(name);
      if (certificate !== null) watch(vault, certificate);
    },
  };
}

/** @returns whether there is a new version */
function conclude(
  vault: Vault,
  certificate: Certificate,
  operation: CertificateOperation,
  now: number,
): boolean {
  const { name } = operation.issuer;
  const failure = failureOf(vault, certificate, name);
  if (operation.cancellationRequested) operation.status = 'cancelled';
  else if (failure !== undefined) Object.assign(operation, { status: 'failed', error: failure });
  else issue(vault, certificate, operation, now);
  return operation.status === 'completed';
}

/** Why there will be no certificate; `undefined`: there will be one. */
function failureOf(
  vault: Vault,
  certificate: Certificate,
  issuer: string,
): CertificateOperation['error'] {
  if (issuer !== selfIssuer && findIssuer(vault, issuer) === null) {
    return { code: 'Certificate issuer error', message: 'Issuer not found' };
  }
  const obstacle = findObstacle(vault, certificate.name);
  if (obstacle === null) return behaviourOf(vault.issuance, issuer).failure;
  const { code, message } = certificateErrors.nameTaken(obstacle, certificate.name);
  return { code, message };
}

/** When an operation ends by itself, in milliseconds; `null`: it waits for a merge, or has ended. */
function readyTime(vault: Vault, operation: CertificateOperation): number | null {
  const { status, cancellationRequested, issuer, startedAt } = operation;
  if (status !== 'inProgress') return null;
  if (cancellationRequested) return 0;
  if (issuer.name === unknownIssuer) return null;
  return (startedAt + behaviourOf(vault.issuance, issuer.name).delaySeconds) * 1000;
}

/** When the current version is to be renewed, in milliseconds; `null`: not by itself, not now, or it has begun. */
function renewalDue(certificate: Certificate): number | null {
  const { nbf, exp, enabled, renewalBegun } = currentVersion(certificate);
  const isIdle = certificate.pending?.status !== 'inProgress';
  const isCandidate = isIssued(certificate) && isIdle && enabled && !renewalBegun;
  if (!isCandidate || nbf === undefined || exp === undefined) return null;
  const time = renewalTime(certificate.policy, { nbf, exp });
  return time === null ? null : time * 1000;
}

function isDue(vault: Vault, certificate: Certificate, now: number): boolean {
  const due = isLive(vault, certificate) ? renewalDue(certificate) : null;
  return due !== null && due <= now;
}

/** Deleted certificates, and those purged and made anew, are no longer what their store holds. */
function isLive(vault: Vault, certificate: Certificate): boolean {
  return vault.certificates.find(certificate.name) === certificate;
}
