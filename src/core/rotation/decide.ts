import type { PolicyChoice } from '../policies/policy.ts';
import { isDue } from '../policies/schedule.ts';
import type { SecretProperties } from '../vault/ports.ts';
import type { RotateMessage } from './message.ts';

/** Why a request starts nothing. Closed; each is explained in docs/runbook.md. */
export const skipReasons = [
  'unknown_vault',
  'unsupported_type',
  'object_missing',
  'object_disabled',
  'managed_by_certificate',
  'no_policy',
  'ambiguous_policy',
  'policy_paused',
  'quarantined',
  'in_progress',
  'superseded',
  'version_missing',
  'version_disabled',
  'already_latest',
  'circuit_open',
  'minimum_age',
  'not_due',
] as const;
export type SkipReason = (typeof skipReasons)[number];

export type Decision =
  | { readonly kind: 'start' }
  | { readonly kind: 'skip'; readonly reason: SkipReason; readonly message: string };

export interface Situation {
  readonly request: Pick<RotateMessage, 'expectedBaseVersion' | 'type'> & {
    readonly reason: RotateMessage['reason'] | 'rollback';
  };
  readonly now: Date;
  /** What the vault said of the latest version. */
  readonly latest: SecretProperties | 'unknown_vault' | 'missing' | 'disabled';
  readonly choice: PolicyChoice;
  readonly record: {
    readonly active: string | null;
    readonly quarantined: boolean;
    readonly circuitOpenUntil: Date | null;
  };
  /** Null unless an older version is to become the latest again. */
  readonly rollback: {
    readonly toVersion: string;
    /** What the vault said of that version. */
    readonly wanted: SecretProperties | 'missing' | 'disabled';
    /** The active rotation when it is the one to roll back and is in its grace period. */
    readonly grace: { readonly id: string; readonly baseVersion: string | null } | null;
  } | null;
}

/** Whether to rotate, from what is true now. Pure. The first reason that holds is given. */
export function decide(situation: Situation): Decision {
  const { request, latest, choice, record, rollback, now } = situation;
  if (latest === 'unknown_vault') return skip('unknown_vault', 'the vault is not configured here');
  if (request.type !== 'secret') {
    return skip('unsupported_type', `no handler rotates a ${request.type} yet`);
  }
  if (latest === 'missing') return skip('object_missing', 'there is no such secret');
  if (latest === 'disabled') return skip('object_disabled', 'the latest version is disabled');
  if (latest.managed) return skip('managed_by_certificate', 'a certificate owns this secret');
  if (choice.kind === 'none') return skip('no_policy', 'no policy lists this object');
  if (choice.kind === 'ambiguous') {
    return skip('ambiguous_policy', `${choice.detail}; tag it with one of these as policy`);
  }
  if (choice.policy.paused) return skip('policy_paused', `policy ${choice.policy.id} is paused`);
  if (record.quarantined) return skip('quarantined', 'resume or release the quarantined rotation');
  const busy = findBusy(record.active, rollback);
  if (busy !== null) return skip('in_progress', busy);
  if (request.expectedBaseVersion !== null && request.expectedBaseVersion !== latest.version) {
    return skip('superseded', 'a newer version than the one of the trigger exists');
  }
  if (rollback) return decideVersion(rollback, latest);
  return decideTime(request.reason, choice.policy.schedule, latest, { record, now });
}

/**
 * Why the object is not free. A rollback takes the place of the rotation it undoes while that one is
 * in its grace period, but only to go back to its base version: any other value of the old login
 * would lock out who still uses it.
 */
function findBusy(active: string | null, rollback: Situation['rollback']): string | null {
  if (active === null) return null;
  if (!rollback?.grace) return `rotation ${active} is under way`;
  const { id, baseVersion } = rollback.grace;
  if (rollback.toVersion === baseVersion) return null;
  return `rotation ${id} is in its grace period, in which only version ${baseVersion} can be gone back to: order retire-now first, or wait`;
}

function decideVersion(
  { toVersion, wanted }: NonNullable<Situation['rollback']>,
  latest: SecretProperties,
): Decision {
  if (wanted === 'missing') {
    return skip(
      'version_missing',
      `there is no version ${toVersion}: name one that the vault lists`,
    );
  }
  if (wanted === 'disabled') {
    return skip('version_disabled', `version ${toVersion} is disabled: enable it, then ask again`);
  }
  if (wanted.version === latest.version) {
    return skip('already_latest', `version ${toVersion} is the latest: name an older one`);
  }
  return { kind: 'start' };
}

function decideTime(
  reason: Situation['request']['reason'],
  schedule: { readonly leadTime: number; readonly minimumAge: number },
  latest: SecretProperties,
  { record, now }: Pick<Situation, 'record' | 'now'>,
): Decision {
  if (reason === 'on-demand') return { kind: 'start' };
  if (record.circuitOpenUntil !== null && record.circuitOpenUntil > now) {
    return skip(
      'circuit_open',
      `too many failures; next try ${record.circuitOpenUntil.toISOString()}`,
    );
  }
  if (now.getTime() - latest.created.getTime() < schedule.minimumAge * 1000) {
    return skip('minimum_age', 'the latest version is younger than schedule.minimumAge');
  }
  if (!isDue(latest.expiresOn, schedule.leadTime, now)) {
    return skip('not_due', 'the latest version does not expire within schedule.leadTime');
  }
  return { kind: 'start' };
}

function skip(reason: SkipReason, message: string): Decision {
  return { kind: 'skip', reason, message };
}
