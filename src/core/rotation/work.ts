import { addSeconds } from '../clock.ts';
import { AppError, hasCode, toAppError } from '../errors.ts';
import { errorFields } from '../log.ts';
import type { DocumentWrite } from '../storage/ports.ts';
import { objectId } from '../vault/ports.ts';
import { afterFailure, crashLimit, outcomeOf } from './failure.ts';
import { settingsOf } from './handler.ts';
import {
  isCancellable,
  isEnd,
  type Journal,
  moved,
  type OpenState,
  type State,
} from './journal.ts';
import { mendLateWrite, tidyAfterLoss } from './late-write.ts';
import type { Lease } from './lease.ts';
import { resumeMessage } from './message.ts';
import { type HeldJournal, putJournal, putRecord, readRecord, rowId, shardOf } from './records.ts';
import { type Move, move, type Run } from './run.ts';
import { comeBack, type EngineServices, readAdmin } from './services.ts';
import { cancel, isCancelled, steps } from './steps.ts';
import { giveBack } from './succession.ts';
import { intendedEntries, owedEntries } from './trail.ts';

/** Where a rotation stands when the engine lets go of it. */
export type Handled =
  | { readonly kind: 'ended'; readonly state: State }
  | { readonly kind: 'waiting'; readonly until: Date }
  /** Somebody else works on it or has taken it over: nothing to do here. */
  | { readonly kind: 'yielded' }
  | { readonly kind: 'unknown' };

/** One invocation over one rotation. */
interface Hold {
  journal: Journal;
  etag: string;
  /** Transitions up to this one stand in the audit log. */
  auditedSeq: number;
  readonly lease: Lease;
}

/** Runs steps under a lease that was taken, until the rotation ends, waits, or is lost to another. */
export async function work(
  services: EngineServices,
  taken: HeldJournal & { readonly lease: Lease },
): Promise<Handled> {
  const { journal, etag, lease } = taken;
  const hold: Hold = { journal, etag, lease, auditedSeq: -1 };
  const stopAt = addSeconds(services.clock.now(), services.settings.invocationSeconds);
  try {
    return await workUntil(services, hold, stopAt);
  } catch (error) {
    if (!hasCode(error, 'conflict', 'lease_lost')) throw error;
    const fields = { rotationId: hold.journal.id, state: hold.journal.state };
    services.log.warn('rotation.yielded', { ...fields, ...errorFields(error) });
    const { journal } = hold;
    await tidy(services, journal, () =>
      tidyAfterLoss({ ...toolsOf(services, hold), crossing: null }),
    );
    return { kind: 'yielded' };
  } finally {
    await lease.stop();
  }
}

async function workUntil(services: EngineServices, hold: Hold, stopAt: Date): Promise<Handled> {
  let crossing: Run['crossing'] = null;
  for (let isEntry = true; ; isEntry = false) {
    const { journal } = hold;
    if (isEnd(journal.state)) {
      await close(services, hold);
      return { kind: 'ended', state: journal.state };
    }
    if (!isEntry && journal.resumeAt !== null) return rest(services, hold);
    if (!crossing && services.clock.now() > stopAt) return handOver(services, hold);
    hold.lease.guard();
    const done = await attempt(services, hold, { crossing, isEntry });
    if (done.kind === 'wait') {
      hold.journal = { ...journal, resumeAt: done.until.toISOString() };
      continue;
    }
    crossing = done.crossing ?? null;
    await advance(services, hold, done);
  }
}

/** The rotation stands where it stands, whatever comes of this. */
async function tidy(
  { log }: EngineServices,
  { id }: Journal,
  run: () => Promise<unknown>,
): Promise<void> {
  try {
    await run();
  } catch (error) {
    log.error('rotation.tidy_failed', { rotationId: id, ...errorFields(error) });
  }
}

/**
 * The rotation's own tools, from the snapshot taken when it was claimed.
 * @throws AppError when its vault, handler or settings are no longer known here
 */
function toolsOf(services: EngineServices, { journal, lease }: Hold): Omit<Run, 'crossing'> {
  const { policy, target } = journal;
  const handler = services.handlers.get(policy?.handler ?? '');
  if (!policy || !handler) {
    throw new AppError('corrupt', { detail: `journal ${journal.id} has no known handler` });
  }
  const { secrets } = services.vaults.get(journal.object.vault);
  const context = {
    settings: settingsOf(handler, target),
    admin: () => readAdmin(services, target?.admin ?? null),
  };
  return { services, journal, policy, handler, context, secrets, lease };
}

/** The step of the present state, or what its failure leads to. */
async function attempt(
  services: EngineServices,
  hold: Hold,
  at: { readonly crossing: Run['crossing']; readonly isEntry: boolean },
): Promise<Move> {
  const { journal } = hold;
  const run = equip(services, hold, at.crossing);
  if ('kind' in run) return run;
  try {
    if (!at.crossing) await auditStep(run, hold);
    // Whoever was frozen while the log was written begins nothing.
    hold.lease.guard();
    const mayCancel = at.isEntry && isCancellable(journal.state);
    if (mayCancel && (await isCancelled(run))) return cancel();
    return await steps[journal.state as keyof typeof steps](run);
  } catch (cause) {
    const error = toAppError(cause, `step ${journal.state} of ${journal.id}`);
    if (hasCode(error, 'lease_lost', 'conflict', 'storage_unavailable')) throw error;
    return afterStepFailed(services, journal, error);
  }
}

/** The run, or the hold that follows when there are no tools for it or it only ever crashes. */
function equip(services: EngineServices, hold: Hold, crossing: Run['crossing']): Run | Move {
  const { journal } = hold;
  try {
    if (journal.attempts < crashLimit) return { ...toolsOf(services, hold), crossing };
    throw new AppError('internal', {
      detail: `its process ended ${crashLimit} times in this state`,
    });
  } catch (cause) {
    const outcome = outcomeOf(toAppError(cause, `take up ${journal.id}`));
    const patch = { outcome, heldFrom: journal.state };
    return move('QUARANTINED', { note: outcome.code, patch });
  }
}

function afterStepFailed(services: EngineServices, journal: Journal, error: AppError): Move {
  const state = journal.state as OpenState;
  const attempts = journal.attempts + 1;
  const fields = { rotationId: journal.id, state, attempts };
  services.log.warn('rotation.step_failed', { ...fields, ...errorFields(error) });
  const timing = { now: services.clock.now(), retrySeconds: services.settings.retrySeconds };
  const after = afterFailure({ attempts: journal.attempts, state }, error, timing);
  const outcome = outcomeOf(error);
  if (after.kind === 'retry') {
    const resumeAt = after.at.toISOString();
    return move(state, { patch: { attempts, lastError: outcome, resumeAt } });
  }
  const isHeld = after.to === 'QUARANTINED' || after.to === 'REVOKE_FAILED';
  return move(after.to, {
    note: error.code,
    patch: { outcome: isHeld ? heldOutcome(outcome) : outcome, heldFrom: isHeld ? state : null },
  });
}

function heldOutcome({ code, message }: ReturnType<typeof outcomeOf>) {
  return { code, message: `${message}; then resume the rotation` };
}

/** Writes where the rotation has come to; while it crosses its gap, only remembers it. */
async function advance(
  services: EngineServices,
  hold: Hold,
  move: Extract<Move, { kind: 'move' }>,
): Promise<void> {
  const { journal } = hold;
  const isRetry = move.to === journal.state;
  const stepped = isRetry ? journal : moved(journal, move.to, services.clock.now(), move.note);
  const next: Journal = { ...stepped, ...move.patch };
  // A retry is written when the lease is freed, in one write.
  if (move.crossing || isRetry) {
    hold.journal = next;
    return;
  }
  const end = isEnd(next.state) ? await endWrites(services, hold, next) : [];
  await write(services, hold, next, [...(move.also ?? []), ...end]);
  logMove(services, journal.state, next);
}

function logMove({ log }: EngineServices, from: State, journal: Journal): void {
  const { id, state, outcome, promotedVersion, gapMs, login, previousLogin, retireAt } = journal;
  const isTrouble = ['QUARANTINED', 'REVOKE_FAILED', 'FAILED_CLEAN', 'ROLLED_BACK'].includes(state);
  log[isTrouble || journal.interleaved ? 'error' : 'info']('rotation.moved', {
    ...{ rotationId: id, object: objectId(journal.object), from, to: state },
    ...{ version: promotedVersion, gapMs, login, previousLogin, retireAt },
    ...{ outcome: outcome?.code, message: outcome?.message },
  });
}

/** The object's record and the lease, written together with the end of its rotation. */
async function endWrites(
  services: EngineServices,
  hold: Hold,
  next: Journal,
): Promise<DocumentWrite[]> {
  const now = services.clock.now();
  const record = await readRecord(services.store, next.object);
  const failures = failuresAfter(next, record.body.failures);
  const back = await giveBack(services.store, next, now);
  const body = {
    active: back?.active ?? null,
    quarantined: next.state === 'QUARANTINED' ? next.id : null,
    failures,
    circuitOpenUntil: circuitUntil(failures, now),
    inForce: next.inForce ?? record.body.inForce,
    last: { rotationId: next.id, state: next.state, at: now.toISOString() },
  };
  const writes = [putRecord(next.object, record, body), await hold.lease.release()];
  return [...writes, ...(back?.writes ?? [])];
}

function failuresAfter({ state, outcome }: Journal, before: number): number {
  if (state !== 'ROLLED_BACK' && state !== 'FAILED_CLEAN') return 0;
  // What people did is no failure of the object.
  const isTheirs = ['cancelled', 'interleaved', 'other_login'].includes(outcome?.code ?? '');
  return isTheirs ? before : before + 1;
}

/** Three failures in a row rest the object's triggers: 15 minutes, doubled each time, up to a day. */
function circuitUntil(failures: number, now: Date): string | null {
  if (failures < 3) return null;
  return addSeconds(now, Math.min(900 * 2 ** (failures - 3), 86_400)).toISOString();
}

/** The journal says when to go on; the lease is freed in the same write. */
async function rest(services: EngineServices, hold: Hold): Promise<Handled> {
  await write(services, hold, hold.journal, [await hold.lease.release()]);
  const until = new Date(hold.journal.resumeAt ?? 0);
  await comeBack(services, hold.journal, until);
  return { kind: 'waiting', until };
}

/** This invocation has had its time: the lease is freed, and a message goes on at once. */
async function handOver(services: EngineServices, hold: Hold): Promise<Handled> {
  await write(services, hold, hold.journal, [await hold.lease.release()]);
  await services.rotations.send(resumeMessage(hold.journal));
  return { kind: 'waiting', until: services.clock.now() };
}

async function write(
  services: EngineServices,
  hold: Hold,
  next: Journal,
  also: readonly DocumentWrite[],
): Promise<void> {
  const unaudited = next.unaudited.filter((entry) => entry.seq > hold.auditedSeq);
  const journal = { ...next, unaudited };
  const writes = [putJournal(journal, { etag: hold.etag }), ...also];
  const [etag] = await services.store.transact(shardOf(journal.object), writes);
  hold.etag = etag ?? '';
  hold.journal = journal;
}

/** What has happened and what is about to happen, in one append, before it happens. */
async function auditStep({ services, journal }: Run, hold: Hold): Promise<void> {
  const intended = intendedEntries(journal, services.clock.now());
  await services.audit.append([...owedEntries(journal), ...intended]);
  hold.auditedSeq = journal.history.length - 1;
}

/**
 * What is left to do for a rotation that has ended: to see whether a write that came late stands over
 * its version, and to write to the log what it is owed. Then the sweep forgets it. Safe to repeat.
 */
export async function close(services: EngineServices, held: HeldJournal): Promise<void> {
  const { journal } = held;
  if (['DONE', 'REVOKE_FAILED', 'ROLLED_BACK'].includes(journal.state)) {
    await tidy(services, journal, () =>
      mendLateWrite(services, journal.object, journal.correlationId),
    );
  }
  await closeAudit(services, held);
}

async function closeAudit(services: EngineServices, held: HeldJournal): Promise<void> {
  const { journal, etag } = held;
  await services.audit.append(owedEntries(journal));
  try {
    await services.store.transact(shardOf(journal.object), [
      putJournal({ ...journal, unaudited: [] }, { etag }),
      { kind: 'delete', id: rowId.active(journal.id), when: 'any' },
    ]);
  } catch (error) {
    // Another worker has closed it, or an operator has reopened it: both will do the rest.
    if (!hasCode(error, 'conflict')) throw error;
  }
}
