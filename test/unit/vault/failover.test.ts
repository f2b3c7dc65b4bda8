import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../src/core/clock.ts';
import { AppError } from '../../../src/core/errors.ts';
import { SecretString } from '../../../src/core/secret-string.ts';
import { simulatedVaults } from '../../../src/core/simulation/vault.ts';
import { ObjectCache, vaultCache } from '../../../src/core/vault/cache.ts';
import { clientVaults, type DirectVaults } from '../../../src/core/vault/clients.ts';
import type { CircuitState } from '../../../src/core/vault/observer.ts';
import { failure, handClock, refusal, silence } from './support.ts';

const minute = 60_000;
const value = (text: string) => ({ value: new SecretString(text) });
const open = () => new AppError('circuit_open', { detail: 'get a in main: not sent' });

/** A vault with a secondary one, both simulated; reads of either can be made to fail. */
async function ground({ staleOnErrorMs = 0 } = {}) {
  const simulated = simulatedVaults(
    [
      { alias: 'main', purpose: 'main' },
      { alias: 'second', purpose: 'replica' },
    ],
    systemClock,
  );
  const state = { circuit: 'closed' as CircuitState, main: null, second: null } as {
    circuit: CircuitState;
    main: Error | null;
    second: Error | null;
  };
  simulated.onCall(async ({ vault }, run) => {
    const error = vault === 'main' ? state.main : state.second;
    if (error !== null) throw error;
    await run();
  });
  const [main, second] = [simulated.get('main'), simulated.get('second')];
  await main.secrets.set('a', value('primary'));
  const replicated = await second.secrets.set('a', value('secondary'));
  const health = () => ({ circuit: state.circuit, share: null, readOnlyAt: null });
  const direct = { ...main, secondary: second, health };
  const vaults: DirectVaults = { get: () => direct, all: () => [direct] };
  const clock = handClock();
  const cache = new ObjectCache({ ...vaultCache, staleOnErrorMs }, clock.now);
  const { secrets } = clientVaults(vaults, { cache }).get('main');
  const calls = (vault: string) => simulated.accesses.filter((one) => one.vault === vault).length;
  const read = async () => {
    const { value: found, served } = await secrets.get('a');
    return [found.expose(), served.servedBy, served.fromCache, served.stale];
  };
  return { state, secrets, read, clock, cache, calls, replicated, simulated };
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('a vault with a secondary one', () => {
  it('is read itself while its circuit is closed, even when it fails', async () => {
    const { state, read, calls } = await ground();
    expect(await read()).toEqual(['primary', 'primary', false, false]);
    const before = calls('second');
    const { state: other, read: readOther } = await ground();
    other.main = silence();
    await expect(readOther()).rejects.toEqual(failure('vault_unavailable'));
    expect(calls('second')).toBe(before);
    expect(state.circuit).toBe('closed');
  });

  it.each([
    ['open', open()],
    ['half-open', open()],
    ['open', silence()],
    ['open', refusal(503)],
  ] as const)('is read from there when its circuit is %s', async (circuit, error) => {
    const { state, read } = await ground();
    Object.assign(state, { circuit, main: error });
    expect(await read()).toEqual(['secondary', 'secondary', false, false]);
    expect(await read()).toEqual(['secondary', 'secondary', true, false]);
  });

  it.each([refusal(404), refusal(403), refusal(429)])(
    'gives its own refusal whatever the circuit: %s',
    async (error) => {
      const { state, read, calls } = await ground();
      const before = calls('second');
      Object.assign(state, { circuit: 'open', main: error });
      await expect(read()).rejects.toBe(error);
      expect(calls('second')).toBe(before);
    },
  );

  it.each([refusal(404), refusal(403), silence()])(
    'is what has failed when the other one does not answer either: %s',
    async (error) => {
      const { state, read, cache } = await ground();
      Object.assign(state, { circuit: 'open', main: open(), second: error });
      await expect(read()).rejects.toEqual(failure('circuit_open'));
      expect(cache.size).toBe(0);
      Object.assign(state, { circuit: 'closed', main: null, second: null });
      expect(await read()).toEqual(['primary', 'primary', false, false]);
    },
  );

  it('is never written there', async () => {
    const { state, secrets, calls } = await ground();
    Object.assign(state, { circuit: 'open', main: open() });
    const before = calls('second');
    const writes = [
      () => secrets.set('a', value('x')),
      () => secrets.update('a', '0'.repeat(32), {}),
      () => secrets.delete('a'),
      () => secrets.recover('a'),
      () => secrets.purge('a'),
      () => secrets.erase('a'),
      () => secrets.backup('a'),
    ];
    for (const write of writes) await expect(write()).rejects.toEqual(failure('circuit_open'));
    expect(calls('second')).toBe(before);
  });

  it('is listed there, and every item says so', async () => {
    const { state, secrets, replicated } = await ground();
    expect(await all(secrets.list())).toMatchObject([
      { name: 'a', served: { servedBy: 'primary' } },
    ]);
    Object.assign(state, { circuit: 'open', main: open() });
    const served = { servedBy: 'secondary', fromCache: false, stale: false };
    expect(await all(secrets.list())).toMatchObject([{ name: 'a', served }]);
    const { version } = replicated;
    expect(await all(secrets.listVersions('a'))).toMatchObject([{ version, served }]);
    expect(() => secrets.listVersions('a/b')).toThrow(failure('invalid_input'));
    state.second = refusal(403);
    await expect(all(secrets.list())).rejects.toEqual(failure('circuit_open'));
  });

  it('does not go on there with a list that has begun', async () => {
    const { state, secrets, simulated, calls } = await ground();
    for (let n = 0; n < 30; n++) await simulated.get('main').secrets.set(`b-${n}`, value('x'));
    const before = calls('second');
    const found: string[] = [];
    const reading = (async () => {
      for await (const { name } of secrets.list()) {
        found.push(name);
        Object.assign(state, { circuit: 'open', main: open() });
      }
    })();
    await expect(reading).rejects.toEqual(failure('circuit_open'));
    expect(found).toHaveLength(25);
    expect(calls('second')).toBe(before);
  });

  it('has its answers kept for longer than those of the other one', async () => {
    const { state, read, clock } = await ground();
    Object.assign(state, { circuit: 'open', main: open() });
    await read();
    clock.pass(30_000);
    Object.assign(state, { circuit: 'closed', main: null });
    expect(await read()).toEqual(['primary', 'primary', false, false]);
  });

  it('is believed, while what it said is good, more than the other one', async () => {
    const { state, read, clock } = await ground();
    await read();
    Object.assign(state, { circuit: 'open', main: open() });
    clock.pass(4.5 * minute);
    for (let n = 0; n < 3; n++) {
      expect(await read()).toEqual(['primary', 'primary', true, false]);
      await settled();
    }
    clock.pass(0.5 * minute);
    expect(await read()).toEqual(['secondary', 'secondary', false, false]);
  });

  it('is served stale only when the other one is down too', async () => {
    const { state, read, clock } = await ground({ staleOnErrorMs: 60 * minute });
    await read();
    Object.assign(state, { circuit: 'open', main: open(), second: silence() });
    clock.pass(5 * minute);
    expect(await read()).toEqual(['primary', 'primary', true, true]);
  });
});

describe('vaults behind a cache', () => {
  it('are found by alias', async () => {
    const simulated = simulatedVaults([{ alias: 'main', purpose: 'main' }], systemClock);
    const health = () => ({ circuit: 'closed', share: null, readOnlyAt: null }) as const;
    const direct = { ...simulated.get('main'), secondary: null, health };
    const vaults = clientVaults(
      { get: () => direct, all: () => [direct] },
      { cache: new ObjectCache() },
    );
    expect(vaults.all().map(({ alias, purpose }) => [alias, purpose])).toEqual([['main', 'main']]);
    expect(vaults.get('main').health().circuit).toBe('closed');
    expect(() => vaults.get('other')).toThrow(failure('not_found'));
  });
});
