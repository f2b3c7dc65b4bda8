import { createHash } from 'node:crypto';
import { z } from 'zod';
import { AppError, hasCode } from '../errors.ts';
import type { DocumentStore } from '../storage/ports.ts';
import { isEnd, type Journal } from './journal.ts';
import { readJournal } from './records.ts';

const partition = 'reservations';
const Reservation = z.strictObject({ rotationId: z.string(), shard: z.string() });
export type Reservation = z.output<typeof Reservation>;

/**
 * Claims every resource for one rotation, in sorted order; what it holds already stays its own.
 * A claim of a rotation that has ended is dead and is taken over; one that is quarantined has not.
 * One that ended in favour of another has left its claims to that one.
 *
 * @throws AppError `target_in_grace` (retryable) when another rotation still holds one
 */
export async function reserve(
  store: DocumentStore,
  resources: readonly string[],
  claim: Reservation,
): Promise<void> {
  for (const resource of [...resources].sort()) await reserveOne(store, resource, claim);
}

/** Gives back what `rotationId` holds of `resources`. */
export async function unreserve(
  store: DocumentStore,
  resources: readonly string[],
  rotationId: string,
): Promise<void> {
  for (const resource of resources) {
    const found = await store.get(partition, idOf(resource));
    if (found?.body['rotationId'] !== rotationId) continue;
    await store.delete(partition, found.id, { etag: found.etag });
  }
}

async function reserveOne(
  store: DocumentStore,
  resource: string,
  claim: Reservation,
): Promise<void> {
  const id = idOf(resource);
  const found = await store.get(partition, id);
  if (found) {
    const other = parseReservation(found.body, resource);
    if (other.rotationId === claim.rotationId) return;
    const holder = await findHolder(store, other);
    if (holder !== null && holder !== claim.rotationId) throw inGrace(resource, holder);
  }
  try {
    await store.put(partition, id, claim, found ? { etag: found.etag } : 'absent');
  } catch (cause) {
    if (hasCode(cause, 'conflict')) throw inGrace(resource, 'another rotation', cause);
    throw cause;
  }
}

/** The rotation that has this claim now; null when it is dead. */
async function findHolder(store: DocumentStore, { shard, rotationId }: Reservation) {
  let held = await readJournal(store, shard, rotationId);
  while (held && hasEnded(held.journal)) {
    // Both are of one object, so in one shard. An open one has no successor: this comes to an end.
    const { replacedBy } = held.journal;
    held = replacedBy === null ? null : await readJournal(store, shard, replacedBy);
  }
  return held?.journal.id ?? null;
}

function hasEnded({ state, heldFrom }: Journal): boolean {
  // Quarantined, it may be half way, and goes on when an operator says so, unless it was released.
  return isEnd(state) && (state !== 'QUARANTINED' || heldFrom === null);
}

/** Readable where it fits into a document id. */
function idOf(resource: string): string {
  if (/^[\x21-\x7e]{1,200}$/.test(resource)) return resource;
  return `sha256:${createHash('sha256').update(resource).digest('hex')}`;
}

function parseReservation(body: unknown, resource: string): Reservation {
  const parsed = Reservation.safeParse(body);
  if (parsed.success) return parsed.data;
  throw new AppError('corrupt', { detail: `reservation of ${resource}`, cause: parsed.error });
}

function inGrace(resource: string, holder: string, cause?: unknown): AppError {
  return new AppError('target_in_grace', { detail: `${resource} is held by ${holder}`, cause });
}
