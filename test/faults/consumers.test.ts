import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Ground, startGround } from '../support/fault-ground.ts';
import { type Lane, openLane, type Subject } from '../support/fault-lane.ts';

const startedAt = Date.now();
let ground: Ground;
beforeAll(async () => {
  ground = await startGround();
});
afterAll(async () => {
  await ground?.stop();
  console.log(`  consumers: ${((Date.now() - startedAt) / 1000).toFixed(0)} s`);
});

interface Watched {
  readonly logins: number;
  readonly failures: number;
  /** The longest time from a log-in that failed to the next one that did not. */
  readonly longestGapMs: number;
}

/** Logs in with the latest version again and again, while `work` goes on. */
async function watch(
  lane: Lane,
  subject: Subject,
  { everyMs, work }: { readonly everyMs: () => number; readonly work: () => Promise<void> },
): Promise<Watched> {
  let isOver = false;
  let logins = 0;
  let failures = 0;
  let longestGapMs = 0;
  let failingSince: number | null = null;
  const consumer = (async () => {
    while (!isOver) {
      const at = Date.now();
      const { user, password } = await lane.latest(subject);
      const isIn = await lane.logsIn(user, password);
      logins++;
      if (!isIn) failures++;
      if (!isIn) failingSince ??= at;
      else if (failingSince !== null) {
        longestGapMs = Math.max(longestGapMs, Date.now() - failingSince);
        failingSince = null;
      }
      await pause(everyMs());
    }
  })();
  try {
    await work();
  } finally {
    isOver = true;
    await consumer;
  }
  return { logins, failures, longestGapMs };
}

describe('a consumer of alternating logins', () => {
  it('never fails to log in over 20 rotations in a row', async () => {
    const lane = await openLane(ground, {
      name: 'alternate',
      grace: 'PT2S',
      sweepSchedule: '* * * * * *',
    });
    const subject = await lane.prepare('users');
    const rotations = 20;
    const seen = await watch(lane, subject, {
      everyMs: () => 50 + Math.random() * 150,
      work: async () => {
        for (let round = 1; round <= rotations; round++) {
          await lane.rotateNow(subject);
          await untilRotated(lane, subject, round);
        }
      },
    });
    console.log(
      `  alternating logins: ${seen.logins} log-ins, ${seen.failures} failures over ${rotations} rotations`,
    );
    expect(seen.failures).toBe(0);
    expect(seen.logins).toBeGreaterThan(rotations);
    expect(await lane.faultsAfterRotation(subject, rotations + 1)).toEqual([]);
    await lane.close();
  });
});

describe('a consumer of one login', () => {
  it('meets a gap that is two calls wide', async () => {
    const lane = await openLane(ground, { name: 'single' });
    const gaps: number[] = [];
    const widths: number[] = [];
    const longest: number[] = [];
    for (let round = 1; round <= 10; round++) {
      const subject = await lane.prepare('none');
      lane.recorder.arm(null);
      const seen = await watch(lane, subject, {
        everyMs: () => 1,
        work: async () => {
          await lane.announce(subject);
          await lane.settle(subject);
        },
      });
      lane.recorder.disarm();
      longest.push(seen.longestGapMs);
      expect(await lane.faultsAfterRotation(subject)).toEqual([]);
      const [journal] = await lane.journals(subject);
      expect(journal?.gapMs).toBeGreaterThanOrEqual(0);
      gaps.push(journal?.gapMs ?? -1);
      widths.push(gapCalls(lane, subject));
    }
    console.log(`  one login, gap by the engine: ${gaps.join(', ')} ms`);
    console.log(`  one login, gap by the consumer: ${longest.join(', ')} ms (0: it met none)`);
    console.log(`  one login, calls in the gap: ${widths.join(', ')}`);
    expect(Math.max(...widths)).toBeLessThanOrEqual(2);
    await lane.close();
  });
});

/** The call that made version `count + 1` has come to its end and nothing of it is on its way. */
async function untilRotated(lane: Lane, subject: Subject, count: number): Promise<void> {
  const end = Date.now() + 60_000;
  for (;;) {
    const journals = await lane.journals(subject);
    if (journals.filter(({ state }) => state === 'DONE').length >= count) break;
    if (Date.now() > end) throw new Error(`rotation ${count} did not end`);
    await pause(100);
  }
  await lane.settle(subject, { nudges: false });
}

/**
 * Calls between the answer to ALTER ROLE and that to SetSecret: a log-in at PostgreSQL is one, with
 * all its messages. The end of the session that made the change is its own affair.
 */
function gapCalls(lane: Lane, subject: Subject): number {
  const { calls } = lane.recorder;
  const counted = calls.filter(({ index }) => index !== null);
  const from = counted.findIndex(({ label }) => label.startsWith('ALTER ROLE'));
  const to = counted.findIndex(
    ({ kind, label }) => kind === 'vault.set' && label.endsWith(`/${subject.name}`),
  );
  expect(from).toBeGreaterThan(0);
  expect(to).toBeGreaterThan(from);
  const between = counted.slice(from + 1, to + 1);
  const logins = between.filter(({ kind }) => kind === 'pg.startup').length;
  const others = between.filter(({ kind }) => !kind.startsWith('pg.')).length;
  return logins + others;
}
