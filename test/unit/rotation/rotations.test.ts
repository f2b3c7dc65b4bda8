import { describe, expect, it } from 'vitest';
import type { State } from '../../../src/core/rotation/journal.ts';
import { rowId, shardOf, shards } from '../../../src/core/rotation/records.ts';
import { requestRotation } from '../../../src/core/rotation/request.ts';
import {
  cancelRotation,
  getRotation,
  listRotations,
  planRotation,
  resumeRotation,
} from '../../../src/core/rotation/rotations.ts';
import { listAll } from '../../../src/core/rotation/sweep.ts';
import {
  createWorld,
  orders,
  refused,
  unreachable,
  type World,
} from '../../support/rotation-world.ts';

async function seeded(options: Parameters<typeof createWorld>[0] = {}): Promise<World> {
  const world = createWorld(options);
  await world.seed();
  return world;
}

async function rotateOften(world: World, times: number): Promise<string[]> {
  const ids: string[] = [];
  for (let i = 0; i < times; i++) {
    world.pass(1);
    ids.push(await world.request(world.start()));
    await world.drain(world.start());
  }
  return ids;
}

/** Makes the rotation look as if it stood in `state`. */
async function putInto(world: World, id: string, state: State, heldFrom: State | null = null) {
  const row = await world.store.get(shardOf(orders), rowId.journal(id));
  const body = { ...row!.body, state, heldFrom };
  await world.store.put(shardOf(orders), rowId.journal(id), body, 'any');
}

const unknown = '01JZZZZZZZZZZZZZZZZZZZZZZZ';

describe('a rotation that is looked at', () => {
  it('tells its story without values', async () => {
    const world = await seeded();
    const [id] = await rotateOften(world, 1);
    const view = await getRotation(world.start().services, id ?? '');
    expect(view).toMatchObject({
      id,
      object: orders,
      state: 'DONE',
      ended: true,
      reason: 'on-demand',
      requestedBy: 'test',
      policy: 'orders',
      login: 'app',
      outcome: null,
    });
    expect(view.history.map(({ state }) => state)[0]).toBe('REQUESTED');
    const { value } = await world.latest();
    expect(JSON.stringify(view)).not.toContain(value.expose());
  });

  it.each([unknown, 'nonsense', ''])('is not found as %j', async (id) => {
    const { services } = (await seeded()).start();
    await expect(getRotation(services, id)).rejects.toMatchObject({ code: 'not_found' });
  });

  it('says why it waits while it waits', async () => {
    const world = await seeded();
    world.server.fault = unreachable;
    const [id] = await rotateOften(world, 1);
    expect(await getRotation(world.start().services, id ?? '')).toMatchObject({
      ended: false,
      outcome: { code: 'target_unreachable' },
    });
  });
});

describe('a list of rotations', () => {
  it('gives the newest first, page by page', async () => {
    const world = await seeded();
    const ids = (await rotateOften(world, 5)).toReversed();
    const { services } = world.start();
    const pages: string[][] = [];
    let before: string | null = null;
    do {
      const page = await listRotations(services, { limit: 2, before });
      pages.push(page.rotations.map(({ id }) => id));
      before = page.before;
    } while (before !== null);
    expect(pages).toEqual([ids.slice(0, 2), ids.slice(2, 4), ids.slice(4)]);
  });

  it('of one object leaves out the others, and minds no case', async () => {
    const world = await seeded();
    const [id] = await rotateOften(world, 1);
    const { services } = world.start();
    const by = { reason: 'scan', requestedBy: 'x', correlationId: 'c' } as const;
    const other = { ...orders, name: 'orders-other' };
    await requestRotation(services, other, { ...by, expectedBaseVersion: null });
    await world.drain(world.start());
    const of = async (object?: typeof orders) =>
      (await listRotations(services, { limit: 10, ...(object ? { object } : {}) })).rotations;
    expect(await of()).toHaveLength(2);
    expect(await of({ ...orders, name: 'ORDERS-db' })).toMatchObject([{ id }]);
    expect(await of({ ...orders, name: 'nobody' })).toEqual([]);
  });

  it('goes through more than storage gives at once, and over what is damaged', async () => {
    const world = await seeded();
    const [id] = await rotateOften(world, 1);
    const shard = shardOf(orders);
    const { body } = (await world.store.get(shard, rowId.journal(id ?? '')))!;
    for (let i = 0; i < 150; i++) {
      await world.store.put(shard, rowId.journal(`${i}`), { ...body, id: `${i}` }, 'absent');
    }
    await world.store.put(shard, rowId.journal('bad'), { id: 'bad' }, 'absent');
    const { rotations } = await listRotations(world.start().services, { limit: 500 });
    expect(rotations).toHaveLength(151);
    expect(world.lines.map(({ event }) => event)).toContain('journal.damaged');
  });
});

describe('cancelling and resuming', () => {
  it.each([
    ['REQUESTED', true],
    ['CLAIMED', true],
    ['PREFLIGHTED', true],
    ['STAGED', true],
    ['APPLYING', true],
    ['APPLIED', true],
    ['VERIFIED', true],
    ['PROMOTING', true],
    ['PROMOTED', false],
    ['NOTIFIED', false],
    ['GRACE', false],
    ['RETIRING', false],
    ['RETIRED', false],
    ['ROLLING_BACK', false],
    ['DONE', false],
    ['SKIPPED', false],
    ['ROLLED_BACK', false],
    ['FAILED_CLEAN', false],
    ['REVOKE_FAILED', false],
    ['QUARANTINED', false],
  ] as const)('in %s a rotation takes a request to cancel: %s', async (state, isTaken) => {
    const world = await seeded();
    const [id] = await rotateOften(world, 1);
    await putInto(world, id ?? '', state);
    const asked = cancelRotation(world.start().services, id ?? '', 'ada');
    if (isTaken) {
      expect((await asked).state).toBe(state);
      expect(world.rotations.take()).toMatchObject({ kind: 'resume', requestedBy: 'ada' });
    } else {
      await expect(asked).rejects.toMatchObject({ code: 'not_cancellable' });
      expect(world.rotations.take()).toBeNull();
    }
  });

  it.each(['QUARANTINED', 'REVOKE_FAILED'] as const)('reopens what is %s', async (state) => {
    const world = await seeded();
    const [id] = await rotateOften(world, 1);
    await putInto(world, id ?? '', state, 'RETIRING');
    expect(await resumeRotation(world.start().services, id ?? '', 'ada')).toMatchObject({ state });
    expect(world.rotations.take()).toMatchObject({ kind: 'resume', reopen: true });
  });

  it('refuses to resume what is not held, and what nobody knows', async () => {
    const world = await seeded();
    const [id] = await rotateOften(world, 1);
    const { services } = world.start();
    await expect(resumeRotation(services, id ?? '', 'ada')).rejects.toMatchObject({
      code: 'conflict',
    });
    await expect(resumeRotation(services, unknown, 'ada')).rejects.toMatchObject({
      code: 'not_found',
    });
    await expect(cancelRotation(services, unknown, 'ada')).rejects.toMatchObject({
      code: 'not_found',
    });
  });
});

describe('a plan', () => {
  async function everything(world: World) {
    const partitions = [...shards, 'reservations'];
    const rows = partitions.map((shard) => Array.fromAsync(listAll(world.store, shard, '')));
    const secrets = ['main', 'pending'].map((alias) =>
      Array.fromAsync(world.vaults.get(alias).secrets.list()),
    );
    return JSON.stringify([
      await Promise.all(rows),
      await Promise.all(secrets),
      [...world.server.logins],
      world.rotations.take(),
    ]);
  }

  it.each([
    ['none', 'app', 5],
    ['users', 'app_b', 7],
  ] as const)(
    'of a rotation that would start changes nothing, overlap %s',
    async (overlap, login, steps) => {
      const world = await seeded({ overlap });
      const before = await everything(world);
      const plan = await planRotation(world.start().services, orders);
      expect(plan).toMatchObject({
        object: orders,
        decision: 'start',
        reason: null,
        policy: 'orders',
        target: 'orders',
        handler: 'fake',
        graceSeconds: 86_400,
        ...{ overlap, login },
      });
      expect(plan.steps).toHaveLength(steps);
      expect(await everything(world)).toBe(before);
    },
  );

  it('says why nothing would start', async () => {
    const world = await seeded({ policy: { paused: true } });
    expect(await planRotation(world.start().services, orders)).toMatchObject({
      decision: 'skip',
      reason: 'policy_paused',
      steps: [],
    });
  });

  it('of an object that is not there names what is wrong with it', async () => {
    const world = await seeded();
    const { services } = world.start();
    const plan = (ref: object) => planRotation(services, { ...orders, ...ref });
    expect(await plan({ vault: 'nowhere' })).toMatchObject({ reason: 'unknown_vault' });
    expect(await plan({ vault: 'pending' })).toMatchObject({ reason: 'unknown_vault' });
    expect(await plan({ type: 'key' })).toMatchObject({ reason: 'unsupported_type' });
    expect(await plan({ name: 'nobody' })).toMatchObject({
      reason: 'object_missing',
      baseVersion: null,
    });
  });

  it('does not start for an object that the target does not list', async () => {
    const world = await seeded();
    await world.vaults.get('main').secrets.set('orders-2', { value: (await world.latest()).value });
    const plan = await planRotation(world.start().services, { ...orders, name: 'orders-2' });
    expect(plan).toMatchObject({ decision: 'skip', reason: 'no_policy' });
  });

  it.each([
    ['target_unreachable', unreachable],
    ['target_refused', refused],
  ] as const)('tells %s of the target', async (reason, fault) => {
    const world = await seeded();
    world.server.fault = fault;
    expect(await planRotation(world.start().services, orders)).toMatchObject({
      decision: 'skip',
      reason,
    });
  });

  it('tells that the stored credential is not the one in force', async () => {
    const world = await seeded();
    world.server.logins.set('app', 'another');
    expect(await planRotation(world.start().services, orders)).toMatchObject({
      decision: 'skip',
      reason: 'target_refused',
    });
  });

  it('of a value without target asks nobody', async () => {
    const world = await seeded({ handler: 'generated' });
    expect(await planRotation(world.start().services, orders)).toMatchObject({
      decision: 'start',
      handler: 'generated',
      target: null,
      login: null,
    });
  });

  it('does not hide that the vault is down', async () => {
    const world = await seeded();
    let calls = 0;
    world.vaults.onCall(async (_call, run) => {
      if (++calls > 2) throw new Error('down');
      await run();
    });
    await expect(planRotation(world.start().services, orders)).rejects.toThrow('down');
  });
});
