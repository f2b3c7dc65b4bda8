import { addSeconds } from '../clock.ts';
import { AppError, hasCode, toAppError } from '../errors.ts';
import { errorFields } from '../log.ts';
import type { DocumentWrite, JsonObject } from '../storage/ports.ts';
import { objectId } from '../vault/ports.ts';
import { afterFailure } from './failure.ts';
import { settingsOf } from './handler.ts';
import { isEnd, type Journal, moved, type OpenState, type State } from './journal.ts';
import type { Lease } from './lease.ts';
import { toQueue } from './message.ts';
import { type HeldJournal, putJournal, putRecord, readRecord, rowId, shardOf } from './records.ts';
import type { EngineServices } from './services.ts';
import { cancelled, cleanUp, isCancelled, type Move, type Run, steps } from './steps.ts';
import { intendedEntries, owedEntries } from './trail.ts';
import type { Credential } from './value.ts';

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
      await closeAudit(services, hold);
      return { kind: 'ended', state: journal.state };
    }
    if (!isEntry && journal.resumeAt !== null) return rest(services, hold);
    if (!crossing && services.clock.now() > stopAt) return handOver(services, hold);
    hold.lease.guard();
    const run: Run = { ...runOf(services, hold), crossing };
    const done = await attempt(run, hold, isEntry);
    if (done.kind === 'wait') {
      hold.journal = { ...journal, resumeAt: done.until.toISOString() };
      continue;
    }
    crossing = done.crossing ?? null;
    await advance(services, hold, done);
  }
}

/** The rotation's own tools, from the snapshot taken when it was claimed. */
function runOf(services: EngineServices, { journal, lease }: Hold): Omit<Run, 'crossing'> {
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

export async function readAdmin(
  { vaults }: Pick<EngineServices, 'vaults'>,
  admin: { readonly vault: string; readonly name: string; readonly username: string } | null,
): Promise<Credential> {
  if (!admin) throw new AppError('bad_configuration', { detail: 'the target has no admin secret' });
  try {
    const { value } = await vaults.get(admin.vault).secrets.get(admin.name);
    return { username: admin.username, password: value };
  } catch (cause) {
    if (!hasCode(cause, 'not_found', 'object_disabled')) throw cause;
    throw new AppError('bad_configuration', {
      detail: `admin secret ${admin.vault}/${admin.name}: store it, enabled`,
      cause,
    });
  }
}

/** The step of the present state, or what its failure leads to. */
async function attempt(run: Run, hold: Hold, isEntry: boolean): Promise<Move> {
  const { journal } = run;
  try {
    if (!run.crossing) await auditStep(run, hold);
    if (isEntry && isCancellable(journal.state) && (await isCancelled(run))) throw cancelled();
    return await steps[journal.state as keyof typeof steps](run);
  } catch (cause) {
    const error = toAppError(cause, `step ${journal.state} of ${journal.id}`);
    if (hasCode(error, 'lease_lost', 'conflict', 'storage_unavailable')) throw error;
    return afterStepFailed(run, error);
  }
}

/** Until the new version may be in use, a rotation can still be called off. */
export function isCancellable(state: State): boolean {
  const states: readonly State[] = [
    ...(['REQUESTED', 'CLAIMED', 'PREFLIGHTED', 'STAGED'] as const),
    ...(['APPLYING', 'APPLIED', 'VERIFIED', 'PROMOTING'] as const),
  ];
  return states.includes(state);
}

async function afterStepFailed(run: Run, error: AppError): Promise<Move> {
  const { journal, services } = run;
  const state = journal.state as OpenState;
  const attempts = journal.attempts + 1;
  const fields = { rotationId: journal.id, state, attempts };
  services.log.warn('rotation.step_failed', { ...fields, ...errorFields(error) });
  const timing = { now: services.clock.now(), retrySeconds: services.settings.retrySeconds };
  const after = afterFailure({ attempts: journal.attempts, state }, error, timing);
  const outcome = { code: error.code, message: error.detail };
  if (after.kind === 'retry') {
    const resumeAt = after.at.toISOString();
    return { kind: 'move', to: state, patch: { attempts, lastError: outcome, resumeAt } };
  }
  if (after.to === 'FAILED_CLEAN') await cleanUp(run);
  const isHeld = after.to === 'QUARANTINED' || after.to === 'REVOKE_FAILED';
  const patch = { outcome, heldFrom: isHeld ? state : null };
  return { kind: 'move', to: after.to, note: error.code, patch };
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
  const isFailure = next.state === 'ROLLED_BACK' || next.state === 'FAILED_CLEAN';
  const failures = isFailure ? record.body.failures + 1 : 0;
  const body = {
    active: null,
    quarantined: next.state === 'QUARANTINED' ? next.id : null,
    failures,
    circuitOpenUntil: circuitUntil(failures, now),
    last: { rotationId: next.id, state: next.state, at: now.toISOString() },
  };
  return [putRecord(next.object, record, body), await hold.lease.release()];
}

/** Three failures in a row rest the object's triggers: 15 minutes, doubled each time, up to a day. */
function circuitUntil(failures: number, now: Date): string | null {
  if (failures < 3) return null;
  return addSeconds(now, Math.min(900 * 2 ** (failures - 3), 86_400)).toISOString();
}

/** The journal says when to go on; the lease is freed in the same write. */
async function rest(services: EngineServices, hold: Hold): Promise<Handled> {
  await write(services, hold, hold.journal, [await hold.lease.release()]);
  return { kind: 'waiting', until: new Date(hold.journal.resumeAt ?? 0) };
}

/** This invocation has had its time: the lease is freed, and a message goes on at once. */
async function handOver(services: EngineServices, hold: Hold): Promise<Handled> {
  await write(services, hold, hold.journal, [await hold.lease.release()]);
  await services.rotations.send(resumeMessage(hold.journal));
  return { kind: 'waiting', until: services.clock.now() };
}

/** The message that goes on with a rotation. */
export function resumeMessage(
  journal: Pick<Journal, 'id' | 'object' | 'correlationId'>,
  by: { readonly requestedBy: string; readonly reopen: boolean } = {
    requestedBy: 'engine',
    reopen: false,
  },
): JsonObject {
  const { id, object, correlationId } = journal;
  return toQueue({ kind: 'resume', requestId: id, ...object, correlationId, ...by });
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

/** The last thing ever written for a rotation: the log is owed nothing, the sweep forgets it. */
export async function closeAudit(services: EngineServices, held: HeldJournal): Promise<void> {
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
