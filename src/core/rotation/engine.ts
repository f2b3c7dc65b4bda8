import { hasCode } from '../errors.ts';
import { errorFields } from '../log.ts';
import { spanEvent } from '../telemetry.ts';
import { type ObjectRef, objectId } from '../vault/ports.ts';
import { startOrSkip } from './claim.ts';
import { settingsOf } from './handler.ts';
import { isCancellable, isEnd, type Journal, moved } from './journal.ts';
import { Lease, offerLease } from './lease.ts';
import { isRequest, type RotationMessage, toQueue } from './message.ts';
import {
  type HeldJournal,
  putActive,
  putJournal,
  putRecord,
  readJournal,
  readRecord,
  rowId,
  shardOf,
} from './records.ts';
import { recordRequest } from './request.ts';
import { currentCatalog, type EngineServices, leaseTools } from './services.ts';
import { close, type Handled, work } from './work.ts';

/**
 * Works on the rotation of `message` until it ends, must wait, or is somebody else's. Safe to call
 * any number of times, at once and in any order, with the same or different messages.
 *
 * @throws AppError `storage_unavailable`, `corrupt`: the message should be delivered again
 */
export async function handleRotation(
  services: EngineServices,
  message: RotationMessage,
): Promise<Handled> {
  const ref: ObjectRef = { vault: message.vault, type: message.type, name: message.name };
  const found = await readJournal(services.store, shardOf(ref), message.requestId);
  const held = found ?? (isRequest(message) ? await recordRequest(services, message) : null);
  if (!held) return { kind: 'unknown' };
  if (isEnd(held.journal.state)) return atEnd(services, held, message);
  if (message.kind === 'retire-now' && held.journal.state === 'GRACE') {
    return retireNow(services, held, message);
  }
  if (await mustWait(services, held.journal)) {
    return { kind: 'waiting', until: new Date(held.journal.resumeAt ?? 0) };
  }
  return held.journal.state === 'REQUESTED' ? start(services, held) : takeOver(services, held);
}

/**
 * What becomes of a message that could not be handled again and again: it is tried once more, since
 * storage may have been away for a while; what fails for another reason is held for a human to look.
 * @throws AppError `storage_unavailable`: the message should be delivered again
 */
export async function quarantinePoisoned(
  services: EngineServices,
  message: RotationMessage,
): Promise<Handled> {
  const ref: ObjectRef = { vault: message.vault, type: message.type, name: message.name };
  services.log.error('rotation.poisoned', { rotationId: message.requestId });
  try {
    return await handleRotation(services, message);
  } catch (error) {
    if (hasCode(error, 'storage_unavailable')) throw error;
    services.log.error('rotation.unmanageable', {
      rotationId: message.requestId,
      ...errorFields(error),
    });
  }
  const held = await readJournal(services.store, shardOf(ref), message.requestId);
  if (!held || isEnd(held.journal.state)) return { kind: 'unknown' };
  const record = await readRecord(services.store, ref);
  const outcome = {
    code: 'poisoned',
    message: 'its message failed again and again: read the log, then resume the rotation',
  };
  const ended = moved(held.journal, 'QUARANTINED', services.clock.now(), 'poisoned');
  const journal: Journal = { ...ended, heldFrom: held.journal.state, outcome };
  const [etag] = await services.store.transact(shardOf(ref), [
    putJournal(journal, { etag: held.etag }),
    // A request that was never begun has nothing to take from the rotation that has the object.
    putRecord(ref, record, {
      ...record.body,
      active: record.body.active === journal.id ? null : record.body.active,
      quarantined: journal.id,
    }),
  ]);
  await close(services, { journal, etag: etag ?? '' });
  return { kind: 'ended', state: 'QUARANTINED' };
}

/** Whether its time has not come yet; a request to cancel does not wait for it. */
async function mustWait({ store, clock }: EngineServices, journal: Journal): Promise<boolean> {
  if (journal.resumeAt === null || new Date(journal.resumeAt) <= clock.now()) return false;
  if (!isCancellable(journal.state)) return true;
  return (await store.get(shardOf(journal.object), rowId.cancel(journal.id))) === null;
}

async function start(services: EngineServices, held: HeldJournal): Promise<Handled> {
  const started = await startOrSkip(services, held);
  switch (started.kind) {
    case 'claimed':
      spanEvent('rotation.moved', { from: 'REQUESTED', to: 'CLAIMED' });
      return work(services, started);
    case 'ended': {
      const { id, state, outcome } = started.held.journal;
      services.log.info('rotation.skipped', { rotationId: id, state, reason: outcome?.code });
      await close(services, started.held);
      return { kind: 'ended', state };
    }
    default:
      return started;
  }
}

/** Ends the grace period in the write that takes the lease; all that retiring asks for is asked as ever. */
async function retireNow(
  services: EngineServices,
  held: HeldJournal,
  message: Extract<RotationMessage, { kind: 'retire-now' }>,
): Promise<Handled> {
  const note = `retire-now of ${message.requestedBy}`;
  services.log.info('rotation.retire_now', { rotationId: held.journal.id });
  const handled = await takeOver(services, held, (journal, at) => ({
    ...moved(journal, 'RETIRING', at, note),
    retireAt: at.toISOString(),
  }));
  // Whoever has the lease may let go of it again without having heard of this.
  if (handled.kind === 'yielded') {
    await services.rotations.send(toQueue(message), services.settings.retrySeconds);
  }
  return handled;
}

/**
 * Takes the lease that was freed or ran out, and changes the journal in the same write. From then on
 * whoever held it can write no more.
 */
async function takeOver(
  services: EngineServices,
  held: HeldJournal,
  change: (journal: Journal, at: Date) => Journal = (journal) => journal,
): Promise<Handled> {
  const { object } = held.journal;
  const tools = leaseTools(services);
  const at = services.clock.now();
  const offer = await offerLease(tools, object);
  if (offer.kind === 'held') return { kind: 'yielded' };
  // A lease that ran out was its holder's last: that try counts.
  const attempts = held.journal.attempts + (offer.isLapsed ? 1 : 0);
  const taken = { ...held.journal, epoch: offer.epoch, resumeAt: null, attempts };
  const journal = change(taken, at);
  try {
    const writes = [putJournal(journal, { etag: held.etag }), offer.write];
    const [etag, leaseEtag] = await services.store.transact(shardOf(object), writes);
    const lease = new Lease(tools, object, { epoch: offer.epoch, etag: leaseEtag ?? '', at });
    return await work(services, { journal, etag: etag ?? '', lease });
  } catch (error) {
    if (!hasCode(error, 'conflict')) throw error;
    services.log.info('rotation.yielded', { rotationId: journal.id, ...errorFields(error) });
    return { kind: 'yielded' };
  }
}

/** Nothing is left to do but what a crash kept from the audit log, unless an operator reopens it. */
async function atEnd(
  services: EngineServices,
  held: HeldJournal,
  message: RotationMessage,
): Promise<Handled> {
  const { journal } = held;
  if (journal.unaudited.length > 0) await close(services, held);
  const isAsked = message.kind === 'resume' && message.reopen;
  if (journal.heldFrom === null || (message.kind !== 'release' && !isAsked)) {
    return { kind: 'ended', state: journal.state };
  }
  const now = await readJournal(services.store, shardOf(journal.object), journal.id);
  if (!now?.journal.heldFrom) return { kind: 'ended', state: journal.state };
  if (message.kind === 'release') return release(services, now);
  return reopen(services, now, now.journal.heldFrom);
}

/** An operator has put things right by hand: nothing of this rotation is kept, the object is free. */
async function release(services: EngineServices, held: HeldJournal): Promise<Handled> {
  const { journal } = held;
  const { object } = journal;
  await services.pending.drop(journal.id);
  const record = await readRecord(services.store, object);
  const isHolder = record.body.quarantined === journal.id;
  const message = `${journal.outcome?.message ?? 'held'} (released by an operator)`;
  const outcome = { code: journal.outcome?.code ?? 'released', message };
  await services.store.transact(shardOf(object), [
    putJournal({ ...journal, heldFrom: null, candidate: null, outcome }, { etag: held.etag }),
    putRecord(object, record, { ...record.body, ...(isHolder ? { quarantined: null } : {}) }),
  ]);
  services.log.warn('rotation.released', { rotationId: journal.id, object: objectId(object) });
  return { kind: 'ended', state: journal.state };
}

async function reopen(
  services: EngineServices,
  held: HeldJournal,
  to: Journal['state'],
): Promise<Handled> {
  const { object } = held.journal;
  const record = await readRecord(services.store, object);
  const isLast = record.body.last === null || record.body.last.rotationId === held.journal.id;
  if (record.body.active !== null || !isLast) {
    return { kind: 'ended', state: held.journal.state };
  }
  const journal: Journal = {
    ...moved(held.journal, to, services.clock.now(), 'reopened'),
    target: await mendedTarget(services, held.journal),
    heldFrom: null,
    outcome: null,
  };
  const [etag] = await services.store.transact(shardOf(object), [
    putJournal(journal, { etag: held.etag }),
    putRecord(object, record, { ...record.body, active: journal.id, quarantined: null }),
    putActive(journal),
  ]);
  return takeOver(services, { journal, etag: etag ?? '' });
}

/** The target document as it is now, if it still fits: it may be what had to be mended. */
async function mendedTarget(
  services: EngineServices,
  { policy, target, overlap }: Journal,
): Promise<Journal['target']> {
  const now = (await currentCatalog(services)).targets.get(target?.id ?? '');
  const handler = services.handlers.get(policy?.handler ?? '');
  if (!now || !handler || now.handler !== handler.id) return target;
  return handler.overlap(settingsOf(handler, now)) === overlap ? now : target;
}
