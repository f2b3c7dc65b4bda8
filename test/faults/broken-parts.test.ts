import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Journal } from '../../src/core/rotation/journal.ts';
import { type Ground, startGround } from '../support/fault-ground.ts';
import { type Lane, openLane, type Subject } from '../support/fault-lane.ts';
import { strategies } from '../support/kill-points.ts';
import type { Call } from '../support/recording-proxy.ts';

const startedAt = Date.now();
let ground: Ground;
let lane: Lane;
beforeAll(async () => {
  ground = await startGround({ keep: true });
  lane = await openLane(ground, { name: 'broken', sweepSchedule: '* * * * * *' });
});
afterEach(async () => {
  lane.isTargetDown = false;
  lane.recorder.disarm();
  await lane.control('DELETE', '/faults');
  await lane.control('PUT', '/vaults/main/mode', { readOnly: false });
});
afterAll(async () => {
  await ground?.stop();
  console.log(`  broken parts: ${((Date.now() - startedAt) / 1000).toFixed(0)} s`);
});

/** Does `act` at the first call that `catches` names, on the given side of it. */
function at(
  when: 'before' | 'after',
  catches: (call: Call) => boolean,
  act: () => Promise<'pass' | 'drop'>,
): Promise<void> {
  const sprung = Promise.withResolvers<void>();
  lane.recorder.arm({
    ...{ when, catches },
    spring: async () => {
      const verdict = await act();
      sprung.resolve();
      return verdict;
    },
  });
  return sprung.promise;
}

const writes = (state: string) => (call: Call) => call.state === state;
const altersRole = ({ label }: Call) => label.startsWith('ALTER ROLE');
const pass = 'pass' as const;

async function untilState(subject: Subject, ...states: readonly string[]): Promise<Journal> {
  const end = Date.now() + 60_000;
  for (;;) {
    const [journal] = await lane.journals(subject);
    if (journal && states.includes(journal.state)) return journal;
    if (Date.now() > end) throw new Error(`still ${journal?.state}, not ${states.join(' or ')}`);
    await pause(50);
  }
}

async function expectRotated(subject: Subject): Promise<Journal> {
  await lane.settle(subject, { nudges: false });
  expect(await lane.faultsAfterRotation(subject)).toEqual([]);
  const [journal] = await lane.journals(subject);
  return journal!;
}

/** It ended in `state`, with a reason and what to do; the credential from before is in force. */
async function expectOldInForce(subject: Subject, state: string, code: string): Promise<Journal> {
  await lane.settle(subject, { nudges: false, withinMs: 120_000 });
  const [journal] = await lane.journals(subject);
  expect([journal?.state, journal?.outcome?.code]).toEqual([state, code]);
  expect(journal?.outcome?.message).toMatch(
    /nothing was changed|the stored credential is in force, as before/,
  );
  expect(await lane.logsIn(subject.login, subject.password)).toBe(true);
  const latest = await lane.latest(subject);
  expect(await lane.logsIn(latest.user, latest.password)).toBe(true);
  expect(await lane.countVersions(subject)).toBe(1);
  console.log(`  ${state}: ${journal?.outcome?.message}`);
  return journal!;
}

describe.each(strategies)('a target that fails, overlap %s', (strategy) => {
  it('is waited for when it is down for a while before anything is touched', async () => {
    const subject = await lane.prepare(strategy);
    lane.isTargetDown = true;
    await lane.announce(subject);
    await untilState(subject, 'CLAIMED');
    await pause(1500);
    lane.isTargetDown = false;
    await expectRotated(subject);
  });

  it('leaves everything as it was when it stays down', async () => {
    const subject = await lane.prepare(strategy);
    lane.isTargetDown = true;
    await lane.announce(subject);
    await expectOldInForce(subject, 'FAILED_CLEAN', 'target_unreachable');
    expect(await lane.faultsOfTraces(subject)).toEqual([]);
  });

  it('gets its old credential back when it goes down while the new one is set', async () => {
    const subject = await lane.prepare(strategy);
    const gone = at('before', altersRole, async () => {
      lane.isTargetDown = true;
      return 'drop';
    });
    await lane.announce(subject);
    await gone;
    await untilState(subject, 'ROLLING_BACK');
    lane.isTargetDown = false;
    await expectOldInForce(subject, 'ROLLED_BACK', 'target_unreachable');
    expect(await lane.faultsOfTraces(subject)).toEqual([]);
  });

  it('may be stopped and started in the middle', async () => {
    const subject = await lane.prepare(strategy);
    const restarted = at('after', writes('STAGED'), async () => {
      await ground.postgres.restart();
      return pass;
    });
    await lane.announce(subject);
    await restarted;
    await expectRotated(subject);
  });

  it('may make the change and drop the connection', async () => {
    const subject = await lane.prepare(strategy);
    const dropped = at('after', altersRole, async () => 'drop');
    await lane.announce(subject);
    await dropped;
    await expectRotated(subject);
  });

  it('refuses for good when the login is gone', async () => {
    const subject = await lane.prepare(strategy);
    // Of one login the stored credential is checked too, and it must work for what we ask here.
    const lost = strategy === 'users' ? subject.otherLogin : null;
    if (lost === null) await ground.postgres.query(`ALTER ROLE ${subject.login} NOLOGIN`);
    else await ground.postgres.query(`DROP ROLE ${lost}`);
    await lane.announce(subject);
    await lane.settle(subject, { nudges: false });
    if (lost === null) await ground.postgres.query(`ALTER ROLE ${subject.login} LOGIN`);
    await expectOldInForce(subject, 'FAILED_CLEAN', 'target_refused');
    expect(await lane.faultsOfTraces(subject)).toEqual([]);
  });

  it('refuses the change itself', async () => {
    const admin = `weak_${strategy}`;
    await ground.postgres.query(`CREATE ROLE ${admin} LOGIN CREATEROLE PASSWORD 'weak-password-1'`);
    await lane.vault('pending', 'PUT', `/secrets/weak-${strategy}`, { value: 'weak-password-1' });
    const target = { admin: { vault: 'pending', name: `weak-${strategy}`, username: admin } };
    const subject = await lane.prepare(strategy, { target });
    await lane.announce(subject);
    await lane.settle(subject, { nudges: false, withinMs: 120_000 });
    const [journal] = await lane.journals(subject);
    console.log(`  ${strategy}: ${journal?.state} ${journal?.outcome?.message}`);
    expect(['ROLLED_BACK', 'QUARANTINED', 'FAILED_CLEAN']).toContain(journal?.state);
    expect(journal?.outcome?.code).toBe('target_refused');
    expect(await lane.logsIn(subject.login, subject.password)).toBe(true);
    expect(await lane.countVersions(subject)).toBe(1);
    if (journal?.state !== 'QUARANTINED') return;
    // Mended as the message says, it goes on from there.
    await ground.postgres.query(`ALTER ROLE ${admin} SUPERUSER`);
    await lane.resume(journal.id);
    await pause(500);
    await lane.settle(subject, { nudges: false });
    expect(await lane.faultsOfTraces(subject)).toEqual([]);
    expect(await lane.logsIn(subject.login, subject.password)).toBe(true);
  });
});

describe.each(strategies)('a vault that fails, overlap %s', (strategy) => {
  const readOnly = (isOn: boolean) => lane.control('PUT', '/vaults/main/mode', { readOnly: isOn });

  it('is waited for when it is read-only between apply and promote', async () => {
    const subject = await lane.prepare(strategy);
    const refused = at('before', altersRole, async () => {
      await readOnly(true);
      return pass;
    });
    await lane.announce(subject);
    await refused;
    await pause(1500);
    await readOnly(false);
    await expectRotated(subject);
  });

  it('gets the old credential back into force when it stays read-only', async () => {
    const subject = await lane.prepare(strategy);
    const refused = at('before', altersRole, async () => {
      await readOnly(true);
      return pass;
    });
    await lane.announce(subject);
    await refused;
    await expectOldInForce(subject, 'ROLLED_BACK', 'vault_read_only');
    expect(await lane.faultsOfTraces(subject)).toEqual([]);
    await readOnly(false);
    await lane.announce(subject);
    await lane.settle(subject, { nudges: false });
    expect(await lane.countVersions(subject)).toBe(2);
  });

  it.each(strategy === 'none' ? ['fail-after-commit', 'reset', 'hang'] : ['reset-after-commit'])(
    'gets one version when its answer to the write is %s',
    async (kind) => {
      const subject = await lane.prepare(strategy);
      const rule = { vault: 'main', operation: 'setSecret', object: subject.name, fault: { kind } };
      await lane.control('POST', '/faults', rule);
      await lane.announce(subject);
      await expectRotated(subject);
    },
  );

  it.each([
    ['429 without Retry-After', { kind: 'status', status: 429 }],
    ['503', { kind: 'status', status: 503 }],
    ['503 with Retry-After', { kind: 'status', status: 503, retryAfter: 1 }],
  ])('is asked again when it answers a burst of %s', async (_, fault) => {
    const subject = await lane.prepare(strategy);
    for (const vault of ['main', 'pending']) {
      for (const nth of [1, 4, 7]) {
        await lane.control('POST', '/faults', { vault, operation: '*', nth, times: 2, fault });
      }
    }
    await lane.announce(subject);
    await expectRotated(subject);
  });
});

describe.each(strategies)('storage restarted in the middle, overlap %s', (strategy) => {
  it.each(['CLAIMED', 'APPLYING', 'PROMOTED'])('is survived when %s is written', async (state) => {
    const subject = await lane.prepare(strategy);
    const restarted = at('after', writes(state), async () => {
      await ground.azurite.restart();
      return 'drop';
    });
    await lane.announce(subject);
    await restarted;
    await expectRotated(subject);
  });
});

describe.each(strategies)('a human who writes a version in between, overlap %s', (strategy) => {
  const write = (subject: Subject, value: string) =>
    lane.vault('main', 'PUT', `/secrets/${subject.name}`, { value });
  const working = ({ strategy: by, login, password }: Subject) =>
    by === 'none' ? password : JSON.stringify({ username: login, password });

  it('keeps it when it works', async () => {
    const subject = await lane.prepare(strategy);
    const written = at('before', writes('APPLYING'), async () => {
      await write(subject, working(subject));
      return pass;
    });
    await lane.announce(subject);
    await written;
    await lane.settle(subject, { nudges: false });
    const [journal] = await lane.journals(subject);
    console.log(`  ${strategy}: ${journal?.state} ${journal?.outcome?.message}`);
    expect([journal?.state, journal?.outcome?.code]).toEqual(['ROLLED_BACK', 'interleaved']);
    expect(await lane.logsIn(subject.login, subject.password)).toBe(true);
    expect(await lane.countVersions(subject)).toBe(2);
    expect(await lane.faultsOfTraces(subject)).toEqual([]);
  });

  it.each(['STAGED', 'APPLYING'])(
    'writes a version that works after one that does not, written before %s is recorded',
    async (state) => {
      const subject = await lane.prepare(strategy);
      const written = at('before', writes(state), async () => {
        await write(subject, 'nonsense by hand');
        return pass;
      });
      await lane.announce(subject);
      await written;
      await lane.settle(subject, { nudges: false });
      const [journal] = await lane.journals(subject);
      console.log(`  ${strategy}, before ${state}: ${journal?.state} ${journal?.outcome?.message}`);
      expect([journal?.state, journal?.outcome?.code]).toEqual(['DONE', 'interleaved']);
      expect(await lane.faultsOfTraces(subject)).toEqual([]);
      const latest = await lane.latest(subject);
      expect(await lane.logsIn(latest.user, latest.password)).toBe(true);
    },
  );

  it('names the version that works when one that does not was written after it', async () => {
    const subject = await lane.prepare(strategy);
    const written = at('before', writes('PROMOTED'), async () => {
      await write(subject, 'nonsense by hand');
      return pass;
    });
    await lane.announce(subject);
    await written;
    const journal = await untilState(subject, 'DONE', 'RETIRING');
    console.log(`  ${strategy}, after ours: ${journal.state} ${journal.outcome?.message}`);
    expect(journal.outcome?.code).toBe('interleaved');
    expect(journal.outcome?.message).toContain(journal.promotedVersion);
    // The old login outlives whatever happens to the latest version.
    if (strategy === 'users') expect(await lane.logsIn(subject.login, subject.password)).toBe(true);
    const path = `/secrets/${subject.name}/${journal.promotedVersion}`;
    const { body } = await lane.vault('main', 'GET', path);
    await write(subject, body.value);
    await lane.settle(subject, { nudges: false, withinMs: 120_000 });
    const latest = await lane.latest(subject);
    expect(await lane.logsIn(latest.user, latest.password)).toBe(true);
    expect(await lane.logsIn(subject.login, subject.password)).toBe(false);
    expect((await lane.journals(subject)).map(({ state }) => state)).toEqual(['DONE']);
    expect(await lane.faultsOfTraces(subject)).toEqual([]);
  });
});
