import { afterEach, describe, expect, it, vi } from 'vitest';
import { systemClock } from '../../../src/core/clock.ts';
import { AppError } from '../../../src/core/errors.ts';
import { SecretString } from '../../../src/core/secret-string.ts';
import { simulatedVaults } from '../../../src/core/simulation/vault.ts';
import { memoryDocuments } from '../../../src/core/storage/memory.ts';
import type { DocumentStore } from '../../../src/core/storage/ports.ts';
import { ObjectCache } from '../../../src/core/vault/cache.ts';
import { clientVaults } from '../../../src/core/vault/clients.ts';
import { createInvalidations, generationsIn } from '../../../src/core/vault/generation.ts';
import { recorder } from './support.ts';

const value = (text: string) => ({ value: new SecretString(text) });
const health = () => ({ circuit: 'closed', share: null, readOnlyAt: null }) as const;

afterEach(() => void vi.useRealTimers());

/** Instances with a cache each, over one vault and one store. */
function ground(store: DocumentStore = memoryDocuments()) {
  const simulated = simulatedVaults([{ alias: 'main', purpose: 'main' }], systemClock);
  const instance = () => {
    const observer = recorder();
    const cache = new ObjectCache();
    const invalidations = createInvalidations(cache, generationsIn(store), { observer });
    const direct = { ...simulated.get('main'), secondary: null, health };
    const { publish } = invalidations;
    const vaults = { get: () => direct, all: () => [direct] };
    const { secrets } = clientVaults(vaults, { cache, publish }).get('main');
    const read = async (name: string) => (await secrets.get(name)).value.expose();
    return { cache, secrets, read, observer, ...invalidations };
  };
  return { simulated, store, instance };
}

describe('instances that share a vault', () => {
  it('read anew what another one has written, once they have looked', async () => {
    const { instance } = ground();
    const [one, other] = [instance(), instance()];
    await one.secrets.set('a', value('1'));
    await one.secrets.set('b', value('1'));
    await other.poll();
    expect([await other.read('a'), await other.read('b')]).toEqual(['1', '1']);
    await one.secrets.set('a', value('2'));
    expect(await other.read('a')).toBe('1');
    await other.poll();
    expect(other.cache.size).toBe(1);
    expect([await other.read('a'), await other.read('b')]).toEqual(['2', '1']);
  });

  it('drop what they read before they could know of any change', async () => {
    const { instance } = ground();
    const [one, other] = [instance(), instance()];
    await one.secrets.set('a', value('1'));
    await other.read('a');
    await one.secrets.set('a', value('2'));
    await other.poll();
    expect(await other.read('a')).toBe('2');
  });

  it('let what another one has written win over a read that is under way', async () => {
    const { instance, simulated } = ground();
    const [one, other] = [instance(), instance()];
    await one.secrets.set('a', value('1'));
    await other.poll();
    const { promise: answered, resolve: answer } = Promise.withResolvers<void>();
    simulated.onCall(async ({ operation }, run) => {
      await run();
      if (operation === 'get') await answered;
    });
    const reading = other.read('a');
    await new Promise((resolve) => setImmediate(resolve));
    simulated.onCall(null);
    await one.secrets.set('a', value('2'));
    await other.poll();
    answer();
    expect(await reading).toBe('1');
    expect(await other.read('a')).toBe('2');
  });

  it('lose no change when they write at the same time', async () => {
    const { instance } = ground();
    const writers = Array.from({ length: 5 }, instance);
    const reader = instance();
    await Promise.all(
      writers.flatMap(({ secrets }, w) =>
        Array.from({ length: 5 }, (_, n) => secrets.set(`s-${w}-${n}`, value('1'))),
      ),
    );
    await reader.poll();
    const names = writers.flatMap((_, w) => Array.from({ length: 5 }, (_, n) => `s-${w}-${n}`));
    for (const name of names) await reader.read(name);
    await Promise.all(
      writers.map(async ({ secrets }, w) => {
        for (let n = 0; n < 5; n++) await secrets.set(`s-${w}-${n}`, value('2'));
      }),
    );
    await reader.poll();
    for (const name of names) expect(await reader.read(name)).toBe('2');
    expect(writers.flatMap(({ observer }) => observer.lines)).toEqual([]);
  });

  it('drop everything when they have missed more than is listed', async () => {
    const { instance, store } = ground();
    const [one, other] = [instance(), instance()];
    await one.secrets.set('kept', value('1'));
    await other.poll();
    await other.read('kept');
    for (let n = 0; n < 120; n++) await one.secrets.set(`s-${n}`, value('1'));
    const document = await store.get('cache', 'generation');
    expect(JSON.stringify(document?.body).length).toBeLessThan(20_000);
    await other.poll();
    expect(other.cache.size).toBe(0);
  });

  it('keep what was not changed when as many changes are listed as they have missed', async () => {
    const { instance } = ground();
    const [one, other] = [instance(), instance()];
    await one.secrets.set('kept', value('1'));
    await other.poll();
    await other.read('kept');
    for (let n = 0; n < 90; n++) await one.secrets.set(`s-${n}`, value('1'));
    await other.poll();
    expect(other.cache.size).toBe(1);
  });

  it.each([
    ['was lost', async (store: DocumentStore) => store.delete('cache', 'generation', 'any')],
    [
      'is damaged',
      async (store: DocumentStore) =>
        void (await store.put('cache', 'generation', { x: 1 }, 'any')),
    ],
  ])('drop everything when the document %s, and go on', async (_, spoil) => {
    const { instance, store } = ground();
    const [one, other] = [instance(), instance()];
    await one.secrets.set('a', value('1'));
    await other.poll();
    await other.read('a');
    await spoil(store);
    await other.poll();
    expect(other.cache.size).toBe(0);
    await other.read('a');
    await one.secrets.set('a', value('2'));
    await other.poll();
    expect(await other.read('a')).toBe('2');
  });

  it('read the document without reading its content when it has not changed', async () => {
    const store = memoryDocuments();
    const { instance } = ground(store);
    await instance().secrets.set('a', value('1'));
    const generations = generationsIn(store);
    const found = await generations.read(null);
    const etag = found === null || found === 'unchanged' ? '' : found.etag;
    expect(await generations.read(etag)).toBe('unchanged');
    expect(await generationsIn(memoryDocuments()).read(null)).toBeNull();
  });
});

describe('instances whose store is down', () => {
  const failingStore = () => {
    const store = memoryDocuments();
    const state = { isDown: true, isHanging: false };
    const guarded = async <T>(work: () => Promise<T>): Promise<T> => {
      if (state.isHanging) return new Promise<never>(() => undefined);
      if (state.isDown) throw new AppError('storage_unavailable', { detail: 'no answer' });
      return work();
    };
    const wrapped: DocumentStore = {
      ...store,
      get: (...given) => guarded(() => store.get(...given)),
      put: (...given) => guarded(() => store.put(...given)),
    };
    return { state, store: wrapped };
  };

  it('write and drop their own all the same, and tell the others later', async () => {
    const { state, store } = failingStore();
    const { instance } = ground(store);
    const [one, other] = [instance(), instance()];
    await one.secrets.set('a', value('1'));
    expect(await one.read('a')).toBe('1');
    expect(await other.read('a')).toBe('1');
    await one.secrets.set('a', value('2'));
    expect(await one.read('a')).toBe('2');
    expect(one.observer.lines.at(-1)).toBe('publish AppError: storage_unavailable: no answer');
    await other.poll();
    expect(other.observer.lines).toEqual(['poll AppError: storage_unavailable: no answer']);
    state.isDown = false;
    await one.poll();
    await other.poll();
    expect(await other.read('a')).toBe('2');
  });

  it('do not keep a write waiting for longer than 2 s', async () => {
    vi.useFakeTimers();
    const { state, store } = failingStore();
    state.isHanging = true;
    const { instance } = ground(store);
    const one = instance();
    const written = one.secrets.set('a', value('1'));
    await vi.advanceTimersByTimeAsync(2_000);
    expect((await written).name).toBe('a');
    expect(one.observer.lines).toHaveLength(1);
  });

  it('give up a change that others keep overtaking, and try again at the next poll', async () => {
    const store = memoryDocuments();
    const lost = { isLost: true };
    const overtaken: DocumentStore = {
      ...store,
      put: async (...given) => {
        if (lost.isLost) throw new AppError('conflict', { detail: 'etag' });
        return store.put(...given);
      },
    };
    const { instance } = ground(overtaken);
    const [one, other] = [instance(), instance()];
    await other.poll();
    await one.secrets.set('a', value('1'));
    expect(one.observer.lines).toEqual(['publish AppError: conflict: etag']);
    await other.read('a');
    lost.isLost = false;
    await one.poll();
    await other.poll();
    expect(other.cache.size).toBe(0);
  });
});

describe('polling', () => {
  it('goes on every 5 s until it is stopped', async () => {
    vi.useFakeTimers();
    const { instance } = ground();
    const [one, other] = [instance(), instance()];
    other.start();
    other.start();
    await vi.advanceTimersByTimeAsync(1);
    for (const text of ['1', '2', '3']) {
      await one.secrets.set('a', value(text));
      await vi.advanceTimersByTimeAsync(5_000);
      expect(await other.read('a')).toBe(text);
    }
    other.stop();
    await one.secrets.set('a', value('4'));
    await vi.advanceTimersByTimeAsync(60_000);
    expect(await other.read('a')).toBe('3');
    one.cache.clear();
    other.cache.clear();
    expect(vi.getTimerCount()).toBe(0);
  });

  it('ends when it is stopped while the store has not answered yet', async () => {
    vi.useFakeTimers();
    const { promise: asked, resolve: answer } = Promise.withResolvers<null>();
    const store: DocumentStore = { ...memoryDocuments(), get: () => asked };
    const { instance } = ground(store);
    const one = instance();
    one.start();
    await vi.advanceTimersByTimeAsync(1);
    one.stop();
    answer(null);
    await vi.advanceTimersByTimeAsync(10);
    expect(vi.getTimerCount()).toBe(0);
  });
});
