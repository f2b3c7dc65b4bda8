import { describe, expect, it } from 'vitest';
import type { Overlap } from '../../../src/core/rotation/handler.ts';
import { isEnd, type Journal } from '../../../src/core/rotation/journal.ts';
import { shardOf } from '../../../src/core/rotation/records.ts';
import { reserve } from '../../../src/core/rotation/reservation.ts';
import { cancelRotation, rollBackRotation } from '../../../src/core/rotation/rotations.ts';
import { sweep } from '../../../src/core/rotation/sweep.ts';
import { createWorld, orders, type World } from '../../support/rotation-world.ts';

const kinds: readonly { overlap: Overlap; pending: 'vault' | 'sealed' }[] = [
  { overlap: 'none', pending: 'vault' },
  { overlap: 'users', pending: 'vault' },
  { overlap: 'none', pending: 'sealed' },
  { overlap: 'users', pending: 'sealed' },
];
const webhook = {
  kind: 'webhook',
  id: 'shop',
  url: 'https://shop.example.com/hook',
  signingSecret: { vault: 'main', name: 'webhook-shop' },
};

async function rotateWith(world: World, death: Parameters<World['start']>[0]): Promise<number> {
  await world.seed();
  const process = world.start(death);
  await world.request(world.start());
  await world.drain(process).catch(() => undefined);
  return process.calls;
}

async function expectOneRotation(world: World): Promise<void> {
  await world.converge();
  expect(await world.latestLogsIn()).toBe(true);
  const versions = await Array.fromAsync(
    world.vaults.get('main').secrets.listVersions('orders-db'),
  );
  expect(versions).toHaveLength(2);
  const left = await Array.fromAsync(world.vaults.get('pending').secrets.list());
  expect(left.map((secret) => secret.name)).toEqual(['sealing-key']);
  expect(world.vaults.deletedNames('pending')).toEqual([]);
  const [journal, ...others] = await world.journals();
  expect(others).toEqual([]);
  expect(journal?.state).toBe('DONE');
  expect(journal?.history.map(({ state }) => state)).not.toContain('ROLLING_BACK');
  expect(journal?.interleaved).toBe(false);
  expect(journal?.unaudited).toEqual([]);
  expect(journal?.candidate).toBeNull();
  const told = await world.store.list(shardOf(orders), { prefix: 'active:delivery:' });
  expect(told.documents.map(({ id }) => id)).toEqual(
    journal?.outbox.map((consumer) => `active:delivery:${journal.id}:${consumer}`),
  );
  expect(await world.store.list('reservations')).toMatchObject({ documents: [] });
  expect((await world.verifyAudit()).faults).toEqual([]);
}

describe.each(kinds)('a rotation with overlap $overlap, candidates in $pending', (kind) => {
  it('ends DONE when nothing happens to it', async () => {
    const world = createWorld({ ...kind, consumers: [webhook] });
    await rotateWith(world, null);
    await expectOneRotation(world);
  });

  it.each(['before', 'after'] as const)('survives a kill %s every call', async (when) => {
    const dry = createWorld({ ...kind, consumers: [webhook] });
    const total = await rotateWith(dry, null);
    expect(total).toBeGreaterThan(30);
    for (let call = 1; call <= total; call++) {
      const world = createWorld({ ...kind, consumers: [webhook] });
      await rotateWith(world, { call, when });
      await expectOneRotation(world).catch((error: Error) => {
        throw new Error(`killed ${when} call ${call} of ${total}: ${error.message}`, {
          cause: error,
        });
      });
    }
  });

  it('survives a second kill during the recovery', async () => {
    const total = await rotateWith(createWorld(kind), null);
    for (let call = 3; call <= total; call += 5) {
      for (let again = 2; again <= total; again += 5) {
        const world = createWorld(kind);
        await rotateWith(world, { call, when: 'after' });
        world.pass(61);
        const second = world.start({ call: again, when: 'after' });
        await world.converge(second).catch(() => undefined);
        world.pass(61);
        await expectOneRotation(world).catch((error: Error) => {
          throw new Error(`killed at ${call}, then at ${again}: ${error.message}`, {
            cause: error,
          });
        });
      }
    }
  });
});

describe.each(['none', 'users'] as const)('a request, overlap %s', (overlap) => {
  it.each(['before', 'after'] as const)(
    'that dies %s any call is carried out once, or was never made',
    async (when) => {
      for (let call = 1; ; call++) {
        const world = createWorld({ overlap });
        await world.seed();
        const asking = world.start({ call, when });
        const isDone = await world.request(asking).then(
          () => true,
          () => false,
        );
        if (isDone) break;
        const requested = await world.journals();
        expect(requested).toHaveLength(
          asking.trace[call - 1] === 'store.transact' && when === 'before' ? 0 : 1,
        );
        await world.converge();
        expect((await world.journals()).map(({ state }) => state)).toEqual(
          requested.map(() => 'DONE'),
        );
        expect(await world.latestLogsIn()).toBe(true);
      }
    },
  );
});

/** What a rollback is asked for in: at once, with two logins in the grace period, or after the end. */
const rollbacks = [
  { overlap: 'none', pending: 'vault', after: 'DONE' },
  { overlap: 'users', pending: 'vault', after: 'GRACE' },
  { overlap: 'users', pending: 'sealed', after: 'GRACE' },
  { overlap: 'users', pending: 'vault', after: 'DONE' },
] as const;
type Rollback = (typeof rollbacks)[number];

async function rotatedWorld(kind: Rollback) {
  const world = createWorld({ ...kind, consumers: [webhook] });
  await world.seed();
  const first = (await world.latest()).value;
  const id = await world.request(world.start());
  await world.drain(world.start());
  if (kind.after === 'DONE') await world.converge();
  world.pass(1);
  const undo = await rollBackRotation(world.start().services, id, {
    toVersion: null,
    requestedBy: 'ada',
    correlationId: 'undo',
  });
  return { world, first, id, undo };
}

async function rollBackWith(kind: Rollback, death: Parameters<World['start']>[0]) {
  const begun = await rotatedWorld(kind);
  const process = begun.world.start(death);
  await begun.world.drain(process).catch(() => undefined);
  return { ...begun, process };
}

/** Another object cannot have the target's logins, from the first rotation until the last has ended. */
async function expectReserved({ world }: { readonly world: World }, what: string): Promise<void> {
  const claim = { rotationId: 'another', shard: shardOf(orders) };
  await expect(
    reserve(world.store, ['fake/server'], claim),
    `${what}: the login is reserved`,
  ).rejects.toMatchObject({ code: 'target_in_grace' });
}

async function find(world: World, id: string): Promise<Journal> {
  return (await world.journals()).find((journal) => journal.id === id)!;
}

async function expectOneRollback(
  { world, first, id, undo }: Awaited<ReturnType<typeof rotatedWorld>>,
  { after, overlap }: Rollback,
): Promise<void> {
  await world.converge();
  expect((await world.latest()).value.equals(first)).toBe(true);
  expect(await world.latestLogsIn()).toBe(true);
  if (overlap === 'users') {
    expect(world.server.logins.get('app_a')).toBe('first-password');
    expect(world.server.logins.get('app_b')).toBe('retired');
  }
  const { secrets } = world.vaults.get('main');
  expect(await Array.fromAsync(secrets.listVersions('orders-db'))).toHaveLength(3);
  expect((await find(world, id)).state).toBe(after === 'GRACE' ? 'ROLLED_BACK' : 'DONE');
  const journal = await find(world, undo);
  expect(journal).toMatchObject({ state: 'DONE', interleaved: false, candidate: null });
  expect(journal.history.map(({ state }) => state)).not.toContain('ROLLING_BACK');
  for (const { unaudited } of await world.journals()) expect(unaudited).toEqual([]);
  await expectNothingLeft(world);
}

async function expectNothingLeft(world: World): Promise<void> {
  const left = await Array.fromAsync(world.vaults.get('pending').secrets.list());
  expect(left.map((secret) => secret.name)).toEqual(['sealing-key']);
  expect(world.vaults.deletedNames('pending')).toEqual([]);
  expect(await world.activeRows()).toEqual([]);
  expect(await world.store.list('reservations')).toMatchObject({ documents: [] });
  expect((await world.verifyAudit()).faults).toEqual([]);
}

describe.each(rollbacks)(
  'a rollback after $after, overlap $overlap, candidates in $pending',
  (kind) => {
    it.each(['before', 'after'] as const)('survives a kill %s every call', async (when) => {
      const dry = await rollBackWith(kind, null);
      await expectOneRollback(dry, kind);
      const total = dry.process.calls;
      expect(total).toBeGreaterThan(30);
      for (let call = 1; call <= total; call++) {
        const killed = await rollBackWith(kind, { call, when });
        const what = `killed ${when} call ${call} of ${total}, ${killed.process.trace[call - 1]}`;
        if (kind.after === 'GRACE') await expectReserved(killed, what);
        await expectOneRollback(killed, kind).catch((error: Error) => {
          throw new Error(`${what}: ${error.message}`, { cause: error });
        });
      }
    });
  },
);

describe('a rollback in the grace period that is called off', () => {
  const kind = rollbacks[1];

  /** The rollback comes to `until`, which fails; then somebody cancels it. */
  async function calledOff(death: Parameters<World['start']>[0], until: string) {
    const begun = await rotatedWorld(kind);
    const { world, undo } = begun;
    const first = world.start(null, {
      before: (_call, what) => {
        if (what === until) throw new Error('a fault of this test');
      },
    });
    await world.drain(first).catch(() => undefined);
    world.pass(61);
    await cancelRotation(world.start().services, undo, 'ada');
    const process = world.start(death);
    await world.drain(process).catch(() => undefined);
    return { ...begun, process };
  }

  it.each([
    ['before', 'pending.set'],
    ['after', 'pending.set'],
    ['before', 'main.set'],
    ['after', 'main.set'],
  ] as const)('survives a kill %s every call, called off at %s', async (when, until) => {
    const { process: dry } = await calledOff(null, until);
    expect(dry.calls).toBeGreaterThan(10);
    for (let call = 1; call <= dry.calls; call++) {
      const killed = await calledOff({ call, when }, until);
      const { world, id, undo } = killed;
      const what = `killed ${when} call ${call} of ${dry.calls}, ${dry.trace[call - 1]}`;
      await expectReserved(killed, what);
      // Its lease, but not the grace period, runs out: nothing is retired before its time.
      for (let round = 0; round < 3; round++) {
        world.pass(61);
        await sweep(world.start().services);
        await world.drain(world.start());
      }
      expect(await find(world, id), what).toMatchObject({ state: 'GRACE', replacedBy: null });
      expect(world.server.logins.get('app_a'), what).toBe('first-password');
      await expectReserved(killed, what);
      await world.converge();
      expect(isEnd((await find(world, undo)).state), what).toBe(true);
      expect((await find(world, id)).state, what).toBe('DONE');
      expect(world.server.logins.get('app_a'), what).toBe('retired');
      expect(await world.latestLogsIn(), what).toBe(true);
      await expectNothingLeft(world);
    }
  });
});
