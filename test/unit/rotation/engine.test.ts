import { describe, expect, it } from 'vitest';
import { AppError } from '../../../src/core/errors.ts';
import { handleRotation, quarantinePoisoned } from '../../../src/core/rotation/engine.ts';
import type { Overlap } from '../../../src/core/rotation/handler.ts';
import type { Journal } from '../../../src/core/rotation/journal.ts';
import { parseRotationMessage } from '../../../src/core/rotation/message.ts';
import { putJournal, rowId, shardOf } from '../../../src/core/rotation/records.ts';
import { requestRotation } from '../../../src/core/rotation/request.ts';
import {
  cancelRotation,
  releaseRotation,
  resumeRotation,
} from '../../../src/core/rotation/rotations.ts';
import { sweep } from '../../../src/core/rotation/sweep.ts';
import { SecretString } from '../../../src/core/secret-string.ts';
import type { JsonObject } from '../../../src/core/storage/ports.ts';
import {
  createWorld,
  orders,
  refused,
  unreachable,
  type Watch,
  type World,
} from '../../support/rotation-world.ts';

const overlaps: readonly Overlap[] = ['none', 'users'];
const main = (world: World) => world.vaults.get('main').secrets;

async function seeded(options: Parameters<typeof createWorld>[0] = {}): Promise<World> {
  const world = createWorld(options);
  await world.seed();
  return world;
}

/** One rotation by one process that `watch` looks at, then as many others as it takes. */
async function rotate(world: World, watch: Watch = {}): Promise<Journal> {
  // So that ids, which begin with the time, are in the order of the requests.
  world.pass(1);
  await world.request(world.start());
  await world.drain(world.start(null, watch));
  await world.converge();
  return last(world);
}

async function last(world: World): Promise<Journal> {
  const journal = (await world.journals()).toSorted((a, b) => (a.id < b.id ? -1 : 1)).at(-1);
  if (!journal) throw new Error('no rotation');
  return journal;
}

async function versions(world: World, name = 'orders-db') {
  return Array.fromAsync(main(world).listVersions(name));
}

async function expectUntouched(world: World, state: Journal['state']): Promise<Journal> {
  const journal = await last(world);
  expect(journal.state).toBe(state);
  expect(await world.latestLogsIn()).toBe(true);
  expect(await versions(world)).toHaveLength(1);
  expect(await world.store.list('reservations')).toMatchObject({ documents: [] });
  const pending = await Array.fromAsync(world.vaults.get('pending').secrets.list());
  expect(pending.map(({ name }) => name)).toEqual(['sealing-key']);
  expect((await world.verifyAudit()).faults).toEqual([]);
  return journal;
}

/** Does `run` at the first call named `what`, before or after it. */
function once(when: 'before' | 'after', what: string, run: () => Promise<void> | void): Watch {
  let isDone = false;
  return {
    [when]: async (_call: number, name: string) => {
      if (isDone || name !== what) return;
      isDone = true;
      await run();
    },
  };
}

/** Does `run` when the object has just been claimed, which is the first transaction of a worker. */
function afterClaim(run: () => Promise<void> | void): Watch {
  return once('after', 'store.transact', run);
}

/** A person who writes a version by hand. */
async function write(world: World, overlap: Overlap, password: string, login = 'app_a') {
  const text = overlap === 'none' ? password : JSON.stringify({ username: login, password });
  await main(world).set('orders-db', { value: new SecretString(text) });
}

/** A fault for the first `times` calls of one verb. */
function failing(verb: string, times: number, fault: () => never) {
  let left = times;
  return (called: string) => {
    if (called === verb && left-- > 0) fault();
  };
}

describe.each(overlaps)('a rotation whose target fails, overlap %s', (overlap) => {
  it.each(['preflight', 'verify', 'apply'])('goes on when %s works again', async (verb) => {
    const world = await seeded({ overlap });
    world.server.fault = failing(verb, 3, unreachable);
    expect(await rotate(world)).toMatchObject({ state: 'DONE', outcome: null, lastError: null });
    expect(await world.latestLogsIn()).toBe(true);
    expect(await versions(world)).toHaveLength(2);
  });

  it('ends untouched when the target stays down', async () => {
    const world = await seeded({ overlap });
    world.server.fault = unreachable;
    await world.request(world.start());
    await world.converge();
    world.server.fault = null;
    const { outcome } = await expectUntouched(world, 'FAILED_CLEAN');
    expect(outcome?.code).toBe('target_unreachable');
    expect(outcome?.message).toContain('see that the target is up');
    expect(outcome?.message).toContain('nothing was changed');
  });

  it('rolls back when the target refuses the password', async () => {
    const world = await seeded({ overlap });
    world.server.fault = failing('apply', 99, refused);
    await rotate(world);
    const { outcome } = await expectUntouched(world, 'ROLLED_BACK');
    expect(outcome?.code).toBe('target_refused');
    expect(outcome?.message).toContain('the stored credential is in force');
  });

  it('finishes when the target commits and drops its answer', async () => {
    const world = await seeded({ overlap });
    world.server.faultAfter = failing('apply', 1, unreachable);
    expect(await rotate(world)).toMatchObject({ state: 'DONE' });
    expect(await world.latestLogsIn()).toBe(true);
    expect(await versions(world)).toHaveLength(2);
  });

  it('rolls back when the candidate never logs in', async () => {
    const world = await seeded({ overlap });
    const { logins } = world.server;
    // The server takes the password and forgets it.
    world.server.faultAfter = (verb, login) => verb === 'apply' && void logins.set(login, '?');
    await rotate(world);
    world.server.faultAfter = null;
    const { outcome } = await expectUntouched(world, 'ROLLED_BACK');
    expect(outcome?.code).toBe('credential_rejected');
  });
});

describe.each(overlaps)('a rotation whose vault fails, overlap %s', (overlap) => {
  const readOnly = (world: World, isReadOnly: boolean) =>
    world.vaults.setReadOnly('main', isReadOnly);

  it('finishes when the vault was read-only for a moment after the target changed', async () => {
    const world = await seeded({ overlap });
    await world.request(world.start());
    await world.drain(
      world.start(
        null,
        once('after', 'target.apply', () => readOnly(world, true)),
      ),
    );
    expect(await last(world)).toMatchObject({
      state: 'PROMOTING',
      lastError: { code: 'vault_read_only' },
    });
    readOnly(world, false);
    await world.converge();
    expect((await last(world)).state).toBe('DONE');
    expect((await last(world)).gapMs === null).toBe(overlap === 'users');
    expect(await world.latestLogsIn()).toBe(true);
  });

  it('rolls back when the vault stays read-only, and says what to do', async () => {
    const world = await seeded({ overlap });
    const watch = once('after', 'target.apply', () => readOnly(world, true));
    await rotate(world, watch);
    const { outcome } = await expectUntouched(world, 'ROLLED_BACK');
    expect(outcome?.message).toContain('wait until the vault takes writes again');
    // Nobody can log in with the candidate: it was never promoted, and is not kept.
    if (overlap === 'users') expect(world.server.logins.get('app_b')).toBe('retired');
    readOnly(world, false);
    expect((await rotate(world)).state).toBe('DONE');
  });

  it('makes one version when the vault commits and loses its answer', async () => {
    const world = await seeded({ overlap });
    let lost = 0;
    world.vaults.onCall(async (call, run) => {
      await run();
      if (call.vault === 'main' && call.operation === 'set' && lost++ === 0) {
        throw new AppError('vault_unavailable', { detail: 'no answer' });
      }
    });
    expect((await rotate(world)).state).toBe('DONE');
    expect(lost).toBe(1);
    expect(await versions(world)).toHaveLength(2);
    expect(await world.latestLogsIn()).toBe(true);
  });

  it.each([
    ['vault_throttled', 2],
    ['vault_unavailable', 3],
    ['vault_unavailable', 4],
  ] as const)('outlives a storm of %s at each call but every %ith', async (code, good) => {
    const world = await seeded({ overlap });
    let calls = 0;
    world.vaults.onCall(async (_call, run) => {
      if (++calls % good !== 0) throw new AppError(code, { detail: 'storm' });
      await run();
    });
    const { state } = await rotate(world);
    world.vaults.onCall(null);
    expect(['DONE', 'ROLLED_BACK', 'FAILED_CLEAN']).toContain(state);
    expect(await world.latestLogsIn()).toBe(true);
    expect(await world.activeRows()).toEqual([]);
    expect((await rotate(world)).state).toBe('DONE');
  });

  it.each(['vault_denied', 'vault_rejected'] as const)(
    'touches nothing when the pending vault answers %s',
    async (code) => {
      const world = await seeded({ overlap });
      world.vaults.onCall(async ({ vault, operation }, run) => {
        if (vault === 'pending' && operation === 'set') throw new AppError(code, { detail: 'no' });
        await run();
      });
      await rotate(world);
      world.vaults.onCall(null);
      expect((await expectUntouched(world, 'FAILED_CLEAN')).outcome?.code).toBe(code);
    },
  );
});

describe.each(overlaps)('a person who writes a version meanwhile, overlap %s', (overlap) => {
  it.each(['before', 'after'] as const)(
    'keeps what works, written %s the candidate was staged',
    async (when) => {
      const world = await seeded({ overlap });
      const theirs = () => write(world, overlap, 'first-password');
      const journal = await rotate(world, once(when, 'pending.set', theirs));
      expect(journal).toMatchObject({ state: 'ROLLED_BACK', interleaved: true });
      expect(journal.outcome).toMatchObject({ code: 'interleaved' });
      expect((await world.latest()).properties.tags).toEqual({});
      expect(await world.latestLogsIn()).toBe(true);
      expect(await versions(world)).toHaveLength(2);
    },
  );

  it('keeps what works when the secret was erased and made anew', async () => {
    const world = await seeded({ overlap });
    const anew = async () => {
      await main(world).erase('orders-db');
      await write(world, overlap, 'first-password');
    };
    const journal = await rotate(world, once('after', 'pending.set', anew));
    expect(journal).toMatchObject({ state: 'ROLLED_BACK', interleaved: true });
    expect(await versions(world)).toHaveLength(1);
    expect(await world.latestLogsIn()).toBe(true);
  });

  it('is overruled when theirs does not work', async () => {
    const world = await seeded({ overlap });
    const theirs = () => write(world, overlap, 'wrong');
    const journal = await rotate(world, once('after', 'pending.set', theirs));
    expect(journal).toMatchObject({ state: 'DONE', interleaved: true });
    expect((await world.latest()).properties.tags['rotationId']).toBe(journal.id);
    expect(await world.latestLogsIn()).toBe(true);
  });

  it('is overruled when theirs cannot be read', async () => {
    const world = await seeded({ overlap });
    const theirs = () => void main(world).set('orders-db', { value: new SecretString('[]') });
    const journal = await rotate(world, once('after', 'pending.set', theirs));
    expect(journal).toMatchObject({ state: 'DONE', interleaved: true });
    expect(await world.latestLogsIn()).toBe(true);
  });

  it('is noticed even when theirs comes right before ours', async () => {
    const world = await seeded({ overlap });
    const theirs = () => write(world, overlap, 'wrong');
    const journal = await rotate(world, once('before', 'main.set', theirs));
    expect(journal).toMatchObject({ state: 'DONE', interleaved: true });
    expect(await versions(world)).toHaveLength(3);
    expect(await world.latestLogsIn()).toBe(true);
  });

  it('stops a rotation that has touched nothing yet', async () => {
    const world = await seeded({ overlap });
    await rotate(
      world,
      afterClaim(() => write(world, overlap, 'first-password')),
    );
    expect(await last(world)).toMatchObject({
      state: 'FAILED_CLEAN',
      interleaved: true,
      outcome: { code: 'interleaved' },
    });
    expect(await world.latestLogsIn()).toBe(true);
    expect(await versions(world)).toHaveLength(2);
  });

  it.each([
    ['works', 'and works'],
    ['does not work', 'does not log in'],
  ])('is told about it when theirs came after ours and %s', async (_what, message) => {
    const world = await seeded({ overlap });
    const theirs = async () => {
      const { username, password } = await world.latestCredential();
      const text = message === 'and works' ? password.expose() : 'wrong';
      await write(world, overlap, text, username ?? '');
    };
    const journal = await rotate(world, once('after', 'main.set', theirs));
    expect(journal.interleaved).toBe(true);
    expect(journal.outcome?.message).toContain(message);
    const ours = await main(world).get('orders-db', journal.promotedVersion ?? '');
    expect(ours.properties.tags['rotationId']).toBe(journal.id);
    const levels = world.lines.filter(
      ({ level, event }) => `${level} ${event}` === 'error rotation.moved',
    );
    expect(levels.length).toBeGreaterThan(0);
  });
});

describe.each(overlaps)('an object that changes under a rotation, overlap %s', (overlap) => {
  it('stays as it is when it is disabled before anything was touched', async () => {
    const world = await seeded({ overlap });
    const enable = (enabled: boolean) => world.vaults.change('main', 'orders-db', { enabled });
    await rotate(
      world,
      afterClaim(() => enable(false)),
    );
    enable(true);
    const { outcome } = await expectUntouched(world, 'FAILED_CLEAN');
    expect(outcome).toMatchObject({ code: 'object_disabled' });
  });

  it('goes on after an operator enables its new version again', async () => {
    const world = await seeded({ overlap });
    const disable = () => world.vaults.change('main', 'orders-db', { enabled: false });
    const journal = await rotate(world, once('after', 'main.set', disable));
    expect(journal).toMatchObject({ state: 'QUARANTINED', heldFrom: 'PROMOTED' });
    expect(journal.candidate).not.toBeNull();
    expect(journal.outcome?.message).toContain('then resume the rotation');
    world.vaults.change('main', 'orders-db', { enabled: true });
    await resumeRotation(world.start().services, journal.id, 'test');
    await world.converge();
    expect(await last(world)).toMatchObject({ state: 'DONE', heldFrom: null, outcome: null });
    expect(await world.latestLogsIn()).toBe(true);
  });

  it.each(['target.apply', 'main.set'])(
    'keeps every credential when it is deleted after %s',
    async (what) => {
      const world = await seeded({ overlap });
      const remove = () => world.vaults.softDelete('main', 'orders-db');
      const journal = await rotate(world, once('after', what, remove));
      expect(journal.state).toBe('QUARANTINED');
      expect(journal.outcome?.message).toContain('recover');
      const { services } = world.start();
      const kept = await services.pending.find(journal.id, journal.candidate);
      expect([...world.server.logins.values()].some((held) => kept?.expose().includes(held))).toBe(
        true,
      );
    },
  );

  it('is rotated to the end by the policy that began when that is deleted', async () => {
    const world = await seeded({ overlap });
    const remove = () => void world.documents.policies.splice(0);
    expect(await rotate(world, once('after', 'pending.set', remove))).toMatchObject({
      state: 'DONE',
    });
    expect(await world.latestLogsIn()).toBe(true);
    expect(await rotate(world)).toMatchObject({ state: 'SKIPPED', outcome: { code: 'no_policy' } });
  });

  it('is held when its handler is gone, and goes on when that is back', async () => {
    const world = await seeded({ overlap });
    await world.request(world.start());
    await world.drain(world.start({ call: 30, when: 'before' })).catch(() => undefined);
    world.pass(61);
    const without = world.start();
    await world.converge({ ...without, services: { ...without.services, handlers: new Map() } });
    const journal = await last(world);
    expect(journal).toMatchObject({ state: 'QUARANTINED', outcome: { code: 'corrupt' } });
    await resumeRotation(world.start().services, journal.id, 'test');
    await world.converge();
    expect((await last(world)).state).toBe('DONE');
    expect(await world.latestLogsIn()).toBe(true);
  });
});

describe('retiring the old login', () => {
  async function inGrace(): Promise<World> {
    const world = await seeded({ overlap: 'users' });
    await world.request(world.start());
    await world.drain(world.start());
    expect((await last(world)).state).toBe('GRACE');
    return world;
  }

  it('waits for the grace period, and until then both logins work', async () => {
    const world = await inGrace();
    expect(world.server.logins.get('app_a')).toBe('first-password');
    expect(await world.latestLogsIn()).toBe(true);
    world.pass(86_399);
    await world.drain(world.start());
    expect(world.server.logins.get('app_a')).toBe('first-password');
    await world.converge();
    expect(world.server.logins.get('app_a')).toBe('retired');
  });

  it.each([
    ['does not log in', 'wrong', 'app_b', 'credential_rejected'],
    ['uses the old login', 'first-password', 'app_a', 'target_refused'],
  ])('is refused while the latest version %s', async (_what, password, login, code) => {
    const world = await inGrace();
    const good = await world.latestCredential();
    await write(world, 'users', password, login);
    await world.converge();
    const journal = await last(world);
    expect(journal).toMatchObject({ state: 'REVOKE_FAILED', heldFrom: 'RETIRING' });
    expect(journal.outcome?.code).toBe(code);
    expect(world.server.logins.get('app_a')).toBe('first-password');
    await write(world, 'users', good.password.expose(), good.username ?? '');
    await resumeRotation(world.start().services, journal.id, 'test');
    await world.converge();
    expect(await last(world)).toMatchObject({ state: 'DONE' });
    expect(world.server.logins.get('app_a')).toBe('retired');
    expect(await world.latestLogsIn()).toBe(true);
  });

  it('is not taken up again once a later rotation has had the object', async () => {
    const world = await inGrace();
    world.server.fault = failing('retire', 99, refused);
    await world.converge();
    world.server.fault = null;
    const failed = await last(world);
    expect(failed.state).toBe('REVOKE_FAILED');
    expect((await rotate(world)).state).toBe('DONE');
    await resumeRotation(world.start().services, failed.id, 'test');
    await world.converge();
    expect((await world.journals()).find(({ id }) => id === failed.id)).toEqual(failed);
    expect(await world.latestLogsIn()).toBe(true);
  });
});

describe('a quarantined rotation', () => {
  async function quarantined() {
    const world = await seeded();
    world.server.faultAfter = (verb) => {
      // The new password is in, and then the target is gone for good.
      if (verb === 'apply') world.server.fault = unreachable;
    };
    const journal = await rotate(world);
    expect(journal).toMatchObject({ state: 'QUARANTINED', heldFrom: 'ROLLING_BACK' });
    return { world, journal };
  }

  it('keeps the candidate, holds its target and its object', async () => {
    const { world, journal } = await quarantined();
    const kept = await world.start().services.pending.find(journal.id, journal.candidate);
    expect(kept?.expose()).toBe(world.server.logins.get('app'));
    expect(await rotate(world)).toMatchObject({
      state: 'SKIPPED',
      outcome: { code: 'quarantined' },
    });
    expect((await world.store.list('reservations')).documents).toHaveLength(1);
  });

  it('goes on from where it was held when it is resumed', async () => {
    const { world, journal } = await quarantined();
    world.server.fault = null;
    world.server.faultAfter = null;
    await resumeRotation(world.start().services, journal.id, 'test');
    await world.converge();
    await expectUntouched(world, 'ROLLED_BACK');
    expect((await rotate(world)).state).toBe('DONE');
  });

  it('is reopened by the operator’s message even if its end was not audited yet', async () => {
    const { world, journal } = await quarantined();
    world.server.fault = null;
    world.server.faultAfter = null;
    const { services } = world.start();
    const entry = { seq: 99, from: null, to: 'QUARANTINED' as const, at: journal.history[0]!.at };
    const owing = { ...journal, unaudited: [{ ...entry, note: null }] };
    await world.store.transact(shardOf(orders), [putJournal(owing, 'any')]);
    await resumeRotation(services, journal.id, 'test');
    await world.converge();
    expect((await last(world)).state).toBe('ROLLED_BACK');
  });

  it('stays held while another rotation has its object', async () => {
    const { world, journal } = await quarantined();
    const row = await world.store.get(shardOf(orders), rowId.object(orders));
    const body = { ...row!.body, active: 'somebody' };
    await world.store.put(shardOf(orders), rowId.object(orders), body, 'any');
    await resumeRotation(world.start().services, journal.id, 'test');
    await world.drain(world.start());
    expect((await last(world)).state).toBe('QUARANTINED');
  });

  it('follows when the process has died again and again in one state', async () => {
    const world = await seeded();
    await world.request(world.start());
    for (let crash = 0; crash < 40; crash++) {
      const death: Watch = {
        before: (_call, what) => {
          if (what === 'pending.set') die();
        },
      };
      await world.drain(world.start(null, death)).catch(() => undefined);
      world.pass(400);
    }
    await world.converge();
    expect(await last(world)).toMatchObject({ state: 'QUARANTINED', heldFrom: 'PREFLIGHTED' });
    expect(await world.latestLogsIn()).toBe(true);
  });
});

/** As a process that is gone: no catch of the engine may see an error it could handle. */
function die(): never {
  throw new AppError('storage_unavailable', { detail: 'the process died here' });
}

describe('a poisoned message', () => {
  it('is handled once more when its rotation was never begun', async () => {
    const world = await seeded();
    await world.request(world.start());
    const message = parseRotationMessage(world.rotations.take());
    expect(await quarantinePoisoned(world.start().services, message)).toMatchObject({
      kind: 'ended',
      state: 'DONE',
    });
    expect(await quarantinePoisoned(world.start().services, message)).toMatchObject({
      kind: 'ended',
    });
  });

  async function interrupted() {
    const world = await seeded();
    await world.request(world.start());
    const message = parseRotationMessage(world.rotations.take());
    const dead = world.start({ call: 30, when: 'before' });
    await handleRotation(dead.services, message).catch(() => undefined);
    return { world, message };
  }

  it('is left to the sweep while somebody works on its rotation', async () => {
    const { world, message } = await interrupted();
    expect(await quarantinePoisoned(world.start().services, message)).toEqual({ kind: 'yielded' });
    await world.converge();
    expect((await last(world)).state).toBe('DONE');
  });

  it('is left to the sweep while its rotation waits', async () => {
    const world = await seeded({ overlap: 'users' });
    await world.request(world.start());
    const message = parseRotationMessage(world.rotations.take());
    await handleRotation(world.start().services, message);
    const taken = await quarantinePoisoned(world.start().services, message);
    expect(taken).toMatchObject({ kind: 'waiting' });
    await world.converge();
    expect((await last(world)).state).toBe('DONE');
  });

  it('goes on when its lease is free: storage may only have been away', async () => {
    const { world, message } = await interrupted();
    world.pass(61);
    await quarantinePoisoned(world.start().services, message);
    await world.converge();
    expect((await last(world)).state).toBe('DONE');
    expect(await world.latestLogsIn()).toBe(true);
  });

  it('holds a rotation that cannot be taken up for another reason', async () => {
    const { world, message } = await interrupted();
    world.pass(61);
    await world.store.put(shardOf(orders), rowId.lease(orders), { holder: 1 }, 'any');
    const held = await quarantinePoisoned(world.start().services, message);
    expect(held).toEqual({ kind: 'ended', state: 'QUARANTINED' });
    expect((await last(world)).outcome?.code).toBe('poisoned');
  });
});

describe('an operator who put things right by hand', () => {
  it('releases a held rotation, whose candidate is forgotten and whose object is free', async () => {
    const world = await seeded();
    world.server.fault = failing('verify', 99, unreachable);
    await world.request(world.start());
    const message = parseRotationMessage(world.rotations.take());
    await handleRotation(world.start({ call: 30, when: 'before' }).services, message).catch(
      () => undefined,
    );
    world.pass(61);
    const lease = await world.store.get(shardOf(orders), rowId.lease(orders));
    await world.store.put(shardOf(orders), rowId.lease(orders), { holder: 1 }, 'any');
    await quarantinePoisoned(world.start().services, message);
    await world.store.put(shardOf(orders), rowId.lease(orders), lease!.body, 'any');
    const held = await last(world);
    expect(held.state).toBe('QUARANTINED');

    await releaseRotation(world.start().services, held.id, 'test');
    await world.drain(world.start());
    expect(await last(world)).toMatchObject({ heldFrom: null, candidate: null });
    await expect(releaseRotation(world.start().services, held.id, 'test')).rejects.toMatchObject({
      code: 'conflict',
    });
    world.server.fault = null;
    world.server.logins.set('app', (await world.latestCredential()).password.expose());
    world.pass(1);
    expect(await rotate(world)).toMatchObject({ state: 'DONE', outcome: null });
    expect(await world.latestLogsIn()).toBe(true);
  });
});

describe('the circuit of an object', () => {
  it('opens after three failures, rests the triggers, lets people through, and closes', async () => {
    const world = await seeded();
    world.server.fault = unreachable;
    for (let failure = 1; failure <= 3; failure++) {
      await world.request(world.start(), 'near-expiry');
      await world.converge();
      expect((await last(world)).state).toBe('FAILED_CLEAN');
    }
    await world.request(world.start(), 'near-expiry');
    await world.converge();
    expect(await last(world)).toMatchObject({
      state: 'SKIPPED',
      outcome: { code: 'circuit_open' },
    });
    world.server.fault = null;
    expect((await rotate(world)).state).toBe('DONE');
    const record = await world.store.get(shardOf(orders), rowId.object(orders));
    expect(record?.body).toMatchObject({ failures: 0, circuitOpenUntil: null });
  });

  it('does not count what people cancelled or wrote in between', async () => {
    const world = await seeded();
    for (let round = 0; round < 4; round++) {
      await rotate(
        world,
        once('after', 'pending.set', () => write(world, 'none', 'first-password')),
      );
      expect((await last(world)).state).toBe('ROLLED_BACK');
    }
    const record = await world.store.get(shardOf(orders), rowId.object(orders));
    expect(record?.body).toMatchObject({ failures: 0, circuitOpenUntil: null });
  });
});

describe.each(overlaps)('cancelling, overlap %s', (overlap) => {
  it('ends in order wherever the rotation stands', async () => {
    const seen = new Set<string>();
    for (let call = 1; ; call++) {
      const world = await seeded({ overlap });
      await world.request(world.start());
      const dead = world.start({ call, when: 'after' });
      const isFinished = await world.drain(dead).then(
        () => dead.calls < call,
        () => false,
      );
      if (isFinished) break;
      const journal = (await world.journals())[0];
      if (!journal) continue;
      seen.add(journal.state);
      const asked = cancelRotation(world.start().services, journal.id, 'test');
      const isTaken = await asked.then(
        () => true,
        (error: AppError) => error.code !== 'not_cancellable',
      );
      world.pass(61);
      await world.converge();
      const { state, outcome } = await last(world);
      const what = `cancelled in ${journal.state} after call ${call}: ${state}`;
      expect(await world.latestLogsIn(), what).toBe(true);
      expect(await world.activeRows(), what).toEqual([]);
      expect((await world.verifyAudit()).faults, what).toEqual([]);
      if (state === 'DONE') continue;
      expect(isTaken, what).toBe(true);
      expect(outcome?.code, what).toBe('cancelled');
      const touched = journal.history.some((entry) => entry.state === 'APPLYING');
      await expectUntouched(world, touched ? 'ROLLED_BACK' : 'FAILED_CLEAN');
    }
    const expected = ['REQUESTED', 'CLAIMED', 'PREFLIGHTED', 'STAGED', 'APPLYING', 'PROMOTED'];
    expect([...seen]).toEqual(expect.arrayContaining(expected));
  });

  it('is heeded while the rotation is being worked on, until it touches something', async () => {
    const world = await seeded({ overlap });
    const id = await world.request(world.start());
    const stop = async () => void (await cancelRotation(world.start().services, id, 'test'));
    await world.drain(world.start(null, once('after', 'pending.set', stop)));
    const { outcome } = await expectUntouched(world, 'FAILED_CLEAN');
    expect(outcome?.code).toBe('cancelled');
  });

  it('does not wait for the next try', async () => {
    const world = await seeded({ overlap });
    world.server.fault = failing('apply', 1, unreachable);
    await world.request(world.start());
    await world.drain(world.start());
    const waiting = await last(world);
    expect(waiting.resumeAt).not.toBeNull();
    await cancelRotation(world.start().services, waiting.id, 'test');
    await world.drain(world.start());
    expect(await last(world)).toMatchObject({
      state: 'ROLLED_BACK',
      outcome: { code: 'cancelled' },
    });
  });
});

describe('many messages', () => {
  it('of one event make one rotation, whoever handles them', async () => {
    const world = await seeded();
    const { version } = (await world.latest()).properties;
    for (let copy = 0; copy < 50; copy++)
      await world.request(world.start(), 'near-expiry', version);
    const engines = [world.start(), world.start()];
    const work: Promise<unknown>[] = [];
    for (
      let i = 0, message = world.rotations.take();
      message;
      i++, message = world.rotations.take()
    ) {
      const { services } = engines[i % 2]!;
      work.push(handleRotation(services, parseRotationMessage(message)));
    }
    expect(work).toHaveLength(50);
    await Promise.all(work);
    await world.converge();
    const journals = await world.journals();
    const states = journals.map(({ state }) => state);
    expect(states.filter((state) => state === 'DONE')).toHaveLength(1);
    expect(states.filter((state) => state === 'SKIPPED')).toHaveLength(49);
    const reasons = journals.map(({ outcome }) => outcome?.code).filter(Boolean);
    expect(new Set([...reasons, 'superseded', 'in_progress'])).toEqual(
      new Set(['superseded', 'in_progress']),
    );
    expect(await versions(world)).toHaveLength(2);
    expect(await world.latestLogsIn()).toBe(true);
  });

  it.each(overlaps)('delivered again after DONE change nothing, overlap %s', async (overlap) => {
    const world = await seeded({ overlap });
    const sent: JsonObject[] = [];
    const take = world.rotations.take;
    world.rotations.take = () => {
      const message = take();
      if (message) sent.push(message);
      return message;
    };
    await rotate(world);
    const before = JSON.stringify([await world.journals(), [...world.server.logins]]);
    expect(sent.length).toBeGreaterThan(0);
    const { services } = world.start();
    for (const message of sent) {
      const handled = await handleRotation(services, parseRotationMessage(message));
      expect(handled).toEqual({ kind: 'ended', state: 'DONE' });
    }
    expect(JSON.stringify([await world.journals(), [...world.server.logins]])).toBe(before);
    expect(await versions(world)).toHaveLength(2);
  });

  it('about a rotation nobody asked for are dropped', async () => {
    const world = await seeded();
    const base = { requestId: '01JZZZZZZZZZZZZZZZZZZZZZZZ', ...orders, requestedBy: 'x' };
    const message = { kind: 'resume' as const, ...base, correlationId: 'c', reopen: false };
    expect(await handleRotation(world.start().services, message)).toEqual({ kind: 'unknown' });
  });

  it('of a rotation that waits for its next try do not hasten it', async () => {
    const world = await seeded();
    world.server.fault = failing('apply', 1, unreachable);
    const requestId = await world.request(world.start());
    const message = parseRotationMessage(world.rotations.take());
    await handleRotation(world.start().services, message);
    const before = await last(world);
    expect(before).toMatchObject({ id: requestId, attempts: 1 });
    const early = world.start();
    const handled = await handleRotation(early.services, message);
    expect(handled).toEqual({ kind: 'waiting', until: new Date(before.resumeAt ?? 0) });
    expect(early.trace.filter((what) => what.startsWith('target.'))).toEqual([]);
    expect(await last(world)).toEqual(before);
  });

  it('of a rotation that another process works on are left to it', async () => {
    const world = await seeded();
    await world.request(world.start());
    const message = parseRotationMessage(world.rotations.take());
    const dead = world.start({ call: 30, when: 'before' });
    await handleRotation(dead.services, message).catch(() => undefined);
    expect(await handleRotation(world.start().services, message)).toEqual({ kind: 'yielded' });
  });
});

describe('two objects on one target', () => {
  it('take turns: the second waits in vain until the first has retired its old login', async () => {
    const world = await seeded({ overlap: 'users' });
    world.documents.targets[0]!.body.objects.push({
      vault: 'main',
      type: 'secret',
      name: 'orders-2',
    });
    const second = { ...orders, name: 'orders-2' };
    const ask = async () => {
      const { services } = world.start();
      const by = { reason: 'on-demand', requestedBy: 'test', correlationId: 'c' } as const;
      await requestRotation(services, second, { ...by, expectedBaseVersion: null });
    };
    const store = async () => main(world).set('orders-2', { value: (await world.latest()).value });
    await store();
    await world.request(world.start());
    await world.drain(world.start());
    await ask();
    for (let round = 0; round < 12; round++) {
      world.pass(301);
      await world.drain(world.start());
      await sweep(world.start().services);
    }
    const waited = (await world.journals()).find(({ object }) => object.name === 'orders-2');
    expect(waited).toMatchObject({ state: 'FAILED_CLEAN', outcome: { code: 'target_in_grace' } });
    expect(await world.latestLogsIn()).toBe(true);
    expect(world.server.logins.get('app_a')).toBe('first-password');
    await world.converge();
    await store();
    await ask();
    await world.converge();
    const states = (await world.journals()).map(({ state }) => state).toSorted();
    expect(states).toEqual(['DONE', 'DONE', 'FAILED_CLEAN']);
  });
});

describe('an invocation', () => {
  it('hands over to a message when its time is up, but never inside the gap', async () => {
    const world = await seeded();
    await world.request(world.start());
    const traces: string[][] = [];
    while (traces.length === 0 || !(await world.isSettled())) {
      const process = world.start(null, { after: () => world.pass(1) });
      const settings = { ...process.services.settings, invocationSeconds: 3 };
      await handleRotation(
        { ...process.services, settings },
        parseRotationMessage(world.rotations.take()),
      );
      traces.push(process.trace);
    }
    expect(traces.length).toBeGreaterThan(3);
    expect((await last(world)).state).toBe('DONE');
    const crossing = traces.find((trace) => trace.includes('target.apply'));
    expect(crossing).toContain('main.set');
    expect(await versions(world)).toHaveLength(2);
  });

  it('crosses the gap of one login in two calls: log in, write', async () => {
    const world = await seeded();
    await world.request(world.start());
    const process = world.start();
    await world.drain(process);
    const at = process.trace.indexOf('target.apply');
    expect(process.trace.slice(at, at + 3)).toEqual(['target.apply', 'target.verify', 'main.set']);
    expect((await last(world)).gapMs).toBe(0);
  });

  it('lets go when its lease runs out on the way', async () => {
    const world = await seeded();
    const watch = once('after', 'pending.set', () => world.pass(61));
    await world.request(world.start());
    const message = parseRotationMessage(world.rotations.take());
    const handled = await handleRotation(world.start(null, watch).services, message);
    expect(handled).toEqual({ kind: 'yielded' });
    await world.converge();
    expect((await last(world)).state).toBe('DONE');
  });
});

describe('the audit log of a rotation', () => {
  async function entries(world: World) {
    const found: { action: string; outcome: string; detail: Record<string, unknown> }[] = [];
    for await (const name of world.log.list('audit/')) {
      const text = Buffer.from(await world.log.read(name)).toString();
      for (const line of text.trim().split('\n')) found.push(JSON.parse(line));
    }
    return found.filter(({ action }) => action !== undefined);
  }

  it.each([
    [
      'none',
      ['CLAIMED secret.read', 'CLAIMED admin.read', 'CLAIMED target.probe'],
      ['APPLYING target.apply', 'APPLYING target.probe', 'APPLYING secret.write'],
      ['PROMOTED secret.read', 'PROMOTED target.probe', 'NOTIFIED candidate.drop'],
    ],
    [
      'users',
      ['APPLYING candidate.read', 'APPLYING admin.read', 'APPLYING target.apply'],
      ['APPLIED candidate.read', 'APPLIED target.probe', 'PROMOTING candidate.read'],
      ['PROMOTING secret.write', 'RETIRING target.probe', 'RETIRING target.retire'],
    ],
  ] as const)(
    'holds what it was about to do and what it did, overlap %s',
    async (overlap, ...parts) => {
      const world = await seeded({ overlap });
      const journal = await rotate(world);
      const log = await entries(world);
      const intended = log
        .filter(({ outcome }) => outcome === 'intended')
        .map(({ action, detail }) => `${detail['state']} ${action}`);
      for (const part of parts) expect(intended).toEqual(expect.arrayContaining([...part]));
      const moves = log.filter(({ action }) => action === 'rotation.transition');
      expect(moves.map(({ detail }) => detail['to'])).toEqual(
        journal.history.map(({ state }) => state),
      );
      const { value } = await world.latest();
      expect(JSON.stringify(log)).not.toContain(value.expose());
    },
  );

  it('holds no intent to touch the target for a rotation that did not', async () => {
    const world = await seeded();
    world.server.fault = failing('preflight', 99, refused);
    await rotate(world);
    const actions = (await entries(world)).map(({ action }) => action);
    expect(actions).toContain('candidate.drop');
    expect(actions).not.toContain('target.restore');
  });
});

describe('a rotation that the vault would refuse at the end', () => {
  it.each([
    ['the secret has too many tags', {}, 14],
    [
      'the expiry lies beyond what a vault keeps',
      { schedule: { validFor: 'P9000D', leadTime: 'P30D' } },
      1,
    ],
  ])('touches nothing: %s', async (_what, policy, tags) => {
    const world = await seeded({ policy });
    const named = Object.fromEntries(Array.from({ length: tags }, (_, i) => [`tag${i}`, 'x']));
    const value = new SecretString('first-password');
    await main(world).set('orders-db', { value, tags: named });
    const journal = await rotate(world);
    expect(journal).toMatchObject({ state: 'FAILED_CLEAN', outcome: { code: 'invalid_input' } });
    expect(world.server.logins.get('app')).toBe('first-password');
  });

  it('touches nothing when the stored credential is not the one in force', async () => {
    const world = await seeded();
    world.server.logins.set('app', 'changed by hand');
    const journal = await rotate(world);
    expect(journal).toMatchObject({ state: 'FAILED_CLEAN', outcome: { code: 'target_refused' } });
    expect(world.server.logins.get('app')).toBe('changed by hand');
  });

  it.each([
    ['is missing', () => undefined],
    ['is disabled', (world: World) => world.vaults.change('main', 'db-admin', { enabled: false })],
  ])('touches nothing when the admin secret %s', async (what, change) => {
    const world = await seeded();
    if (what === 'is missing') world.vaults.softDelete('main', 'db-admin');
    change(world);
    await rotate(world);
    const { outcome } = await expectUntouched(world, 'FAILED_CLEAN');
    expect(outcome?.code).toBe('bad_configuration');
  });
});

describe('what a new version carries', () => {
  it('keeps the tags and the content type, and says where it comes from', async () => {
    const world = await seeded();
    await main(world).set('orders-db', {
      value: new SecretString('first-password'),
      contentType: 'text/plain',
      tags: { owner: 'shop', previousVersion: 'old', login: 'old' },
    });
    const base = (await world.latest()).properties.version;
    const journal = await rotate(world);
    const { properties } = await world.latest();
    expect(properties.contentType).toBe('text/plain');
    expect(properties.tags).toEqual({
      owner: 'shop',
      rotationId: journal.id,
      previousVersion: base,
      login: 'app',
    });
    expect(properties.expiresOn?.getTime()).toBe(
      Date.parse(journal.history.at(-1)!.at) + 90 * 86_400_000,
    );
  });

  it('is a random text where there is no target', async () => {
    const world = await seeded({ handler: 'generated' });
    const journal = await rotate(world);
    expect(journal).toMatchObject({ state: 'DONE', login: null, gapMs: null });
    const { value, properties } = await world.latest();
    expect(value.expose()).toMatch(/^[a-zA-Z0-9]{32}$/);
    expect(properties.tags['login']).toBeUndefined();
  });

  it('gives way to a person’s where there is no target', async () => {
    const world = await seeded({ handler: 'generated' });
    const theirs = () => write(world, 'none', 'theirs');
    const journal = await rotate(world, once('after', 'pending.set', theirs));
    expect(journal).toMatchObject({ state: 'ROLLED_BACK', interleaved: true });
    expect((await world.latest()).value.expose()).toBe('theirs');
  });
});
