import { describe, expect, it } from 'vitest';
import type { State } from '../../../src/core/rotation/journal.ts';
import { putJournal } from '../../../src/core/rotation/records.ts';
import { newJournal } from '../../../src/core/rotation/request.ts';
import { reserve, unreserve } from '../../../src/core/rotation/reservation.ts';
import { ulid } from '../../../src/core/rotation/ulid.ts';
import { memoryDocuments } from '../../../src/core/storage/memory.ts';

const now = new Date('2026-03-01T00:00:00Z');
const shard = 'rotations-0';

function world() {
  const store = memoryDocuments();
  const rotation = async (state: State, replacedBy: string | null = null) => {
    const message = {
      kind: 'rotate',
      requestId: ulid(now),
      vault: 'main',
      type: 'secret',
      name: 'orders-db',
      reason: 'scan',
      requestedBy: 'scan',
      correlationId: 'c',
      expectedBaseVersion: null,
    } as const;
    const heldFrom = state === 'QUARANTINED' ? ('ROLLING_BACK' as const) : null;
    const journal = { ...newJournal(message, now), state, heldFrom, replacedBy };
    await store.transact(shard, [putJournal(journal, 'absent')]);
    return { rotationId: journal.id, shard };
  };
  const rows = async () => (await store.list('reservations')).documents;
  return { store, rotation, rows };
}

describe('a reservation', () => {
  it('keeps others away until it is given back', async () => {
    const { store, rotation, rows } = world();
    const [one, two] = [await rotation('GRACE'), await rotation('CLAIMED')];
    await reserve(store, ['b', 'a'], one);
    await reserve(store, ['a', 'b'], one);
    await expect(reserve(store, ['c', 'b'], two)).rejects.toMatchObject({
      code: 'target_in_grace',
    });
    await unreserve(store, ['a', 'b'], two.rotationId);
    expect((await rows()).map(({ id }) => id)).toEqual(['a', 'b']);
    await unreserve(store, ['a', 'b'], one.rotationId);
    await reserve(store, ['c', 'b'], two);
    expect((await rows()).map(({ id }) => id)).toEqual(['b', 'c']);
  });

  it.each([
    ['DONE', true],
    ['FAILED_CLEAN', true],
    ['ROLLED_BACK', true],
    ['REVOKE_FAILED', true],
    ['QUARANTINED', false],
    ['PROMOTING', false],
  ] as const)('of a rotation that is %s is free: %s', async (state, isFree) => {
    const { store, rotation } = world();
    const [one, two] = [await rotation(state), await rotation('CLAIMED')];
    await reserve(store, ['a'], one);
    const taken = await reserve(store, ['a'], two).then(
      () => true,
      () => false,
    );
    expect(taken).toBe(isFree);
  });

  it.each([
    ['CLAIMED', false],
    ['QUARANTINED', false],
    ['DONE', true],
  ] as const)('of a rotation whose successor is %s is free: %s', async (state, isFree) => {
    const { store, rotation } = world();
    const heir = await rotation(state);
    const middle = await rotation('ROLLED_BACK', heir.rotationId);
    const first = await rotation('FAILED_CLEAN', middle.rotationId);
    await reserve(store, ['a'], first);
    const other = reserve(store, ['a'], await rotation('CLAIMED'));
    if (isFree) return expect(other).resolves.toBeUndefined();
    await expect(other).rejects.toThrow(`a is held by ${heir.rotationId}`);
  });

  it('passes to the successor, who gives it back', async () => {
    const { store, rotation, rows } = world();
    const heir = await rotation('CLAIMED');
    const first = await rotation('ROLLED_BACK', heir.rotationId);
    await reserve(store, ['a'], first);
    await reserve(store, ['a'], heir);
    await unreserve(store, ['a'], first.rotationId);
    expect(await rows()).toMatchObject([{ body: heir }]);
    await unreserve(store, ['a'], heir.rotationId);
    expect(await rows()).toEqual([]);
  });

  it('of a rotation nobody knows is free', async () => {
    const { store, rotation } = world();
    await reserve(store, ['a'], { rotationId: 'gone', shard });
    await expect(reserve(store, ['a'], await rotation('CLAIMED'))).resolves.toBeUndefined();
  });

  it('goes to one of two who want it at once', async () => {
    const { store, rotation } = world();
    const [one, two] = [await rotation('CLAIMED'), await rotation('CLAIMED')];
    const taken = await Promise.allSettled([
      reserve(store, ['a'], one),
      reserve(store, ['a'], two),
    ]);
    expect(taken.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
  });

  it.each([`postgresql/${'h'.repeat(253)}/5432/app`, 'postgresql/db/5432/größe', 'a b'])(
    'fits into a document whatever its resource is called: %s',
    async (resource) => {
      const { store, rotation, rows } = world();
      const [one, two] = [await rotation('GRACE'), await rotation('CLAIMED')];
      await reserve(store, [resource], one);
      await expect(reserve(store, [resource], two)).rejects.toMatchObject({
        code: 'target_in_grace',
      });
      await unreserve(store, [resource], one.rotationId);
      expect(await rows()).toEqual([]);
    },
  );

  it('that is damaged is told, not taken over', async () => {
    const { store, rotation } = world();
    await store.put('reservations', 'a', { rotationId: 1 }, 'any');
    await expect(reserve(store, ['a'], await rotation('CLAIMED'))).rejects.toMatchObject({
      code: 'corrupt',
    });
  });

  it('is not hidden by storage that fails', async () => {
    const { store, rotation } = world();
    const broken = { ...store, put: () => Promise.reject(new Error('down')) };
    await expect(reserve(broken, ['a'], await rotation('CLAIMED'))).rejects.toThrow('down');
  });
});
