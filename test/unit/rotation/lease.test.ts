import { afterEach, describe, expect, it, vi } from 'vitest';
import type { Clock } from '../../../src/core/clock.ts';
import { Lease, type LeaseTools, offerLease } from '../../../src/core/rotation/lease.ts';
import { rowId, shardOf } from '../../../src/core/rotation/records.ts';
import { memoryDocuments } from '../../../src/core/storage/memory.ts';
import type { DocumentStore, JsonObject } from '../../../src/core/storage/ports.ts';
import type { ObjectRef } from '../../../src/core/vault/ports.ts';

const ref: ObjectRef = { vault: 'main', type: 'secret', name: 'orders-db' };

function world() {
  let now = Date.parse('2026-03-01T00:00:00Z');
  const clock: Clock = { now: () => new Date(now) };
  const store = memoryDocuments();
  const tools = (holder: string): LeaseTools => ({ store, clock, holder, seconds: 60 });
  const pass = (seconds: number) => {
    now += seconds * 1000;
  };
  const row = async () => (await store.get(shardOf(ref), rowId.lease(ref)))?.body ?? null;
  return { clock, store, tools, pass, row };
}

async function take(tools: LeaseTools): Promise<Lease> {
  const at = tools.clock.now();
  const offer = await offerLease(tools, ref);
  if (offer.kind === 'held') throw new Error(`held until ${offer.until.toISOString()}`);
  const [etag] = await tools.store.transact(shardOf(ref), [offer.write]);
  return new Lease(tools, ref, { epoch: offer.epoch, etag: etag ?? '', at });
}

afterEach(() => {
  vi.useRealTimers();
});

describe('a lease', () => {
  it('is free at first, then held, and its epoch counts the holders', async () => {
    const { tools, pass } = world();
    const first = await take(tools('a'));
    expect(first.epoch).toBe(1);
    expect(await offerLease(tools('b'), ref)).toMatchObject({ kind: 'held' });
    pass(60);
    expect(await offerLease(tools('b'), ref)).toMatchObject({
      kind: 'free',
      epoch: 2,
      isLapsed: true,
    });
    await first.stop();
  });

  it('can be given back before its time', async () => {
    const { store, tools } = world();
    const lease = await take(tools('a'));
    await store.transact(shardOf(ref), [await lease.release()]);
    expect(await offerLease(tools('b'), ref)).toMatchObject({
      kind: 'free',
      epoch: 2,
      isLapsed: false,
    });
  });

  it('goes to one of two who want it at once', async () => {
    const { store, tools } = world();
    const offers = await Promise.all([offerLease(tools('a'), ref), offerLease(tools('b'), ref)]);
    const taken = await Promise.allSettled(
      offers.map((offer) =>
        store.transact(shardOf(ref), offer.kind === 'free' ? [offer.write] : []),
      ),
    );
    expect(taken.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
  });

  it('is longer by its whole time after each look', async () => {
    const { tools, pass } = world();
    const lease = await take(tools('a'));
    pass(50);
    expect(await lease.hold()).toBe(60_000);
    pass(59);
    expect(() => lease.guard()).not.toThrow();
    pass(1);
    expect(() => lease.guard()).toThrow('lease_lost');
    await expect(lease.hold()).rejects.toMatchObject({ code: 'lease_lost' });
    await lease.stop();
  });

  it('is lost as soon as somebody else has written it, whatever its own clock says', async () => {
    const { store, tools, row } = world();
    const lease = await take(tools('a'));
    const theirs = { ...(await row()), holder: 'b', epoch: 2 };
    await store.put(shardOf(ref), rowId.lease(ref), theirs, 'any');
    expect(() => lease.guard()).not.toThrow();
    await expect(lease.hold()).rejects.toMatchObject({ code: 'lease_lost' });
    expect(() => lease.guard()).toThrow('lease_lost');
    expect(await row()).toEqual(theirs);
    await lease.stop();
  });

  it('renews itself at a third of its time, and stops when told', async () => {
    vi.useFakeTimers();
    const { tools, pass, row } = world();
    const lease = await take(tools('a'));
    const before = await row();
    pass(20);
    await vi.advanceTimersByTimeAsync(20_000);
    const after = await row();
    expect(after).not.toEqual(before);
    await lease.stop();
    pass(20);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(await row()).toEqual(after);
  });

  it('outlives a renewal that storage did not answer', async () => {
    const { store, tools } = world();
    let isDown = true;
    const flaky: DocumentStore = {
      ...store,
      put: async (partition: string, id: string, body: JsonObject, when) => {
        if (isDown) throw Object.assign(new Error('down'), { code: 'storage_unavailable' });
        return store.put(partition, id, body, when);
      },
    };
    const lease = await take({ ...tools('a'), store: flaky });
    await expect(lease.hold()).rejects.toThrow('down');
    isDown = false;
    expect(await lease.hold()).toBe(60_000);
    await lease.stop();
  });

  it('that is damaged is told, not taken', async () => {
    const { store, tools } = world();
    await store.put(shardOf(ref), rowId.lease(ref), { holder: 1 }, 'any');
    await expect(offerLease(tools('a'), ref)).rejects.toMatchObject({ code: 'corrupt' });
  });
});
