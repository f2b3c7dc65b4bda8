import type { DocumentStore, DocumentWrite } from '../storage/ports.ts';
import { type Journal, moved } from './journal.ts';
import {
  type HeldJournal,
  type ObjectRecord,
  putActive,
  putJournal,
  readJournal,
  shardOf,
} from './records.ts';

/*
 * A rollback may take the place of the rotation it undoes while that one is in its grace period: its
 * old login still works and is the one to go back to. One transaction ends the one and begins the
 * other, so that the object and the target's logins are never free in between (the claims in
 * reservation.ts follow `replacedBy`). A rollback that comes to nothing gives the place back in the
 * transaction that ends it: otherwise nobody would retire the old login any more.
 */

/** `held`, in its grace period, ends in favour of `by`: its last write, and the object's record after it. */
export function replace(
  held: HeldJournal,
  by: Journal,
  { record, at }: { readonly record: ObjectRecord; readonly at: Date },
): { readonly write: DocumentWrite; readonly record: ObjectRecord } {
  const { id, inForce, previousLogin } = held.journal;
  const message = `rotation ${by.id} goes back to version ${by.rollback?.toVersion}; ${previousLogin} was not retired by this one`;
  const ended: Journal = {
    ...moved(held.journal, 'ROLLED_BACK', at, `replaced by ${by.id}`),
    replacedBy: by.id,
    outcome: { code: 'rolled_back', message },
  };
  return {
    write: putJournal(ended, { etag: held.etag }),
    record: {
      ...record,
      // As at any other end: what it proved is what the next rotation starts from.
      inForce: inForce ?? record.inForce,
      last: { rotationId: id, state: ended.state, at: at.toISOString() },
    },
  };
}

/**
 * The writes that let the rotation whose place `ended` took go on with its grace period; none when
 * there is none. They belong into the transaction that ends it, with that one as the active rotation.
 */
export async function giveBack(
  store: DocumentStore,
  ended: Journal,
  at: Date,
): Promise<{ readonly active: string; readonly writes: readonly DocumentWrite[] } | null> {
  if (ended.replacedBy === null) return null;
  const held = await readJournal(store, shardOf(ended.object), ended.replacedBy);
  if (held?.journal.replacedBy !== ended.id) return null;
  const journal: Journal = {
    ...moved(held.journal, 'GRACE', at, `rotation ${ended.id} came to nothing`),
    replacedBy: null,
    outcome: null,
  };
  const writes = [putJournal(journal, { etag: held.etag }), putActive(journal)];
  return { active: journal.id, writes };
}
