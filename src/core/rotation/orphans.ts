import { addSeconds } from '../clock.ts';
import { errorFields } from '../log.ts';
import { objectId } from '../vault/ports.ts';
import { isEnd, type Journal } from './journal.ts';
import { findJournal } from './records.ts';
import type { EngineServices } from './services.ts';
import { ulid, ulidPattern } from './ulid.ts';

/** A journal is written before its candidate: what is this old and has none is not ours. */
const strangeAfterSeconds = 86_400;

/**
 * Erases candidates that came into the pending vault after their rotation had ended, when its worker
 * is dead and cannot take them back. What nobody here knows may be another installation's, and
 * the only copy of what some target accepts: it stays, and is told.
 * @returns how many were erased
 */
export async function eraseOrphans(services: EngineServices): Promise<number> {
  let erased = 0;
  try {
    for await (const candidate of services.pending.list()) {
      if (await tryToErase(services, candidate)) erased++;
    }
  } catch (error) {
    services.log.error('scan.pending_failed', errorFields(error));
  }
  return erased;
}

interface Staged {
  readonly rotationId: string;
  readonly stagedAt: Date;
}

async function tryToErase(services: EngineServices, candidate: Staged): Promise<boolean> {
  try {
    return await eraseIfOrphan(services, candidate);
  } catch (error) {
    // One that cannot be judged or erased must not keep the others there.
    const { rotationId } = candidate;
    services.log.error('scan.pending_failed', { rotationId, ...errorFields(error) });
    return false;
  }
}

async function eraseIfOrphan(
  services: EngineServices,
  { rotationId, stagedAt }: Staged,
): Promise<boolean> {
  const { store, clock, log, pending } = services;
  const journal = ulidPattern.test(rotationId)
    ? ((await findJournal(store, rotationId))?.journal ?? null)
    : null;
  if (!journal) {
    const isStrange = addSeconds(stagedAt, strangeAfterSeconds) <= clock.now();
    if (isStrange) log.warn('candidate.unknown', { candidate: rotationId.slice(0, 127) });
    return false;
  }
  // What an operator may resume keeps its candidate.
  if (!isEnd(journal.state) || journal.heldFrom !== null) return false;
  await record(services, journal);
  await pending.drop(rotationId);
  log.warn('candidate.orphan_erased', { rotationId, object: objectId(journal.object) });
  return true;
}

async function record({ audit, clock }: EngineServices, journal: Journal): Promise<void> {
  const at = clock.now();
  const { id: rotationId, correlationId, state } = journal;
  const object = objectId(journal.object);
  const entry = { id: `orphan.${ulid(at)}`, at, actor: 'engine', action: 'candidate.drop' };
  const detail = { state };
  await audit.append([
    { ...entry, object, rotationId, correlationId, outcome: 'intended', detail },
  ]);
}
