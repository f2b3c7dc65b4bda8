import { addSeconds } from '../clock.ts';
import type { AppError, ErrorCode } from '../errors.ts';
import type { EndState, Journal, OpenState } from './journal.ts';

export type AfterFailure =
  | { readonly kind: 'retry'; readonly at: Date }
  | { readonly kind: 'move'; readonly to: 'ROLLING_BACK' | EndState };

/** Where giving up leads, and after how many tries that failed in a passing way. */
const patience: Record<
  OpenState,
  { readonly tries: number; readonly end: 'ROLLING_BACK' | EndState }
> = {
  REQUESTED: { tries: 6, end: 'FAILED_CLEAN' },
  CLAIMED: { tries: 6, end: 'ROLLING_BACK' },
  PREFLIGHTED: { tries: 6, end: 'ROLLING_BACK' },
  STAGED: { tries: 6, end: 'ROLLING_BACK' },
  APPLYING: { tries: 5, end: 'ROLLING_BACK' },
  APPLIED: { tries: 5, end: 'ROLLING_BACK' },
  VERIFIED: { tries: 5, end: 'ROLLING_BACK' },
  PROMOTING: { tries: 5, end: 'ROLLING_BACK' },
  PROMOTED: { tries: 15, end: 'QUARANTINED' },
  NOTIFIED: { tries: 15, end: 'QUARANTINED' },
  GRACE: { tries: 15, end: 'REVOKE_FAILED' },
  RETIRING: { tries: 15, end: 'REVOKE_FAILED' },
  RETIRED: { tries: 15, end: 'QUARANTINED' },
  ROLLING_BACK: { tries: 20, end: 'QUARANTINED' },
};

/** More tries than any state has: only processes that died with it can have made them. */
export const crashLimit = 25;

/** What can be done about it, where the code alone tells. */
const cures: Partial<Record<ErrorCode, string>> = {
  vault_read_only: 'wait until the vault takes writes again',
  vault_throttled: 'find out who uses up the rate of the vault',
  vault_unavailable: 'see that the vault can be reached from here',
  vault_denied: 'give the engine its role on the vault',
  not_found: 'recover or create the secret',
  object_disabled: 'enable the latest version, or store a new one',
  object_deleted: 'recover or purge the deleted secret',
  target_unreachable: 'see that the target is up and can be reached from here',
  target_in_grace: 'wait until the other rotation has retired its old login',
  credential_rejected: 'see which password the target accepts and store that one',
};

/** An error as a journal tells it: the code, what was attempted, and what to do about it. */
export function outcomeOf(error: AppError): { readonly code: ErrorCode; readonly message: string } {
  const cure = cures[error.code];
  const message = cure === undefined ? error.detail : `${error.detail}: ${cure}`;
  return { code: error.code, message };
}

/**
 * What follows when the step of `journal.state` failed with `error`. Pure.
 *
 * A credential that is not accepted yet may only need time to spread, and an unforeseen error may
 * pass, so both are tried again; whatever the table calls not retryable ends the state at once.
 */
export function afterFailure(
  journal: Pick<Journal, 'attempts'> & { readonly state: OpenState },
  error: AppError,
  { now, retrySeconds }: { readonly now: Date; readonly retrySeconds: number },
): AfterFailure {
  const { tries, end } = patience[journal.state];
  const mayPass =
    error.retryable || error.code === 'credential_rejected' || error.code === 'internal';
  if (!mayPass || journal.attempts + 1 >= tries) return { kind: 'move', to: end };
  const seconds = Math.min(retrySeconds * 2 ** journal.attempts, 300);
  return { kind: 'retry', at: addSeconds(now, seconds) };
}
