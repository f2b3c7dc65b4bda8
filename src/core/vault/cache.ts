/**
 * What was read from vaults, kept for a while. Age counts from when a read was sent: what comes back may be as
 * old as that. It is judged at every read; the sweep only gives memory back.
 */
import { LRUCache } from 'lru-cache';
import { hasCode } from '../errors.ts';
import { type Answered, answered, type Served, servedBy } from './answer.ts';
import {
  type Content,
  type ContentKeeper,
  createContentKeeper,
  type Sealing,
} from './cache-content.ts';
import { elapsedClock } from './elapsed.ts';
import type { ReadSource } from './observer.ts';
import { type Flight, Flights } from './single-flight.ts';
import { isOutage } from './vault-error.ts';

export interface CacheSettings {
  /** Of all vaults together; the least recently used one makes room. */
  readonly maxEntries: number;
  readonly ttlMs: number;
  /** At this part of its time (0 to 1) an entry is read again, while the old value is still served. */
  readonly refreshAt: number;
  /** How long it is remembered that something does not exist; 0: not at all. */
  readonly negativeTtlMs: number;
  /** How long after its time a value may still be served while the vault is down; 0: never. */
  readonly staleOnErrorMs: number;
  /** After a read that failed, how long until the next one in the background. */
  readonly retryMs: number;
  /** How long an answer of a secondary vault is kept: it may lag behind. */
  readonly secondaryTtlMs: number;
  /** Whether secrets lie in memory sealed under a key of this process: some 10 µs a hit. */
  readonly sealed: boolean;
}

export const vaultCache: CacheSettings = {
  maxEntries: 10_000,
  ttlMs: 300_000,
  refreshAt: 0.8,
  negativeTtlMs: 30_000,
  staleOnErrorMs: 0,
  retryMs: 5_000,
  secondaryTtlMs: 30_000,
  sealed: false,
};

/** A read as the cache knows it. */
export interface Wanted<V extends object = object> {
  /** See `cacheKey`. */
  readonly key: string;
  /** Reads it from the vault. */
  readonly load: () => Promise<V>;
  /** Null for what is not secret. */
  readonly sealing: Sealing | null;
  /** Told where the answer comes from; the last time it is told counts. */
  readonly tell?: ((source: ReadSource) => void) | undefined;
}

interface Entry {
  /** When its read was sent. */
  readonly since: number;
  readonly ttlMs: number;
  readonly content: Content;
  readonly servedBy: Served['servedBy'];
  /** The age at which it is read again in the background. */
  refreshAge: number;
  /** The age at which the vault was last found to be down. */
  downAge: number | null;
}

const sweepMs = 60_000;
/** For so many pauses between reads in the background a vault that was down is taken to be down. */
const downPauses = 3;

/** `HOST:TYPE:` of a vault's objects; with a name, in lower case, it is what `invalidate` takes. */
export function scopePrefix(vaultUrl: string, type: string): string {
  return `${new URL(vaultUrl).host}:${type}:`.toLowerCase();
}

/** The key of an object's version, or of its latest one. */
export function cacheKey(object: string, version: string | undefined): string {
  return `${object}:${version?.toLowerCase() ?? 'latest'}`;
}

/**
 * One cache for all vaults and types. Under a key it holds what `load` gave for it, which is why it may be handed
 * out as that type again.
 */
export class ObjectCache {
  readonly #settings: CacheSettings;
  readonly #clock: () => number;
  readonly #contents: ContentKeeper;
  readonly #entries: LRUCache<string, Entry>;
  readonly #flights = new Flights<Answered<object>>();
  /** The keys of an object's named versions, where there are any. */
  readonly #versions = new Map<string, Set<string>>();
  #sweep: NodeJS.Timeout | null = null;

  constructor(settings: CacheSettings = vaultCache, clock: () => number = elapsedClock()) {
    this.#settings = settings;
    this.#clock = clock;
    this.#contents = createContentKeeper(settings.sealed);
    this.#entries = new LRUCache<string, Entry>({
      max: settings.maxEntries,
      dispose: (entry, key) => this.#dispose(entry, key),
    });
  }

  get size(): number {
    return this.#entries.size;
  }

  /** What is there and needs nothing done about it; null for everything else. */
  fresh(key: string): Answered<object> | null {
    const entry = this.#entries.get(key);
    if (entry === undefined || entry.content.kind === 'missing') return null;
    const age = this.#clock() - entry.since;
    if (age >= entry.refreshAge || age >= entry.ttlMs) return null;
    return this.#contents.open(key, entry.content);
  }

  /** The answer, from wherever it may come by the settings. @throws what `load` throws, and remembered 404s */
  get<V extends object>(wanted: Wanted<V>): Promise<Answered<V>> {
    const entry = this.#entries.get(wanted.key);
    const answer = entry === undefined ? this.#load(wanted) : this.#getAged(wanted, entry);
    return answer as Promise<Answered<V>>;
  }

  /** Drops all versions of an object, and whatever reads of it are under way will bring. */
  invalidate(object: string): void {
    this.#flights.detach(`${object}:`);
    for (const key of [...(this.#versions.get(object) ?? [])]) this.#entries.delete(key);
    this.#entries.delete(`${object}:latest`);
  }

  /** Drops everything, and whatever reads under way will bring. */
  clear(): void {
    this.#flights.detach('');
    this.#entries.clear();
    if (this.#sweep !== null) clearTimeout(this.#sweep);
    this.#sweep = null;
  }

  async #getAged(wanted: Wanted, entry: Entry): AnswerLater {
    const { key, tell } = wanted;
    const age = this.#clock() - entry.since;
    const isInTime = age < entry.ttlMs;
    if (!isInTime && !this.#isDown(key, entry, age)) return this.#loadOr(wanted, entry);
    const answer = isInTime ? this.#hit(key, entry, tell) : this.#stale(key, entry, tell);
    if (age >= entry.refreshAge) this.#refresh(wanted);
    return answer;
  }

  #hit(key: string, { content }: Entry, tell: Wanted['tell']): Answered<object> {
    tell?.(content.kind === 'missing' ? 'negative' : 'hit');
    return this.#contents.open(key, content);
  }

  #stale(key: string, entry: Entry, tell: Wanted['tell']): Answered<object> {
    tell?.('stale');
    const { content, servedBy } = entry;
    return answered(this.#contents.open(key, content), servedBy, 'stale');
  }

  /** Joins the read that is under way, or starts one. */
  #load(wanted: Wanted): AnswerLater {
    const { key, tell } = wanted;
    const underway = this.#flights.find(key);
    // One that is older than an entry may be could bring what was overwritten too long ago.
    const mayJoin = underway !== null && this.#clock() - underway.startedAt < this.#settings.ttlMs;
    const { result } = mayJoin ? underway : this.#start(wanted);
    if (tell === undefined) return result;
    return result.finally(() => tell(mayJoin ? 'shared' : 'miss'));
  }

  /** As `#load`, but `old` stands in for the answer when the vault is down and the settings allow it. */
  async #loadOr(wanted: Wanted, old: Entry): AnswerLater {
    const { key, tell } = wanted;
    try {
      return await this.#load(wanted);
    } catch (error) {
      // The same entry still: it has not been invalidated meanwhile.
      const isUsable = this.#entries.peek(key) === old && this.#mayBeStale(old);
      if (isUsable && isOutage(error)) return this.#stale(key, old, tell);
      throw error;
    }
  }

  #refresh(wanted: Wanted): void {
    if (this.#flights.find(wanted.key) !== null) return;
    // Whoever reads next meets what `#crash` has made of a failure.
    this.#start(wanted).result.catch(() => undefined);
  }

  #start({ key, load, sealing }: Wanted): Flight<Answered<object>> {
    const since = this.#clock();
    return this.#flights.start(key, since, load(), {
      answer: (value) => {
        if (value === undefined) throw new TypeError(`nothing was read for ${key}`);
        return answered(value, servedBy(value));
      },
      land: (answer) => this.#land(key, { answer, since, sealing }),
      crash: (error) => this.#crash(key, since, error),
    });
  }

  #land(key: string, { answer, since, sealing }: Landed): void {
    const { ttlMs, secondaryTtlMs, refreshAt } = this.#settings;
    const { servedBy } = answer.served;
    const better = servedBy === 'secondary' ? this.#primaryInTime(key) : null;
    if (better !== null) {
      // A secondary vault may lag behind: what the primary said stays for as long as it is good.
      this.#postpone(better);
      return;
    }
    const lifeMs = servedBy === 'primary' ? ttlMs : Math.min(ttlMs, secondaryTtlMs);
    const content = this.#contents.keep(key, answer, sealing);
    const refreshAge = lifeMs * refreshAt;
    this.#put(key, { since, ttlMs: lifeMs, content, servedBy, refreshAge, downAge: null });
  }

  /** What a failed read makes of what is known: only a vault that is down, or busy, leaves it in place. */
  #crash(key: string, since: number, error: unknown): void {
    const { negativeTtlMs: ttlMs } = this.#settings;
    const entry = this.#entries.peek(key);
    if (hasCode(error, 'not_found') && ttlMs > 0) {
      const content = { kind: 'missing', error } as const;
      const times = { since, ttlMs, refreshAge: ttlMs, downAge: null };
      this.#put(key, { ...times, content, servedBy: 'primary' });
    } else if (entry === undefined) {
      return;
    } else if (isOutage(error)) {
      entry.downAge = this.#clock() - entry.since;
      this.#postpone(entry);
    } else if (hasCode(error, 'vault_throttled')) {
      this.#postpone(entry);
    } else {
      this.#entries.delete(key);
    }
  }

  #postpone(entry: Entry): void {
    entry.refreshAge = this.#clock() - entry.since + this.#settings.retryMs;
  }

  #put(key: string, entry: Entry): void {
    this.#entries.set(key, entry);
    if (!isLatest(key)) {
      const object = objectOf(key);
      this.#versions.set(object, (this.#versions.get(object) ?? new Set()).add(key));
    }
    this.#sweep ??= setTimeout(() => this.#sweepNow(), sweepMs).unref();
  }

  #primaryInTime(key: string): Entry | null {
    const entry = this.#entries.peek(key);
    return entry?.servedBy === 'primary' && this.#isInTime(entry) ? entry : null;
  }

  #isInTime({ since, ttlMs }: Entry): boolean {
    return this.#clock() - since < ttlMs;
  }

  /** Whether it may be served beyond its time, should the vault be down. */
  #mayBeStale({ content, since, ttlMs }: Entry): boolean {
    if (content.kind === 'missing') return false;
    return this.#clock() - since < ttlMs + this.#settings.staleOnErrorMs;
  }

  /** Whether there is no point in waiting for the vault, which was down just now. */
  #isDown(key: string, entry: Entry, age: number): boolean {
    if (entry.downAge === null || !this.#mayBeStale(entry)) return false;
    const isRecent = age - entry.downAge < downPauses * this.#settings.retryMs;
    return isRecent || this.#flights.find(key) !== null;
  }

  #sweepNow(): void {
    for (const [key, entry] of [...this.#entries.entries()]) {
      if (!this.#isInTime(entry) && !this.#mayBeStale(entry)) this.#entries.delete(key);
    }
    this.#sweep = null;
    if (this.size > 0) this.#sweep = setTimeout(() => this.#sweepNow(), sweepMs).unref();
  }

  #dispose({ content }: Entry, key: string): void {
    this.#contents.drop(content);
    if (isLatest(key)) return;
    const object = objectOf(key);
    const keys = this.#versions.get(object);
    if (keys?.delete(key) && keys.size === 0) this.#versions.delete(object);
  }
}

type AnswerLater = Promise<Answered<object>>;

interface Landed {
  readonly answer: Answered<object>;
  readonly since: number;
  readonly sealing: Sealing | null;
}

function isLatest(key: string): boolean {
  return key.endsWith(':latest');
}

function objectOf(key: string): string {
  return key.slice(0, key.lastIndexOf(':'));
}
