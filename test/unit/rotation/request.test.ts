import { describe, expect, it } from 'vitest';
import { AppError } from '../../../src/core/errors.ts';
import { handleRotation, quarantinePoisoned } from '../../../src/core/rotation/engine.ts';
import { parseRotationMessage } from '../../../src/core/rotation/message.ts';
import { rowId, shardOf } from '../../../src/core/rotation/records.ts';
import { cancelRotation, getRotation } from '../../../src/core/rotation/rotations.ts';
import { sweep } from '../../../src/core/rotation/sweep.ts';
import { createWorld, orders, type World } from '../../support/rotation-world.ts';

async function seeded(): Promise<World> {
  const world = createWorld();
  await world.seed();
  return world;
}

describe('a request', () => {
  it('can be looked at before anybody has handled its message', async () => {
    const world = await seeded();
    const id = await world.request(world.start());
    expect(await getRotation(world.start().services, id)).toMatchObject({
      id,
      object: orders,
      state: 'REQUESTED',
      ended: false,
      requestedBy: 'test',
      baseVersion: null,
      rollbackOf: null,
      toVersion: null,
    });
  });

  it('is begun by the sweep when its message is lost, and not before that had its time', async () => {
    const world = await seeded();
    await world.request(world.start());
    world.rotations.take();
    expect(await sweep(world.start().services)).toMatchObject({ resumed: 0 });
    world.pass(60);
    expect(await sweep(world.start().services)).toMatchObject({ resumed: 1 });
    await world.drain(world.start());
    expect(await world.journals()).toMatchObject([{ state: 'DONE', reason: 'on-demand' }]);
  });

  it('stands when its message cannot be sent', async () => {
    const world = await seeded();
    const process = world.start(null, {
      before: (_call, what) => {
        if (what === 'rotations.send') throw new AppError('storage_unavailable', { detail: 'x' });
      },
    });
    const id = await world.request(process);
    expect(world.lines).toContainEqual(
      expect.objectContaining({ level: 'warn', event: 'rotation.left_to_sweep' }),
    );
    expect(world.rotations.take()).toBeNull();
    await world.converge();
    expect(await world.journals()).toMatchObject([{ id, state: 'DONE' }]);
  });

  it('was not made when storage does not take it', async () => {
    const world = await seeded();
    const process = world.start(null, {
      before: (_call, what) => {
        if (what === 'store.transact') throw new AppError('storage_unavailable', { detail: 'x' });
      },
    });
    await expect(world.request(process)).rejects.toMatchObject({ code: 'storage_unavailable' });
    expect(world.rotations.take()).toBeNull();
    expect(await world.journals()).toEqual([]);
  });

  it('can be called off before its message is handled', async () => {
    const world = await seeded();
    const id = await world.request(world.start());
    await cancelRotation(world.start().services, id, 'ada');
    await world.converge();
    expect(await world.journals()).toMatchObject([
      { state: 'FAILED_CLEAN', outcome: { code: 'cancelled' } },
    ]);
  });

  it('that only its message tells of is written when that is handled, by many at once too', async () => {
    const world = await seeded();
    const requestId = await world.request(world.start());
    const message = parseRotationMessage(world.rotations.take());
    const shard = shardOf(orders);
    await world.store.delete(shard, rowId.journal(requestId), 'any');
    await world.store.delete(shard, rowId.active(requestId), 'any');
    const engines = Array.from({ length: 5 }, () => world.start().services);
    await Promise.all(engines.map((services) => handleRotation(services, message)));
    await world.converge();
    expect(await world.journals()).toMatchObject([{ id: requestId, state: 'DONE' }]);
  });

  it('whose message is poisoned takes nothing from the rotation that has the object', async () => {
    const world = createWorld({ overlap: 'users' });
    await world.seed();
    const first = await world.request(world.start());
    await world.drain(world.start());
    await world.request(world.start());
    const message = parseRotationMessage(world.rotations.take());
    let failures = 2;
    const process = world.start(null, {
      before: (_call, what) => {
        if (what === 'store.transact' && failures-- > 0) throw new TypeError('a fault of ours');
      },
    });
    expect(await quarantinePoisoned(process.services, message)).toEqual({
      kind: 'ended',
      state: 'QUARANTINED',
    });
    const record = await world.store.get(shardOf(orders), rowId.object(orders));
    expect(record?.body['active']).toBe(first);
    await world.converge();
    expect((await world.journals()).find(({ id }) => id === first)?.state).toBe('DONE');
  });
});
