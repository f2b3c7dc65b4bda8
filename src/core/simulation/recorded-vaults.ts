/**
 * The vaults behind an access log, as far as it shows them: which objects there were, in which versions, and when a
 * vault was down. What a call finds depends on when it is made, which may be at another time than when it was recorded.
 */
import { AppError, type ErrorCode } from '../errors.ts';
import type { ObjectType } from '../vault/ports.ts';
import { isOfObjects, makers, RecordedObjects } from './recorded-objects.ts';
import type { LogLine } from './replay-log.ts';
import { pausesMs } from './virtual-calls.ts';

/** How a call went when it was recorded. */
export interface Fate {
  readonly outcome: 'ok' | ErrorCode;
  /** So many tries found the vault down before the one that told. */
  readonly failures: number;
  /** How long it took; null where that says nothing of a single request. */
  readonly ms: number | null;
}

export type VaultAnswer =
  | { readonly value: { readonly version: string | null } }
  | { readonly code: ErrorCode };

/** What is known of an object beside its versions. */
interface Notes {
  /** Whether the vault itself, and not only a cache, has told of it. */
  isKnown: boolean;
  /** Why the vault refuses it, such as for lack of a right; null when it does not. */
  refusal: ErrorCode | null;
  /** Versions it was seen with. */
  readonly versions: Set<string>;
  /** Those that were recorded, but whose creation failed in the replay. */
  readonly lost: Set<string>;
  /** Until then, a read may show what was before the last write. */
  writtenUntil: number;
}

/** What depends on the settings of a replay and on the replay itself, and not on the vault. */
const ours: readonly string[] = ['vault_throttled', 'circuit_open'];
/** What follows from which objects there are. */
const ofObjects: readonly string[] = ['not_found', 'object_disabled', 'object_deleted'];
const refusals: readonly string[] = ['vault_denied', 'vault_rejected'];
/** Tries that took longer were not refused but hung. */
const quickMs = 2_000;
/** Sources that tell of a time before. */
const ofCache: readonly (string | null)[] = ['hit', 'stale', 'negative'];

/** What the vault said in `line`; null when it was not asked, or by something that was not its own doing. */
export function fateOf({ entry, operation }: LogLine): Fate | null {
  const { cache, outcome, requests, throttled, ms } = entry;
  if (cache === 'stale') return { outcome: 'vault_unavailable', failures: 0, ms: null };
  if (cache === 'hit' || cache === 'negative' || cache === 'shared') return null;
  if (ours.includes(outcome)) return null;
  const isSingle = !operation.isList && operation.method !== 'erase';
  const isDown = outcome === 'vault_unavailable';
  const failures = isSingle && !isDown ? Math.max(0, requests - throttled - 1) : 0;
  if (isDown) return { outcome, failures, ms: hungMs(ms, requests) };
  return { outcome, failures, ms: requests === 1 ? ms : null };
}

/** How long each try was kept waiting; null where the vault refused quickly: what is left is chance then. */
function hungMs(ms: number, requests: number): number | null {
  const each = (ms - pausesMs(requests)) / Math.max(1, requests);
  return each >= quickMs ? each : null;
}

export class RecordedVaults {
  readonly #objects = new Map<string, RecordedObjects>();
  readonly #notes = new Map<string, Notes>();
  readonly #down = new Set<string>();
  readonly #now: () => number;

  /** @param now milliseconds since 1970 */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Learns what `line` shows of the vault, before anything is done at that time. */
  observe(line: LogLine): void {
    const { entry, operation } = line;
    this.#observeOutage(line);
    if (entry.object === null) return;
    if (operation.method === 'get') this.#observeRead(line, entry.object);
    else if (operation.effect === 'write') this.#observeWrite(line, entry.object);
  }

  /**
   * What one try at what `line` did finds now.
   *
   * @param fate how the very same call went; null for one that was not made when it was recorded
   */
  answer(line: LogLine, fate: Fate | null, attempt: number): VaultAnswer {
    const { entry, operation } = line;
    if (fate !== null && attempt <= fate.failures) return { code: 'vault_unavailable' };
    const { object } = entry;
    const isKept = object !== null && isOfObjects(operation.method);
    const code = fate === null ? this.#refusal(line) : fate.outcome;
    if (code !== 'ok' && !(isKept && ofObjects.includes(code))) return { code };
    if (!isKept) return { value: { version: entry.servedVersion } };
    try {
      return { value: { version: this.#do(line, object) } };
    } catch (error) {
      if (error instanceof AppError) return { code: error.code };
      throw error;
    }
  }

  /** What `line` made when it was recorded was not made in the replay. */
  noteFailed({ entry, operation }: LogLine): void {
    const { vault, object, servedVersion } = entry;
    if (object === null || servedVersion === null || !makers.includes(operation.method)) return;
    this.#notesOf(vault, operation.type, object).lost.add(servedVersion);
  }

  #refusal({ entry, operation }: LogLine): 'ok' | ErrorCode {
    if (this.#down.has(entry.vault)) return 'vault_unavailable';
    if (entry.object === null) return 'ok';
    return this.#notesOf(entry.vault, operation.type, entry.object).refusal ?? 'ok';
  }

  #observeOutage({ entry }: LogLine): void {
    const { cache, outcome, requests, vault } = entry;
    if (outcome === 'vault_unavailable' || cache === 'stale') this.#down.add(vault);
    else if (requests > 0 && !ours.includes(outcome)) this.#down.delete(vault);
  }

  #observeWrite({ entry, operation }: LogLine, name: string): void {
    const { vault, outcome, version, servedVersion: made } = entry;
    const objects = this.#objectsOf(vault, operation.type);
    if (outcome === 'ok') objects.expect(operation.method, { name, version, made });
    else objects.expectRefusal(operation.method, name, outcome);
  }

  #observeRead(line: LogLine, name: string): void {
    const { entry, operation } = line;
    const { vault, cache, outcome, version, servedVersion } = entry;
    const objects = this.#objectsOf(vault, operation.type);
    const notes = this.#notesOf(vault, operation.type, name);
    const shown = servedVersion ?? version;
    const isNew = isFirstSight(notes, shown);
    if (ofCache.includes(cache)) {
      // It tells of a time before; what was never seen otherwise was read by the cache, or before the log began.
      const mayBeThere = isNew && (!notes.isKnown || objects.has(name));
      if (mayBeThere && outcome === 'ok') objects.appear(name, shown, placeOf(version));
    } else this.#observeAnswer(line, name);
  }

  /** What the vault itself has answered. */
  #observeAnswer({ at, entry, operation }: LogLine, name: string): void {
    const { vault, cache, outcome, version, servedVersion } = entry;
    const objects = this.#objectsOf(vault, operation.type);
    const notes = this.#notesOf(vault, operation.type, name);
    const shown = servedVersion ?? version;
    // Repeated or shared, it was answered at another time than `at`.
    const isExact = cache !== 'shared' && entry.requests <= 1;
    if (at < notes.writtenUntil || (notes.isKnown && !isExact)) return;
    notes.isKnown = true;
    notes.refusal = refusalIn(outcome, notes.refusal);
    if (outcome === 'not_found' && version === null) objects.vanish(name);
    if (shown !== null && notes.lost.has(shown)) return;
    if (outcome === 'ok' || outcome === 'object_disabled') {
      objects.appear(name, shown, placeOf(version));
      objects.enable(name, shown, outcome === 'ok');
    }
  }

  #do({ entry, operation }: LogLine, name: string): string | null {
    const { vault, version, servedVersion: made, ms } = entry;
    if (operation.effect === 'write') {
      const notes = this.#notesOf(vault, operation.type, name);
      notes.isKnown = true;
      if (made !== null) notes.versions.add(made);
      notes.writtenUntil = this.#now() + ms;
    }
    return this.#objectsOf(vault, operation.type).do(operation.method, { name, version, made });
  }

  #objectsOf(vault: string, type: ObjectType): RecordedObjects {
    const key = `${vault} ${type}`;
    const known = this.#objects.get(key);
    const objects = known ?? new RecordedObjects(type, () => new Date(this.#now()));
    this.#objects.set(key, objects);
    return objects;
  }

  #notesOf(vault: string, type: ObjectType, name: string): Notes {
    const key = `${vault} ${type} ${name.toLowerCase()}`;
    const notes = this.#notes.get(key) ?? {
      ...{ isKnown: false, refusal: null, versions: new Set<string>(), lost: new Set<string>() },
      writtenUntil: Number.NEGATIVE_INFINITY,
    };
    this.#notes.set(key, notes);
    return notes;
  }
}

/** Whether nothing of the kind was seen before; from now on it was. */
function isFirstSight(notes: Notes, version: string | null): boolean {
  if (version === null) return !notes.isKnown;
  const isFirst = !notes.versions.has(version);
  notes.versions.add(version);
  return isFirst;
}

function placeOf(version: string | null): 'latest' | 'older' {
  return version === null ? 'latest' : 'older';
}

function refusalIn(outcome: 'ok' | ErrorCode, before: ErrorCode | null): ErrorCode | null {
  if (outcome === 'ok' || ofObjects.includes(outcome)) return null;
  return refusals.includes(outcome) ? outcome : before;
}
