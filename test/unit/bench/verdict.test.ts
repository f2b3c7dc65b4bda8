import { describe, expect, it } from 'vitest';
import type { Bench } from '../../../bench/bench.ts';
import { tryBench } from '../../../bench/verdict.ts';

async function resultsOf(better: Bench['better'], ratios: readonly number[]) {
  const left = [...ratios];
  const measure = async () => ({ ours: left.shift() ?? Number.NaN, theirs: 1 });
  const results = [];
  for await (const { ratio, isMet } of tryBench({ name: 'one', goal: 1, better, measure })) {
    results.push([ratio, isMet]);
  }
  return results;
}

describe('tryBench', () => {
  it.each([
    ['meets its goal at once', 'lower', [1, 9], [[1, true]]],
    ['meets a goal that asks for more', 'higher', [2, 0], [[2, true]]],
    [
      'tries a missed goal once more',
      'lower',
      [2, 0.5],
      [
        [2, false],
        [0.5, true],
      ],
    ],
    [
      'misses twice and gives up',
      'higher',
      [0.5, 0.9, 2],
      [
        [0.5, false],
        [0.9, false],
      ],
    ],
    [
      'takes no number for a miss',
      'lower',
      [],
      [
        [Number.NaN, false],
        [Number.NaN, false],
      ],
    ],
  ] as const)('%s', async (_, better, ratios, expected) => {
    expect(await resultsOf(better, ratios)).toEqual(expected);
  });
});
