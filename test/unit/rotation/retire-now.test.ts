import { describe, expect, it } from 'vitest';
import { handleRotation, quarantinePoisoned } from '../../../src/core/rotation/engine.ts';
import type { Journal, State } from '../../../src/core/rotation/journal.ts';
import { parseRotationMessage } from '../../../src/core/rotation/message.ts';
import { rowId, shardOf } from '../../../src/core/rotation/records.ts';
import { resumeRotation, retireRotationNow } from '../../../src/core/rotation/rotations.ts';
import { sweep } from '../../../src/core/rotation/sweep.ts';
import { SecretString } from '../../../src/core/secret-string.ts';
import { createWorld, type Death, orders, type World } from '../../support/rotation-world.ts';

async function inGrace(): Promise<{ world: World; id: string }> {
  const world = createWorld({ overlap: 'users' });
  await world.seed();
  const id = await world.request(world.start());
  await world.drain(world.start());
  expect(await only(world)).toMatchObject({ id, state: 'GRACE' });
  return { world, id };
}

async function only(world: World): Promise<Journal> {
  const [journal, ...others] = await world.journals();
  expect(others).toEqual([]);
  return journal!;
}

async function expectRetired(world: World): Promise<void> {
  const journal = await only(world);
  expect(journal.state).toBe('DONE');
  expect(journal.history.map(({ state }) => state).slice(-4)).toEqual([
    'GRACE',
    'RETIRING',
    'RETIRED',
    'DONE',
  ]);
  expect(world.server.logins.get('app_a')).toBe('retired');
  expect(await world.latestLogsIn()).toBe(true);
  expect(await world.store.list('reservations')).toMatchObject({ documents: [] });
  expect(await world.activeRows()).toEqual([]);
  expect((await world.verifyAudit()).faults).toEqual([]);
}

describe('retire-now', () => {
  it('retires the old login at once', async () => {
    const { world, id } = await inGrace();
    const at = world.clock.now().toISOString();
    expect(await retireRotationNow(world.start().services, id, 'ada')).toMatchObject({
      state: 'GRACE',
    });
    await world.drain(world.start());
    expect(await only(world)).toMatchObject({ state: 'DONE', retireAt: at });
    await expectRetired(world);
  });

  it('says in the audit log who ordered it', async () => {
    const { world, id } = await inGrace();
    await retireRotationNow(world.start().services, id, 'ada');
    await world.drain(world.start());
    const texts: string[] = [];
    for await (const name of world.log.list('audit/')) {
      texts.push(Buffer.from(await world.log.read(name)).toString());
    }
    expect(texts.join('').match(/"note":"retire-now of ada"/g)).toHaveLength(1);
  });

  it.each([
    ['logs in no more', 'wrong', 'app_b', 'credential_rejected'],
    ['uses the old login', 'first-password', 'app_a', 'target_refused'],
  ])('retires nothing while the latest version %s', async (_what, password, username, code) => {
    const { world, id } = await inGrace();
    const good = (await world.latest()).value;
    const { secrets } = world.vaults.get('main');
    const value = new SecretString(JSON.stringify({ username, password }));
    await secrets.set('orders-db', { value });
    await retireRotationNow(world.start().services, id, 'ada');
    await world.converge();
    expect(await only(world)).toMatchObject({ state: 'REVOKE_FAILED', outcome: { code } });
    expect(world.server.logins.get('app_a')).toBe('first-password');
    await secrets.set('orders-db', { value: good });
    await resumeRotation(world.start().services, id, 'ada');
    await world.converge();
    expect(world.server.logins.get('app_a')).toBe('retired');
  });

  it.each(['REQUESTED', 'PROMOTED', 'RETIRING', 'DONE', 'ROLLED_BACK', 'REVOKE_FAILED'] as const)(
    'is refused in %s',
    async (state) => {
      const { world, id } = await inGrace();
      await putInto(world, id, state);
      const asked = retireRotationNow(world.start().services, id, 'ada');
      await expect(asked).rejects.toMatchObject({ code: 'conflict' });
      await expect(asked).rejects.toThrow(`${id} is ${state}, not in its grace period`);
      expect(world.rotations.take()).toBeNull();
    },
  );

  it('is refused where there is no grace period', async () => {
    const world = createWorld({ overlap: 'none' });
    await world.seed();
    const id = await world.request(world.start());
    await world.drain(world.start());
    await expect(retireRotationNow(world.start().services, id, 'ada')).rejects.toMatchObject({
      code: 'conflict',
    });
  });

  it('is carried out once however often it is delivered', async () => {
    const { world, id } = await inGrace();
    await retireRotationNow(world.start().services, id, 'ada');
    const message = parseRotationMessage(world.rotations.take());
    const engines = Array.from({ length: 10 }, () => world.start().services);
    await Promise.all(engines.map((services) => handleRotation(services, message)));
    await world.converge();
    await expectRetired(world);
    const before = await world.journals();
    const again = await handleRotation(world.start().services, message);
    expect(again).toEqual({ kind: 'ended', state: 'DONE' });
    expect(await world.journals()).toEqual(before);
  });

  it('is not lost when it comes while somebody has the lease', async () => {
    const world = createWorld({ overlap: 'users' });
    await world.seed();
    const id = await world.request(world.start());
    const order = {
      before: async (_call: number, what: string) => {
        // GRACE is written, and its worker is about to say until when it rests.
        if (what !== 'store.transact' || (await only(world)).state !== 'GRACE') return;
        await retireRotationNow(world.start().services, id, 'ada');
        const message = parseRotationMessage(world.rotations.take());
        expect(await handleRotation(world.start().services, message)).toEqual({ kind: 'yielded' });
      },
    };
    const message = parseRotationMessage(world.rotations.take());
    await handleRotation(world.start(null, order).services, message);
    await world.drain(world.start());
    await expectRetired(world);
  });

  it('is not lost when a message of the sweep is handled in between', async () => {
    const { world, id } = await inGrace();
    await retireRotationNow(world.start().services, id, 'ada');
    const message = parseRotationMessage(world.rotations.take());
    world.pass(86_400);
    await sweep(world.start().services);
    const sweeps = parseRotationMessage(world.rotations.take());
    let isFirst = true;
    const late = world.start(null, {
      before: async (_call, what) => {
        if (what !== 'store.transact' || !isFirst) return;
        isFirst = false;
        const dies = world.start({ call: 4, when: 'after' });
        await handleRotation(dies.services, sweeps).catch(() => undefined);
      },
    });
    expect(await handleRotation(late.services, message)).toEqual({ kind: 'yielded' });
    world.pass(61);
    await world.drain(world.start());
    await world.converge();
    await expectRetired(world);
  });

  it('of a rotation nobody knows, or that is not in its grace period, changes nothing', async () => {
    const world = createWorld({ overlap: 'users' });
    await world.seed();
    const base = { ...orders, requestedBy: 'ada', correlationId: 'c' };
    const message = {
      kind: 'retire-now',
      requestId: '01JZZZZZZZZZZZZZZZZZZZZZZZ',
      ...base,
    } as const;
    expect(await handleRotation(world.start().services, message)).toEqual({ kind: 'unknown' });
    expect(await quarantinePoisoned(world.start().services, message)).toEqual({ kind: 'unknown' });
    const requestId = await world.request(world.start());
    await handleRotation(world.start().services, { ...message, requestId });
    expect(await only(world)).toMatchObject({ state: 'GRACE' });
  });

  it.each(['before', 'after'] as const)('survives a kill %s every call', async (when) => {
    const run = async (death: Death | null) => {
      const { world, id } = await inGrace();
      await retireRotationNow(world.start().services, id, 'ada');
      const process = world.start(death);
      await world.drain(process).catch(() => undefined);
      return { world, total: process.calls };
    };
    const { total } = await run(null);
    expect(total).toBeGreaterThan(10);
    for (let call = 1; call <= total; call++) {
      const { world } = await run({ call, when });
      const begun = world.clock.now().getTime();
      // No more than the lease of the dead worker: the grace period itself is not waited for.
      world.pass(61);
      await world.drain(world.start());
      await sweep(world.start().services);
      await world.drain(world.start());
      expect(world.clock.now().getTime() - begun).toBeLessThan(86_400_000);
      await expectRetired(world).catch((error: Error) => {
        throw new Error(`killed ${when} call ${call} of ${total}: ${error.message}`, {
          cause: error,
        });
      });
    }
  });
});

/** Makes the rotation look as if it stood in `state`. */
async function putInto(world: World, id: string, state: State): Promise<void> {
  const row = await world.store.get(shardOf(orders), rowId.journal(id));
  await world.store.put(shardOf(orders), rowId.journal(id), { ...row!.body, state }, 'any');
}
