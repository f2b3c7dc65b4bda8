import { describe, expect, it } from 'vitest';
import type { Overlap } from '../../../src/core/rotation/handler.ts';
import { shardOf } from '../../../src/core/rotation/records.ts';
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
