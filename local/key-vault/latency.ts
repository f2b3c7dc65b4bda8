import { z } from 'zod';

const Ms = z.number().min(0).max(600_000);
/** Makes the same delays in the same order again. */
const seed = z.int().optional();

/** How long answers of a vault take, from the request's arrival on. */
export const Latency = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('none') }),
  z.strictObject({ kind: z.literal('fixed'), ms: Ms }),
  z
    .strictObject({ kind: z.literal('uniform'), minMs: Ms, maxMs: Ms, seed })
    .refine(({ minMs, maxMs }) => minMs <= maxMs, { message: 'minMs is above maxMs' }),
  z
    .strictObject({ kind: z.literal('lognormal'), medianMs: Ms.min(0.001), p99Ms: Ms, seed })
    .refine(({ medianMs, p99Ms }) => medianMs <= p99Ms, { message: 'medianMs is above p99Ms' }),
  z
    .strictObject({
      kind: z.literal('percentiles'),
      /** Milliseconds by percentile, `{"50": 5, "99": 80, "100": 300}`; straight lines between them. */
      points: z.record(z.string().regex(/^(100|\d{1,2}(\.\d+)?)$/), Ms),
      seed,
    })
    .refine(({ points }) => isRising(points), { message: 'points must rise, and name 100' }),
]);
export type Latency = z.output<typeof Latency>;

const normalQuantile99 = 2.326_347_874_040_841;

const samplers = new WeakMap<Latency, () => number>();

/** Milliseconds that the next answer is to take. A seed starts anew with every setting of the switch. */
export function nextLatency(latency: Latency): number {
  if (latency.kind === 'none') return 0;
  const sample = samplers.get(latency) ?? samplerOf(latency);
  samplers.set(latency, sample);
  return sample();
}

function samplerOf(latency: Latency): () => number {
  switch (latency.kind) {
    case 'none':
      return () => 0;
    case 'fixed':
      return () => latency.ms;
    case 'uniform': {
      const random = randomFrom(latency.seed);
      const { minMs, maxMs } = latency;
      return () => minMs + random() * (maxMs - minMs);
    }
    case 'lognormal': {
      const random = randomFrom(latency.seed);
      const { medianMs, p99Ms } = latency;
      const sigma = Math.log(p99Ms / medianMs) / normalQuantile99;
      return () => medianMs * Math.exp(sigma * standardNormal(random));
    }
    case 'percentiles': {
      const random = randomFrom(latency.seed);
      const points = sortedPoints(latency.points);
      return () => interpolate(points, random() * 100);
    }
  }
}

type Point = readonly [percentile: number, ms: number];

function sortedPoints(points: Readonly<Record<string, number>>): Point[] {
  const given = Object.entries(points).map(([at, ms]): Point => [Number(at), ms]);
  return given.sort(([a], [b]) => a - b);
}

function isRising(points: Readonly<Record<string, number>>): boolean {
  const sorted = sortedPoints(points);
  const isAscending = sorted.every(([, ms], index) => ms >= (sorted[index - 1]?.[1] ?? 0));
  return isAscending && sorted.at(-1)?.[0] === 100;
}

function interpolate(points: readonly Point[], percentile: number): number {
  let [fromAt, fromMs]: Point = [0, 0];
  for (const [at, ms] of points) {
    if (percentile <= at) {
      return at === fromAt ? ms : fromMs + ((ms - fromMs) * (percentile - fromAt)) / (at - fromAt);
    }
    [fromAt, fromMs] = [at, ms];
  }
  return fromMs;
}

/** Box and Muller. */
function standardNormal(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

/** Numbers from 0 to below 1; always the same ones for a seed (mulberry32). */
function randomFrom(seed: number | undefined): () => number {
  if (seed === undefined) return Math.random;
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
