import { describe, expect, it } from 'vitest';
import { scanSecrets } from '../../../src/core/expiry/scan.ts';
import { handleRotation } from '../../../src/core/rotation/engine.ts';
import type { Overlap } from '../../../src/core/rotation/handler.ts';
import { takeEvent, takeScanned } from '../../../src/core/rotation/intake.ts';
import { parseRotationMessage } from '../../../src/core/rotation/message.ts';
import { vaultPendingStore } from '../../../src/core/rotation/pending.ts';
import { shards } from '../../../src/core/rotation/records.ts';
import {
  cancelRotation,
  retireRotationNow,
  rollBackRotation,
} from '../../../src/core/rotation/rotations.ts';
import { currentCatalog } from '../../../src/core/rotation/services.ts';
import { createWorld, type Mortal, unreachable, type World } from '../../support/rotation-world.ts';

const overlaps: readonly Overlap[] = ['none', 'users'];

/** A place where a process stops, for as long as the test likes. */
function ice() {
  const reached = Promise.withResolvers<void>();
  const thawed = Promise.withResolvers<void>();
  const hold = async () => {
    reached.resolve();
    await thawed.promise;
  };
  return { reached: reached.promise, thaw: () => thawed.resolve(), hold };
}

/** Gives `process` the message of a new rotation, or of another order, and lets it run into the ice. */
async function freeze(
  world: World,
  process: Mortal,
  reached: Promise<void>,
  ask: () => Promise<unknown> = () => world.request(world.start()),
) {
  await ask();
  const message = world.rotations.take();
  if (!message) throw new Error('nothing was requested');
  const work = handleRotation(process.services, parseRotationMessage(message)).catch(() => null);
  const isFrozen = await Promise.race([reached.then(() => true), work.then(() => false)]);
  // The queue delivers it again when nobody answers for it.
  await world.rotations.send(message);
  world.pass(61);
  return { work, isFrozen };
}

/** All that is durable, but for the audit log, to which whoever is alive may add. */
async function everything(world: World) {
  const { secrets } = world.vaults.get('main');
  const documents = await Promise.all(
    [...shards, 'reservations'].map((partition) => world.store.list(partition)),
  );
  return {
    documents,
    versions: await Array.fromAsync(secrets.listVersions('orders-db')),
    pending: await Array.fromAsync(world.vaults.get('pending').secrets.list()),
    logins: [...world.server.logins],
  };
}

async function expectOneRotation(world: World, versions = 2): Promise<void> {
  expect(await world.latestLogsIn()).toBe(true);
  const { secrets } = world.vaults.get('main');
  expect(await Array.fromAsync(secrets.listVersions('orders-db'))).toHaveLength(versions);
  expect((await world.journals()).map((journal) => journal.state)).toEqual(['DONE']);
  await expectNothingLeft(world);
}

async function expectNothingLeft(world: World): Promise<void> {
  const left = await Array.fromAsync(world.vaults.get('pending').secrets.list());
  expect(left.map((secret) => secret.name)).toEqual(['sealing-key']);
  expect(world.vaults.deletedNames('pending')).toEqual([]);
  expect(await world.store.list('reservations')).toMatchObject({ documents: [] });
  expect(await world.activeRows()).toEqual([]);
  expect((await world.verifyAudit()).faults).toEqual([]);
}

describe.each(overlaps)('a process frozen past its lease, overlap %s', (overlap) => {
  it.each(['before', 'after'] as const)(
    'changes nothing when it wakes up, frozen %s any call',
    async (when) => {
      const dry = createWorld({ overlap });
      await dry.seed();
      const process = dry.start();
      await dry.request(dry.start());
      await dry.drain(process);
      const total = process.calls;
      expect(total).toBeGreaterThan(30);
      for (let call = 1; call <= total; call++) {
        const world = createWorld({ overlap });
        await world.seed();
        const { reached, thaw, hold } = ice();
        const at = (now: number) => (now === call ? hold() : undefined);
        const zombie = world.start(null, { [when]: at });
        const { work, isFrozen } = await freeze(world, zombie, reached);
        expect(isFrozen, `call ${call} is made`).toBe(true);
        await world.converge();
        const before = await everything(world);
        thaw();
        await work;
        await world.converge();
        const what = `frozen ${when} call ${call} of ${total}, ${zombie.trace[call - 1]}`;
        expect(await everything(world), what).toEqual(before);
        await expectOneRotation(world).catch((error: Error) => {
          throw new Error(`${what}: ${error.message}`, { cause: error });
        });
      }
    },
  );

  it.each(['before', 'after'] as const)(
    'harms neither this rotation nor the next, frozen %s any call',
    async (when) => {
      for (let call = 1; ; call++) {
        const world = createWorld({ overlap });
        await world.seed();
        const { reached, thaw, hold } = ice();
        const zombie = world.start(null, {
          [when]: (now: number) => (now === call ? hold() : undefined),
        });
        const { work, isFrozen } = await freeze(world, zombie, reached);
        if (!isFrozen) break;
        await world.converge();
        await world.request(world.start());
        await world.converge();
        const before = await everything(world);
        thaw();
        await work;
        await world.converge();
        const what = `frozen ${when} call ${call}, ${zombie.trace[call - 1]}`;
        expect(await everything(world), what).toEqual(before);
        expect(await world.latestLogsIn(), what).toBe(true);
        expect((await world.journals()).map((journal) => journal.state)).toEqual(['DONE', 'DONE']);
      }
    },
  );
});

/** An order about a rotation in its grace period, and what the logins are like once it was carried out. */
const orders = [
  {
    order: 'rollback',
    give: (world: World, id: string) => {
      const by = { toVersion: null, requestedBy: 'ada', correlationId: 'undo' };
      return rollBackRotation(world.start().services, id, by);
    },
    states: ['ROLLED_BACK', 'DONE'],
    retired: 'app_b',
  },
  {
    order: 'retire-now',
    give: (world: World, id: string) => retireRotationNow(world.start().services, id, 'ada'),
    states: ['DONE'],
    retired: 'app_a',
  },
] as const;

describe.each(orders)(
  'a process frozen past its lease over a $order in the grace period',
  ({ give, states, retired }) => {
    it.each(['before', 'after'] as const)(
      'changes nothing when it wakes up, frozen %s any call',
      async (when) => {
        for (let call = 1; ; call++) {
          const world = createWorld({ overlap: 'users' });
          await world.seed();
          const id = await world.request(world.start());
          await world.drain(world.start());
          world.pass(1);
          const { reached, thaw, hold } = ice();
          const zombie = world.start(null, {
            [when]: (now: number) => (now === call ? hold() : undefined),
          });
          const { work, isFrozen } = await freeze(world, zombie, reached, () => give(world, id));
          if (!isFrozen) break;
          await world.converge();
          const before = await everything(world);
          thaw();
          await work;
          await world.converge();
          const what = `frozen ${when} call ${call}, ${zombie.trace[call - 1]}`;
          expect(await everything(world), what).toEqual(before);
          expect(
            (await world.journals()).map(({ state }) => state),
            what,
          ).toEqual(states);
          expect(world.server.logins.get(retired), what).toBe('retired');
          expect(await world.latestLogsIn(), what).toBe(true);
          await expectNothingLeft(world);
        }
      },
    );
  },
);

/** One process is frozen before one call and woken before a call of its successor. */
async function disturb(overlap: Overlap, frozenAt: number, wokenAt: number) {
  const world = createWorld({ overlap });
  await world.seed();
  const { reached, thaw, hold } = ice();
  const zombie = world.start(null, {
    before: (call) => (call === frozenAt ? hold() : undefined),
  });
  const { work, isFrozen } = await freeze(world, zombie, reached);
  if (!isFrozen) return 'never frozen';
  let isAwake = false;
  const successor = world.start(null, {
    before: async (call) => {
      if (call !== wokenAt) return;
      isAwake = true;
      thaw();
      await work;
    },
  });
  await world.drain(successor);
  if (!isAwake) return 'never woken';
  await world.converge();
  const what = `frozen at ${zombie.trace[frozenAt - 1]}, woken at ${successor.trace[wokenAt - 1]}`;
  expect(await world.latestLogsIn(), what).toBe(true);
  // A claim it made too late is dead: the next rotation takes it over, and gives it back.
  await world.request(world.start());
  await world.converge();
  const { secrets } = world.vaults.get('main');
  expect(await Array.fromAsync(secrets.listVersions('orders-db')), what).toHaveLength(3);
  for (const { state, history } of await world.journals()) {
    expect(state, what).toBe('DONE');
    expect(
      history.map((entry) => entry.state),
      what,
    ).not.toContain('ROLLING_BACK');
  }
  await expectNothingLeft(world);
  return 'no harm';
}

describe.each(overlaps)(
  'a process that wakes up while its successor works, overlap %s',
  (overlap) => {
    it('does not disturb it, wherever either of them is', async () => {
      let tried = 0;
      for (let frozenAt = 1; ; frozenAt += 2) {
        let seen = 'no harm';
        for (let wokenAt = 1; seen === 'no harm'; wokenAt += 3, tried++) {
          seen = await disturb(overlap, frozenAt, wokenAt);
        }
        if (seen === 'never frozen') break;
      }
      expect(tried).toBeGreaterThan(100);
    });
  },
);

it('a process that wakes up after its rotation was quarantined erases nothing of it', async () => {
  const world = createWorld();
  await world.seed();
  const { reached, thaw, hold } = ice();
  const zombie = world.start(null, {
    after: (_call, what) => (what === 'target.apply' ? hold() : undefined),
  });
  const { work } = await freeze(world, zombie, reached);
  world.server.fault = unreachable;
  await world.converge();
  thaw();
  await work;
  const [journal] = await world.journals();
  expect(journal?.state).toBe('QUARANTINED');
  const kept = await world
    .start()
    .services.pending.find(journal?.id ?? '', journal?.candidate ?? null);
  expect(kept?.expose()).toBe(world.server.logins.get('app'));
  expect((await world.store.list('reservations')).documents).toHaveLength(1);
});

it('a process that was about to skip does not skip what another has begun meanwhile', async () => {
  const world = createWorld();
  await world.seed();
  const policies = world.documents.policies.splice(0);
  const { reached, thaw, hold } = ice();
  let transactions = 0;
  const zombie = world.start(null, {
    before: (_call, what) =>
      what === 'store.transact' && ++transactions === 1 ? hold() : undefined,
  });
  const { work, isFrozen } = await freeze(world, zombie, reached);
  expect(isFrozen).toBe(true);
  world.documents.policies.push(...policies);
  await world.drain(world.start());
  thaw();
  await work;
  await world.converge();
  await expectOneRotation(world);
});

/** `process`, whose write of a new version in `vault` is on its way until the ice melts. */
function withWriteUnderWay(
  process: Mortal,
  vault: string,
  hold: () => Promise<void>,
  landed: () => Promise<void> = async () => undefined,
): Mortal {
  const { services } = process;
  const { vaults } = services;
  let isFirst = true;
  const late = (alias: string) => {
    const found = vaults.get(alias);
    if (alias !== vault) return found;
    const set: typeof found.secrets.set = async (name, secret, options) => {
      // Nothing can call it back any more: the guard was asked, the bytes are gone.
      options?.guard?.();
      const isHeld = isFirst;
      isFirst = false;
      if (isHeld) await hold();
      const written = await found.secrets.set(name, secret);
      if (isHeld) await landed();
      return written;
    };
    return { ...found, secrets: { ...found.secrets, set } };
  };
  const pending =
    vault === 'pending' ? vaultPendingStore(late('pending').secrets) : services.pending;
  return { ...process, services: { ...services, pending, vaults: { ...vaults, get: late } } };
}

async function frozenInFlight(overlap: Overlap) {
  const world = createWorld({ overlap });
  await world.seed();
  const { reached, thaw, hold } = ice();
  const zombie = withWriteUnderWay(world.start(), 'main', hold);
  const { work, isFrozen } = await freeze(world, zombie, reached);
  expect(isFrozen).toBe(true);
  const wakeUp = async () => {
    thaw();
    await work;
  };
  return { world, wakeUp };
}

/** A write that is under way when its process dies, and the way to let it take effect. */
async function leftInFlight(overlap: Overlap) {
  const world = createWorld({ overlap });
  await world.seed();
  const { reached, thaw, hold } = ice();
  const landed = Promise.withResolvers<void>();
  const dead = withWriteUnderWay(world.start(), 'main', hold, () => {
    landed.resolve();
    return new Promise(() => undefined);
  });
  expect((await freeze(world, dead, reached)).isFrozen).toBe(true);
  const land = () => {
    thaw();
    return landed.promise;
  };
  return { world, land };
}

async function scan(world: World) {
  const { services } = world.start();
  const { policies } = await currentCatalog(services);
  return takeScanned(services, scanSecrets({ ...services, policies }));
}

/** The event a vault sends for its latest version. */
async function newVersionEvent(world: World) {
  const { properties } = await world.latest();
  return {
    id: 'e1',
    topic: '/subscriptions/s/providers/Microsoft.KeyVault/vaults/main',
    subject: 'orders-db',
    eventType: 'Microsoft.KeyVault.SecretNewVersionCreated',
    data: {
      Id: `https://main.vault.simulated/secrets/orders-db/${properties.version}`,
      VaultName: 'main',
      ObjectType: 'Secret',
      ObjectName: 'orders-db',
      Version: properties.version,
    },
  };
}

describe.each(overlaps)('a write that was under way for too long, overlap %s', (overlap) => {
  it('makes a second version of the same value when its own rotation has ended', async () => {
    const { world, wakeUp } = await frozenInFlight(overlap);
    await world.converge();
    await wakeUp();
    await world.converge();
    await expectOneRotation(world, 3);
  });

  it('is told from a human’s when it comes before its rotation is settled', async () => {
    const { world, wakeUp } = await frozenInFlight(overlap);
    const { reached, thaw, hold } = ice();
    const second = world.start(null, {
      after: (_call, what) => (what === 'main.set' ? hold() : undefined),
    });
    const converged = world.converge(second);
    await reached;
    await wakeUp();
    thaw();
    await converged;
    await world.converge();
    await expectOneRotation(world, 3);
    expect((await world.journals())[0]).toMatchObject({ interleaved: false, outcome: null });
  });

  it('is found and mended by its own process when the next rotation has ended too', async () => {
    const { world, wakeUp } = await frozenInFlight(overlap);
    await world.converge();
    await world.request(world.start());
    await world.converge();
    await wakeUp();
    expect(await world.latestLogsIn()).toBe(false);
    expect(world.lines.map((line) => line.event)).toContain('rotation.late_write');
    await world.converge();
    expect(await world.latestLogsIn()).toBe(true);
    const states = (await world.journals()).map((journal) => journal.state);
    expect(states).toEqual(['DONE', 'DONE', 'DONE']);
    await expectNothingLeft(world);
  });

  it('is found by the vault’s event when its process has died', async () => {
    const { world, land } = await leftInFlight(overlap);
    await world.converge();
    await world.request(world.start());
    await world.converge();
    await land();
    expect(await world.latestLogsIn()).toBe(false);
    const event = await newVersionEvent(world);
    expect(await takeEvent(world.start().services, event)).toMatchObject({ kind: 'requested' });
    await world.converge();
    expect(await world.latestLogsIn()).toBe(true);
    expect(await takeEvent(world.start().services, await newVersionEvent(world))).toEqual({
      kind: 'skipped',
      reason: 'no_action',
    });
  });

  it('is found by the scan when its process has died and its rotation was called off', async () => {
    const { world, land } = await leftInFlight(overlap);
    const [journal] = await world.journals();
    await cancelRotation(world.start().services, journal?.id ?? '', 'test');
    await world.converge();
    await land();
    expect(await world.latestLogsIn()).toBe(false);
    expect(await scan(world)).toEqual({ requested: 0, mended: 1 });
    await world.converge();
    expect(await world.latestLogsIn()).toBe(true);
    await expectNothingLeft(world);
  });

  it('is found by the scan when its process has died and its event was lost', async () => {
    const { world, land } = await leftInFlight(overlap);
    await world.converge();
    await world.request(world.start());
    await world.converge();
    expect(await scan(world)).toEqual({ requested: 0, mended: 0 });
    await land();
    expect(await world.latestLogsIn()).toBe(false);
    expect(await scan(world)).toEqual({ requested: 0, mended: 1 });
    await world.converge();
    expect(await world.latestLogsIn()).toBe(true);
    expect(await scan(world)).toEqual({ requested: 0, mended: 0 });
    await expectNothingLeft(world);
  });

  it('is not mended from a version that is disabled: a person has to say what is in force', async () => {
    const { world, wakeUp } = await frozenInFlight(overlap);
    await world.converge();
    world.pass(1);
    await world.request(world.start());
    await world.converge();
    const version = (await world.latest()).properties.version;
    world.vaults.change('main', 'orders-db', { version, enabled: false });
    await wakeUp();
    await world.converge();
    const third = (await world.journals()).find(({ requestedBy }) => requestedBy === 'engine');
    expect(third).toMatchObject({ state: 'FAILED_CLEAN', outcome: { code: 'target_refused' } });
  });

  it('is mended when its rotation was rolled back meanwhile', async () => {
    const { world, wakeUp } = await frozenInFlight(overlap);
    const [journal] = await world.journals();
    await cancelRotation(world.start().services, journal?.id ?? '', 'test');
    await world.converge();
    expect((await world.journals())[0]?.state).toBe('ROLLED_BACK');
    expect(await world.latestLogsIn()).toBe(true);
    await wakeUp();
    await world.converge();
    expect(await world.latestLogsIn()).toBe(true);
    const states = (await world.journals()).map(({ state }) => state);
    expect(states).toEqual(['ROLLED_BACK', 'DONE']);
    await expectNothingLeft(world);
  });

  it('is mended when it comes while its rotation is rolled back', async () => {
    for (let call = 1; ; call++) {
      const { world, wakeUp } = await frozenInFlight(overlap);
      const [journal] = await world.journals();
      await cancelRotation(world.start().services, journal?.id ?? '', 'test');
      let isAwake = false;
      const second = world.start(null, {
        before: async (now) => {
          if (now !== call) return;
          isAwake = true;
          await wakeUp();
        },
      });
      await world.drain(second);
      if (!isAwake) break;
      await world.converge();
      const states = (await world.journals()).map(({ state }) => state);
      const what = `before call ${call}, ${second.trace[call - 1]}: ${states}`;
      expect(await world.latestLogsIn(), what).toBe(true);
      await expectNothingLeft(world);
    }
  });

  it('is mended when it comes while the next rotation is under way', async () => {
    for (let call = 1; ; call++) {
      const { world, wakeUp } = await frozenInFlight(overlap);
      await world.converge();
      const { reached, thaw, hold } = ice();
      const next = world.start(null, { before: (now) => (now === call ? hold() : undefined) });
      await world.request(world.start());
      const drained = world.drain(next);
      const isFrozen = await Promise.race([reached.then(() => true), drained.then(() => false)]);
      await wakeUp();
      thaw();
      await drained;
      await world.converge();
      const states = (await world.journals()).map(({ state }) => state);
      const what = `before call ${call}, ${next.trace[call - 1]}: ${states}`;
      expect(await world.latestLogsIn(), what).toBe(true);
      expect(await world.activeRows(), what).toEqual([]);
      if (!isFrozen) break;
    }
  });
});

describe('a candidate that was on its way into the pending vault', () => {
  it('does not stay there when its rotation has ended', async () => {
    const world = createWorld();
    await world.seed();
    const { reached, thaw, hold } = ice();
    const zombie = withWriteUnderWay(world.start(), 'pending', hold);
    const { work } = await freeze(world, zombie, reached);
    await world.converge();
    thaw();
    await work;
    await expectOneRotation(world);
  });

  it('does not stay there when its rotation needs it no more', async () => {
    const world = createWorld({ overlap: 'users' });
    await world.seed();
    const { reached, thaw, hold } = ice();
    const zombie = withWriteUnderWay(world.start(), 'pending', hold);
    const { work } = await freeze(world, zombie, reached);
    await world.drain(world.start());
    expect((await world.journals())[0]?.state).toBe('GRACE');
    thaw();
    await work;
    await world.converge();
    await expectOneRotation(world);
  });

  it('is not mistaken for the one its successor has staged', async () => {
    const world = createWorld({ overlap: 'users' });
    await world.seed();
    const { reached, thaw, hold } = ice();
    const zombie = withWriteUnderWay(world.start(), 'pending', hold);
    const { work } = await freeze(world, zombie, reached);
    const late = {
      before: async (_call: number, what: string) => {
        if (what !== 'target.apply') return;
        thaw();
        await work;
      },
    };
    await world.drain(world.start(null, late));
    expect((await world.journals())[0]).toMatchObject({ state: 'GRACE', lastError: null });
    expect(world.lines.filter(({ event }) => event === 'rotation.step_failed')).toEqual([]);
    await world.converge();
    await expectOneRotation(world);
  });
});
