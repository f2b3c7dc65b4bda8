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
  'circuit_open',
  'minimum_age',
  'not_due',
] as const;
export type SkipReason = (typeof skipReasons)[number];

export type Decision =
  | { readonly kind: 'start' }
  | { readonly kind: 'skip'; readonly reason: SkipReason; readonly message: string };

export interface Situation {
  readonly request: Pick<RotateMessage, 'reason' | 'expectedBaseVersion' | 'type'>;
  readonly now: Date;
  /** What the vault said of the latest version. */
  readonly latest: SecretProperties | 'unknown_vault' | 'missing' | 'disabled';
  readonly choice: PolicyChoice;
  readonly record: {
    readonly active: string | null;
    readonly quarantined: boolean;
    readonly circuitOpenUntil: Date | null;
  };
}

/** Whether to rotate, from what is true now. Pure. The first reason that holds is given. */
export function decide(situation: Situation): Decision {
  const { request, latest, choice, record, now } = situation;
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
  if (record.active !== null) return skip('in_progress', `rotation ${record.active} is under way`);
  if (request.expectedBaseVersion !== null && request.expectedBaseVersion !== latest.version) {
    return skip('superseded', 'a newer version than the one of the trigger exists');
  }
  return decideTime(request.reason, choice.policy.schedule, latest, { record, now });
}

function decideTime(
  reason: RotateMessage['reason'],
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
