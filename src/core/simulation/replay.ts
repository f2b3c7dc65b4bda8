/** Runs an access log again, through caches of its own, against simulated or real vaults. */
import { toAppError } from '../errors.ts';
import { nameOrNull } from '../vault/access-entry.ts';
import { cacheKey, ObjectCache } from '../vault/cache.ts';
import type { ReadSource } from '../vault/observer.ts';
import type { ObjectType } from '../vault/ports.ts';
import { seededRandom } from './latency.ts';
import {
  DifferenceTally,
  findDifference,
  type ReplayDifference,
  type ReplayDifferences,
} from './replay-differences.ts';
import { type ReplayFigures, Tally } from './replay-figures.ts';
import { type LogFault, type LogLine, readAccessLog } from './replay-log.ts';
import type { ReplaySettings } from './replay-settings.ts';
import type { Ending, ReplayCall, ReplayMeter, ReplayTarget } from './replay-target.ts';
import { simulatedTarget } from './simulated-target.ts';
import { type ReplayTime, VirtualTime } from './virtual-time.ts';

/** What a log comes to, and what it would come to under other settings. */
export interface ReplayResult {
  /** When the first and the last operation began, UTC; null for an empty log. */
  readonly from: string | null;
  readonly to: string | null;
  /** Instances there were in the replay. */
  readonly instances: number;
  /** Operations that were not run again, by reason; they are in neither of the figures. */
  readonly skipped: Readonly<Record<string, number>>;
  readonly recorded: ReplayFigures;
  readonly replayed: ReplayFigures;
  readonly differences: ReplayDifferences;
}

export interface ReplayOptions {
  /** Is told each operation that ended otherwise than it was recorded. */
  readonly different?: (difference: ReplayDifference) => void;
  /** 0 to 1, for latencies, jitter and dealing out; default: the same numbers every time. */
  readonly random?: () => number;
}

/** What runs a log against whichever vaults. */
interface ReplayGround {
  readonly target: ReplayTarget;
  readonly time: ReplayTime;
}

interface Instance {
  readonly name: string;
  /** Null when the replay is without a cache. */
  readonly cache: ObjectCache | null;
}

const fixedSeed = 20_260_101;

/**
 * The log, run under each of `settings` at once: each has vaults and caches of its own, in virtual time.
 *
 * @param log its lines, without their ends
 * @param fault is told the lines that cannot be used, which are left out; what it throws ends the replay
 * @returns one result for each of `settings`, in their order
 */
export async function replaySimulated(
  log: AsyncIterable<string>,
  settings: readonly ReplaySettings[],
  fault: (fault: LogFault) => void,
  options: ReplayOptions = {},
): Promise<ReplayResult[]> {
  const replays = settings.map((each) => {
    const { random = seededRandom(fixedSeed) } = options;
    const time = new VirtualTime();
    const target = simulatedTarget(each, time, random);
    return new Replay({ target, time }, each, { ...options, random });
  });
  for await (const line of readAccessLog(log, fault)) {
    for (const replay of replays) await replay.take(line);
  }
  return Promise.all(replays.map((replay) => replay.finish()));
}

/** One replay under way; lines are to be given in the order in which they began. */
export class Replay {
  readonly #ground: ReplayGround;
  readonly #settings: ReplaySettings;
  readonly #random: () => number;
  readonly #instances = new Map<string, Instance>();
  readonly #recorded = new Tally();
  readonly #replayed = new Tally();
  readonly #differences: DifferenceTally;
  readonly #skipped: Record<string, number> = {};
  readonly #underway = new Set<Promise<void>>();
  #from: string | null = null;
  #to: string | null = null;

  constructor(ground: ReplayGround, settings: ReplaySettings, options: ReplayOptions = {}) {
    this.#ground = ground;
    this.#settings = settings;
    this.#random = options.random ?? seededRandom(fixedSeed);
    this.#differences = new DifferenceTally(options.different ?? (() => undefined));
  }

  /** Resolves when the operation of `line` has begun, at its time. */
  async take(line: LogLine): Promise<void> {
    const { target, time } = this.#ground;
    const { entry } = line;
    const refusal = target.refuses(line);
    if (refusal !== null) {
      this.#skipped[refusal] = (this.#skipped[refusal] ?? 0) + 1;
      return;
    }
    this.#from ??= entry.at;
    this.#to = entry.at;
    await time.until(line.at);
    target.observe(line);
    this.#record(line);
    // What the cache did then follows from its settings now.
    if (entry.cache === 'refresh') return;
    this.#follow(this.#do(line));
    await time.settled();
  }

  /** Waits for what is under way. */
  async finish(): Promise<ReplayResult> {
    await this.#ground.target.finish();
    await Promise.all(this.#underway);
    for (const { cache } of this.#instances.values()) cache?.clear();
    const { transactions } = this.#settings;
    return {
      from: this.#from,
      to: this.#to,
      instances: this.#instances.size,
      skipped: { ...this.#skipped },
      recorded: this.#recorded.figures(transactions),
      replayed: this.#replayed.figures(transactions),
      differences: this.#differences.result(),
    };
  }

  #record({ at, entry, operation }: LogLine): void {
    const { vault, cache, outcome, ms, requests, throttled } = entry;
    const { name } = operation;
    const isRead = operation.method === 'get';
    if (cache !== 'refresh') {
      this.#recorded.ended({ operation: name, isRead, source: cache, outcome, ms });
    }
    for (let request = 0; request < requests; request++) this.#recorded.requested(at, vault, name);
    for (let request = 0; request < throttled; request++) this.#recorded.throttled(name);
  }

  async #do(line: LogLine): Promise<void> {
    const { target, time } = this.#ground;
    const { operation } = line;
    const instance = this.#instanceOf(line);
    const reading: Reading = { source: null, wasThrottled: false };
    const begun = time.now();
    const ending = await this.#perform(line, instance, reading);
    const { source, wasThrottled } = reading;
    const { outcome, version } = ending;
    const ms = time.now() - begun;
    const isRead = operation.method === 'get';
    this.#replayed.ended({ operation: operation.name, isRead, source, outcome, ms });
    const replayed = { outcome, version, source, wasThrottled };
    const difference = findDifference(line, replayed, target.keepsVersions);
    if (difference !== null) this.#differences.add(difference);
  }

  async #perform(line: LogLine, instance: Instance, reading: Reading): Promise<Ending> {
    try {
      const read = this.#isCached(line, instance) ? this.#read : this.#call;
      const { version } = await read.call(this, line, instance, reading);
      return { outcome: 'ok', version };
    } catch (error) {
      return { outcome: toAppError(error, 'replay').code, version: null };
    } finally {
      if (line.operation.effect === 'write') this.#tell(line, instance);
    }
  }

  #isCached({ entry, operation }: LogLine, { cache }: Instance): boolean {
    if (cache === null || operation.method !== 'get') return false;
    if (nameOrNull(entry.object) === null) return false;
    return entry.cache !== null || !this.#settings.keepUncached;
  }

  async #read(line: LogLine, instance: Instance, reading: Reading): Promise<Answer> {
    const { entry, operation } = line;
    const load = () => this.#call(line, instance, reading);
    const { cache } = instance;
    const { object, version } = entry;
    if (cache === null || object === null) return load();
    const key = cacheKey(
      objectKey(this.#vaultOf(line), operation.type, object),
      version ?? undefined,
    );
    const tell = (source: ReadSource) => {
      reading.source = source;
    };
    return cache.get({ key, load, sealing: null, tell });
  }

  /** Past the cache: for a reader who waits, or for the cache, which has given its answer already. */
  #call(line: LogLine, { name }: Instance, reading: Reading): Promise<Answer> {
    const isBackground = reading.source !== null;
    const vault = this.#vaultOf(line);
    const call: ReplayCall = { line, instance: name, vault, isBackground };
    const meter: ReplayMeter = {
      requested: () =>
        this.#replayed.requested(this.#ground.time.now(), vault, line.operation.name),
      throttled: () => {
        reading.wasThrottled = true;
        this.#replayed.throttled(line.operation.name);
      },
    };
    return this.#ground.target.perform(call, meter);
  }

  /** Drops what a write has changed: here at once, in the other instances when they learn of it. */
  #tell(line: LogLine, { name, cache }: Instance): void {
    const { object } = line.entry;
    if (object === null || line.entry.outcome === 'invalid_input') return;
    // A certificate brings its key and its secret along.
    const types: readonly ObjectType[] =
      line.operation.type === 'certificate'
        ? ['certificate', 'key', 'secret']
        : [line.operation.type];
    const vault = this.#vaultOf(line);
    const objects = types.map((type) => objectKey(vault, type, object));
    for (const changed of objects) cache?.invalidate(changed);
    const { learnAfterMs } = this.#settings;
    if (learnAfterMs === null) return;
    const learned = this.#ground.time.sleep(learnAfterMs).then(() => {
      for (const other of this.#instances.values()) {
        if (other.name === name) continue;
        for (const changed of objects) other.cache?.invalidate(changed);
      }
    });
    this.#follow(learned);
  }

  #follow(work: Promise<void>): void {
    const followed = work.finally(() => this.#underway.delete(followed));
    this.#underway.add(followed);
  }

  #instanceOf({ entry }: LogLine): Instance {
    const { instances, cache } = this.#settings;
    const name =
      instances === null ? entry.instance : `${Math.floor(this.#random() * instances) + 1}`;
    const clock = () => this.#ground.time.now();
    const known = this.#instances.get(name) ?? {
      name,
      cache: cache.ttlMs === 0 ? null : new ObjectCache(cache, clock),
    };
    this.#instances.set(name, known);
    return known;
  }

  #vaultOf({ entry: { vault, object } }: LogLine): string {
    if (object === null) return vault;
    return this.#settings.split.find(({ fits }) => fits(vault, object))?.to ?? vault;
  }
}

type Answer = { readonly version: string | null };

/** What is learned of an operation while it is done. */
interface Reading {
  source: ReadSource | null;
  wasThrottled: boolean;
}

function objectKey(vault: string, type: ObjectType, object: string): string {
  return `${vault}:${type}:${object}`.toLowerCase();
}
