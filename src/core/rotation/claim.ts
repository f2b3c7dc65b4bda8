import { hasCode, toAppError } from '../errors.ts';
import { afterFailure, outcomeOf } from './failure.ts';
import { settingsOf } from './handler.ts';
import { type Journal, moved } from './journal.ts';
import { Lease, offerLease } from './lease.ts';
import { type HeldJournal, putJournal, putRecord, readJournal, shardOf } from './records.ts';
import { comeBack, type EngineServices, leaseTools } from './services.ts';
import { replace } from './succession.ts';
import { type Survey, survey } from './survey.ts';
import { intendedEntries, owedEntries } from './trail.ts';

export type Started =
  | {
      readonly kind: 'claimed';
      readonly journal: Journal;
      readonly etag: string;
      readonly lease: Lease;
    }
  | { readonly kind: 'ended'; readonly held: HeldJournal }
  | { readonly kind: 'waiting'; readonly until: Date }
  | { readonly kind: 'yielded' };

/** How often a lost race for the object's record is run again before a message has to. */
const races = 8;

/** Decides about a requested rotation and, in one write, makes the object its own. */
export async function startOrSkip(services: EngineServices, held: HeldJournal): Promise<Started> {
  let current = held;
  for (let race = 0; race < races; race++) {
    try {
      return await claim(services, current);
    } catch (cause) {
      const error = toAppError(cause, `start ${current.journal.id}`);
      if (error.code === 'storage_unavailable') throw error;
      if (error.code !== 'conflict') return putOff(services, current, error);
    }
    const fresh = await readJournal(services.store, shardOf(held.journal.object), held.journal.id);
    if (fresh?.journal.state !== 'REQUESTED') return { kind: 'yielded' };
    current = fresh;
  }
  return { kind: 'yielded' };
}

async function claim(services: EngineServices, requested: HeldJournal): Promise<Started> {
  const { journal, etag } = requested;
  // A value is about to be read: that, and the request itself, stand in the log first.
  const intended = intendedEntries(journal, services.clock.now());
  await services.audit.append([...owedEntries(journal), ...intended]);
  const held = { journal: { ...journal, unaudited: [] }, etag };
  const found = await survey(services, held.journal);
  if (found.decision.kind === 'skip') {
    const { reason, message } = found.decision;
    const outcome = { code: reason, message };
    return end(services, held, { to: 'SKIPPED', outcome });
  }
  return take(services, held, found);
}

async function take(services: EngineServices, held: HeldJournal, found: Survey): Promise<Started> {
  const { object } = held.journal;
  const { policy, target, latest, grace } = found;
  const tools = leaseTools(services);
  const at = services.clock.now();
  const offer = await offerLease(tools, object);
  if (offer.kind === 'held' || !policy || !latest) return { kind: 'yielded' };
  const handler = services.handlers.get(policy.handler);
  const journal: Journal = {
    ...moved(held.journal, 'CLAIMED', at),
    epoch: offer.epoch,
    policy,
    target,
    overlap: handler?.overlap(settingsOf(handler, target)) ?? 'none',
    baseVersion: latest.version,
    baseProperties: { tags: latest.tags, contentType: latest.contentType },
    versionsAtClaim: found.versions,
    replaces: grace?.journal.id ?? null,
  };
  const record = found.record.body;
  const succession = grace && replace(grace, journal, { record, at });
  const [etag, , leaseEtag] = await services.store.transact(shardOf(object), [
    putJournal(journal, { etag: held.etag }),
    putRecord(object, found.record, { ...(succession?.record ?? record), active: journal.id }),
    offer.write,
    ...(succession ? [succession.write] : []),
  ]);
  if (grace) {
    services.log.info('rotation.replaced', { rotationId: grace.journal.id, by: journal.id });
  }
  const lease = new Lease(tools, object, { epoch: offer.epoch, etag: leaseEtag ?? '', at });
  return { kind: 'claimed', journal, etag: etag ?? '', lease };
}

/** A request that could not even be judged waits and is judged again; nothing was touched. */
async function putOff(
  services: EngineServices,
  held: HeldJournal,
  error: ReturnType<typeof toAppError>,
): Promise<Started> {
  const { journal } = held;
  const outcome = outcomeOf(error);
  const timing = { now: services.clock.now(), retrySeconds: services.settings.retrySeconds };
  const after = afterFailure({ attempts: journal.attempts, state: 'REQUESTED' }, error, timing);
  const when = { etag: held.etag };
  try {
    if (after.kind === 'move') return await end(services, held, { to: 'FAILED_CLEAN', outcome });
    const resumeAt = after.at.toISOString();
    const waiting = { ...journal, attempts: journal.attempts + 1, lastError: outcome, resumeAt };
    await services.store.transact(shardOf(journal.object), [putJournal(waiting, when)]);
    await comeBack(services, waiting, after.at);
    return { kind: 'waiting', until: after.at };
  } catch (cause) {
    if (hasCode(cause, 'conflict')) return { kind: 'yielded' };
    throw cause;
  }
}

async function end(
  services: EngineServices,
  held: HeldJournal,
  {
    to,
    outcome,
  }: { readonly to: 'SKIPPED' | 'FAILED_CLEAN'; readonly outcome: Journal['outcome'] },
): Promise<Started> {
  const now = services.clock.now();
  const journal = { ...moved(held.journal, to, now, outcome?.code ?? null), outcome };
  const when = { etag: held.etag };
  const [etag] = await services.store.transact(shardOf(journal.object), [
    putJournal(journal, when),
  ]);
  return { kind: 'ended', held: { journal, etag: etag ?? '' } };
}
