import { addSeconds } from '../clock.ts';
import type { AppError } from '../errors.ts';
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
  CLAIMED: { tries: 6, end: 'FAILED_CLEAN' },
  PREFLIGHTED: { tries: 6, end: 'FAILED_CLEAN' },
  STAGED: { tries: 6, end: 'FAILED_CLEAN' },
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
