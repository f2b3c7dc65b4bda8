import * as fc from 'fast-check';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { AppError } from '../../../src/core/errors.ts';
import { SecretString } from '../../../src/core/secret-string.ts';
import { replaySimulated } from '../../../src/core/simulation/replay.ts';
import { defaultReplay } from '../../../src/core/simulation/replay-settings.ts';
import { vaultBreaker } from '../../../src/core/vault/breaker.ts';
import { type CacheSettings, vaultCache } from '../../../src/core/vault/cache.ts';
import type { SecretService } from '../../../src/core/vault/ports.ts';
import { linesOf, record, slowVault } from './support.ts';

const latencyMs = 20;
/** Every 60 s a cache gives back, in real time, what has expired; what is recorded must be over by then. */
const beforeSweepMs = 59_000;
const start = new Date('2030-01-01T00:00:00Z');
const instances = ['api-1', 'api-2'];
const names = ['orders-db', 'mail', 'legacy', 'never-there'];
/** The middle of the jitter: what is recorded and what is replayed wait equally long. */
const half = () => 0.5;

beforeEach(() => {
  vi.useFakeTimers({
    now: start,
    toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'],
  });
  vi.spyOn(Math, 'random').mockImplementation(half);
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

interface Step {
  readonly waitMs: number;
  readonly instance: number;
  readonly name: string;
  readonly kind: 'get' | 'get-old' | 'set' | 'delete' | 'recover' | 'purge' | 'fail' | 'mend';
}

const step: fc.Arbitrary<Step> = fc.record({
  waitMs: fc.oneof(
    { weight: 4, arbitrary: fc.integer({ min: 1, max: 40 }) },
    { weight: 6, arbitrary: fc.integer({ min: 41, max: 900 }) },
    { weight: 1, arbitrary: fc.integer({ min: 901, max: 9_000 }) },
  ),
  instance: fc.nat({ max: instances.length - 1 }),
  name: fc.constantFrom('orders-db', 'orders-db', ...names),
  kind: fc.oneof(
    { weight: 40, arbitrary: fc.constant('get' as const) },
    { weight: 4, arbitrary: fc.constant('get-old' as const) },
    { weight: 3, arbitrary: fc.constant('set' as const) },
    { weight: 1, arbitrary: fc.constantFrom('delete', 'recover', 'purge') },
    { weight: 1, arbitrary: fc.constantFrom('fail', 'mend', 'mend') },
  ) as fc.Arbitrary<Step['kind']>,
});

const cacheSettings: fc.Arbitrary<CacheSettings> = fc.record({
  maxEntries: fc.integer({ min: 1, max: 6 }),
  ttlMs: fc.constantFrom(1_000, 5_000, 20_000),
  refreshAt: fc.constantFrom(0.5, 0.8, 1),
  negativeTtlMs: fc.constantFrom(0, 3_000),
  staleOnErrorMs: fc.constantFrom(0, 60_000),
  retryMs: fc.constant(vaultCache.retryMs),
  secondaryTtlMs: fc.constant(vaultCache.secondaryTtlMs),
  sealed: fc.constant(false),
});

/** What a service does, as its access log has it. */
async function recordWorkload(
  steps: readonly Step[],
  cache: CacheSettings,
  hasBreaker: boolean,
): Promise<string[]> {
  vi.setSystemTime(start);
  const lines: string[] = [];
  const breaker = hasBreaker ? { breaker: vaultBreaker } : {};
  const recording = record({ instances, cache, sink: (text) => lines.push(text), ...breaker });
  let isDown = false;
  recording.vaults.onCall(slowVault(latencyMs, () => isDown));
  const oldVersions = new Map<string, string>();
  const underway: Promise<unknown>[] = [];
  const given = names.map((name) => ({ waitMs: 1, instance: 0, name, kind: 'set' as const }));
  for (const { waitMs, instance, name, kind } of [...given, ...steps]) {
    if (Date.now() + waitMs > start.getTime() + beforeSweepMs) break;
    await vi.advanceTimersByTimeAsync(waitMs);
    if (kind === 'fail' || kind === 'mend') isDown = kind === 'fail';
    else underway.push(act(recording.secrets(instance), { name, kind }, oldVersions));
  }
  await vi.advanceTimersByTimeAsync(200_000);
  await Promise.all(underway);
  recording.close();
  return lines;
}

async function act(
  secrets: SecretService,
  { name, kind }: Pick<Step, 'name' | 'kind'>,
  oldVersions: Map<string, string>,
): Promise<void> {
  try {
    if (kind === 'get') await secrets.get(name);
    if (kind === 'get-old') await secrets.get(name, oldVersions.get(name) ?? '0'.repeat(32));
    if (kind === 'delete') await secrets.delete(name);
    if (kind === 'recover') await secrets.recover(name);
    if (kind === 'purge') await secrets.purge(name);
    if (kind !== 'set' || name === 'never-there') return;
    const { version } = await secrets.set(name, { value: new SecretString('a value') });
    oldVersions.set(name, version);
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
  }
}

async function replayed(lines: readonly string[], cache: CacheSettings, hasBreaker: boolean) {
  const settings = {
    ...defaultReplay,
    ...{ cache, learnAfterMs: null, share: null, breaker: hasBreaker ? vaultBreaker : null },
    ...{ keepUncached: true, latency: { p50Ms: latencyMs, p99Ms: latencyMs } },
  };
  const [result] = await replaySimulated(
    linesOf(lines),
    [settings],
    ({ line, what }) => {
      throw new Error(`line ${line}: ${what}`);
    },
    { random: half },
  );
  return result!;
}

it('replays a random log, under the settings of its recording, as it was', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 30, maxLength: 150, size: 'max' }),
      cacheSettings,
      fc.boolean(),
      async (steps, cache, hasBreaker) => {
        const lines = await recordWorkload(steps, cache, hasBreaker);
        const { recorded, replayed: again, differences } = await replayed(lines, cache, hasBreaker);
        expect(differences.examples).toEqual([]);
        expect(again.sources).toEqual(recorded.sources);
        expect(again.vaultCalls).toBe(recorded.vaultCalls);
        expect(again.failed).toEqual(recorded.failed);
      },
    ),
    // To shrink a history takes longer than a test may; its seed is printed.
    { numRuns: Number(process.env['KEYTURN_HISTORIES'] ?? 25), endOnFailure: true },
  );
}, 90_000);
