import { AppError, hasCode } from '../errors.ts';
import { errorFields } from '../log.ts';
import { type ObjectRef, objectId } from '../vault/ports.ts';
import { settingsOf } from './handler.ts';
import { isCancellable, isEnd, type Journal, type State } from './journal.ts';
import { resumeMessage, toQueue, traceMember } from './message.ts';
import { findJournal, heldJournal, journalPrefix, rowId, shardOf, shards } from './records.ts';
import { requestRollback } from './request.ts';
import { type EngineServices, readAdmin } from './services.ts';
import { type Survey, survey } from './survey.ts';
import { ulidPattern } from './ulid.ts';
import { parseValue } from './value.ts';

/** A rotation as people see it. */
export interface RotationView {
  readonly id: string;
  readonly object: ObjectRef;
  readonly state: State;
  readonly ended: boolean;
  readonly reason: string;
  readonly requestedBy: string;
  /** For a rollback: the rotation it answers to, and the version it goes back to. */
  readonly rollbackOf: string | null;
  readonly toVersion: string | null;
  readonly policy: string | null;
  readonly baseVersion: string | null;
  readonly promotedVersion: string | null;
  readonly login: string | null;
  readonly retireAt: string | null;
  readonly resumeAt: string | null;
  readonly gapMs: number | null;
  readonly interleaved: boolean;
  readonly outcome: { readonly code: string; readonly message: string } | null;
  readonly history: readonly { readonly state: State; readonly at: string }[];
}

/** @throws AppError `not_found` */
export async function getRotation(services: EngineServices, id: string): Promise<RotationView> {
  return viewOf(await mustFind(services, id));
}

/** Newest first over all objects, or of one; `cursor` goes on where a page ended. */
export async function listRotations(
  services: EngineServices,
  query: { readonly object?: ObjectRef; readonly limit: number; readonly before?: string | null },
): Promise<{ readonly rotations: readonly RotationView[]; readonly before: string | null }> {
  const where = query.object ? [shardOf(query.object)] : shards;
  const found = await Promise.all(where.map((shard) => journalsOf(services, shard)));
  const before = query.before ?? null;
  const wanted = found
    .flat()
    .filter((journal) => !query.object || isSame(journal.object, query.object))
    .filter((journal) => before === null || journal.id < before)
    .sort((a, b) => (a.id < b.id ? 1 : -1));
  const page = wanted.slice(0, query.limit);
  const last = wanted.length > page.length ? (page.at(-1)?.id ?? null) : null;
  return { rotations: page.map(viewOf), before: last };
}

/**
 * Asks a rotation to stop. It does at its next step, if its new version is not in use by then.
 * @throws AppError `not_found`, `not_cancellable`
 */
export async function cancelRotation(
  services: EngineServices,
  id: string,
  requestedBy: string,
): Promise<RotationView> {
  const journal = await mustFind(services, id);
  if (!isCancellable(journal.state)) {
    throw new AppError('not_cancellable', { detail: `${id} is ${journal.state}` });
  }
  const body = { requestedBy, at: services.clock.now().toISOString() };
  await services.store.put(shardOf(journal.object), rowId.cancel(id), body, 'any');
  await services.rotations.send(resumeMessage(journal, { requestedBy, reopen: false }));
  return viewOf(journal);
}

/** Lets a held rotation go on from where it was held. @throws AppError `not_found`, `conflict` */
export async function resumeRotation(
  services: EngineServices,
  id: string,
  requestedBy: string,
): Promise<RotationView> {
  const journal = await mustBeHeld(services, id);
  await services.rotations.send(resumeMessage(journal, { requestedBy, reopen: true }));
  return viewOf(journal);
}

/** Gives a held rotation up, so that its object may be rotated again. @throws AppError `not_found`, `conflict` */
export async function releaseRotation(
  services: EngineServices,
  id: string,
  requestedBy: string,
): Promise<RotationView> {
  const journal = await mustBeHeld(services, id);
  await sendOrder(services, journal, { kind: 'release', requestedBy });
  return viewOf(journal);
}

/**
 * Has the old credential retired before its grace period is over, for instance because it has leaked.
 * @throws AppError `not_found`, `conflict`
 */
export async function retireRotationNow(
  services: EngineServices,
  id: string,
  requestedBy: string,
): Promise<RotationView> {
  const journal = await mustFind(services, id);
  if (journal.state !== 'GRACE') {
    throw new AppError('conflict', {
      detail: `${id} is ${journal.state}, not in its grace period`,
    });
  }
  await sendOrder(services, journal, { kind: 'retire-now', requestedBy });
  return viewOf(journal);
}

/**
 * Asks for a new rotation that makes an older version's value the latest again: by default that of
 * the version which rotation `id` replaced.
 * @returns the new rotation's id
 * @throws AppError `not_found`; `conflict` when that rotation replaced none and none is named
 */
export async function rollBackRotation(
  services: EngineServices,
  id: string,
  asked: {
    readonly toVersion: string | null;
    readonly requestedBy: string;
    readonly correlationId: string;
  },
): Promise<string> {
  const journal = await mustFind(services, id);
  const toVersion = asked.toVersion ?? journal.baseVersion;
  if (toVersion !== null) return requestRollback(services, journal, { ...asked, toVersion });
  throw new AppError('conflict', {
    detail: `${id} is ${journal.state} and has replaced no version: name the one to go back to`,
  });
}

/** An order that is heeded by whoever gets its message. */
async function sendOrder(
  { rotations }: EngineServices,
  { id, object, correlationId, traceparent }: Journal,
  order: { readonly kind: 'release' | 'retire-now'; readonly requestedBy: string },
): Promise<void> {
  const about = { requestId: id, ...object, correlationId, ...traceMember(traceparent) };
  await rotations.send(toQueue({ ...about, ...order }));
}

async function mustBeHeld(services: EngineServices, id: string): Promise<Journal> {
  const journal = await mustFind(services, id);
  if (journal.heldFrom !== null) return journal;
  throw new AppError('conflict', { detail: `${id} is ${journal.state}, which is not held` });
}

export interface Plan {
  readonly object: ObjectRef;
  readonly decision: 'start' | 'skip';
  readonly reason: string | null;
  readonly message: string;
  readonly policy: string | null;
  readonly target: string | null;
  readonly handler: string | null;
  readonly overlap: string | null;
  readonly login: string | null;
  readonly baseVersion: string | null;
  readonly graceSeconds: number | null;
  readonly steps: readonly string[];
}

/** What a rotation asked for now would do, found out by reading and logging in only; changes nothing. */
export async function planRotation(services: EngineServices, ref: ObjectRef): Promise<Plan> {
  const request = {
    object: ref,
    expectedBaseVersion: null,
    reason: 'on-demand',
    rollback: null,
  } as const;
  const { decision, policy, target, latest } = await survey(services, request);
  const handler = policy ? services.handlers.get(policy.handler) : undefined;
  const base = {
    object: ref,
    decision: decision.kind,
    reason: decision.kind === 'skip' ? decision.reason : null,
    message: decision.kind === 'skip' ? decision.message : 'the rotation would start',
    policy: policy?.id ?? null,
    target: target?.id ?? null,
    handler: handler?.id ?? null,
    overlap: null,
    login: null,
    baseVersion: latest?.version ?? null,
    graceSeconds: policy?.grace ?? null,
    steps: [],
  };
  if (decision.kind === 'skip' || !policy || !handler) return base;
  const settings = settingsOf(handler, target);
  const overlap = handler.overlap(settings);
  try {
    const login = target
      ? await rehearse(services, ref, { policy, target, handler, settings })
      : null;
    return { ...base, overlap, login, steps: stepsOf(overlap) };
  } catch (error) {
    if (
      !hasCode(error, 'target_refused', 'target_unreachable', 'bad_configuration', 'invalid_input')
    ) {
      throw error;
    }
    return { ...base, overlap, decision: 'skip', reason: error.code, message: error.detail };
  }
}

async function rehearse(
  services: EngineServices,
  ref: ObjectRef,
  by: {
    readonly policy: NonNullable<Survey['policy']>;
    readonly target: NonNullable<Survey['target']>;
    readonly handler: NonNullable<ReturnType<EngineServices['handlers']['get']>>;
    readonly settings: unknown;
  },
): Promise<string | null> {
  const { policy, target, handler, settings } = by;
  const stored = await services.vaults.get(ref.vault).secrets.get(ref.name);
  const current = parseValue(policy.value, stored.value);
  const login = handler.nextLogin(settings, current.username);
  const context = { settings, admin: () => readAdmin(services, target.admin) };
  await handler.preflight(context, login);
  if (await handler.verify(context, current)) return login;
  throw new AppError('target_refused', {
    detail: 'the target does not accept the stored credential',
  });
}

function stepsOf(overlap: string): readonly string[] {
  const common = ['stage a candidate', 'set it at the target', 'log in with it', 'promote it'];
  const tell = [...common, 'tell the consumers'];
  return overlap === 'none' ? tell : [...tell, 'wait for the grace period', 'retire the old login'];
}

async function mustFind(services: EngineServices, id: string): Promise<Journal> {
  const held = ulidPattern.test(id) ? await findJournal(services.store, id) : null;
  if (held) return held.journal;
  throw new AppError('not_found', { detail: `rotation ${id}` });
}

async function journalsOf(services: EngineServices, shard: string): Promise<Journal[]> {
  const journals: Journal[] = [];
  let cursor: string | null = null;
  do {
    const page = await services.store.list(shard, { prefix: journalPrefix, cursor });
    for (const document of page.documents) {
      try {
        journals.push(heldJournal(document).journal);
      } catch (error) {
        // One damaged document must not hide the others.
        services.log.error('journal.damaged', { id: document.id, ...errorFields(error) });
      }
    }
    cursor = page.cursor;
  } while (cursor !== null);
  return journals;
}

function isSame(a: ObjectRef, b: ObjectRef): boolean {
  return objectId(a).toLowerCase() === objectId(b).toLowerCase();
}

function viewOf(journal: Journal): RotationView {
  const { id, object, state, reason, requestedBy, baseVersion, promotedVersion, login } = journal;
  const { retireAt, resumeAt, gapMs, interleaved, history } = journal;
  return {
    ...{ id, object, state, reason, requestedBy, baseVersion, promotedVersion, login },
    ...{ retireAt, resumeAt, gapMs, interleaved, history },
    rollbackOf: journal.rollback?.of ?? null,
    toVersion: journal.rollback?.toVersion ?? null,
    ended: isEnd(state),
    policy: journal.policy?.id ?? null,
    outcome: journal.outcome ?? journal.lastError,
  };
}
