import type { Bench } from './bench.ts';

export type Result = { readonly ratio: number; readonly isMet: boolean };

/**
 * The results in order; only the last one counts. A goal that is missed is tried once more: what else runs on the
 * machine may have fallen on one of the two sides.
 */
export async function* tryBench(bench: Bench): AsyncGenerator<Result> {
  const first = await measure(bench);
  yield first;
  if (!first.isMet) yield await measure(bench);
}

async function measure({ goal, better, measure }: Bench): Promise<Result> {
  const { ours, theirs } = await measure();
  const ratio = Number((ours / theirs).toPrecision(3));
  return { ratio, isMet: better === 'lower' ? ratio <= goal : ratio >= goal };
}
