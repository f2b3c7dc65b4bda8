import { describe, expect, it } from 'vitest';
import { AppError } from '../../../src/core/errors.ts';
import { handleRotation } from '../../../src/core/rotation/engine.ts';
import type { State } from '../../../src/core/rotation/journal.ts';
import { parseRotationMessage } from '../../../src/core/rotation/message.ts';
import { eraseOrphans } from '../../../src/core/rotation/orphans.ts';
import { vaultPendingStore } from '../../../src/core/rotation/pending.ts';
import { rowId, shardOf } from '../../../src/core/rotation/records.ts';
import { SecretString } from '../../../src/core/secret-string.ts';
import { createWorld, orders, type World } from '../../support/rotation-world.ts';

const unknown = '01JZZZZZZZZZZZZZZZZZZZZZZZ';

async function rotated(): Promise<{ world: World; id: string }> {
  const world = createWorld();
  await world.seed();
  const id = await world.request(world.start());
  await world.converge();
  return { world, id };
}

/** What a write leaves that was under way when its worker died. */
async function leave(world: World, rotationId: string): Promise<void> {
  const value = new SecretString('a candidate');
  await world.vaults.get('pending').secrets.set(`wal-${rotationId}`, { value });
}

async function left(world: World): Promise<string[]> {
  const found = await Array.fromAsync(world.vaults.get('pending').secrets.list());
  return found.map(({ name }) => name);
}

async function putInto(world: World, id: string, state: State, heldFrom: State | null) {
  const row = await world.store.get(shardOf(orders), rowId.journal(id));
  const body = { ...row!.body, state, heldFrom };
  await world.store.put(shardOf(orders), rowId.journal(id), body, 'any');
}

describe('a candidate in the pending vault', () => {
  it.each(['DONE', 'ROLLED_BACK', 'FAILED_CLEAN', 'SKIPPED'] as const)(
    'is erased when its rotation is %s',
    async (state) => {
      const { world, id } = await rotated();
      await putInto(world, id, state, null);
      await leave(world, id);
      expect(await eraseOrphans(world.start().services)).toBe(1);
      expect(await left(world)).toEqual(['sealing-key']);
      expect(world.vaults.deletedNames('pending')).toEqual([]);
      expect(world.lines.at(-1)).toMatchObject({ event: 'candidate.orphan_erased' });
      const texts: string[] = [];
      for await (const name of world.log.list('audit/')) {
        texts.push(Buffer.from(await world.log.read(name)).toString());
      }
      expect(texts.at(-1)).toContain('"action":"candidate.drop"');
      expect(texts.at(-1)).toContain(id);
      expect((await world.verifyAudit()).faults).toEqual([]);
    },
  );

  it.each([
    ['REQUESTED', null],
    ['STAGED', null],
    ['GRACE', null],
    ['ROLLING_BACK', null],
    ['QUARANTINED', 'APPLYING'],
    ['REVOKE_FAILED', 'RETIRING'],
  ] as const)('stays while its rotation is %s', async (state, heldFrom) => {
    const { world, id } = await rotated();
    await putInto(world, id, state, heldFrom);
    await leave(world, id);
    world.pass(10 * 86_400);
    expect(await eraseOrphans(world.start().services)).toBe(0);
    expect(await left(world)).toContain(`wal-${id}`);
  });

  it('stays when nobody here knows its rotation, and is told once it is a day old', async () => {
    const { world } = await rotated();
    await leave(world, unknown);
    await leave(world, 'not-an-id');
    const strange = () => world.lines.filter(({ event }) => event === 'candidate.unknown');
    world.pass(86_399);
    expect(await eraseOrphans(world.start().services)).toBe(0);
    expect(strange()).toEqual([]);
    world.pass(1);
    expect(await eraseOrphans(world.start().services)).toBe(0);
    expect(strange()).toHaveLength(2);
    expect(await left(world)).toContain(`wal-${unknown}`);
  });

  it('is erased although another cannot be judged or erased', async () => {
    const { world, id } = await rotated();
    const damaged = '01JYYYYYYYYYYYYYYYYYYYYYYY';
    await world.store.put(shardOf(orders), rowId.journal(damaged), { id: damaged }, 'any');
    await leave(world, damaged);
    await leave(world, id);
    expect(await eraseOrphans(world.start().services)).toBe(1);
    expect(await left(world)).toContain(`wal-${damaged}`);
    const failed = world.lines.filter(({ event }) => event === 'scan.pending_failed');
    expect(failed).toMatchObject([{ fields: { rotationId: damaged, code: 'corrupt' } }]);
  });

  it('waits for the next scan when the vault does not answer', async () => {
    const { world, id } = await rotated();
    await leave(world, id);
    world.vaults.onCall(async () => {
      throw new AppError('vault_unavailable', { detail: 'list' });
    });
    expect(await eraseOrphans(world.start().services)).toBe(0);
    expect(world.lines.at(-1)).toMatchObject({ event: 'scan.pending_failed' });
    world.vaults.onCall(null);
    expect(await eraseOrphans(world.start().services)).toBe(1);
  });

  it('cannot be left behind where candidates lie in their journals', async () => {
    const world = createWorld({ pending: 'sealed' });
    await world.seed();
    await leave(world, unknown);
    expect(await eraseOrphans(world.start().services)).toBe(0);
    expect(await left(world)).toContain(`wal-${unknown}`);
  });

  it('is gone when its write came after the end and its worker is dead', async () => {
    const world = createWorld();
    await world.seed();
    await world.request(world.start());
    const message = parseRotationMessage(world.rotations.take());
    const reached = Promise.withResolvers<void>();
    const thawed = Promise.withResolvers<void>();
    const landed = Promise.withResolvers<void>();
    const { services } = world.start();
    const { secrets } = world.vaults.get('pending');
    const set: typeof secrets.set = async (name, secret, options) => {
      options?.guard?.();
      reached.resolve();
      await thawed.promise;
      await secrets.set(name, secret);
      landed.resolve();
      // The process has died meanwhile: nobody hears of it.
      return new Promise(() => undefined);
    };
    const pending = vaultPendingStore({ ...secrets, set });
    void handleRotation({ ...services, pending }, message);
    await reached.promise;
    await world.rotations.send(message);
    world.pass(61);
    await world.converge();
    expect((await world.journals())[0]?.state).toBe('DONE');
    thawed.resolve();
    await landed.promise;
    expect(await left(world)).toHaveLength(2);
    expect(await eraseOrphans(world.start().services)).toBe(1);
    expect(await left(world)).toEqual(['sealing-key']);
  });
});
