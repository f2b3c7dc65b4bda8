import { addSeconds } from '../clock.ts';
import {
  activeDeliveryPrefix,
  deliveryDueAt,
  deliveryMessage,
  deliveryTraceparent,
} from '../consumers/outbox.ts';
import { errorFields } from '../log.ts';
import type { DocumentStore, StoredDocument } from '../storage/ports.ts';
import { resumeMessage } from './message.ts';
import { activeRotationPrefix, readJournal, rowId, shards } from './records.ts';
import type { EngineServices } from './services.ts';

const messageGraceSeconds = 5;

export interface Swept {
  readonly resumed: number;
  readonly notified: number;
}

/**
 * Sends a message for every rotation and every notification that is due or was left unfinished,
 * from the `active:` rows alone. Whatever a crash, a lost message or a wait left behind is found here.
 */
export async function sweep(services: EngineServices): Promise<Swept> {
  const counts = { resumed: 0, notified: 0 };
  for (const shard of shards) {
    for await (const row of listAll(services.store, shard, activeRotationPrefix)) {
      if (await resumeIfDue(services, shard, row)) counts.resumed++;
    }
    for await (const row of listAll(services.store, shard, activeDeliveryPrefix)) {
      if (await notifyIfDue(services, shard, row)) counts.notified++;
    }
  }
  if (counts.resumed + counts.notified > 0) services.log.info('sweep.finished', { ...counts });
  return counts;
}

/** Every document of a partition whose id starts with `prefix`. */
export async function* listAll(
  store: DocumentStore,
  partition: string,
  prefix: string,
): AsyncGenerator<StoredDocument> {
  let cursor: string | null = null;
  do {
    const page = await store.list(partition, { prefix, cursor });
    yield* page.documents;
    cursor = page.cursor;
  } while (cursor !== null);
}

async function resumeIfDue(
  services: EngineServices,
  shard: string,
  row: StoredDocument,
): Promise<boolean> {
  const id = row.id.slice(activeRotationPrefix.length);
  try {
    const held = await readJournal(services.store, shard, id);
    if (!held) return false;
    const { journal } = held;
    const now = services.clock.now();
    const isWaiting = journal.resumeAt !== null && new Date(journal.resumeAt) > now;
    // A request has no lease yet: its own message gets the time a worker would have.
    const dueAt = addSeconds(new Date(journal.history[0]?.at ?? 0), services.settings.leaseSeconds);
    if (journal.state === 'REQUESTED' && dueAt > now) return false;
    if (isWaiting || (await isLeased(services, shard, rowId.lease(journal.object)))) return false;
    await services.rotations.send(resumeMessage(journal));
    return true;
  } catch (error) {
    // One damaged row must not keep the sweep from the others.
    services.log.error('sweep.row_failed', { rotationId: id, ...errorFields(error) });
    return false;
  }
}

async function notifyIfDue(
  services: EngineServices,
  shard: string,
  row: StoredDocument,
): Promise<boolean> {
  try {
    // Its own message comes first; this is for one that was lost.
    const lateAt = addSeconds(deliveryDueAt(row), messageGraceSeconds);
    if (lateAt > services.clock.now()) return false;
    await services.notifications.send(deliveryMessage(shard, row.id, deliveryTraceparent(row)));
    return true;
  } catch (error) {
    services.log.error('sweep.row_failed', { delivery: row.id, ...errorFields(error) });
    return false;
  }
}

async function isLeased(
  { store, clock }: EngineServices,
  shard: string,
  id: string,
): Promise<boolean> {
  const lease = await store.get(shard, id);
  return lease !== null && new Date(String(lease.body['expiresAt'])) > clock.now();
}
