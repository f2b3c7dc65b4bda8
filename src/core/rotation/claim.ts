import { hasCode, toAppError } from '../errors.ts';
import { choosePolicy, covers, type Policy } from '../policies/policy.ts';
import type { Target } from '../policies/target.ts';
import type { ObjectRef, SecretProperties, SecretService } from '../vault/ports.ts';
import { type Decision, decide, type Situation } from './decide.ts';
import { afterFailure, outcomeOf } from './failure.ts';
import { settingsOf } from './handler.ts';
import { type Journal, moved } from './journal.ts';
import { Lease, offerLease } from './lease.ts';
import type { RotateMessage } from './message.ts';
import {
  type Held,
  type HeldJournal,
  type ObjectRecord,
  putJournal,
  putRecord,
  readJournal,
  readRecord,
  shardOf,
} from './records.ts';
import { comeBack, currentCatalog, type EngineServices, leaseTools } from './services.ts';
import { intendedEntries, owedEntries } from './trail.ts';

export function newJournal(message: RotateMessage, now: Date): Journal {
  const at = now.toISOString();
  const { requestId: id, vault, type, name, reason, requestedBy, correlationId } = message;
  return {
    ...{ id, object: { vault, type, name }, reason, requestedBy, correlationId },
    expectedBaseVersion: message.expectedBaseVersion,
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
    lastError: null,
    outcome: null,
    outbox: [],
    unaudited: [{ seq: 0, from: null, to: 'REQUESTED', at, note: null }],
  };
}

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

interface Survey {
  readonly decision: Decision;
  readonly record: Held<ObjectRecord>;
  readonly latest: SecretProperties | null;
  readonly versions: number;
  readonly policy: Policy | null;
  readonly target: Target | null;
}

/** Everything the decision rests on, read now. Also what a plan shows. */
export async function survey(
  services: EngineServices,
  request: Pick<Journal, 'object' | 'expectedBaseVersion'> & { readonly reason: string },
): Promise<Survey> {
  const { object } = request;
  const record = await readRecord(services.store, object);
  const secrets = secretsOf(services, object.vault);
  const latest = secrets ? await readLatest(secrets, object) : 'unknown_vault';
  const catalog = await currentCatalog(services);
  const tags = typeof latest === 'string' ? {} : latest.tags;
  const listed = choosePolicy(catalog.policies, object, tags);
  const target =
    listed.kind === 'one' ? (catalog.targets.get(listed.policy.target ?? '') ?? null) : null;
  // A target says itself which objects may carry its credential: a policy alone cannot redirect it.
  const isBarred = target !== null && !covers(target.objects, object);
  const choice = isBarred ? ({ kind: 'none' } as const) : listed;
  const { active, quarantined, circuitOpenUntil } = record.body;
  const decision = decide({
    request: { ...request, reason: request.reason as RotateMessage['reason'], type: object.type },
    now: services.clock.now(),
    latest,
    choice,
    record: {
      active,
      quarantined: quarantined !== null,
      circuitOpenUntil: circuitOpenUntil === null ? null : new Date(circuitOpenUntil),
    },
  });
  const versions =
    decision.kind === 'start' && secrets
      ? (await Array.fromAsync(secrets.listVersions(object.name))).length
      : 0;
  const policy = choice.kind === 'one' ? choice.policy : null;
  return {
    ...{ decision, record, versions, policy, target },
    latest: typeof latest === 'string' ? null : latest,
  };
}

/** Only main vaults hold objects that are rotated: the pending vault's are never ours to touch. */
function secretsOf({ vaults }: EngineServices, alias: string): SecretService | null {
  const vault = vaults.all().find((one) => one.alias === alias && one.purpose === 'main');
  return vault?.secrets ?? null;
}

async function readLatest(
  secrets: SecretService,
  { type, name }: ObjectRef,
): Promise<Situation['latest']> {
  // What is no secret may have a secret's name, which is none of our business then.
  if (type !== 'secret') return 'missing';
  try {
    return (await secrets.get(name)).properties;
  } catch (error) {
    if (hasCode(error, 'not_found')) return 'missing';
    if (hasCode(error, 'object_disabled')) return 'disabled';
    throw error;
  }
}

async function take(services: EngineServices, held: HeldJournal, found: Survey): Promise<Started> {
  const { object } = held.journal;
  const { policy, target, latest } = found;
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
  };
  const [etag, , leaseEtag] = await services.store.transact(shardOf(object), [
    putJournal(journal, { etag: held.etag }),
    putRecord(object, found.record, { ...found.record.body, active: journal.id }),
    offer.write,
  ]);
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
