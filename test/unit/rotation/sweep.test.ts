import { describe, expect, it } from 'vitest';
import { AppError } from '../../../src/core/errors.ts';
import { rowId, shardOf } from '../../../src/core/rotation/records.ts';
import { sweep } from '../../../src/core/rotation/sweep.ts';
import type { JsonObject } from '../../../src/core/storage/ports.ts';
import { createWorld, orders, type World } from '../../support/rotation-world.ts';

const webhook = {
  kind: 'webhook',
  id: 'shop',
  url: 'https://shop.example.com/hook',
  signingSecret: { vault: 'main', name: 'webhook-shop' },
};

async function begun(call: number): Promise<World> {
  const world = createWorld({ overlap: 'users', consumers: [webhook] });
  await world.seed();
  await world.request(world.start());
  await world.drain(world.start({ call, when: 'after' })).catch(() => undefined);
  // The message itself is lost: only the sweep is left.
  while (world.rotations.take());
  while (world.notifications.take());
  return world;
}

function messages(queue: { take(): JsonObject | null }): JsonObject[] {
  const found: JsonObject[] = [];
  for (let next = queue.take(); next; next = queue.take()) found.push(next);
  return found;
}

describe('the sweep', () => {
  it('does nothing when nothing is under way', async () => {
    const world = createWorld();
    expect(await sweep(world.start().services)).toEqual({ resumed: 0, notified: 0 });
    expect(world.lines).toEqual([]);
  });

  it('leaves a rotation alone while somebody holds its lease, then resumes it', async () => {
    const world = await begun(25);
    expect(await sweep(world.start().services)).toMatchObject({ resumed: 0 });
    world.pass(61);
    expect(await sweep(world.start().services)).toMatchObject({ resumed: 1 });
    expect(messages(world.rotations)).toMatchObject([{ kind: 'resume', reopen: false }]);
  });

  it('leaves a rotation alone until its time has come', async () => {
    const world = await begun(1000);
    expect((await world.journals())[0]?.state).toBe('GRACE');
    world.pass(86_000);
    expect(await sweep(world.start().services)).toMatchObject({ resumed: 0 });
    world.pass(401);
    expect(await sweep(world.start().services)).toMatchObject({ resumed: 1 });
  });

  it('sends a notification that is due again, until it is delivered', async () => {
    const world = await begun(1000);
    messages(world.notifications);
    // The engine's own message is on its way; only a lost one is made up for.
    expect(await sweep(world.start().services)).toMatchObject({ notified: 0 });
    world.pass(6);
    expect(await sweep(world.start().services)).toMatchObject({ notified: 1 });
    const [message] = messages(world.notifications);
    const id = String(message?.['id']);
    expect(id).toMatch(/^active:delivery:.*:shop$/);
    const row = await world.store.get(shardOf(orders), id);
    const later = new Date(world.clock.now().getTime() + 60_000).toISOString();
    await world.store.put(shardOf(orders), id, { ...row!.body, nextAt: later }, 'any');
    expect(await sweep(world.start().services)).toMatchObject({ notified: 0 });
  });

  it('goes through more rows than fit on a page', async () => {
    const world = await begun(25);
    world.pass(61);
    const [journal] = await world.journals();
    const shard = shardOf(orders);
    const body = (await world.store.get(shard, rowId.journal(journal!.id)))!.body;
    for (let i = 0; i < 120; i++) {
      const id = `x${i}`;
      await world.store.put(shard, rowId.journal(id), { ...body, id }, 'absent');
      await world.store.put(shard, rowId.active(id), { name: 'orders-db' }, 'absent');
    }
    expect(await sweep(world.start().services)).toMatchObject({ resumed: 121 });
  });

  it('is not kept from the others by one damaged row', async () => {
    const world = await begun(1000);
    world.pass(90_000);
    const shard = shardOf(orders);
    await world.store.put(shard, rowId.active('0'), {}, 'any');
    await world.store.put(shard, rowId.journal('0'), { id: '0' }, 'any');
    await world.store.put(shard, rowId.active('1'), {}, 'any');
    await world.store.put(shard, 'active:delivery:0:shop', {}, 'any');
    expect(await sweep(world.start().services)).toEqual({ resumed: 1, notified: 1 });
    const failed = world.lines.filter(({ event }) => event === 'sweep.row_failed');
    expect(failed).toHaveLength(2);
  });

  it('goes on with the next row when a message cannot be sent', async () => {
    const world = await begun(1000);
    world.pass(90_000);
    const { services } = world.start();
    const rotations = {
      send: () => Promise.reject(new AppError('storage_unavailable', { detail: 'send' })),
    };
    expect(await sweep({ ...services, rotations })).toEqual({ resumed: 0, notified: 1 });
  });
});
