import { hasCode, toAppError } from '../errors.ts';
import { parseKeyVaultEvent } from '../events/key-vault-event.ts';
import { errorFields } from '../log.ts';
import { type ObjectRef, objectId } from '../vault/ports.ts';
import { mendLateWrite } from './late-write.ts';
import { isAtPeace, objectPrefix, parseRecord, readRecord, rowId, shards } from './records.ts';
import { requestRotation } from './request.ts';
import type { EngineServices } from './services.ts';
import { listAll } from './sweep.ts';
import { ulid } from './ulid.ts';

export type Taken =
  | { readonly kind: 'requested'; readonly rotationId: string }
  | { readonly kind: 'skipped'; readonly reason: 'malformed' | 'foreign_vault' | 'no_action' };

/**
 * An event from outside becomes a message, or an audited skip. What is not ours is never an error:
 * the sender would deliver it for a day.
 * @throws AppError `storage_unavailable`, or a vault that does not answer, so that the event is
 * delivered again
 */
export async function takeEvent(services: EngineServices, input: unknown): Promise<Taken> {
  const parsed = parseKeyVaultEvent(input);
  if (parsed.kind === 'invalid') {
    const faults = parsed.faults.join('; ').slice(0, 500);
    services.log.warn('event.refused', { faults });
    await record(services, { action: 'event.refused', detail: { faults } });
    return { kind: 'skipped', reason: 'malformed' };
  }
  const { event } = parsed;
  const about = { fact: event.fact, version: event.version, eventId: event.id.slice(0, 100) };
  const vault = services.vaults.all().find((one) => sameOrigin(one.url, event.vaultUrl));
  if (vault?.purpose !== 'main') {
    const detail = { ...about, vaultUrl: event.vaultUrl };
    services.log.warn('event.foreign', detail);
    await record(services, { action: 'event.skipped', detail });
    return { kind: 'skipped', reason: 'foreign_vault' };
  }
  const ref = { vault: vault.alias, type: event.type, name: event.name };
  const correlationId = event.id.slice(0, 128);
  if (event.fact === 'new-version') return takeNewVersion(services, ref, correlationId);
  const rotationId = await requestRotation(services, ref, {
    reason: event.fact,
    requestedBy: 'event-grid',
    correlationId,
    expectedBaseVersion: event.version,
  });
  return { kind: 'requested', rotationId };
}

/** Somebody wrote. Only a late write of our own is ours to mend. */
async function takeNewVersion(
  services: EngineServices,
  ref: ObjectRef,
  correlationId: string,
): Promise<Taken> {
  if (ref.type !== 'secret') return { kind: 'skipped', reason: 'no_action' };
  try {
    const rotationId = await mendLateWrite(services, ref, correlationId);
    if (rotationId !== null) return { kind: 'requested', rotationId };
  } catch (error) {
    if (toAppError(error, 'look at a new version').retryable) throw error;
    services.log.warn('event.not_looked_into', { object: objectId(ref), ...errorFields(error) });
  }
  return { kind: 'skipped', reason: 'no_action' };
}

/** What a scan saw of a secret, without its value. */
interface Scanned {
  readonly ref: ObjectRef;
  readonly isDue: boolean;
  /** The rotation its latest version names. */
  readonly rotationId: string | null;
}

/**
 * Asks for a rotation of whatever a scan found due, or whose latest version may be a late write whose
 * worker is dead. One list call per page of object records; a value is read of suspects only.
 */
export async function takeScanned(
  services: EngineServices,
  secrets: AsyncIterable<Scanned>,
): Promise<{ readonly requested: number; readonly mended: number }> {
  const writers = await provenWriters(services);
  const counts = { requested: 0, mended: 0 };
  for await (const secret of secrets) {
    try {
      const taken = await takeOne(services, secret, writers);
      if (taken !== null) counts[taken]++;
    } catch (error) {
      if (hasCode(error, 'storage_unavailable')) throw error;
      // What is wrong with one object must not keep the scan from the others.
      const object = objectId(secret.ref);
      services.log.error('scan.object_failed', { object, ...errorFields(error) });
    }
  }
  return counts;
}

async function takeOne(
  services: EngineServices,
  { ref, isDue, rotationId }: Scanned,
  writers: ReadonlyMap<string, string | null>,
): Promise<'requested' | 'mended' | null> {
  if (isDue) return (await takeDue(services, ref)) === null ? null : 'requested';
  const writer = writers.get(rowId.object(ref));
  if (rotationId === null || writer === undefined || writer === rotationId) return null;
  const correlationId = correlationOf(services.clock.now());
  return (await mendLateWrite(services, ref, correlationId)) === null ? null : 'mended';
}

/** Asks for what a scan found due, unless the object is busy, held or resting already. */
export async function takeDue(services: EngineServices, ref: ObjectRef): Promise<string | null> {
  const { body } = await readRecord(services.store, ref);
  const now = services.clock.now();
  if (!isAtPeace(body, now)) return null;
  return requestRotation(services, ref, {
    reason: 'scan',
    requestedBy: 'scan',
    correlationId: correlationOf(now),
    expectedBaseVersion: null,
  });
}

/** For each object at peace, by the id of its record, the rotation that wrote the version proven last. */
async function provenWriters(services: EngineServices): Promise<Map<string, string | null>> {
  const writers = new Map<string, string | null>();
  const now = services.clock.now();
  for (const shard of shards) {
    for await (const row of listAll(services.store, shard, objectPrefix)) {
      try {
        const record = parseRecord(row);
        if (!isAtPeace(record, now)) continue;
        if (record.inForce) writers.set(row.id, record.inForce.rotationId);
      } catch (error) {
        services.log.error('scan.row_failed', { id: row.id, ...errorFields(error) });
      }
    }
  }
  return writers;
}

function correlationOf(now: Date): string {
  return `scan-${now.toISOString()}`;
}

function sameOrigin(a: string, b: string): boolean {
  return new URL(a).origin.toLowerCase() === new URL(b).origin.toLowerCase();
}

async function record(
  { audit, clock }: EngineServices,
  entry: { readonly action: string; readonly detail: Readonly<Record<string, string>> },
): Promise<void> {
  const now = clock.now();
  const id = `event.${ulid(now)}`;
  await audit.append([{ id, at: now, actor: 'event-grid', outcome: 'skipped', ...entry }]);
}
