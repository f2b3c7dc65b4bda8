import { AppError, hasCode } from '../errors.ts';
import type { Policy } from '../policies/policy.ts';
import type { DocumentWrite } from '../storage/ports.ts';
import type { SecretProperties, SecretService, SecretVersion } from '../vault/ports.ts';
import type { AnyHandler, HandlerContext } from './handler.ts';
import type { Journal, ProvenVersion, State } from './journal.ts';
import type { Lease } from './lease.ts';
import type { EngineServices } from './services.ts';
import { type Credential, parseValue } from './value.ts';

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
  readonly crossing: { readonly candidate: Candidate; readonly appliedAt: Date } | null;
}

/** A value that waits to be promoted, and what it holds. */
export interface Candidate {
  readonly value: SecretVersion['value'];
  readonly credential: Credential;
}

/** What a step leads to. */
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

export function move(
  to: State,
  rest: Omit<Extract<Move, { kind: 'move' }>, 'kind' | 'to'> = {},
): Move {
  return { kind: 'move', to, ...rest };
}

/** Gives up for a reason that is nobody's failure; whatever was changed is put back. */
export function turnBack(code: 'cancelled' | 'interleaved' | 'other_login', message: string): Move {
  const interleaved = code === 'interleaved' ? { interleaved: true } : {};
  return move('ROLLING_BACK', {
    note: code,
    patch: { outcome: { code, message }, ...interleaved },
  });
}

/** All versions of the object, and those of them this rotation wrote: more than one if a write came late. */
export async function listVersions({ secrets, journal }: Run): Promise<{
  readonly all: readonly SecretProperties[];
  readonly own: readonly SecretProperties[];
}> {
  const all = await Array.fromAsync(secrets.listVersions(journal.object.name));
  return { all, own: all.filter((version) => version.tags['rotationId'] === journal.id) };
}

/** Whether the target accepts what this version holds; a text we cannot read is a no. */
export async function accepts(run: Run, version: SecretVersion): Promise<boolean> {
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

/** The credential in a version; null for a text we cannot read. */
export function readable({ policy }: Run, version: SecretVersion): Credential | null {
  try {
    return parseValue(policy.value, version.value);
  } catch (error) {
    if (hasCode(error, 'invalid_input')) return null;
    throw error;
  }
}

export async function candidateOf({ services, journal, policy }: Run): Promise<Candidate> {
  const value = await services.pending.find(journal.id, journal.candidate);
  if (!value) throw new AppError('corrupt', { detail: `no candidate of ${journal.id} is left` });
  return { value, credential: parseValue(policy.value, value) };
}

export function proven({ version, tags }: SecretProperties): ProvenVersion {
  return { version, rotationId: tags['rotationId'] ?? null };
}

/**
 * Milliseconds in which the latest version may not have logged in, up to now; after an interruption
 * they count from the intent to change the target. Null where both logins work side by side.
 */
export function gapOf({ journal, handler, services, crossing }: Run): number | null {
  if (journal.overlap !== 'none' || handler.targetSettings === null) return null;
  const intended = journal.history.find(({ state }) => state === 'APPLYING');
  const since = crossing?.appliedAt ?? new Date(intended?.at ?? 0);
  return services.clock.now().getTime() - since.getTime();
}
