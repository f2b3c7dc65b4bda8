import { beforeEach, describe, expect, it, vi } from 'vitest';
import { systemClock } from '../../../src/core/clock.ts';
import { AppError } from '../../../src/core/errors.ts';
import { SecretString } from '../../../src/core/secret-string.ts';
import { type SimulatedVaults, simulatedVaults } from '../../../src/core/simulation/vault.ts';
import { type CacheSettings, ObjectCache, vaultCache } from '../../../src/core/vault/cache.ts';
import {
  cachedCertificates,
  cachedKeys,
  cachedSecrets,
  tellingSecrets,
} from '../../../src/core/vault/cached.ts';
import type { CertificateService } from '../../../src/core/vault/certificates.ts';
import type { KeyService } from '../../../src/core/vault/keys.ts';
import type { Observer } from '../../../src/core/vault/observer.ts';
import type { SecretService } from '../../../src/core/vault/ports.ts';
import { failure, handClock, recorder, refusal, silence } from './support.ts';

const minute = 60_000;
const vault = { alias: 'main', url: 'https://main.vault.simulated' };
const value = (text: string) => ({ value: new SecretString(text) });

/** Secrets behind a cache, over a simulated vault whose reads can be held up or made to fail. */
function ground(changes: Partial<CacheSettings> = {}, observer?: Observer) {
  const vaults: SimulatedVaults = simulatedVaults(
    [{ alias: 'main', purpose: 'main' }],
    systemClock,
  );
  const clock = handClock();
  const cache = new ObjectCache({ ...vaultCache, ...changes }, clock.now);
  const changed: string[] = [];
  const tools = {
    vault,
    cache,
    observer,
    changed: async (objects: readonly string[]) => {
      for (const object of objects) cache.invalidate(object);
      changed.push(...objects);
    },
  };
  const direct = vaults.get('main').secrets;
  const secrets = cachedSecrets(direct, tools);
  let failing: Error | null = null;
  let gate: Promise<void> | null = null;
  vaults.onCall(async ({ operation }, run) => {
    if (operation !== 'get') return run();
    await gate;
    if (failing !== null) throw failing;
    await run();
  });
  const read = async (name = 'a', version?: string) => {
    const { value, served } = await secrets.get(name, version);
    return [value.expose(), served.fromCache, served.stale];
  };
  return {
    ...{ vaults, clock, cache, changed, tools, direct, secrets, read },
    fail: (error: Error | null) => {
      failing = error;
    },
    /** Reads wait from now on, until what it gives is called. */
    hold: () => {
      const { promise, resolve } = Promise.withResolvers<void>();
      gate = promise;
      return () => {
        gate = null;
        resolve();
      };
    },
    reads: () => vaults.accesses.filter(({ operation }) => operation === 'get').length,
  };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));
const hit = true;
const fresh = [false, false] as const;

describe('a cached secret', () => {
  let world: ReturnType<typeof ground>;
  beforeEach(async () => {
    world = ground();
    await world.direct.set('a', value('one'));
  });

  it('is read once, and then served from memory', async () => {
    const { read, reads } = world;
    expect(await read()).toEqual(['one', ...fresh]);
    for (let n = 0; n < 10; n++) expect(await read()).toEqual(['one', hit, false]);
    expect(await read('A')).toEqual(['one', hit, false]);
    expect(reads()).toBe(1);
  });

  it('says that it came from the primary vault, beside what it is without a cache', async () => {
    const { secrets, direct } = world;
    const { served, ...answer } = await secrets.get('a');
    expect(answer).toEqual(await direct.get('a'));
    expect(served).toEqual({ servedBy: 'primary', fromCache: false, stale: false });
  });

  it('is read by one call when a thousand want it at once', async () => {
    const { read, reads } = world;
    const answers = await Promise.all(Array.from({ length: 1_000 }, () => read()));
    expect(answers).toEqual(answers.map(() => ['one', ...fresh]));
    expect(reads()).toBe(1);
  });

  it('fails for all of a thousand by one call', async () => {
    const { read, reads, fail } = world;
    fail(refusal(403));
    const answers = await Promise.allSettled(Array.from({ length: 1_000 }, () => read()));
    expect(answers.every(({ status }) => status === 'rejected')).toBe(true);
    expect(reads()).toBe(1);
    fail(null);
    expect(await read()).toEqual(['one', ...fresh]);
  });

  it('is kept by version beside the latest', async () => {
    const { direct, read, reads } = world;
    const first = await direct.set('b', value('first'));
    await direct.set('b', value('second'));
    for (let n = 0; n < 3; n++) {
      expect((await read('b', first.version))[0]).toBe('first');
      expect((await read('b', first.version.toUpperCase()))[0]).toBe('first');
      expect((await read('b'))[0]).toBe('second');
    }
    expect(reads()).toBe(2);
  });

  it('is served while one read is under way when 80 % of its time are over', async () => {
    const { read, reads, clock, direct, hold } = world;
    await read();
    await direct.set('a', value('two'));
    clock.pass(4 * minute - 1);
    expect(await read()).toEqual(['one', hit, false]);
    expect(reads()).toBe(1);
    clock.pass(1);
    const release = hold();
    for (let n = 0; n < 100; n++) expect(await read()).toEqual(['one', hit, false]);
    release();
    await settled();
    expect(reads()).toBe(2);
    expect(await read()).toEqual(['two', hit, false]);
  });

  it('is waited for when its time is over', async () => {
    const { read, reads, clock, direct } = world;
    await read();
    await direct.set('a', value('two'));
    clock.pass(5 * minute);
    expect(await read()).toEqual(['two', ...fresh]);
    expect(reads()).toBe(2);
  });

  it('is as old as the read that brought it', async () => {
    const { read, clock, hold } = world;
    const release = hold();
    const first = read();
    await settled();
    clock.pass(4.5 * minute);
    release();
    await first;
    clock.pass(0.5 * minute);
    expect(await read()).toEqual(['one', ...fresh]);
  });

  it('makes room for others: the one that was not read for longest goes', async () => {
    const { read, reads, direct, cache } = ground({ maxEntries: 2 });
    for (const name of ['a', 'b', 'c']) await direct.set(name, value(name));
    await read('a');
    await read('b');
    await read('a');
    await read('c');
    expect(cache.size).toBe(2);
    await read('a');
    expect(reads()).toBe(3);
    await read('b');
    expect(reads()).toBe(4);
  });

  it('is refreshed, and told of, alike when there is an observer', async () => {
    const observer = recorder();
    const { read, reads, direct, clock } = ground({}, observer);
    await direct.set('a', value('one'));
    await read();
    clock.pass(4 * minute);
    expect(await read()).toEqual(['one', hit, false]);
    await settled();
    expect(reads()).toBe(2);
  });

  it.each([-60 * minute, 60 * minute])(
    'is never served beyond its time, though the system’s clock is set by %i ms',
    async (by) => {
      vi.useFakeTimers();
      try {
        const { direct, tools, reads } = ground();
        await direct.set('a', value('one'));
        const cache = new ObjectCache();
        const secrets = cachedSecrets(direct, { ...tools, cache });
        await secrets.get('a');
        vi.setSystemTime(Date.now() + by);
        const before = reads();
        await vi.advanceTimersByTimeAsync(5 * minute);
        expect((await secrets.get('a')).served.fromCache).toBe(false);
        expect(reads()).toBe(before + 1);
        cache.clear();
      } finally {
        vi.useRealTimers();
      }
    },
  );

  it('leaves memory when its time is over, though nobody reads it', async () => {
    vi.useFakeTimers();
    try {
      const { secrets, direct, cache, clock } = ground({ staleOnErrorMs: minute });
      await direct.set('a', value('one'));
      await secrets.get('a');
      await secrets.get('b').catch(() => undefined);
      expect(cache.size).toBe(2);
      clock.pass(6 * minute - 1);
      await vi.advanceTimersByTimeAsync(minute);
      expect(cache.size).toBe(1);
      clock.pass(1);
      await vi.advanceTimersByTimeAsync(minute);
      expect(cache.size).toBe(0);
      expect(vi.getTimerCount()).toBe(0);
    } finally {
      vi.useRealTimers();
    }
  });

  it('cannot be changed by who was given it', async () => {
    const { secrets } = world;
    const [first, second] = [await secrets.get('a'), await secrets.get('a')];
    for (const answer of [first, second]) {
      expect(() => Object.assign(answer.properties.tags, { a: 'x' })).toThrow(TypeError);
    }
  });

  // The last one is a Kelvin sign, which is a k in lower case.
  it.each(['a/b', '', 'a:latest', 'x'.repeat(128), '\u212a'])(
    'has a name that a vault takes: not %j',
    async (name) => {
      const { secrets, direct, reads } = world;
      await direct.set('k', value('k'));
      await secrets.get('k');
      await expect(secrets.get(name)).rejects.toEqual(failure('invalid_input'));
      await expect(secrets.get('k', name || 'latest')).rejects.toEqual(failure('invalid_input'));
      expect(reads()).toBe(1);
      await expect(direct.get(name)).rejects.toEqual(failure('invalid_input'));
    },
  );
});

describe('what does not exist', () => {
  it('is remembered for a while', async () => {
    const { read, reads, clock, direct } = ground();
    for (let n = 0; n < 5; n++) await expect(read()).rejects.toEqual(failure('not_found'));
    expect(reads()).toBe(1);
    await direct.set('a', value('one'));
    clock.pass(30_000);
    expect(await read()).toEqual(['one', ...fresh]);
  });

  it('is not remembered when that is switched off', async () => {
    const { read, reads } = ground({ negativeTtlMs: 0 });
    for (let n = 0; n < 3; n++) await expect(read()).rejects.toEqual(failure('not_found'));
    expect(reads()).toBe(3);
  });

  it('is known at once to exist after our own write', async () => {
    const { read, secrets } = ground();
    await expect(read()).rejects.toEqual(failure('not_found'));
    await secrets.set('a', value('one'));
    expect(await read()).toEqual(['one', ...fresh]);
  });

  it('takes the place of a value that was deleted elsewhere', async () => {
    const { read, clock, direct } = ground();
    await direct.set('a', value('one'));
    await read();
    await direct.delete('a');
    clock.pass(4.5 * minute);
    expect(await read()).toEqual(['one', hit, false]);
    await settled();
    await expect(read()).rejects.toEqual(failure('not_found'));
  });
});

describe('a cached secret of a vault that is down', () => {
  const down = async (staleOnErrorMs: number) => {
    const world = ground({ staleOnErrorMs });
    await world.direct.set('a', value('one'));
    await world.read();
    await world.direct.set('a', value('two'));
    return world;
  };

  it.each([
    ['no answer', silence()],
    ['a 503', refusal(503)],
    ['an open circuit', new AppError('circuit_open', { detail: 'main' })],
  ])('is served beyond its time after %s, up to the bound, and says so', async (_, error) => {
    const { read, clock, fail } = await down(60 * minute);
    fail(error);
    clock.pass(5 * minute);
    expect(await read()).toEqual(['one', hit, true]);
    clock.pass(60 * minute - 1);
    expect(await read()).toEqual(['one', hit, true]);
    clock.pass(1);
    await expect(read()).rejects.toBe(error);
  });

  it('is served at once while the vault is known to be down, and looked for every few seconds', async () => {
    const { read, reads, clock, fail, hold } = await down(60 * minute);
    fail(silence());
    clock.pass(5 * minute);
    await read();
    expect(reads()).toBe(2);
    for (let n = 0; n < 50; n++) expect(await read()).toEqual(['one', hit, true]);
    expect(reads()).toBe(2);
    clock.pass(5_000);
    const release = hold();
    for (let n = 0; n < 50; n++) expect(await read()).toEqual(['one', hit, true]);
    fail(null);
    release();
    await settled();
    expect(reads()).toBe(3);
    expect(await read()).toEqual(['two', hit, false]);
  });

  it('is not served stale because the vault was down some time ago', async () => {
    const { read, clock, fail } = await down(60 * minute);
    fail(silence());
    clock.pass(4.5 * minute);
    await read();
    await settled();
    fail(null);
    clock.pass(10 * minute);
    expect(await read()).toEqual(['two', ...fresh]);
  });

  it.each([
    ['throttles', refusal(429)],
    ['refuses', refusal(403)],
  ])('is not served beyond its time when the vault %s', async (_, error) => {
    const { read, clock, fail } = await down(60 * minute);
    fail(error);
    clock.pass(5 * minute);
    await expect(read()).rejects.toBe(error);
  });

  it('is not served beyond its time unless that is allowed', async () => {
    const { read, clock, fail } = await down(0);
    const error = silence();
    fail(error);
    clock.pass(5 * minute);
    await expect(read()).rejects.toBe(error);
  });

  it('is not served once it was dropped, though a read had begun before', async () => {
    const { read, clock, fail, hold, cache } = await down(60 * minute);
    clock.pass(5 * minute);
    const release = hold();
    const reading = read().catch((error: unknown) => error);
    await settled();
    cache.invalidate('main.vault.simulated:secret:a');
    const error = silence();
    fail(error);
    release();
    expect(await reading).toBe(error);
  });

  it.each([silence(), refusal(429)])(
    'goes on to be served within its time, and is tried again after a pause: %s',
    async (error) => {
      const { read, reads, clock, fail } = await down(0);
      fail(error);
      clock.pass(4 * minute);
      for (let n = 0; n < 10; n++) {
        expect(await read()).toEqual(['one', hit, false]);
        await settled();
      }
      expect(reads()).toBe(2);
      clock.pass(5_000);
      await read();
      await settled();
      expect(reads()).toBe(3);
    },
  );

  it('is dropped when the vault says that we may no longer read it', async () => {
    const { read, clock, fail } = await down(60 * minute);
    const error = refusal(403);
    fail(error);
    clock.pass(4 * minute);
    expect(await read()).toEqual(['one', hit, false]);
    await settled();
    await expect(read()).rejects.toBe(error);
  });
});

describe('a write through a cached service', () => {
  it.each([
    ['set', (secrets: SecretService) => secrets.set('a', value('two'))],
    [
      'update',
      async (secrets: SecretService) => {
        const { properties } = await secrets.get('a');
        await secrets.update('a', properties.version, { tags: { now: 'this' } });
      },
    ],
    ['delete', (secrets: SecretService) => secrets.delete('a')],
    ['erase', (secrets: SecretService) => secrets.erase('A')],
  ] as const)('drops all versions at once: %s', async (_, write) => {
    const { secrets, direct, cache, changed } = ground();
    const { version } = await direct.set('a', value('one'));
    await direct.set('ab', value('other'));
    await secrets.get('a');
    await secrets.get('a', version);
    await secrets.get('ab');
    await write(secrets);
    expect(cache.size).toBe(1);
    expect(changed).toEqual(['main.vault.simulated:secret:a']);
  });

  it('drops what a restored backup brings back', async () => {
    const { secrets, direct, read } = ground();
    await direct.set('a', value('one'));
    const backup = await secrets.backup('a');
    await secrets.erase('a');
    await expect(read()).rejects.toEqual(failure('not_found'));
    await secrets.restore(backup);
    expect(await read()).toEqual(['one', ...fresh]);
  });

  it('drops them also when nobody knows whether it was done', async () => {
    const { secrets, direct, vaults, read } = ground();
    await direct.set('a', value('one'));
    await read();
    vaults.onCall(async ({ operation }, run) => {
      await run();
      if (operation === 'set') throw silence();
    });
    await expect(secrets.set('a', value('two'))).rejects.toEqual(failure('vault_unavailable'));
    expect(await read()).toEqual(['two', ...fresh]);
  });

  it('wins over a read that was under way', async () => {
    const { secrets, direct, vaults, read } = ground();
    await direct.set('a', value('one'));
    const { promise: answered, resolve: answer } = Promise.withResolvers<void>();
    let isFirst = true;
    vaults.onCall(async ({ operation }, run) => {
      await run();
      if (operation !== 'get' || !isFirst) return;
      isFirst = false;
      await answered;
    });
    const before = read();
    await settled();
    await secrets.set('a', value('two'));
    expect(await read()).toEqual(['two', ...fresh]);
    answer();
    expect(await before).toEqual(['one', ...fresh]);
    expect(await read()).toEqual(['two', hit, false]);
  });

  it('is not undone by what became of a read from before', async () => {
    const { secrets, direct, vaults, read, reads } = ground();
    await direct.set('a', value('one'));
    const [old, newer] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const gates = [old.promise, newer.promise];
    vaults.onCall(async ({ operation }, run) => {
      if (operation === 'get') await gates.shift();
      await run();
    });
    const before = read().catch((error: unknown) => error);
    await settled();
    await secrets.set('a', value('two'));
    const after = read();
    await settled();
    const refused = refusal(403);
    old.reject(refused);
    expect(await before).toBe(refused);
    // It is not the one to be joined any more: the newer one still is.
    const joined = read();
    newer.resolve();
    expect(await Promise.all([after, joined])).toEqual([
      ['two', ...fresh],
      ['two', ...fresh],
    ]);
    expect(await read()).toEqual(['two', hit, false]);
    expect(reads()).toBe(2);
  });

  it('keeps what was read after it, though a read from before fails later', async () => {
    const { secrets, direct, vaults, read } = ground();
    await direct.set('a', value('one'));
    const old = Promise.withResolvers<void>();
    const gates = [old.promise];
    vaults.onCall(async ({ operation }, run) => {
      if (operation === 'get') await gates.shift();
      await run();
    });
    const before = read().catch((error: unknown) => error);
    await settled();
    await secrets.set('a', value('two'));
    await read();
    old.reject(refusal(403));
    await before;
    expect(await read()).toEqual(['two', hit, false]);
  });

  it('changes nothing in the cache when it was not even sent', async () => {
    const { secrets, changed } = ground();
    await expect(secrets.set('a/b', value('x'))).rejects.toEqual(failure('invalid_input'));
    expect(changed).toEqual([]);
  });

  it('is told by a service without a cache, too', async () => {
    const { direct, tools, read, reads } = ground();
    const telling = tellingSecrets(direct, tools);
    await telling.set('a', value('one'));
    await read();
    await telling.get('a');
    expect(reads()).toBe(2);
    await telling.set('a', value('two'), { guard: () => undefined });
    expect(await read()).toEqual(['two', ...fresh]);
  });
});

describe('sealed in memory', () => {
  it('is served as it was', async () => {
    const { read, reads, direct, clock } = ground({ sealed: true, staleOnErrorMs: minute });
    for (const name of ['a', 'b']) await direct.set(name, value(`väl${name}`));
    for (let n = 0; n < 3; n++) {
      expect((await read('a'))[0]).toBe('väla');
      expect((await read('b'))[0]).toBe('välb');
    }
    expect(reads()).toBe(2);
    clock.pass(5 * minute);
    expect(await read('a')).toEqual(['väla', ...fresh]);
  });

  it('says where it came from, stale or not', async () => {
    const { read, direct, clock, fail, secrets } = ground({ sealed: true, staleOnErrorMs: minute });
    await direct.set('a', { ...value('one'), tags: { owner: 'me' } });
    const { served: first, ...answer } = await secrets.get('a');
    const { served: second, ...again } = await secrets.get('a');
    expect(again).toEqual(answer);
    expect([first.fromCache, second.fromCache]).toEqual([false, true]);
    clock.pass(5 * minute);
    fail(silence());
    expect(await read()).toEqual(['one', hit, true]);
  });
});

describe('what an observer is told of cached reads', () => {
  it('is one line a read', async () => {
    const observer = recorder();
    const { read, direct, clock, fail } = ground({ staleOnErrorMs: minute }, observer);
    await direct.set('a', value('one'));
    await Promise.all([read(), read()]);
    await read();
    await read('b').catch(() => undefined);
    await read('b').catch(() => undefined);
    clock.pass(5 * minute);
    fail(silence());
    await read();
    fail(refusal(403));
    await read('c').catch(() => undefined);
    expect(observer.lines).toEqual([
      'read main getSecret a miss ok',
      'read main getSecret a shared ok',
      'read main getSecret a hit ok',
      'read main getSecret b miss not_found',
      'read main getSecret b negative not_found',
      'read main getSecret a stale ok',
      'read main getSecret c miss vault_denied',
    ]);
  });
});

describe('cached keys and certificates', () => {
  const operations = [
    ...['get', 'create', 'import', 'rotate', 'update', 'delete', 'recover', 'purge', 'restore'],
    ...['merge', 'updatePolicy', 'getOperation', 'sign'],
  ];
  /** A service whose every method writes down that it was called. */
  const counting = () => {
    const calls: string[] = [];
    const method = (operation: string) => async (name: string) => {
      calls.push(`${operation} ${name}`);
      return { status: 'completed', properties: { name } };
    };
    const service: unknown = Object.fromEntries(operations.map((name) => [name, method(name)]));
    return { calls, keys: service as KeyService, certificates: service as CertificateService };
  };

  it('answers reads of keys from the cache until one is written', async () => {
    const { keys: direct, calls } = counting();
    const keys = cachedKeys(direct, ground().tools);
    for (let n = 0; n < 3; n++) await keys.get('k');
    await keys.rotate('k');
    expect((await keys.get('k')).served.fromCache).toBe(false);
    expect((await keys.get('k')).served.fromCache).toBe(true);
    await keys.sign('k', { algorithm: 'RS256', digest: new Uint8Array(32) });
    expect(calls).toEqual(['get k', 'rotate k', 'get k', 'sign k']);
  });

  it('drops key and secret along with a certificate, when it is written and when it is made', async () => {
    const { tools, changed } = ground();
    const certificates = cachedCertificates(counting().certificates, tools);
    await certificates.get('c');
    const all = ['certificate', 'key', 'secret'].map((type) => `main.vault.simulated:${type}:c`);
    await certificates.merge('c', []);
    expect(changed).toEqual(all);
    await certificates.getOperation('c');
    expect(changed).toEqual([...all, ...all]);
    expect((await certificates.get('c')).served.fromCache).toBe(false);
  });

  it('never takes nothing for an answer', async () => {
    const empty = { ...counting().keys, get: async () => undefined as never };
    const { tools, cache } = ground();
    await expect(cachedKeys(empty, tools).get('k')).rejects.toThrow('nothing was read');
    expect(cache.size).toBe(0);
  });

  it('keeps a key, a certificate and a secret of one name apart', async () => {
    const { tools, direct, cache, secrets } = ground();
    await direct.set('x', value('secret'));
    const key = cachedKeys(counting().keys, tools);
    const certificate = cachedCertificates(counting().certificates, tools);
    await Promise.all([key.get('x'), certificate.get('x'), secrets.get('x')]);
    expect(cache.size).toBe(3);
  });
});
