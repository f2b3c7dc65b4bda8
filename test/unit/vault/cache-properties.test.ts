import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Answered } from '../../../src/core/vault/answer.ts';
import {
  type CacheSettings,
  cacheKey,
  ObjectCache,
  vaultCache,
} from '../../../src/core/vault/cache.ts';
import type { Sealing } from '../../../src/core/vault/cache-content.ts';
import { handClock, refusal, silence } from './support.ts';

const settings: CacheSettings = {
  ...vaultCache,
  ...{ maxEntries: 3, ttlMs: 1_000, negativeTtlMs: 300, staleOnErrorMs: 700, retryMs: 100 },
};

/** What a vault held from `at` on, and what a read of it brings. */
interface Stored {
  readonly name: string;
  readonly at: number;
  readonly step: number;
}

interface Read {
  /** When the vault looked; the step counts what happened, as time may stand still. */
  readonly stored: Stored;
  readonly lookedAtStep: number;
}

/** A read on its way: first the vault looks, then the answer arrives. */
interface Load {
  readonly name: string;
  read: Read | null;
  readonly resolve: (read: Read) => void;
  readonly reject: (error: Error) => void;
}

interface Command {
  readonly do: 'pass' | 'write' | 'read' | 'invalidate' | 'look' | 'arrive' | 'fail' | 'miss';
  readonly ms: number;
  readonly name: string;
  /** Which of the loads on their way. */
  readonly pick: number;
}

const names = ['a', 'b', 'c', 'd'];
const command: fc.Arbitrary<Command> = fc.record({
  do: fc.constantFrom(
    ...(['pass', 'pass', 'write', 'invalidate', 'read', 'read', 'read', 'read'] as const),
    ...(['look', 'look', 'look', 'arrive', 'arrive', 'arrive', 'fail', 'miss'] as const),
  ),
  ms: fc.constantFrom(0, 1, 90, 250, 810, 1_500),
  name: fc.constantFrom(...names),
  pick: fc.nat(5),
});

interface Served {
  readonly answer: Answered<Read>;
  readonly name: string;
  readonly askedAt: number;
  readonly askedAtStep: number;
  readonly servedAt: number;
}

/** A cache over a vault that is written, read and slow as it is told. */
class World {
  readonly history: Stored[] = names.map((name) => ({ name, at: 0, step: 0 }));
  readonly invalidated: { readonly name: string; readonly step: number }[] = [];
  readonly served: Served[] = [];
  readonly sizes: number[] = [];
  readonly #clock = handClock();
  readonly #cache: ObjectCache;
  readonly #loads: Load[] = [];
  #step = 0;

  constructor(sealed: boolean) {
    this.#cache = new ObjectCache({ ...settings, sealed }, this.#clock.now);
  }

  async play(commands: readonly Command[]): Promise<this> {
    for (const command of commands) {
      this.#step++;
      this.#act(command);
      for (let turns = 0; turns < 12; turns++) await Promise.resolve();
      this.sizes.push(this.#cache.size);
    }
    this.#cache.clear();
    return this;
  }

  #act({ do: what, ms, name, pick }: Command): void {
    const step = this.#step;
    const end = (load: Load) => void this.#loads.splice(this.#loads.indexOf(load), 1);
    const on = (isReady: (load: Load) => boolean, act: (load: Load) => void) => {
      const ready = this.#loads.filter(isReady);
      const load = ready[pick % Math.max(1, ready.length)];
      if (load) act(load);
    };
    const acts: Record<Command['do'], () => void> = {
      pass: () => this.#clock.pass(ms),
      write: () => void this.history.push({ name, at: this.#clock.now(), step }),
      invalidate: () => {
        this.#cache.invalidate(`host:secret:${name}`);
        this.invalidated.push({ name, step });
      },
      read: () => this.#read(name),
      look: () =>
        on(
          ({ read }) => read === null,
          (load) => {
            load.read = { stored: this.#latest(load.name), lookedAtStep: step };
          },
        ),
      arrive: () =>
        on(
          ({ read }) => read !== null,
          (load) => {
            end(load);
            load.resolve(load.read!);
          },
        ),
      fail: () =>
        on(
          () => true,
          (load) => {
            end(load);
            load.reject(silence());
          },
        ),
      miss: () =>
        on(
          () => true,
          (load) => {
            end(load);
            load.reject(refusal(404));
          },
        ),
    };
    acts[what]();
  }

  #read(name: string): void {
    const asked = { name, askedAt: this.#clock.now(), askedAtStep: this.#step };
    const key = cacheKey(`host:secret:${name}`, undefined);
    const hit = this.#cache.fresh(key) as Answered<Read> | null;
    const wanted = { key, sealing, load: () => this.#load(name) };
    void (hit === null ? this.#cache.get<Read>(wanted) : Promise.resolve(hit)).then(
      (answer) => this.served.push({ ...asked, answer, servedAt: this.#clock.now() }),
      () => undefined,
    );
  }

  #load(name: string): Promise<Read> {
    const { promise, resolve, reject } = Promise.withResolvers<Read>();
    this.#loads.push({ name, read: null, resolve, reject });
    return promise;
  }

  #latest(name: string): Stored {
    return this.history.findLast((stored) => stored.name === name)!;
  }
}

const sealing: Sealing = {
  take: (value) => ({ rest: {}, secret: JSON.stringify(value) }),
  give: (_, secret) => JSON.parse(secret) as object,
};

/** When the vault's value became another one than this; null while it has not. */
function replacedAt(history: readonly Stored[], { name, step }: Stored): number | null {
  return history.find((stored) => stored.name === name && stored.step > step)?.at ?? null;
}

const commands = fc.array(command, { minLength: 30, maxLength: 150, size: 'max' });
const runs = { numRuns: 400 };

describe('the cache, whatever happens in whatever order', () => {
  it.each([false, true])('never serves what is older than its time, sealed: %s', async (sealed) => {
    const seen = { fromCache: 0, stale: 0 };
    await fc.assert(
      fc.asyncProperty(commands, async (given) => {
        const { served, history } = await new World(sealed).play(given);
        for (const { answer, name, servedAt, askedAt } of served) {
          const { fromCache, stale } = answer.served;
          expect(answer.stored.name).toBe(name);
          const allowed = settings.ttlMs + (stale ? settings.staleOnErrorMs : 0);
          const replaced = replacedAt(history, answer.stored) ?? Number.POSITIVE_INFINITY;
          // It still was the vault's value at some moment within the time allowed.
          expect(replaced).toBeGreaterThanOrEqual((fromCache ? servedAt : askedAt) - allowed);
          seen.fromCache += Number(fromCache);
          seen.stale += Number(stale);
        }
      }),
      runs,
    );
    expect(seen.fromCache).toBeGreaterThan(200);
    expect(seen.stale).toBeGreaterThan(5);
  });

  it('never serves what was read before an invalidation to who asks after it', async () => {
    let counted = 0;
    await fc.assert(
      fc.asyncProperty(commands, async (given) => {
        const { served, invalidated } = await new World(false).play(given);
        for (const { answer, name, askedAtStep } of served) {
          const last = invalidated.findLast((one) => one.name === name && one.step < askedAtStep);
          if (last === undefined) continue;
          counted++;
          expect(answer.lookedAtStep).toBeGreaterThan(last.step);
        }
      }),
      runs,
    );
    expect(counted).toBeGreaterThan(200);
  });

  it('never holds more entries than it may', async () => {
    let full = 0;
    await fc.assert(
      fc.asyncProperty(commands, async (given) => {
        const { sizes } = await new World(false).play(given);
        expect(Math.max(...sizes)).toBeLessThanOrEqual(settings.maxEntries);
        full += Number(sizes.includes(settings.maxEntries));
      }),
      runs,
    );
    expect(full).toBeGreaterThan(20);
  });
});
