import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Ground, startGround } from '../support/fault-ground.ts';
import { openLane } from '../support/fault-lane.ts';
import {
  countCalls,
  explain,
  type Point,
  type PointResult,
  pointName,
  runPoints,
  strategies,
} from '../support/kill-points.ts';

let ground: Ground;
beforeAll(async () => {
  ground = await startGround();
}, 60_000);
afterAll(() => ground?.stop());

describe('a rotation killed at a sample of its calls', () => {
  it('converges', async () => {
    const lane = await openLane(ground, { name: 'dry' });
    const points: Point[] = [];
    let total = 0;
    for (const strategy of strategies) {
      const calls = await countCalls(lane, strategy);
      total += 2 * calls.length;
      points.push(...sampleOf(strategy, calls.length));
    }
    await lane.close();
    const results: PointResult[] = await runPoints(ground, { points, lanes: 4, prefix: 'sample' });
    for (const result of results) if (result.faults.length > 0) console.log(explain(result));
    // Past the console, which is silent for tests that pass.
    process.stderr.write(
      `kill sample: ${results.length} of ${total} points; npm run test:faults tries them all\n`,
    );
    expect(
      results.filter(({ faults }) => faults.length > 0).map(({ point }) => pointName(point)),
    ).toEqual([]);
    expect(results).toHaveLength(points.length);
  }, 300_000);
});

/** Six points, spread over all calls, on either side in turn; moved at random within their part. */
function sampleOf(strategy: Point['strategy'], calls: number): Point[] {
  const parts = 6;
  return Array.from({ length: parts }, (_, part) => {
    const at = 1 + Math.floor(((part + Math.random()) * (calls - 2)) / parts);
    return { strategy, when: part % 2 === 0 ? 'before' : 'after', at };
  });
}
