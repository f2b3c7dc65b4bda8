import { afterAll, describe, expect, it } from 'vitest';
import { type Ground, startGround } from '../support/fault-ground.ts';
import { openLane, type Strategy } from '../support/fault-lane.ts';
import {
  countCalls,
  explain,
  type Point,
  parsePoint,
  pointName,
  runPoint,
  strategies,
  sweepPoints,
} from '../support/kill-points.ts';

const only = process.env['KEYTURN_FAULT_POINT'];
const lanes = Number(process.env['KEYTURN_FAULT_LANES'] ?? 4);

const startedAt = Date.now();
let total = 0;
let ground: Ground | null = null;
afterAll(async () => {
  await ground?.stop();
  if (only === undefined) console.log(`  kill sweep: ${total} points in ${seconds(startedAt)}`);
});

/** Each series has a ground of its own: Azurite keeps all it ever held, and slows down. */
async function freshGround(): Promise<Ground> {
  await ground?.stop();
  ground = await startGround();
  return ground;
}

describe.skipIf(only !== undefined).each(strategies)('a rotation, overlap %s', (strategy) => {
  it.each(['before', 'after'] as const)('survives a kill %s each of its calls', async (when) => {
    const from = Date.now();
    const shared = await freshGround();
    const calls = await dryPass(shared, strategy);
    let tried = 0;
    const results = await sweepPoints(shared, {
      ...{ series: [{ strategy, when, calls }], lanes, prefix: 'sweep' },
      onResult: (result) => {
        tried++;
        if (result.faults.length > 0) console.log(explain(result));
        else if (tried % 25 === 0) console.log(`    ${tried} points, ${seconds(from)}`);
      },
    });
    const reached = new Set(results.filter(({ call }) => call).map(({ point }) => point.at));
    total += reached.size;
    console.log(
      `  ${strategy} ${when}: ${reached.size} points tried, ${calls} calls in the dry pass, ${seconds(from)}`,
    );
    const failed = results.filter(({ faults }) => faults.length > 0);
    expect(failed.map(({ point, faults }) => `${pointName(point)}: ${faults.join('; ')}`)).toEqual(
      [],
    );
    const all = Array.from({ length: calls }, (_, at) => at + 1);
    expect(
      all.filter((at) => !reached.has(at)),
      'points that were not tried',
    ).toEqual([]);
  });
});

/** What only the first rotation of an installation, or of a process, calls. */
const firstCalls = ['queue.create', 'table.create', 'blob.home', 'audit.create', 'vault.challenge'];

describe.skipIf(only !== undefined)('the first rotation of all', () => {
  it('survives a kill at whatever it makes for those after it', async () => {
    const from = Date.now();
    const shared = await freshGround();
    const cases = firstCalls.flatMap((kind) => [
      { kind, when: 'before' as const },
      { kind, when: 'after' as const },
    ]);
    const failed: string[] = [];
    const run = async () => {
      for (let next = cases.shift(); next; next = cases.shift()) {
        const { kind, when } = next;
        const lane = await openLane(shared, { name: `first${cases.length}` });
        const point: Point = { strategy: 'users', when, at: 1 };
        const { call, faults, trace } = await runPoint(lane, point, (one) => one.kind === kind);
        await lane.close();
        total++;
        if (call !== null && faults.length === 0) continue;
        failed.push(`${when} ${kind}: ${call ? faults.join('; ') : 'not reached'}`);
        console.log(['FAILED', failed.at(-1), ...trace].join('\n    '));
      }
    };
    await Promise.all(Array.from({ length: Math.min(lanes, 3) }, run));
    console.log(`  first use: ${firstCalls.length * 2} points, ${seconds(from)}`);
    expect(failed).toEqual([]);
  });
});

describe.runIf(only !== undefined)(`the point ${only}`, () => {
  it('converges', async () => {
    const lane = await openLane(await freshGround(), { name: 'one', print: true });
    const point: Point = parsePoint(only ?? '');
    await countCalls(lane, point.strategy);
    const result = await runPoint(lane, point);
    const { call } = result;
    console.log(`  ${pointName(point)}: ${call ? `${call.kind} ${call.label}` : 'not reached'}`);
    expect(call, 'the rotation ended before it came to this call').not.toBeNull();
    expect(result.faults).toEqual([]);
  });
});

/** The calls of a rotation that nothing happens to, in a process that has rotated before. */
async function dryPass(shared: Ground, strategy: Strategy): Promise<number> {
  const lane = await openLane(shared, { name: 'dry' });
  await countCalls(lane, strategy);
  const calls = await countCalls(lane, strategy);
  await lane.close();
  expect(calls.filter(({ kind }) => kind === 'unknown').map(({ label }) => label)).toEqual([]);
  return calls.length;
}

function seconds(since: number): string {
  return `${((Date.now() - since) / 1000).toFixed(0)} s`;
}
