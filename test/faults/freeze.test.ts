import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { HostProcess } from '../../local/host-process.ts';
import { freePort } from '../../local/loopback-http.ts';
import { type Ground, startGround } from '../support/fault-ground.ts';
import { type Lane, openLane, type Strategy } from '../support/fault-lane.ts';
import { countCalls, strategies } from '../support/kill-points.ts';
import type { Call } from '../support/recording-proxy.ts';

const leaseSeconds = 2;

interface Case {
  readonly strategy: Strategy;
  readonly when: 'before' | 'after';
  readonly name: string;
  readonly catches: (call: Call) => boolean;
}

/** Two processes of the app on one storage; the second stands still unless it is needed. */
interface Pair {
  readonly lane: Lane;
  readonly second: HostProcess;
  readonly secondPort: number;
  readonly lines: string[];
}

let ground: Ground;
beforeAll(async () => {
  ground = await startGround();
});
afterAll(() => ground?.stop());

describe('a process frozen past its lease', () => {
  it('changes nothing after another has finished its rotation, in whatever state it was', async () => {
    const startedAt = Date.now();
    const pairs = await Promise.all([0, 1].map((index) => openPair(`freeze${index}`)));
    const cases = await listCases(pairs[0]!.lane);
    console.log(
      `  ${cases.length} freezes: ${[...new Set(cases.map(({ name }) => name))].join(', ')}`,
    );
    const failed: string[] = [];
    let tried = 0;
    const run = async (pair: Pair) => {
      for (let next = cases.shift(); next; next = cases.shift()) {
        tried++;
        const faults = await freeze(pair, next);
        const name = `${next.strategy} ${next.when} ${next.name}`;
        if (faults.length === 0) continue;
        failed.push(`${name}: ${faults.join('; ')}`);
        console.log(`FAILED ${name}\n  ${faults.join('\n  ')}`);
        console.log(
          [...pair.lane.lines.slice(-40), '--- second', ...pair.lines.slice(-40)].join('\n    '),
        );
      }
    };
    const total = cases.length;
    await Promise.all(pairs.map(run));
    for (const { second, lane } of pairs) {
      second.child.kill('SIGKILL');
      await lane.close();
    }
    console.log(`  freeze: ${tried} freezes in ${((Date.now() - startedAt) / 1000).toFixed(0)} s`);
    expect(failed).toEqual([]);
    expect(tried).toBe(total);
  });
});

describe('a message delivered again after DONE', () => {
  it.each(strategies)('changes nothing, overlap %s', async (strategy) => {
    const lane = await openLane(ground, { name: `again${strategy}` });
    const subject = await lane.prepare(strategy);
    lane.recorder.arm(null);
    await lane.announce(subject);
    await lane.settle(subject);
    const sent = lane.recorder.calls.filter(({ message }) => message !== null);
    lane.recorder.disarm();
    expect(sent.length).toBeGreaterThanOrEqual(strategy === 'none' ? 2 : 3);
    const before = await lane.snapshot(subject);
    for (const { label, message } of [...sent, ...sent]) {
      await lane.sendAgain(
        label.includes('notifications') ? 'notifications' : 'rotations',
        message ?? '',
      );
    }
    await lane.settle(subject);
    expect(await lane.snapshot(subject)).toEqual(before);
    expect(await lane.faultsAfterRotation(subject)).toEqual([]);
    expect(await lane.journals(subject)).toHaveLength(1);
    console.log(`  ${strategy}: ${sent.length} messages delivered twice again after DONE`);
    await lane.close();
  });
});

async function openPair(name: string): Promise<Pair> {
  const lane = await openLane(ground, { name, leaseSeconds, sweepSchedule: '* * * * * *' });
  const lines: string[] = [];
  // Past the proxies: only the first process is recorded and frozen.
  const settings = lane.settings({ AzureWebJobsStorage: ground.azurite.connectionString });
  const secondPort = await freePort();
  const second = await lane.startProcess(secondPort, settings, (line) => lines.push(line));
  second.child.kill('SIGSTOP');
  ground.stops.push(async () => void second.child.kill('SIGKILL'));
  return { lane, second, secondPort, lines };
}

/** Every state whose journal is written, and the change of a password on its way to the server. */
async function listCases(lane: Lane): Promise<Case[]> {
  const cases: Case[] = [];
  for (const strategy of strategies) {
    const calls = await countCalls(lane, strategy);
    const states = [...new Set(calls.flatMap(({ state }) => state ?? []))];
    expect(states).toEqual(expect.arrayContaining(['REQUESTED', 'APPLYING', 'PROMOTED', 'DONE']));
    for (const when of ['before', 'after'] as const) {
      for (const name of states) {
        cases.push({ strategy, when, name, catches: ({ state }) => state === name });
      }
      const catches = ({ label }: Call) => label.startsWith('ALTER ROLE');
      cases.push({ strategy, when, name: 'ALTER ROLE', catches });
    }
  }
  return cases;
}

async function freeze({ lane, second, secondPort }: Pair, one: Case): Promise<readonly string[]> {
  const first = lane.host!.child;
  const subject = await lane.prepare(one.strategy);
  const frozen = Promise.withResolvers<void>();
  const thaw = Promise.withResolvers<void>();
  lane.recorder.arm({
    when: one.when,
    catches: one.catches,
    spring: async () => {
      first.kill('SIGSTOP');
      frozen.resolve();
      await thaw.promise;
      return 'pass';
    },
  });
  const faults: string[] = [];
  try {
    const event = await lane.announce(subject);
    await within(20_000, frozen.promise, 'the state was not reached');
    await pause(leaseSeconds * 1000);
    second.child.kill('SIGCONT');
    // A request is written before its event is answered for: the frozen process holds that, too.
    if (one.name === 'REQUESTED') await lane.deliverTo(secondPort, event);
    await lane.settle(subject, { nudges: false, events: false });
    faults.push(...(await lane.faultsAfterRotation(subject)));
    const before = await lane.snapshot(subject);
    first.kill('SIGCONT');
    thaw.resolve();
    await pause(1500);
    await lane.settle(subject, { nudges: false });
    const after = await lane.snapshot(subject);
    if (JSON.stringify(after) !== JSON.stringify(before)) {
      faults.push(
        `the thawed process changed ${JSON.stringify(before)} to ${JSON.stringify(after)}`,
      );
    }
    const again = await lane.faultsAfterRotation(subject);
    faults.push(...again.map((fault) => `after the thaw: ${fault}`));
  } catch (error) {
    faults.push(error instanceof Error ? error.message : String(error));
  }
  first.kill('SIGCONT');
  thaw.resolve();
  lane.recorder.disarm();
  second.child.kill('SIGSTOP');
  return faults;
}

async function within<T>(ms: number, promise: Promise<T>, what: string): Promise<T> {
  const timer = new AbortController();
  const late = pause(ms, undefined, { signal: timer.signal }).then(() => {
    throw new Error(what);
  });
  late.catch(() => undefined);
  try {
    return await Promise.race([promise, late]);
  } finally {
    timer.abort();
  }
}
