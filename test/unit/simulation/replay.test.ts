import { describe, expect, it } from 'vitest';
import { replaySimulated } from '../../../src/core/simulation/replay.ts';
import type { LogFault } from '../../../src/core/simulation/replay-log.ts';
import {
  changeSettings,
  defaultReplay,
  type ReplaySettings,
} from '../../../src/core/simulation/replay-settings.ts';
import type { AccessLogEntry } from '../../../src/core/vault/access-entry.ts';
import { line, linesOf } from './support.ts';

const start = Date.parse('2030-01-01T00:00:00Z');
const at = (seconds: number) => new Date(start + seconds * 1000).toISOString();
const first = '1'.repeat(32);
const second = '2'.repeat(32);
/** `count` reads, one each `everyMs`. */
const reads = (count: number, everyMs: number, changes: Partial<AccessLogEntry> = {}) =>
  Array.from({ length: count }, (_, index) =>
    line({ at: at((index * everyMs) / 1000), cache: null, servedVersion: first, ...changes }),
  );

async function replay(lines: readonly string[], settings = '', random?: () => number) {
  const faults: LogFault[] = [];
  const changed: ReplaySettings =
    settings === '' ? defaultReplay : changeSettings(defaultReplay, settings);
  const options = random === undefined ? {} : { random };
  const [result] = await replaySimulated(
    linesOf(lines),
    [changed],
    (fault) => faults.push(fault),
    options,
  );
  return { ...result!, faults };
}

describe('a replay', () => {
  it('says what a cache would have saved', async () => {
    const { recorded, replayed } = await replay(reads(100, 1_000), 'ttl=10,refresh-at=1');
    expect(recorded).toMatchObject({ hitRate: 0, vaultCalls: 100 });
    expect(replayed).toMatchObject({ hitRate: 0.9, vaultCalls: 10, callsPerOperation: 0.1 });
    expect(replayed.latencyMs).toEqual({ p50: 0, p95: 20, p99: 20 });
  });

  it('leaves reads uncached that were, when it is told to', async () => {
    const { replayed } = await replay(reads(10, 1_000), 'uncached=keep');
    expect(replayed.sources).toMatchObject({ uncached: 10, hit: 0 });
  });

  it('gives each instance a cache of its own', async () => {
    const log = reads(100, 100);
    const calls = async (settings: string) => (await replay(log, settings)).replayed.vaultCalls;
    expect(await calls('instances=1')).toBe(1);
    expect(await calls('instances=5')).toBe(5);
  });

  it('refuses what is more than the limit, and repeats it later', async () => {
    const settings = 'ttl=0,limit=50,budget=off,latency=20';
    const { replayed } = await replay(reads(100, 10), settings);
    expect(replayed.throttled).toBeGreaterThan(50);
    expect(replayed.failed).toEqual({});
    expect(replayed.latencyMs.p99).toBeGreaterThan(9_000);
    expect(replayed.peaks[0]).toMatchObject({ vault: 'main', limit: 50 });
  });

  it('fails what does not get through before its deadline', async () => {
    const { replayed, differences } = await replay(reads(400, 10), 'ttl=0,limit=50,budget=off');
    expect(replayed.failed.vault_throttled).toBeGreaterThan(100);
    expect(differences.byEffect).toMatchObject({ better: 0, other: 0 });
    expect(differences.byReason).toEqual({
      'the vault answered 429 until the deadline': differences.total,
    });
  });

  it('lets the budget wait instead of being refused', async () => {
    const { replayed } = await replay(reads(100, 10), 'ttl=0,limit=50,budget=0.9');
    expect(replayed.throttled).toBe(0);
  });

  it('spreads the load over the vaults of a split', async () => {
    const log = ['orders-a', 'orders-b', 'mail'].flatMap((object) => reads(40, 100, { object }));
    const sorted = log.toSorted();
    const { replayed } = await replay(sorted, 'ttl=0,split=orders-*=vault2,limit=100,budget=off');
    expect(replayed.throttled).toBe(0);
    const peaks = replayed.peaks.map(({ vault, transactions }) => [vault, transactions]);
    expect(peaks).toEqual([
      ['main', 40],
      ['vault2', 80],
    ]);
    expect((await replay(sorted, 'ttl=0,limit=100,budget=off')).replayed.throttled).toBeGreaterThan(
      0,
    );
  });

  it('weighs creating calls as the service does', async () => {
    const sets = reads(30, 10, { operation: 'setSecret', servedVersion: null });
    const { replayed } = await replay(sets);
    expect(replayed.peaks[0]?.transactions).toBe(400);
  });

  it('tells where a cache would have answered with an old version', async () => {
    const log = [
      ...reads(5, 1_000),
      ...reads(10, 1_000, { servedVersion: second }).map((text, index) =>
        text.replace(at(index), at(index + 5)),
      ),
    ];
    const { differences } = await replay(log, 'ttl=8,refresh-at=1');
    expect(differences).toMatchObject({ total: 3, byEffect: { worse: 3 } });
    expect(differences.examples[0]).toEqual({
      ...{ line: 6, at: at(5), vault: 'main', operation: 'getSecret', object: 'orders-db' },
      ...{ recorded: `version ${second}`, replayed: `version ${first}`, effect: 'worse' },
      reason: 'the cache answered with what was true before',
    });
  });

  it('tells where stale answers would have helped', async () => {
    const down = { outcome: 'vault_unavailable', servedVersion: null, requests: 4 } as const;
    const log = [...reads(1, 1), line({ at: at(20), cache: 'miss', ms: 4_000, ...down })];
    const { differences } = await replay(log, 'ttl=10,stale-on-error=60');
    expect(differences).toMatchObject({ total: 1, byEffect: { better: 1 } });
    expect(differences.byReason).toEqual({ 'served beyond its time, the vault being down': 1 });
  });

  it('lets other instances learn of a write when they are told', async () => {
    const log = [
      line({ at: at(0), instance: 'b', servedVersion: first }),
      line({ at: at(1), operation: 'setSecret', cache: null, servedVersion: second }),
      line({ at: at(4), instance: 'b', servedVersion: second }),
    ];
    expect((await replay(log, 'learn-after=2')).differences.total).toBe(0);
    expect((await replay(log, 'learn-after=never')).differences.byEffect.worse).toBe(1);
  });

  it('fails what was refused when it was recorded', async () => {
    const denied = reads(3, 40_000, { outcome: 'vault_denied', servedVersion: null });
    const { replayed, differences } = await replay(denied);
    expect(replayed.failed).toEqual({ vault_denied: 3 });
    expect(differences.total).toBe(0);
  });

  it('does again what was done with keys, certificates and lists', async () => {
    const log = [
      line({ at: at(0), operation: 'sign', cache: null, servedVersion: first }),
      line({ at: at(1), operation: 'encrypt', cache: null, requests: 0, servedVersion: first }),
      line({ at: at(2), operation: 'getSecrets', object: null, cache: null, requests: 4 }),
      line({ at: at(3), operation: 'getCertificate', cache: 'miss', servedVersion: first }),
      line({
        at: at(4),
        operation: 'getCertificate',
        cache: 'hit',
        requests: 0,
        servedVersion: first,
      }),
      line({ at: at(5), operation: 'createKey', cache: null, servedVersion: second }),
      line({ at: at(6), operation: 'deleteKey', cache: null, servedVersion: second }),
      line({ at: at(7), operation: 'getKey', cache: 'miss', outcome: 'not_found' }),
      line({ at: at(8), operation: 'recoverDeletedKey', cache: null, servedVersion: second }),
      line({ at: at(9), operation: 'getKey', cache: 'miss', servedVersion: second }),
    ];
    const { replayed, recorded, differences } = await replay(log, 'negative-ttl=0');
    expect(differences.examples).toEqual([]);
    expect(replayed.vaultCalls).toBe(recorded.vaultCalls);
    expect(replayed.byOperation).toContainEqual(
      expect.objectContaining({ operation: 'getSecrets', vaultCalls: 4 }),
    );
  });

  it('gives the same result every time', async () => {
    const log = reads(300, 20);
    const settings = 'ttl=1,instances=3,latency=20/90,limit=60';
    expect(await replay(log, settings)).toEqual(await replay(log, settings));
  });

  it('runs a log under several settings side by side', async () => {
    const settings = ['ttl=0', 'ttl=10'].map((text) => changeSettings(defaultReplay, text));
    const results = await replaySimulated(linesOf(reads(20, 500)), settings, () => undefined);
    expect(results.map(({ replayed }) => replayed.vaultCalls)).toEqual([20, 2]);
  });
});

describe('a log that is replayed', () => {
  it('is put into the order in which its operations began', async () => {
    const log = [
      line({ at: at(1), cache: 'hit', requests: 0, ms: 0, object: 'quick', servedVersion: first }),
      line({ at: at(0), object: 'slow', ms: 5_000 }),
    ];
    const { from, to, faults } = await replay(log);
    expect([from, to, faults]).toEqual([at(0), at(1), []]);
  });

  it.each([
    ['what is not JSON', 'nonsense', 'is not JSON'],
    ['what is no object', '[]', 'is no object of JSON'],
    ['a wrong outcome', line({ at: at(0), outcome: 'fine' as 'ok' }), 'outcome: is neither ok'],
    ['an operation that does not exist', line({ at: at(0), operation: 'getFoo' }), 'operation: '],
    ['an instant that is none', line({ at: 'yesterday' }), 'at: is no instant such as'],
    ['a negative latency', line({ at: at(0), ms: -1 }), 'ms: '],
  ])('is read on after %s', async (_, bad, what) => {
    const { faults, recorded } = await replay([bad, '', ...reads(2, 1)]);
    expect(faults).toEqual([{ line: 1, what: expect.stringContaining(what) }]);
    expect(recorded.operations).toBe(2);
  });

  it('is told to be out of order when logs lie one after the other', async () => {
    const { faults } = await replay([
      ...reads(1, 1),
      line({ at: at(900) }),
      line({ at: at(1_800) }),
      ...reads(1, 1),
    ]);
    expect(faults).toEqual([{ line: 4, what: expect.stringContaining('at: ') }]);
  });
});

describe('settings of a replay', () => {
  it.each([
    ['ttl=soon', 'ttl takes seconds, a number from 0 on; got "soon"'],
    ['budget=2', 'budget takes a part of the limit'],
    ['split=orders', 'split takes [VAULT/]NAME-PATTERN=VAULT'],
    ['latency=90/20', 'latency takes milliseconds, MEDIAN or MEDIAN/P99'],
    ['instances=0', 'instances takes a number from 1 to 1000'],
    ['tlt=5', 'there is no setting tlt; use ttl, max-entries'],
  ])('refuse %s and say what would do', (text, detail) => {
    const attempt = () => changeSettings(defaultReplay, text);
    expect(attempt).toThrow(expect.objectContaining({ code: 'invalid_input' }));
    expect(attempt).toThrow(detail);
  });
});
