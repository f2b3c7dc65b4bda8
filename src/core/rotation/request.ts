import { hasCode } from '../errors.ts';
import { errorFields } from '../log.ts';
import { currentTraceparent } from '../telemetry.ts';
import { type ObjectRef, objectId } from '../vault/ports.ts';
import type { Journal } from './journal.ts';
import { type RequestMessage, type RotateMessage, toQueue, traceMember } from './message.ts';
import { type HeldJournal, putActive, putJournal, readJournal, shardOf } from './records.ts';
import type { EngineServices } from './services.ts';
import { ulid } from './ulid.ts';

type Asked = Pick<RequestMessage, 'requestedBy' | 'correlationId'>;

/**
 * Asks for a rotation. From then on it can be looked at, and is begun even if its message is lost.
 * @returns its id
 */
export function requestRotation(
  services: EngineServices,
  ref: ObjectRef,
  asked: Asked & Pick<RotateMessage, 'reason' | 'expectedBaseVersion'>,
): Promise<string> {
  const requestId = ulid(services.clock.now());
  return request(services, { kind: 'rotate', requestId, ...ref, ...asked });
}

/** Asks for the rotation that makes `toVersion`, of the object of `rolledBack`, the latest again. @returns its id */
export function requestRollback(
  services: EngineServices,
  rolledBack: Pick<Journal, 'id' | 'object'>,
  asked: Asked & { readonly toVersion: string },
): Promise<string> {
  const requestId = ulid(services.clock.now());
  const { id: rollbackOf, object } = rolledBack;
  return request(services, { kind: 'rollback', requestId, ...object, rollbackOf, ...asked });
}

async function request(services: EngineServices, asked: RequestMessage): Promise<string> {
  const message = { ...asked, ...traceMember(currentTraceparent()) };
  const { journal } = await recordRequest(services, message);
  const { id, object, reason } = journal;
  services.log.info('rotation.requested', { rotationId: id, object: objectId(object), reason });
  try {
    await services.rotations.send(toQueue(message));
  } catch (error) {
    // The request stands: to refuse it now would have the caller ask for a second one.
    if (!hasCode(error, 'storage_unavailable')) throw error;
    services.log.warn('rotation.left_to_sweep', { rotationId: id, ...errorFields(error) });
  }
  return id;
}

/** The journal of `message`, written unless a copy of the message has written it already. */
export async function recordRequest(
  { store, clock }: EngineServices,
  message: RequestMessage,
): Promise<HeldJournal> {
  const journal = newJournal(message, clock.now());
  const shard = shardOf(journal.object);
  try {
    const [etag] = await store.transact(shard, [putJournal(journal, 'absent'), putActive(journal)]);
    return { journal, etag: etag ?? '' };
  } catch (error) {
    const first = hasCode(error, 'conflict') ? await readJournal(store, shard, journal.id) : null;
    if (first) return first;
    throw error;
  }
}

/** The journal of a request before anybody has looked at it. */
export function newJournal(message: RequestMessage, now: Date): Journal {
  const at = now.toISOString();
  const { requestId: id, vault, type, name, requestedBy, correlationId } = message;
  return {
    ...{ id, object: { vault, type, name }, requestedBy, correlationId },
    ...wishOf(message),
    traceparent: message.traceparent ?? null,
    state: 'REQUESTED',
    epoch: 0,
    history: [{ state: 'REQUESTED', at }],
    policy: null,
    target: null,
    overlap: 'none',
    baseVersion: null,
    baseProperties: null,
    versionsAtClaim: 0,
    login: null,
    previousLogin: null,
    candidate: null,
    promotedVersion: null,
    inForce: null,
    gapMs: null,
    retireAt: null,
    attempts: 0,
    resumeAt: null,
    heldFrom: null,
    interleaved: false,
    replaces: null,
    replacedBy: null,
    lastError: null,
    outcome: null,
    outbox: [],
    unaudited: [{ seq: 0, from: null, to: 'REQUESTED', at, note: null }],
  };
}

function wishOf(
  message: RequestMessage,
): Pick<Journal, 'reason' | 'expectedBaseVersion' | 'rollback'> {
  if (message.kind === 'rollback') {
    const { rollbackOf: of, toVersion } = message;
    return { reason: 'rollback', expectedBaseVersion: null, rollback: { of, toVersion } };
  }
  const { reason, expectedBaseVersion } = message;
  return { reason, expectedBaseVersion, rollback: null };
}
