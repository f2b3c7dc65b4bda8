import { addSeconds } from '../clock.ts';
import { deliveryMessage, outboxWrites } from '../consumers/outbox.ts';
import { AppError, hasCode } from '../errors.ts';
import type { DocumentWrite } from '../storage/ports.ts';
import { currentTraceparent } from '../telemetry.ts';
import type { SecretProperties, SecretVersion } from '../vault/ports.ts';
import { checkNewSecret } from '../vault/secret-rules.ts';
import { generatePassword } from './generator.ts';
import type { Journal, OpenState } from './journal.ts';
import { credentialInForce } from './late-write.ts';
import { checkTags, newVersion } from './new-version.ts';
import { rowId, shardOf } from './records.ts';
import { reserve, unreserve } from './reservation.ts';
import { dropCandidate, rollBack } from './rollback.ts';
import {
  accepts,
  type Candidate,
  candidateOf,
  gapOf,
  listVersions,
  type Move,
  move,
  proven,
  type Run,
  readable,
  turnBack,
} from './run.ts';
import { type Credential, parseValue, renderValue, unlistedMembers } from './value.ts';

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

async function preflight(run: Run): Promise<Move> {
  const { journal, handler, context, policy } = run;
  await claimTarget(run);
  const latest = await run.secrets.get(journal.object.name);
  // Versions were counted before: nothing that is written from the claim on goes unnoticed.
  if (latest.properties.version !== journal.baseVersion) {
    return turnBack(
      'interleaved',
      `version ${latest.properties.version} was written meanwhile: ask again if it is due`,
    );
  }
  checkTags(journal, latest.properties);
  if (!journal.rollback) checkMembers(policy, latest);
  const wanted = journal.rollback && (await readWanted(run, journal.rollback));
  if (handler.targetSettings === null) return move('PREFLIGHTED');
  const current = await credentialInForce(run, latest);
  const login = handler.nextLogin(context.settings, current.username);
  const mismatch = wanted && findMismatch(journal, login, wanted.credential);
  if (mismatch) return turnBack('other_login', mismatch);
  await handler.preflight(context, login);
  return move('PREFLIGHTED', { patch: { login, previousLogin: current.username } });
}

function claimTarget({ journal, handler, context, services }: Run): Promise<void> {
  const claim = { rotationId: journal.id, shard: shardOf(journal.object) };
  return reserve(services.store, handler.resources(context.settings), claim);
}

/** A member that the template lacks would be gone from the new version. */
function checkMembers({ value }: Run['policy'], latest: SecretVersion): void {
  const lost = unlistedMembers(value, latest.value);
  if (lost.length === 0) return;
  throw new AppError('invalid_input', {
    detail: `the stored JSON has members that value.template of the policy lacks (${lost.join(', ')}): add them there`,
  });
}

/** The value a rollback goes back to: it stays in the vault, so each try stages the same. */
async function readWanted(
  { secrets, journal, policy }: Run,
  { toVersion }: NonNullable<Journal['rollback']>,
): Promise<Candidate> {
  const { value } = await secrets.get(journal.object.name, toVersion);
  try {
    return { value, credential: parseValue(policy.value, value) };
  } catch (cause) {
    if (!hasCode(cause, 'invalid_input')) throw cause;
    const detail = `version ${toVersion} cannot be gone back to: ${cause.detail}`;
    throw new AppError('invalid_input', { detail, cause });
  }
}

/** Why a stored credential cannot be set at `login`, if so; one of a target with one login may be unnamed. */
function findMismatch(
  { overlap, rollback }: Journal,
  login: string | null,
  { username }: Credential,
): string | null {
  if (username === login || (overlap === 'none' && username === null)) return null;
  const holds = `version ${rollback?.toVersion} holds ${username ?? 'no login'}`;
  return `${holds}, but the login to set is ${login}: name a version that holds that one`;
}

async function stage(run: Run): Promise<Move> {
  const { services, journal } = run;
  const value = await makeValue(run);
  // What the vault would refuse is refused now, while nothing is changed yet.
  checkNewSecret(newVersion(run, value));
  const candidate = await services.pending.stage(journal.id, value, () => run.lease.guard());
  return move('STAGED', { patch: { candidate } });
}

async function makeValue(run: Run): Promise<Candidate['value']> {
  const { journal, policy } = run;
  if (journal.rollback) return (await readWanted(run, journal.rollback)).value;
  const password = generatePassword(policy.generator);
  return renderValue(policy.value, { username: journal.login, password });
}

async function intend(run: Run): Promise<Move> {
  return (await isCancelled(run)) ? cancel() : move('APPLYING');
}

export async function isCancelled({ services, journal }: Run): Promise<boolean> {
  return (await services.store.get(shardOf(journal.object), rowId.cancel(journal.id))) !== null;
}

export function cancel(): Move {
  return turnBack('cancelled', 'cancelled on request');
}

async function apply(run: Run): Promise<Move> {
  const before = await lookBeforePromotion(run);
  if (before) return before;
  const candidate = await candidateOf(run);
  await run.handler.apply(run.context, candidate.credential, run.lease);
  if (run.journal.overlap !== 'none') return move('APPLIED');
  const crossing = { candidate, appliedAt: run.services.clock.now() };
  return move('APPLIED', { crossing });
}

async function verify(run: Run): Promise<Move> {
  const { credential } = run.crossing?.candidate ?? (await candidateOf(run));
  if (await run.handler.verify(run.context, credential)) {
    return move('VERIFIED', { crossing: run.crossing });
  }
  throw new AppError('credential_rejected', { detail: 'the candidate does not log in yet' });
}

async function promote(run: Run): Promise<Move> {
  const { crossing } = run;
  const before = crossing ? null : await lookBeforePromotion(run);
  if (before) return before;
  const { value } = crossing?.candidate ?? (await candidateOf(run));
  const written = await run.secrets.set(run.journal.object.name, newVersion(run, value), {
    guard: () => run.lease.guard(),
  });
  const patch = { promotedVersion: written.version, gapMs: gapOf(run) };
  return move('PROMOTED', { patch });
}

/**
 * What the vault says before a version is written: ours stands there already, or somebody else
 * wrote one that works, and then theirs is to stay. Null when the way is free.
 */
async function lookBeforePromotion(run: Run): Promise<Move | null> {
  const { journal } = run;
  const { all, own } = await listVersions(run);
  const [written] = own;
  if (written) {
    const patch = { promotedVersion: written.version, gapMs: gapOf(run) };
    return move('PROMOTED', { patch });
  }
  const isBaseThere = all.some(({ version }) => version === journal.baseVersion);
  if (isBaseThere && all.length === journal.versionsAtClaim) return null;
  const latest = await run.secrets.get(journal.object.name);
  if (!(await accepts(run, latest))) return null;
  return turnBack(
    'interleaved',
    `version ${latest.properties.version} was written meanwhile and works: it stays in force`,
  );
}

/** After promotion: the latest version is proven, and what consumers are to be told is written down. */
async function settle(run: Run): Promise<Move> {
  const { journal, services, policy } = run;
  const latest = await run.secrets.get(journal.object.name);
  const { all, own } = await listVersions(run);
  // A write that came late made a second version of the same value: the later one counts.
  const mine = own.find(({ version }) => version === latest.properties.version) ?? own[0];
  if (!mine) throw new AppError('corrupt', { detail: 'the promoted version is not listed' });
  const isLatest = mine.version === latest.properties.version;
  if (isLatest) await prove(run, latest);
  const isAlone = isLatest && all.length - own.length === journal.versionsAtClaim;
  const outcome = isAlone ? journal.outcome : await interleavedOutcome(run, latest, mine);
  const now = services.clock.now();
  const retireAt = journal.overlap === 'none' ? null : addSeconds(now, policy.grace).toISOString();
  return move('NOTIFIED', {
    also: notifications(run, { version: mine.version, retireAt, now }),
    patch: {
      retireAt,
      promotedVersion: mine.version,
      inForce: proven(mine),
      outbox: policy.consumers.map((consumer) => consumer.id),
      ...(isAlone ? {} : { interleaved: true }),
      outcome,
    },
  });
}

function notifications(
  { journal, policy }: Run,
  told: { readonly version: string; readonly retireAt: string | null; readonly now: Date },
): DocumentWrite[] {
  const notification = {
    rotationId: journal.id,
    correlationId: journal.correlationId,
    vault: journal.object.vault,
    objectType: journal.object.type,
    name: journal.object.name,
    version: told.version,
    previousVersion: journal.baseVersion,
    rotatedAt: told.now.toISOString(),
    retireAt: told.retireAt,
  };
  return outboxWrites(notification, policy.consumers, told.now);
}

async function interleavedOutcome(
  run: Run,
  latest: SecretVersion,
  mine: SecretProperties,
): Promise<Journal['outcome']> {
  const say = (message: string) => ({ code: 'interleaved', message });
  if (mine.version === latest.properties.version) {
    return say('another version was written during the rotation; ours, written after it, works');
  }
  const theirs = `version ${latest.properties.version} was written after ours`;
  if (await accepts(run, latest)) return say(`${theirs} and works: it stays in force`);
  return say(`${theirs} and does not log in: correct it, or restore version ${mine.version}`);
}

/** The latest version logs in, or is made to: a roll-back may have run while its write was under way. */
async function prove(run: Run, latest: SecretVersion): Promise<void> {
  if (await accepts(run, latest)) return;
  const credential = parseValue(run.policy.value, latest.value);
  await run.handler.apply(run.context, credential, run.lease);
  if (await run.handler.verify(run.context, credential)) return;
  throw new AppError('credential_rejected', { detail: 'the latest version does not log in' });
}

/** The candidate goes last: its value is the proven latest version, and everybody will be told. */
async function notify(run: Run): Promise<Move> {
  const { journal, services } = run;
  const partition = shardOf(journal.object);
  for (const consumer of journal.outbox) {
    const id = `active:delivery:${journal.id}:${consumer}`;
    await services.notifications.send(deliveryMessage(partition, id, currentTraceparent()));
  }
  await dropCandidate(run);
  const patch = { candidate: null };
  if (journal.overlap === 'none') {
    return move('RETIRED', { note: 'nothing outlives promotion', patch });
  }
  return move('GRACE', { patch });
}

async function awaitGrace({ journal, services }: Run): Promise<Move> {
  const until = new Date(journal.retireAt ?? 0);
  return services.clock.now() < until ? { kind: 'wait', until } : move('RETIRING');
}

async function retire(run: Run): Promise<Move> {
  const { journal, handler, context } = run;
  // Held since the beginning, unless an operator resumes what had ended.
  await claimTarget(run);
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
  return move('RETIRED', { patch: { inForce: proven(latest.properties) } });
}

async function finish({ journal, handler, context, services }: Run): Promise<Move> {
  await unreserve(services.store, handler.resources(context.settings), journal.id);
  return move('DONE');
}
