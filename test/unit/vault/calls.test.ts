import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { AppError } from '../../../src/core/errors.ts';
import { vaultBreaker } from '../../../src/core/vault/breaker.ts';
import { createBudgets } from '../../../src/core/vault/budget.ts';
import {
  type CallSettings,
  createVaultCaller,
  type VaultCaller,
} from '../../../src/core/vault/calls.ts';
import { createGate } from '../../../src/core/vault/concurrency.ts';
import { elapsedClock } from '../../../src/core/vault/elapsed.ts';
import type { Limits } from '../../../src/core/vault/pipeline.ts';
import { VaultError } from '../../../src/core/vault/vault-error.ts';
import { failure, judge, recorder, refusal, silence } from './support.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const once: Limits = { perTryMs: 1_000, overallMs: 1_000, firstDelayMs: 2_000, maxDelayMs: 2_000 };
type Answer = VaultError | AppError | 'ok' | 'hang';

/** A vault that gives `answer`, whatever that is at the time, and counts what reaches it. */
function ground(settings: CallSettings = {}) {
  const observer = recorder();
  const caller = createVaultCaller('main', { limits: once, observer, ...settings });
  const vault = { answer: 'ok' as Answer, reached: 0 };
  const call = (weight = 1, repeatable = true) =>
    caller.call({
      ...{ operation: 'getSecret', object: 'orders-db', weight, repeatable, judge },
      run: async () => {
        vault.reached++;
        if (vault.answer === 'hang') return new Promise<never>(() => undefined);
        if (vault.answer !== 'ok') throw vault.answer;
        return 'value';
      },
    });
  return { caller, vault, observer, call };
}

/** The value or the error; the clock is moved until there is one. */
async function settle<T>(work: Promise<T>): Promise<T | unknown> {
  let isOver = false;
  const settled = work.catch((error: unknown) => error);
  void settled.then(() => {
    isOver = true;
  });
  await vi.advanceTimersByTimeAsync(0);
  while (!isOver) await vi.advanceTimersByTimeAsync(20);
  return settled;
}

describe('the circuit of a vault', () => {
  const broken = async (answer: Answer = refusal(503)) => {
    const made = ground({ breaker: vaultBreaker });
    made.vault.answer = answer;
    for (let n = 0; n < 5; n++) await settle(made.call());
    made.vault.reached = 0;
    return made;
  };

  it.each([
    ['5xx', refusal(503)],
    ['no connection', silence()],
    ['silence', 'hang'],
  ] as const)(
    'opens after five failures in a row by %s, and lets nothing through',
    async (_, answer) => {
      const { call, vault, caller } = await broken(answer);
      expect(caller.health().circuit).toBe('open');
      vault.answer = 'ok';
      for (let n = 0; n < 20; n++) {
        expect(await settle(call())).toMatchObject({ code: 'circuit_open', retryable: true });
      }
      expect(vault.reached).toBe(0);
    },
  );

  it.each([
    ['404', refusal(404)],
    ['403', refusal(403)],
    ['429', refusal(429)],
    ['a refusal to write', refusal(503, 'vault_read_only')],
    ['a guard', new AppError('lease_lost', { detail: 'epoch 2' })],
  ] as const)('stays closed whatever number of times the answer is %s', async (_, answer) => {
    const { caller } = await broken(answer);
    expect(caller.health().circuit).toBe('closed');
  });

  it('stays closed when any answer comes in between', async () => {
    const { call, vault, caller } = ground({ breaker: vaultBreaker });
    for (let n = 0; n < 20; n++) {
      vault.answer = n % 5 === 4 ? refusal(404) : refusal(503);
      await settle(call());
    }
    expect(caller.health().circuit).toBe('closed');
  });

  it('does not lose count when a guard stops a call', async () => {
    const { call, vault, caller } = ground({ breaker: vaultBreaker });
    const guarded = new AppError('lease_lost', { detail: 'epoch 2' });
    for (const answer of [silence(), silence(), silence(), silence(), guarded]) {
      vault.answer = answer;
      await settle(call());
    }
    expect(caller.health().circuit).toBe('closed');
    vault.answer = silence();
    await settle(call());
    expect(caller.health().circuit).toBe('open');
  });

  it('says how long it will be open', async () => {
    const { call } = await broken();
    await vi.advanceTimersByTimeAsync(10_000);
    const error = await settle(call());
    expect((error as VaultError).retryAfterMs).toBeLessThanOrEqual(20_000);
    expect((error as VaultError).retryAfterMs).toBeGreaterThan(19_000);
  });

  it('lets exactly one call through after 30 s, and closes when that succeeds', async () => {
    const { call, vault, caller, observer } = await broken();
    vault.answer = 'hang';
    await vi.advanceTimersByTimeAsync(29_990);
    expect(await settle(call())).toEqual(failure('circuit_open'));
    await vi.advanceTimersByTimeAsync(10);
    const probe = call().catch((error: unknown) => error);
    await vi.advanceTimersByTimeAsync(0);
    expect(caller.health().circuit).toBe('half-open');
    const others = await Promise.all(Array.from({ length: 10 }, () => settle(call())));
    expect(others).toEqual(others.map(() => failure('circuit_open')));
    expect(vault.reached).toBe(1);
    await settle(probe);
    expect(caller.health().circuit).toBe('open');
    vault.answer = 'ok';
    await vi.advanceTimersByTimeAsync(30_000);
    expect(await settle(call())).toBe('value');
    expect(await settle(call())).toBe('value');
    const states = observer.lines.filter((line) => line.startsWith('circuit'));
    expect(states.map((line) => line.split(' ').at(-1))).toEqual([
      ...['open', 'half-open', 'open', 'half-open', 'closed'],
    ]);
  });

  it('is not closed by a probe that was never sent', async () => {
    const { call, vault, caller } = await broken();
    vault.answer = new AppError('lease_lost', { detail: 'epoch 2' });
    await vi.advanceTimersByTimeAsync(30_000);
    expect(await settle(call())).toEqual(failure('lease_lost'));
    expect(caller.health().circuit).toBe('open');
  });

  it.each([-3_600_000, 3_600_000])(
    'opens and closes in time though the system’s clock is set by %i ms',
    async (by) => {
      const { call, vault, caller } = await broken();
      vault.answer = 'ok';
      const wall = Date.now();
      vi.setSystemTime(wall + by);
      if (by < 0) {
        await vi.advanceTimersByTimeAsync(29_000);
        expect(await settle(call())).toEqual(failure('circuit_open'));
        await vi.advanceTimersByTimeAsync(1_000);
      }
      expect(await settle(call())).toBe('value');
      expect(caller.health().circuit).toBe('closed');
    },
  );

  it('ends a call as soon as the circuit is open, with what the vault said last', async () => {
    const limits = { perTryMs: 1_000, overallMs: 60_000, firstDelayMs: 100, maxDelayMs: 100 };
    const { call, vault, observer } = ground({ breaker: vaultBreaker, limits });
    vault.answer = refusal(503);
    expect(await settle(call())).toMatchObject({ refusal: { status: 503 } });
    expect(vault.reached).toBe(5);
    expect(observer.lines.filter((line) => line.startsWith('retry'))).toHaveLength(4);
    expect(await settle(call())).toEqual(failure('circuit_open'));
    expect(vault.reached).toBe(5);
  });

  it('ends a call that finds it opened by others with what that call was told', async () => {
    const limits = { perTryMs: 1_000, overallMs: 60_000, firstDelayMs: 2_000, maxDelayMs: 2_000 };
    const { caller, vault, call } = ground({ breaker: vaultBreaker, limits });
    vault.answer = refusal(429);
    const waiting = call();
    await vi.advanceTimersByTimeAsync(10);
    vault.answer = refusal(503);
    for (let n = 0; n < 5; n++) await call(1, false).catch(() => undefined);
    expect(caller.health().circuit).toBe('open');
    expect(await settle(waiting)).toEqual(failure('vault_throttled'));
    expect(vault.reached).toBe(6);
  });

  it('is open for one vault and not for another', async () => {
    await broken();
    const other = ground({ breaker: vaultBreaker });
    expect(await settle(other.call())).toBe('value');
  });
});

describe('the rate of a vault', () => {
  const limited = (limits = once) => {
    const clock = elapsedClock();
    const budget = createBudgets({ share: 1, transactions: 100 }, clock).vault();
    return ground({ budget, clock, limits });
  };

  it('lets calls wait for their turn, and says so', async () => {
    const { call, vault, observer } = limited();
    await settle(call(20));
    const third = call(4);
    await vi.advanceTimersByTimeAsync(490);
    expect(vault.reached).toBe(1);
    expect(await settle(third)).toBe('value');
    expect(observer.lines).toContain('budget 500');
  });

  it('refuses at once what would have to wait beyond its deadline', async () => {
    const { call, vault } = limited();
    await settle(call(20));
    const start = performance.now();
    expect(await settle(call(9))).toEqual(failure('vault_throttled'));
    expect(performance.now() - start).toBeLessThan(50);
    expect(vault.reached).toBe(1);
  });

  it('does not count the wait against the time of the try', async () => {
    const limits = { perTryMs: 1_000, overallMs: 5_000, firstDelayMs: 1, maxDelayMs: 1 };
    const { call, vault } = limited(limits);
    await settle(call(20));
    vault.answer = 'hang';
    const start = performance.now();
    const call2 = settle(call(28));
    await vi.advanceTimersByTimeAsync(3_600);
    expect(vault.reached).toBe(2);
    await call2;
    expect(performance.now() - start).toBeGreaterThanOrEqual(4_500);
  });

  it('is cut when the vault says 429, and only then', async () => {
    const { call, vault, caller, observer } = limited();
    vault.answer = refusal(503);
    await settle(call());
    expect(caller.health().share).toBe(1);
    vault.answer = refusal(429);
    await settle(call());
    expect(caller.health().share).toBeLessThan(0.6);
    expect(observer.lines).toContain('cut main 0.5');
  });

  it('is not spent while the circuit is open', async () => {
    const clock = elapsedClock();
    const budget = createBudgets({ share: 1, transactions: 100 }, clock).vault();
    const { call, vault } = ground({ budget, clock, breaker: vaultBreaker });
    vault.answer = silence();
    for (let n = 0; n < 5; n++) await settle(call());
    for (let n = 0; n < 100; n++) await settle(call());
    expect(budget.take(15, 0)).toBe(0);
  });
});

describe('the room for calls to a vault', () => {
  const noRoom = () => 'no room';
  const crowded = () => {
    const made = ground({ concurrency: { calls: 2, waiting: 3 } });
    made.vault.answer = 'hang';
    return made;
  };

  it('lets only so many calls be under way', async () => {
    const { call, vault } = crowded();
    const calls = Array.from({ length: 4 }, () => call().catch((error: unknown) => error));
    await vi.advanceTimersByTimeAsync(900);
    expect(vault.reached).toBe(2);
    await settle(Promise.all(calls));
  });

  it('is waited for as long as the call may take', async () => {
    const gate = createGate({ calls: 1, waiting: 10 });
    const under = gate(() => new Promise<string>(() => undefined), 1, noRoom);
    const waiting = gate(async () => 'run', 500, noRoom);
    await vi.advanceTimersByTimeAsync(500);
    expect(await waiting).toBe('no room');
    expect(vi.getTimerCount()).toBe(0);
    void under;
  });

  it('does not run what has given up waiting', async () => {
    const gate = createGate({ calls: 1, waiting: 10 });
    const { promise, resolve } = Promise.withResolvers<string>();
    const first = gate(() => promise, 1, noRoom);
    let runs = 0;
    const second = gate(async () => String(++runs), 500, noRoom);
    await vi.advanceTimersByTimeAsync(500);
    resolve('over');
    expect([await first, await second]).toEqual(['over', 'no room']);
    expect(await gate(async () => String(++runs), 1, noRoom)).toBe('1');
  });

  it('gives the room of calls that are over to those that wait', async () => {
    const { call, vault } = crowded();
    const calls = [call(), call()].map((one) => one.catch((error: unknown) => error));
    await vi.advanceTimersByTimeAsync(900);
    vault.answer = 'ok';
    const late = [call(), call(), call()];
    await vi.advanceTimersByTimeAsync(200);
    expect(await Promise.all(late)).toEqual(['value', 'value', 'value']);
    await Promise.all(calls);
  });

  it('refuses at once when too many wait', async () => {
    const { call } = crowded();
    const calls = Array.from({ length: 5 }, () => call().catch((error: unknown) => error));
    expect(await call().catch((error: unknown) => error)).toEqual(failure('vault_throttled'));
    await settle(Promise.all(calls));
  });
});

describe('a call to a vault', () => {
  const limits = { perTryMs: 1_000, overallMs: 9_000, firstDelayMs: 100, maxDelayMs: 100 };

  it('is told from its start to its end, with its retries', async () => {
    const { call, vault, observer } = ground({ limits });
    vault.answer = refusal(503);
    const later = call();
    await vi.advanceTimersByTimeAsync(40);
    vault.answer = 'ok';
    await settle(later);
    vault.answer = refusal(404);
    await settle(call());
    const lines = observer.lines.map((line) => line.replace(/(retry .*) \d+$/, '$1'));
    expect(lines).toEqual([
      'call main getSecret orders-db',
      'retry 1 vault_unavailable',
      'ended main getSecret orders-db ok 2',
      'call main getSecret orders-db',
      'ended main getSecret orders-db not_found 1',
    ]);
  });

  it('counts no attempt when nothing was sent', async () => {
    const { call, vault, observer } = ground({ breaker: vaultBreaker });
    vault.answer = silence();
    for (let n = 0; n < 5; n++) await settle(call());
    await settle(call());
    expect(observer.lines.at(-1)).toBe('ended main getSecret orders-db circuit_open 0');
  });

  it('runs within what its observer wants around it', async () => {
    let isWithin = false;
    const within = async <T>(work: () => Promise<T>): Promise<T> => {
      isWithin = true;
      return work();
    };
    const { call } = ground({
      observer: { callStarted: () => ({ ended: () => undefined, within }) },
    });
    expect(await settle(call())).toBe('value');
    expect(isWithin).toBe(true);
  });

  it('needs no observer, and no guard', async () => {
    const plain: VaultCaller = createVaultCaller('main');
    const run = async () => 'value';
    const parts = { operation: 'getSecret', object: null, weight: 1, repeatable: true, judge };
    expect(await plain.call({ ...parts, run })).toBe('value');
    expect(plain.health()).toEqual({ circuit: 'closed', share: null, readOnlyAt: null });
  });

  it('remembers when a write was refused because the vault has failed over', async () => {
    const { call, vault, caller } = ground();
    vi.setSystemTime(new Date('2030-01-01T00:00:00Z'));
    vault.answer = refusal(503, 'vault_read_only');
    expect(await settle(call(13, false))).toEqual(failure('vault_read_only'));
    expect(caller.health().readOnlyAt).toEqual(new Date('2030-01-01T00:00:00Z'));
  });

  it('names operation and object in what it refuses itself', async () => {
    const { call, vault } = ground({ breaker: vaultBreaker });
    vault.answer = silence();
    for (let n = 0; n < 5; n++) await settle(call());
    const error = await settle(call());
    expect(error).toBeInstanceOf(VaultError);
    expect(error).toMatchObject({
      call: { vault: 'main', operation: 'getSecret', object: 'orders-db' },
      refusal: null,
    });
  });
});
