import { describe, expect, it } from 'vitest';
import {
  isCancellable,
  isEnd,
  journalBody,
  moved,
  parseJournal,
  type State,
  wasTouched,
} from '../../../src/core/rotation/journal.ts';
import { newJournal } from '../../../src/core/rotation/request.ts';

const now = new Date('2026-03-01T00:00:00Z');
const journal = newJournal(
  {
    kind: 'rotate',
    requestId: '01JZZZZZZZZZZZZZZZZZZZZZZZ',
    vault: 'main',
    type: 'secret',
    name: 'orders-db',
    requestedBy: 'ada',
    correlationId: 'c',
    reason: 'on-demand',
    expectedBaseVersion: null,
  },
  now,
);

describe('a journal', () => {
  it('comes back from storage as it was', () => {
    expect(parseJournal(journalBody(journal))).toEqual(journal);
  });

  it('written before there were rollbacks can still be read', () => {
    const { rollback, replaces, replacedBy, ...older } = journalBody(journal);
    expect([rollback, replaces, replacedBy]).toEqual([null, null, null]);
    expect(parseJournal(older)).toEqual(journal);
  });

  it.each([
    ['a state nobody knows', { state: 'LOST' }],
    ['a member too many', { password: 'hunter2' }],
    ['no history', { history: undefined }],
    ['a candidate of no kind', { candidate: { kind: 'paper' } }],
  ])('with %s is corrupt, and is not quoted', (_what, change) => {
    const body = JSON.parse(JSON.stringify({ ...journal, ...change }));
    const refusal = () => parseJournal(body);
    expect(refusal).toThrow('corrupt: journal 01JZZZZZZZZZZZZZZZZZZZZZZZ');
    expect(refusal).not.toThrow('hunter2');
  });

  it('keeps history, what the audit is owed, and tries in step with its state', () => {
    const tried = { ...journal, attempts: 3, resumeAt: now.toISOString() };
    const next = moved(
      { ...tried, lastError: { code: 'x', message: 'y' } },
      'CLAIMED',
      now,
      'note',
    );
    expect(next).toMatchObject({ state: 'CLAIMED', attempts: 0, resumeAt: null, lastError: null });
    expect(next.history.map(({ state }) => state)).toEqual(['REQUESTED', 'CLAIMED']);
    expect(next.unaudited.map(({ seq, from, to, note }) => [seq, from, to, note])).toEqual([
      [0, null, 'REQUESTED', null],
      [1, 'REQUESTED', 'CLAIMED', 'note'],
    ]);
  });

  it.each<[State, boolean, boolean]>([
    ['REQUESTED', true, false],
    ['PROMOTING', true, false],
    ['PROMOTED', false, false],
    ['GRACE', false, false],
    ['ROLLING_BACK', false, false],
    ['DONE', false, true],
    ['QUARANTINED', false, true],
  ])('in %s can be cancelled: %s, has ended: %s', (state, cancellable, ended) => {
    expect([isCancellable(state), isEnd(state)]).toEqual([cancellable, ended]);
  });

  it('says that something was touched from the intent on', () => {
    const staged = moved(journal, 'STAGED', now);
    expect(wasTouched(staged)).toBe(false);
    expect(wasTouched(moved(moved(staged, 'APPLYING', now), 'ROLLING_BACK', now))).toBe(true);
  });
});
