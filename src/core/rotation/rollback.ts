import { AppError, hasCode } from '../errors.ts';
import { errorFields } from '../log.ts';
import { type Journal, type ProvenVersion, wasTouched } from './journal.ts';
import { unreserve } from './reservation.ts';
import { gapOf, listVersions, type Move, move, proven, type Run } from './run.ts';
import { parseValue } from './value.ts';

/** Makes the latest version, whoever wrote it, the credential in force, and forgets the candidate. */
export async function rollBack(run: Run): Promise<Move> {
  const { journal, handler } = run;
  if (!wasTouched(journal)) {
    await forget(run, journal.replaces);
    return move('FAILED_CLEAN', { patch: undone(journal, 'nothing was changed') });
  }
  const [written] = (await listVersions(run)).own;
  if (written) return forward(written.version);
  const inForce = handler.targetSettings === null ? null : await restoreTarget(run);
  // A write we gave up on may have come through while we restored: then forward is the way.
  const [late] = (await listVersions(run)).own;
  if (late) return forward(late.version);
  await forget(run, journal.replaces);
  const patch = undone(journal, 'the stored credential is in force, as before');
  return move('ROLLED_BACK', { patch: { ...patch, inForce, gapMs: gapOf(run) } });
}

function forward(version: string): Move {
  return move('PROMOTED', { patch: { promotedVersion: version, outcome: null } });
}

/** Drops candidate and reservations of a rotation that is over; those stay that are now its heir's. */
export async function forget(run: Run, heir: string | null): Promise<void> {
  const { journal, handler, context, services } = run;
  await dropCandidate(run);
  if (heir !== null) return;
  await unreserve(services.store, handler.resources(context.settings), journal.id);
}

/** A vault that lets nothing be purged must not keep a rotation from its end: that is for people to see. */
export async function dropCandidate({ journal, services }: Run): Promise<void> {
  try {
    await services.pending.drop(journal.id);
  } catch (error) {
    if (!hasCode(error, 'vault_denied', 'vault_rejected')) throw error;
    services.log.error('candidate.kept', { rotationId: journal.id, ...errorFields(error) });
  }
}

/** What a journal says of a rotation that was undone; the place it took in a grace period goes back. */
function undone({ outcome, replaces }: Journal, what: string): Partial<Journal> {
  const back = replaces === null ? '' : `; rotation ${replaces} is in its grace period again`;
  const message = `${outcome?.message} (${what}${back})`;
  return {
    candidate: null,
    replacedBy: replaces,
    outcome: outcome && { code: outcome.code, message },
  };
}

async function restoreTarget(run: Run): Promise<ProvenVersion> {
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
  // The login of a rotation in its grace period has the value it had, and still has its users.
  const isUnused = isOther && journal.replaces === null;
  if (journal.overlap === 'users' && isUnused) await handler.retire(context, journal.login, lease);
  return proven(latest.properties);
}
