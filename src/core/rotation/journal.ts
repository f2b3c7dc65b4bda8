import { z } from 'zod';
import { AppError } from '../errors.ts';
import type { Policy } from '../policies/policy.ts';
import type { Target } from '../policies/target.ts';
import type { JsonObject } from '../storage/ports.ts';

/** On the way. The name says what is durably true, or in the -ING form what is about to be tried. */
const openStates = [
  'REQUESTED',
  'CLAIMED',
  'PREFLIGHTED',
  'STAGED',
  'APPLYING',
  'APPLIED',
  'VERIFIED',
  'PROMOTING',
  'PROMOTED',
  'NOTIFIED',
  'GRACE',
  'RETIRING',
  'RETIRED',
  'ROLLING_BACK',
] as const;

/**
 * Ends. QUARANTINED and REVOKE_FAILED can be resumed by an operator; everything needed is kept.
 * FAILED_CLEAN: nothing was touched. ROLLED_BACK: the old credential is in force again.
 */
const endStates = [
  'DONE',
  'SKIPPED',
  'ROLLED_BACK',
  'FAILED_CLEAN',
  'REVOKE_FAILED',
  'QUARANTINED',
] as const;

export type OpenState = (typeof openStates)[number];
export type EndState = (typeof endStates)[number];
export type State = OpenState | EndState;

export function isEnd(state: State): state is EndState {
  return (endStates as readonly State[]).includes(state);
}

const State = z.enum([...openStates, ...endStates]);

/** Where a candidate waits: a version in the pending vault, or its ciphertext in this journal. */
export const CandidateRef = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('vault'), name: z.string(), version: z.string() }),
  z.strictObject({
    kind: z.literal('sealed'),
    key: z.string(),
    nonce: z.string(),
    ciphertext: z.string(),
  }),
]);
export type CandidateRef = z.output<typeof CandidateRef>;

const Instant = z.iso.datetime();

/** A version that was proven to log in, and the rotation its tag names, if any. */
export const ProvenVersion = z.strictObject({
  version: z.string(),
  rotationId: z.string().nullable(),
});
export type ProvenVersion = z.output<typeof ProvenVersion>;

/** The durable record of one rotation: references only, never a value. */
export const Journal = z.strictObject({
  id: z.string(),
  object: z.strictObject({
    vault: z.string(),
    type: z.enum(['secret', 'key', 'certificate']),
    name: z.string(),
  }),
  reason: z.string(),
  requestedBy: z.string(),
  correlationId: z.string(),
  /** The span that requested it: whoever works on it later, for whatever reason, is in its trace. */
  traceparent: z.string().nullable().default(null),
  expectedBaseVersion: z.string().nullable(),
  /** Set for a rollback: the rotation it answers to, and the version whose value it promotes again. */
  rollback: z.strictObject({ of: z.string(), toVersion: z.string() }).nullable().default(null),
  state: State,
  /** Epoch of the lease under which this was written. */
  epoch: z.int(),
  history: z.array(z.strictObject({ state: State, at: Instant })),
  /** Policy and target as they were when the rotation was claimed: it ends as it began. */
  policy: z.unknown(),
  target: z.unknown(),
  overlap: z.enum(['none', 'users']),
  baseVersion: z.string().nullable(),
  /** Tags and content type of the base version: carried over to the new one. */
  baseProperties: z
    .strictObject({ tags: z.record(z.string(), z.string()), contentType: z.string().nullable() })
    .nullable(),
  versionsAtClaim: z.int(),
  /** The login the candidate is for, and the one it replaces; null where there are no names. */
  login: z.string().nullable(),
  previousLogin: z.string().nullable(),
  candidate: CandidateRef.nullable(),
  promotedVersion: z.string().nullable(),
  /** What this rotation proved to be in force last; it goes into the object's record at the end. */
  inForce: ProvenVersion.nullable(),
  /** Milliseconds in which the latest version did not log in; null where there is no gap. */
  gapMs: z.number().nullable(),
  retireAt: Instant.nullable(),
  /** Tries of the present state that failed, or that ended with their process. */
  attempts: z.int(),
  resumeAt: Instant.nullable(),
  /** The state an operator's resume goes back to. */
  heldFrom: State.nullable(),
  interleaved: z.boolean(),
  /** The rotation in its grace period whose place this one took. */
  replaces: z.string().nullable().default(null),
  /** The rotation in whose favour this one ended: what it held of object and target is that one's. */
  replacedBy: z.string().nullable().default(null),
  /** Why the last try of the present state failed; gone once a try succeeds. */
  lastError: z.strictObject({ code: z.string(), message: z.string() }).nullable(),
  /** Why it ended or turned back: a closed code and what to do about it. */
  outcome: z.strictObject({ code: z.string(), message: z.string() }).nullable(),
  /** Ids of the consumers to tell: the outbox. */
  outbox: z.array(z.string()),
  /** Transitions that the audit log may not have yet. */
  unaudited: z.array(
    z.strictObject({
      seq: z.int(),
      from: State.nullable(),
      to: State,
      at: Instant,
      note: z.string().nullable(),
    }),
  ),
});
export type Journal = Omit<z.output<typeof Journal>, 'policy' | 'target'> & {
  readonly policy: Policy | null;
  readonly target: Target | null;
};

/** Until the new version may be in use, a rotation can still be called off. */
export function isCancellable(state: State): boolean {
  const states: readonly State[] = [
    ...(['REQUESTED', 'CLAIMED', 'PREFLIGHTED', 'STAGED'] as const),
    ...(['APPLYING', 'APPLIED', 'VERIFIED', 'PROMOTING'] as const),
  ];
  return states.includes(state);
}

/** Whether the target or the vault may have been changed: the intent to is written first. */
export function wasTouched({ history }: Pick<Journal, 'history'>): boolean {
  return history.some(({ state }) => state === 'APPLYING');
}

/** @throws AppError `corrupt` */
export function parseJournal(body: JsonObject): Journal {
  const parsed = Journal.safeParse(body);
  if (!parsed.success) {
    throw new AppError('corrupt', { detail: `journal ${String(body['id'])}`, cause: parsed.error });
  }
  // The snapshots were parsed when they were taken; parsing a parsed duration again would fail.
  return parsed.data as Journal;
}

export function journalBody(journal: Journal): JsonObject {
  return JSON.parse(JSON.stringify(journal)) as JsonObject;
}

/** `journal` in state `to`: history, outbox of the audit and attempts kept in step. */
export function moved(journal: Journal, to: State, at: Date, note: string | null = null): Journal {
  const seq = journal.history.length;
  const entry = { seq, from: journal.state, to, at: at.toISOString(), note };
  return {
    ...journal,
    state: to,
    history: [...journal.history, { state: to, at: at.toISOString() }],
    unaudited: [...journal.unaudited, entry],
    attempts: 0,
    resumeAt: null,
    lastError: null,
  };
}
