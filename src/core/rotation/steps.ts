import { addSeconds } from '../clock.ts';
import { outboxWrites } from '../consumers/outbox.ts';
import { AppError, hasCode } from '../errors.ts';
import type { Policy } from '../policies/policy.ts';
import type { DocumentWrite } from '../storage/ports.ts';
import type { SecretProperties, SecretService, SecretVersion } from '../vault/ports.ts';
import { generatePassword } from './generator.ts';
import type { AnyHandler, HandlerContext } from './handler.ts';
import type { Journal, OpenState, State } from './journal.ts';
import type { Lease } from './lease.ts';
import { rowId, shardOf } from './records.ts';
import { reserve, unreserve } from './reservation.ts';
import type { EngineServices } from './services.ts';
import { type Credential, parseValue, renderValue } from './value.ts';

/** One rotation being worked on under a lease. */
export interface Run {
  readonly services: EngineServices;
  readonly journal: Journal;
  readonly policy: Policy;
  readonly handler: AnyHandler;
  readonly context: HandlerContext<unknown>;
  readonly secrets: SecretService;
  readonly lease: Lease;
  /** Set while a one-login rotation crosses its gap without stopping to write. */
  readonly crossing: { readonly candidate: Credential; readonly appliedAt: Date } | null;
}

export type Move =
  | {
      readonly kind: 'move';
      readonly to: State;
      readonly patch?: Partial<Journal>;
      readonly note?: string;
      /** Written in the same transaction as the journal. */
      readonly also?: readonly DocumentWrite[];
      readonly crossing?: Run['crossing'];
    }
  | { readonly kind: 'wait'; readonly until: Date };

type Step = (run: Run) => Promise<Move>;

/** One side effect each; every one first asks what is true, and may be repeated. */
export const steps: Record<Exclude<OpenState, 'REQUESTED'>, Step> = {
  CLAIMED: preflight,
  PREFLIGHTED: stage,
  STAGED: intend,
  APPLYING: apply,
  APPLIED: verify,
  VERIFIED: async (run) => move('PROMOTING', { crossing: run.crossing }),
  PROMOTING: promote,
  PROMOTED: settle,
  NOTIFIED: notify,
  GRACE: awaitGrace,
  RETIRING: retire,
  RETIRED: finish,
  ROLLING_BACK: rollBack,
};

/** What a step is about to read, change or reveal; audited durably before it begins. */
export function effectsOf({
  state,
  overlap,
}: Pick<Journal, 'state' | 'overlap'>): readonly string[] {
  switch (state) {
    case 'CLAIMED':
      return ['secret.read', 'admin.read', 'target.probe'];
    case 'PREFLIGHTED':
      return ['candidate.stage'];
    case 'APPLYING': {
      const apply = ['candidate.read', 'admin.read', 'target.apply'];
      return overlap === 'none' ? [...apply, 'target.probe', 'secret.write'] : apply;
    }
    case 'APPLIED':
      return ['candidate.read', 'target.probe'];
    case 'PROMOTING':
      return ['candidate.read', 'secret.write'];
    case 'PROMOTED':
      return ['secret.read', 'target.probe', 'candidate.drop'];
    case 'RETIRING':
      return ['secret.read', 'admin.read', 'target.probe', 'target.retire'];
    case 'ROLLING_BACK':
      return ['secret.read', 'admin.read', 'target.restore', 'candidate.drop'];
    default:
      return [];
  }
}

function move(to: State, rest: Omit<Extract<Move, { kind: 'move' }>, 'kind' | 'to'> = {}): Move {
  return { kind: 'move', to, ...rest };
}

async function preflight(run: Run): Promise<Move> {
  const { journal, handler, context, services, policy } = run;
  const claim = { rotationId: journal.id, shard: shardOf(journal.object) };
  await reserve(services.store, handler.resources(context.settings), claim);
  const base = await run.secrets.get(journal.object.name, journal.baseVersion ?? undefined);
  checkTags(base.properties);
  if (handler.targetSettings === null) return move('PREFLIGHTED');
  const current = parseValue(policy.value, base.value);
  const login = handler.nextLogin(context.settings, current.username);
  await handler.preflight(context, login);
  if (!(await handler.verify(context, current))) {
    throw new AppError('target_refused', {
      detail: 'the target does not accept the stored credential: store the one in force first',
    });
  }
  return move('PREFLIGHTED', { patch: { login, previousLogin: current.username } });
}

/** Key Vault takes 15 tags; three are ours. */
function checkTags(base: SecretProperties): void {
  const foreign = Object.keys(base.tags).filter((tag) => !ourTags.includes(tag));
  if (foreign.length <= 15 - ourTags.length) return;
  throw new AppError('invalid_input', {
    detail: `the secret has ${foreign.length} tags; remove some, three are needed for rotation`,
  });
}

const ourTags: readonly string[] = ['rotationId', 'previousVersion', 'login'];

async function stage({ services, journal, policy }: Run): Promise<Move> {
  const staged = await services.pending.find(journal.id, journal.candidate);
  const password = staged ? null : generatePassword(policy.generator);
  const value = password && renderValue(policy.value, { username: journal.login, password });
  // Found without a reference: the earlier run died between the vault's answer and its own note.
  const candidate = value
    ? await services.pending.stage(journal.id, value)
    : (journal.candidate ?? { kind: 'vault' as const, name: `wal-${journal.id}` });
  return move('STAGED', { patch: { candidate } });
}

async function intend(run: Run): Promise<Move> {
  if (await isCancelled(run)) throw cancelled();
  return move('APPLYING');
}

export async function isCancelled({ services, journal }: Run): Promise<boolean> {
  return (await services.store.get(shardOf(journal.object), rowId.cancel(journal.id))) !== null;
}

export function cancelled(): AppError {
  return new AppError('invalid_input', { detail: 'cancelled on request' });
}

async function apply(run: Run): Promise<Move> {
  const before = await lookBeforePromotion(run);
  if (before) return before;
  const { credential } = await candidateOf(run);
  await run.handler.apply(run.context, credential, run.lease);
  if (run.journal.overlap !== 'none') return move('APPLIED');
  const crossing = { candidate: credential, appliedAt: run.services.clock.now() };
  return move('APPLIED', { crossing });
}

async function verify(run: Run): Promise<Move> {
  const credential = run.crossing?.candidate ?? (await candidateOf(run)).credential;
  if (await run.handler.verify(run.context, credential)) {
    return move('VERIFIED', { crossing: run.crossing });
  }
  throw new AppError('credential_rejected', { detail: 'the candidate does not log in yet' });
}

async function promote(run: Run): Promise<Move> {
  const { journal, policy, services, crossing } = run;
  const before = crossing ? null : await lookBeforePromotion(run);
  if (before) return before;
  const value = crossing
    ? renderValue(policy.value, crossing.candidate)
    : (await candidateOf(run)).value;
  const { tags, contentType } = journal.baseProperties ?? { tags: {}, contentType: null };
  const written = await run.secrets.set(
    journal.object.name,
    {
      value,
      contentType: policy.value.shape === 'json' ? 'application/json' : contentType,
      expiresOn: addSeconds(services.clock.now(), policy.schedule.validFor),
      tags: { ...tags, ...tagsOf(journal) },
    },
    { guard: () => run.lease.guard() },
  );
  const gapMs = crossing && services.clock.now().getTime() - crossing.appliedAt.getTime();
  return move('PROMOTED', { patch: { promotedVersion: written.version, gapMs } });
}

function tagsOf(journal: Journal): Record<string, string> {
  return {
    rotationId: journal.id,
    ...(journal.baseVersion === null ? {} : { previousVersion: journal.baseVersion }),
    ...(journal.login === null ? {} : { login: journal.login }),
  };
}

/**
 * What the vault says before a version is written: ours stands there already, or somebody else
 * wrote one that works, and then theirs is to stay. Null when the way is free.
 */
async function lookBeforePromotion(run: Run): Promise<Move | null> {
  const { versions, mine } = await ownVersion(run);
  if (mine) return move('PROMOTED', { patch: { promotedVersion: mine.version } });
  if (versions.length === run.journal.versionsAtClaim) return null;
  const latest = await run.secrets.get(run.journal.object.name);
  if (!(await accepts(run, latest))) return null;
  return move('ROLLING_BACK', {
    patch: {
      interleaved: true,
      outcome: {
        code: 'interleaved',
        message: `version ${latest.properties.version} was written meanwhile and works: it stays in force`,
      },
    },
  });
}

async function ownVersion({ secrets, journal }: Run): Promise<{
  readonly versions: readonly SecretProperties[];
  readonly mine: SecretProperties | null;
}> {
  const versions = await Array.fromAsync(secrets.listVersions(journal.object.name));
  const mine = versions.find((version) => version.tags['rotationId'] === journal.id) ?? null;
  return { versions, mine };
}

/** Whether the target accepts what this version holds; a text we cannot read is a no. */
async function accepts(run: Run, version: SecretVersion): Promise<boolean> {
  if (run.handler.targetSettings === null) return true;
  const credential = readable(run, version);
  if (!credential) return false;
  try {
    return await run.handler.verify(run.context, credential);
  } catch (error) {
    if (hasCode(error, 'target_refused')) return false;
    throw error;
  }
}

function readable({ policy }: Run, version: SecretVersion): Credential | null {
  try {
    return parseValue(policy.value, version.value);
  } catch (error) {
    if (hasCode(error, 'invalid_input')) return null;
    throw error;
  }
}

async function candidateOf({ services, journal, policy }: Run): Promise<{
  readonly value: SecretVersion['value'];
  readonly credential: Credential;
}> {
  const value = await services.pending.find(journal.id, journal.candidate);
  if (!value) throw new AppError('corrupt', { detail: `no candidate of ${journal.id} is left` });
  return { value, credential: parseValue(policy.value, value) };
}

/** After promotion: the latest version is proven, then the candidate goes and consumers are noted. */
async function settle(run: Run): Promise<Move> {
  const { journal, services, policy } = run;
  const { versions, mine } = await ownVersion(run);
  if (!mine) throw new AppError('corrupt', { detail: 'the promoted version is not listed' });
  const latest = await run.secrets.get(journal.object.name);
  const isLatest = latest.properties.version === mine.version;
  if (isLatest) await prove(run, latest);
  const interleaved = !isLatest || versions.length !== journal.versionsAtClaim + 1;
  await services.pending.drop(journal.id);
  const now = services.clock.now();
  const retireAt = journal.overlap === 'none' ? null : addSeconds(now, policy.grace).toISOString();
  const notification = {
    rotationId: journal.id,
    correlationId: journal.correlationId,
    vault: journal.object.vault,
    objectType: journal.object.type,
    name: journal.object.name,
    version: mine.version,
    previousVersion: journal.baseVersion,
    rotatedAt: now.toISOString(),
    retireAt,
  };
  return move('NOTIFIED', {
    also: outboxWrites(notification, policy.consumers, now),
    patch: {
      candidate: null,
      retireAt,
      promotedVersion: mine.version,
      outbox: policy.consumers.map((consumer) => consumer.id),
      ...(interleaved ? { interleaved, outcome: interleavedOutcome(isLatest, mine) } : {}),
    },
  });
}

function interleavedOutcome(isLatest: boolean, mine: SecretProperties): Journal['outcome'] {
  const message = isLatest
    ? 'another version was written during the rotation; ours was written after it and works'
    : `another version was written after ours; check it, or restore version ${mine.version}`;
  return { code: 'interleaved', message };
}

/** The latest version logs in, or is made to: a roll-back may have run while its write was under way. */
async function prove(run: Run, latest: SecretVersion): Promise<void> {
  if (await accepts(run, latest)) return;
  const credential = parseValue(run.policy.value, latest.value);
  await run.handler.apply(run.context, credential, run.lease);
  if (await run.handler.verify(run.context, credential)) return;
  throw new AppError('credential_rejected', { detail: 'the latest version does not log in' });
}

async function notify({ journal, services }: Run): Promise<Move> {
  const partition = shardOf(journal.object);
  for (const consumer of journal.outbox) {
    const id = `active:delivery:${journal.id}:${consumer}`;
    await services.notifications.send({ partition, id });
  }
  if (journal.overlap === 'none') return move('RETIRED', { note: 'nothing outlives promotion' });
  return move('GRACE');
}

async function awaitGrace({ journal, services }: Run): Promise<Move> {
  const until = new Date(journal.retireAt ?? 0);
  return services.clock.now() < until ? { kind: 'wait', until } : move('RETIRING');
}

async function retire(run: Run): Promise<Move> {
  const { journal, handler, context } = run;
  const latest = await run.secrets.get(journal.object.name);
  if (readable(run, latest)?.username === journal.previousLogin) {
    throw new AppError('target_refused', {
      detail: `the latest version uses ${journal.previousLogin} again, so it was not retired`,
    });
  }
  if (!(await accepts(run, latest))) {
    throw new AppError('credential_rejected', {
      detail: 'the latest version does not log in, so the old login was not retired',
    });
  }
  await handler.retire(context, journal.previousLogin, run.lease);
  return move('RETIRED');
}

async function finish({ journal, handler, context, services }: Run): Promise<Move> {
  await unreserve(services.store, handler.resources(context.settings), journal.id);
  return move('DONE');
}

/** Makes the latest version, whoever wrote it, the credential in force, and forgets the candidate. */
async function rollBack(run: Run): Promise<Move> {
  const { journal, handler, context, services } = run;
  const forward = (version: string) =>
    move('PROMOTED', { patch: { promotedVersion: version, outcome: null } });
  const first = await ownVersion(run);
  if (first.mine) return forward(first.mine.version);
  if (handler.targetSettings !== null) await restoreTarget(run);
  // A write we gave up on may have come through while we restored: then forward is the way.
  const second = await ownVersion(run);
  if (second.mine) return forward(second.mine.version);
  await services.pending.drop(journal.id);
  await unreserve(services.store, handler.resources(context.settings), journal.id);
  return move('ROLLED_BACK', { patch: { candidate: null } });
}

async function restoreTarget(run: Run): Promise<void> {
  const { journal, handler, context, lease } = run;
  const latest = await run.secrets.get(journal.object.name);
  const credential = parseValue(run.policy.value, latest.value);
  if (!(await handler.verify(context, credential))) {
    await handler.restore(context, credential, lease);
    if (!(await handler.verify(context, credential))) {
      throw new AppError('credential_rejected', {
        detail: 'the restored credential does not log in',
      });
    }
  }
  const isOther = journal.login !== null && journal.login !== credential.username;
  if (journal.overlap === 'users' && isOther) await handler.retire(context, journal.login, lease);
}

/** Undoes what a rotation that touched nothing has left: candidate and reservations. */
export async function cleanUp({ journal, handler, context, services }: Run): Promise<void> {
  await services.pending.drop(journal.id);
  await unreserve(services.store, handler.resources(context.settings), journal.id);
}
