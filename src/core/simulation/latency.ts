/** How long vaults take, as far as it is not known: half of the answers within `p50Ms`, 99 of 100 within `p99Ms`. */
export interface LatencyModel {
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** Nobody publishes this: 23 ms is reported for a warm connection, 100 ms for a vault that is far away. */
export const reportedLatency: LatencyModel = { p50Ms: 23, p99Ms: 100 };

/** How many standard deviations lie between the median and the 99th percentile. */
const deviationsTo99 = 2.326;

/** Draws latencies in milliseconds, log-normally distributed. @param random 0 to 1, as `Math.random` */
export function latencies({ p50Ms, p99Ms }: LatencyModel, random: () => number): () => number {
  const spread = Math.log(p99Ms / p50Ms) / deviationsTo99;
  if (!(spread > 0)) return () => p50Ms;
  return () => {
    const radius = Math.sqrt(-2 * Math.log(1 - random()));
    return p50Ms * Math.exp(spread * radius * Math.cos(2 * Math.PI * random()));
  };
}

/** Numbers that look random, and are the same for the same seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Milliseconds, kept to three digits: memory does not grow with their number. */
export class Percentiles {
  readonly #counts = new Map<number, number>();
  #total = 0;

  add(ms: number): void {
    const kept = Number(ms.toPrecision(3));
    this.#counts.set(kept, (this.#counts.get(kept) ?? 0) + 1);
    this.#total++;
  }

  /** The least that `share` (0 to 1) of all are not above; null when there are none. */
  at(share: number): number | null {
    const wanted = Math.max(1, Math.ceil(share * this.#total));
    let seen = 0;
    for (const [ms, count] of [...this.#counts].sort(([left], [right]) => left - right)) {
      seen += count;
      if (seen >= wanted) return ms;
    }
    return null;
  }
}
