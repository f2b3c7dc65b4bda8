import { isDeepStrictEqual } from 'node:util';
import { AppError, hasCode } from '../errors.ts';
import {
  type ObjectRef,
  objectId,
  type SecretProperties,
  type SecretVersion,
} from '../vault/ports.ts';
import { isEnd, type ProvenVersion } from './journal.ts';
import { readJournal, readRecord, shardOf } from './records.ts';
import { requestRotation } from './request.ts';
import { forget } from './rollback.ts';
import { accepts, type Run } from './run.ts';
import type { EngineServices } from './services.ts';
import { ulid } from './ulid.ts';
import { type Credential, parseValue } from './value.ts';

/*
 * A vault has no compare-and-set. A write that was under way when its worker was frozen or cut off
 * can take effect after the rotation has ended, or after the next one has: an old value is latest
 * then. Nothing can prevent that; here it is found (by its tag, which names a rotation other than
 * the one whose version was proven last) and mended (by a rotation that takes the proven version,
 * not the latest one, for the credential in force).
 */

/** Whether `latest` is a write of ours that came after its time. */
function isLate(inForce: ProvenVersion | null, { version, tags }: SecretProperties): boolean {
  const rotationId = tags['rotationId'];
  if (inForce === null || rotationId === undefined) return false;
  return version !== inForce.version && rotationId !== inForce.rotationId;
}

/**
 * Asks for a rotation if the latest version of `ref` is a late write. While a rotation is under way
 * it does nothing: that one looks itself when it ends.
 * @returns the id of the rotation, null when none is needed
 */
export async function mendLateWrite(
  services: EngineServices,
  ref: ObjectRef,
  correlationId: string,
): Promise<string | null> {
  const { body, when } = await readRecord(services.store, ref);
  if (body.active !== null || body.quarantined !== null || body.inForce === null) return null;
  const at = services.clock.now();
  const id = `late-write.${ulid(at)}`;
  const entry = { id, at, actor: 'engine', action: 'secret.read', object: objectId(ref) };
  const detail = { version: body.inForce.version };
  await services.audit.append([{ ...entry, correlationId, outcome: 'intended', detail }]);
  const { properties } = await services.vaults.get(ref.vault).secrets.get(ref.name);
  if (!isLate(body.inForce, properties)) return null;
  // Only what a rotation of this object wrote: a tag alone must not make one start.
  const writer = await readJournal(
    services.store,
    shardOf(ref),
    properties.tags['rotationId'] ?? '',
  );
  if (!writer || objectId(writer.journal.object) !== objectId(ref)) return null;
  // What was read is of one time only if no rotation has ended in between.
  const again = await readRecord(services.store, ref);
  if (!isDeepStrictEqual(again.when, when)) return null;
  services.log.error('rotation.late_write', {
    rotationId: writer.journal.id,
    version: properties.version,
    inForce: body.inForce.version,
  });
  return requestRotation(services, ref, {
    reason: 'on-demand',
    requestedBy: 'engine',
    correlationId,
    expectedBaseVersion: properties.version,
  });
}

/** The credential that logs in now: the latest version's, or the proven one's behind a late write. */
export async function credentialInForce(run: Run, latest: SecretVersion): Promise<Credential> {
  const { services, journal, policy, handler, context } = run;
  const { inForce } = (await readRecord(services.store, journal.object)).body;
  const before = isLate(inForce, latest.properties) ? await readBefore(run, inForce) : null;
  if (before && (await accepts(run, before))) return parseValue(policy.value, before.value);
  const stored = parseValue(policy.value, latest.value);
  if (await handler.verify(context, stored)) return stored;
  throw new AppError('target_refused', {
    detail: 'the target does not accept the stored credential: store the one in force first',
  });
}

async function readBefore(
  { secrets, journal }: Run,
  inForce: ProvenVersion | null,
): Promise<SecretVersion | null> {
  if (inForce === null) return null;
  try {
    return await secrets.get(journal.object.name, inForce.version);
  } catch (error) {
    if (hasCode(error, 'not_found', 'object_disabled')) return null;
    throw error;
  }
}

/**
 * What a worker does that was overtaken and has woken up: the rotation may have ended meanwhile, and
 * its own last call may have come after that. Takes back what that can have left.
 */
export async function tidyAfterLoss(run: Run): Promise<void> {
  const { services, journal } = run;
  const now = await readJournal(services.store, shardOf(journal.object), journal.id);
  if (!now) return;
  if (!isEnd(now.journal.state)) {
    // Once its version was proven a rotation drops its candidate, and does not look for one again.
    const isSettled = now.journal.candidate === null && now.journal.inForce !== null;
    if (isSettled) await services.pending.drop(journal.id);
    return;
  }
  // What an operator may resume keeps its candidate and its claims.
  if (now.journal.heldFrom === null) await forget(run, now.journal.replacedBy);
  await mendLateWrite(services, journal.object, journal.correlationId);
}
