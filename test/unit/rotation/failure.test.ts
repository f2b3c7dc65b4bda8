import { describe, expect, it } from 'vitest';
import { AppError, type ErrorCode } from '../../../src/core/errors.ts';
import { afterFailure, crashLimit, outcomeOf } from '../../../src/core/rotation/failure.ts';
import type { OpenState } from '../../../src/core/rotation/journal.ts';

const now = new Date('2026-03-01T00:00:00Z');
const timing = { now, retrySeconds: 2 };
const error = (code: ErrorCode) => new AppError(code, { detail: 'an attempt' });

/** After how many tries each state gives up, and where that leads. */
const ends: readonly [OpenState, number, string][] = [
  ['REQUESTED', 6, 'FAILED_CLEAN'],
  ['CLAIMED', 6, 'ROLLING_BACK'],
  ['PREFLIGHTED', 6, 'ROLLING_BACK'],
  ['STAGED', 6, 'ROLLING_BACK'],
  ['APPLYING', 5, 'ROLLING_BACK'],
  ['APPLIED', 5, 'ROLLING_BACK'],
  ['VERIFIED', 5, 'ROLLING_BACK'],
  ['PROMOTING', 5, 'ROLLING_BACK'],
  ['PROMOTED', 15, 'QUARANTINED'],
  ['NOTIFIED', 15, 'QUARANTINED'],
  ['GRACE', 15, 'REVOKE_FAILED'],
  ['RETIRING', 15, 'REVOKE_FAILED'],
  ['RETIRED', 15, 'QUARANTINED'],
  ['ROLLING_BACK', 20, 'QUARANTINED'],
];

describe('after a failure', () => {
  it.each(ends)('%s tries %i times and then goes to %s', (state, tries, to) => {
    const down = error('target_unreachable');
    expect(afterFailure({ state, attempts: tries - 2 }, down, timing).kind).toBe('retry');
    expect(afterFailure({ state, attempts: tries - 1 }, down, timing)).toEqual({
      kind: 'move',
      to,
    });
    expect(afterFailure({ state, attempts: 0 }, error('target_refused'), timing)).toEqual({
      kind: 'move',
      to,
    });
    expect(tries).toBeLessThan(crashLimit);
  });

  it.each([
    [0, 2],
    [1, 4],
    [3, 16],
    [9, 300],
    [13, 300],
  ])('number %i waits %i s, doubling up to five minutes', (attempts, seconds) => {
    const at = new Date(now.getTime() + seconds * 1000);
    const down = error('vault_throttled');
    expect(afterFailure({ state: 'RETIRING', attempts }, down, timing)).toEqual({
      kind: 'retry',
      at,
    });
  });

  it.each(['credential_rejected', 'internal', 'vault_read_only', 'target_in_grace'] as const)(
    'tries again when it was %s, which may pass',
    (code) => {
      expect(afterFailure({ state: 'APPLIED', attempts: 0 }, error(code), timing).kind).toBe(
        'retry',
      );
    },
  );

  it('says what to do where the code alone tells', () => {
    expect(outcomeOf(error('vault_read_only'))).toEqual({
      code: 'vault_read_only',
      message: 'an attempt: wait until the vault takes writes again',
    });
    expect(outcomeOf(error('invalid_input')).message).toBe('an attempt');
  });
});
