/** Where a replay ends otherwise than the log, and why. */
import type { ErrorCode } from '../errors.ts';
import type { AccessLogEntry } from '../vault/access-entry.ts';
import type { ReadSource } from '../vault/observer.ts';
import type { LogLine } from './replay-log.ts';
import type { Ending } from './replay-target.ts';

export interface ReplayDifference {
  readonly line: number;
  readonly at: string;
  readonly vault: string;
  readonly operation: string;
  readonly object: string | null;
  /** `ok`, the code of an error, or `version …` where only the version differs. */
  readonly recorded: string;
  readonly replayed: string;
  /** Whether it is `better` for whoever asked: a failure less; `worse`: one more, or something older. */
  readonly effect: DifferenceEffect;
  readonly reason: string;
}

export type DifferenceEffect = 'better' | 'worse' | 'other';

export interface ReplayDifferences {
  readonly total: number;
  readonly byEffect: Readonly<Record<DifferenceEffect, number>>;
  readonly byReason: Readonly<Record<string, number>>;
  /** The first of them. */
  readonly examples: readonly ReplayDifference[];
}

/** How an operation went in the replay, and by what. */
export interface Replayed extends Ending {
  readonly source: ReadSource | null;
  /** Whether the vault has answered 429 on the way. */
  readonly wasThrottled: boolean;
}

const fails: readonly string[] = ['vault_unavailable', 'circuit_open', 'vault_throttled'];
const fromCache: readonly (string | null)[] = ['hit', 'negative', 'stale'];

/** @returns null where both ended alike; an open circuit and a vault that is down are alike */
export function findDifference(
  { line, entry }: LogLine,
  replayed: Replayed,
  keepsVersions: boolean,
): ReplayDifference | null {
  const { at, vault, operation, object, outcome, servedVersion } = entry;
  const about = { line, at, vault, operation, object };
  if (classOf(outcome) !== classOf(replayed.outcome)) {
    const said = { recorded: outcome, replayed: replayed.outcome };
    return { ...about, ...said, ...judge(entry, replayed) };
  }
  const isBoth = servedVersion !== null && replayed.version !== null && outcome === 'ok';
  if (!keepsVersions || !isBoth || servedVersion.toLowerCase() === replayed.version) return null;
  const said = { recorded: `version ${servedVersion}`, replayed: `version ${replayed.version}` };
  return { ...about, ...said, ...judge(entry, replayed) };
}

function classOf(outcome: 'ok' | ErrorCode): string {
  return outcome === 'circuit_open' ? 'vault_unavailable' : outcome;
}

function judge(
  entry: AccessLogEntry,
  replayed: Replayed,
): Pick<ReplayDifference, 'effect' | 'reason'> {
  const hasFailed = fails.includes(replayed.outcome);
  const hadFailed = fails.includes(entry.outcome);
  if (hasFailed) return { effect: hadFailed ? 'other' : 'worse', reason: whyFailed(replayed) };
  const isCached = fromCache.includes(replayed.source);
  if (hadFailed) return { effect: 'better', reason: whyBetter(entry, replayed, isCached) };
  if (isCached) return { effect: 'worse', reason: 'the cache answered with what was true before' };
  if (fromCache.includes(entry.cache)) {
    return { effect: 'better', reason: 'the vault was asked, and no longer the cache' };
  }
  return { effect: 'other', reason: 'the vault was asked at another time, or written otherwise' };
}

function whyFailed({ outcome, wasThrottled }: Replayed): string {
  if (outcome === 'circuit_open') return 'the vault was left alone, being down';
  if (outcome === 'vault_unavailable') return 'the vault was down, and the cache had no answer';
  if (wasThrottled) return 'the vault answered 429 until the deadline';
  return 'the budget of the instance was used up until the deadline';
}

function whyBetter(entry: AccessLogEntry, replayed: Replayed, isCached: boolean): string {
  if (replayed.source === 'stale') return 'served beyond its time, the vault being down';
  if (isCached) return 'the cache had the answer';
  if (entry.outcome === 'vault_throttled') return 'there was room within the limit';
  return 'the vault was asked at another time, when it was up';
}

const maxExamples = 20;

/** Adds up differences, and keeps the first. */
export class DifferenceTally {
  readonly #byEffect = { better: 0, worse: 0, other: 0 };
  readonly #byReason = new Map<string, number>();
  readonly #examples: ReplayDifference[] = [];
  readonly #told: (difference: ReplayDifference) => void;
  #total = 0;

  /** @param told is told each of them */
  constructor(told: (difference: ReplayDifference) => void) {
    this.#told = told;
  }

  add(difference: ReplayDifference): void {
    this.#total++;
    this.#byEffect[difference.effect]++;
    const { reason } = difference;
    this.#byReason.set(reason, (this.#byReason.get(reason) ?? 0) + 1);
    if (this.#examples.length < maxExamples) this.#examples.push(difference);
    this.#told(difference);
  }

  result(): ReplayDifferences {
    return {
      total: this.#total,
      byEffect: { ...this.#byEffect },
      byReason: Object.fromEntries(this.#byReason),
      // They are found as operations end.
      examples: this.#examples.toSorted((left, right) => left.line - right.line),
    };
  }
}
