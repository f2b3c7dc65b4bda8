import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { AppError } from '../../../src/core/errors.ts';
import { callRemote, type Limits, vaultLimits } from '../../../src/core/vault/pipeline.ts';
import type { VaultError } from '../../../src/core/vault/vault-error.ts';
import { failure, judge, refusal, silence } from './support.ts';

const limits: Limits = vaultLimits;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** Calls until it ends; every answer is the next of `answers`, the last one over and over. */
async function callWith(
  answers: readonly (VaultError | 'hang' | 'ok')[],
  { repeatable = true, within = limits } = {},
): Promise<{ outcome: unknown; sentAt: readonly number[]; ms: number }> {
  const start = performance.now();
  const sentAt: number[] = [];
  const outcome = callRemote({
    limits: within,
    repeatable,
    judge,
    run: async (_, attempt) => {
      sentAt.push(performance.now() - start);
      const answer = answers[Math.min(attempt, answers.length) - 1];
      if (answer === 'hang') return new Promise<never>(() => undefined);
      if (answer instanceof AppError) throw answer;
      return 'value';
    },
  }).catch((error: unknown) => error);
  let isOver = false;
  void outcome.then(() => {
    isOver = true;
  });
  while (!isOver) await vi.advanceTimersByTimeAsync(50);
  return { outcome: await outcome, sentAt, ms: performance.now() - start };
}

const pauses = (sentAt: readonly number[]) =>
  sentAt.slice(1).map((at, index) => at - (sentAt[index] ?? 0));

describe('callRemote', () => {
  it('waits 1, 2, 4 and 8 s, with jitter, after 429s that name no delay', async () => {
    const { outcome, sentAt } = await callWith([
      ...[refusal(429), refusal(429), refusal(429), refusal(429)],
      'ok',
    ]);
    expect(outcome).toBe('value');
    pauses(sentAt).forEach((pause, index) => {
      expect(pause).toBeGreaterThanOrEqual(500 * 2 ** index);
      expect(pause).toBeLessThanOrEqual(1_000 * 2 ** index + 1);
    });
    expect(pauses(sentAt)).toHaveLength(4);
  });

  it('waits less at first after anything else', async () => {
    const { sentAt } = await callWith([refusal(503), 'ok']);
    expect(pauses(sentAt)[0]).toBeLessThanOrEqual(201);
  });

  it('never shows up twice at the same moment as its neighbours', async () => {
    const waits = new Set<number>();
    for (let n = 0; n < 20; n++) {
      const { sentAt } = await callWith([refusal(429), 'ok']);
      waits.add(Math.round(pauses(sentAt)[0] ?? 0));
    }
    expect(waits.size).toBeGreaterThan(10);
  });

  const asking = (retryAfterMs: number) => Object.assign(refusal(429), { retryAfterMs });

  it('waits as long as the service asks', async () => {
    const { outcome, sentAt } = await callWith([asking(7_000), 'ok']);
    expect(outcome).toBe('value');
    expect(pauses(sentAt)[0]).toBeGreaterThanOrEqual(7_000);
    expect(pauses(sentAt)[0]).toBeLessThan(7_100);
  });

  it('waits no longer than its cap when the service asks for an hour', async () => {
    const { sentAt } = await callWith([asking(3_600_000), 'ok']);
    expect(pauses(sentAt)[0]).toBeLessThanOrEqual(limits.maxDelayMs + 1);
  });

  it.each([0, -5_000])(
    'paces itself when the service asks for %i ms again and again',
    async (ms) => {
      const { outcome, sentAt } = await callWith([asking(ms)]);
      expect(outcome).toEqual(failure('vault_throttled'));
      expect(sentAt.length).toBeLessThan(12);
    },
  );

  it.each([
    [403, 'vault_denied'],
    [404, 'not_found'],
    [400, 'vault_rejected'],
  ] as const)('fails at once on a %i', async (status, code) => {
    const { outcome, sentAt } = await callWith([refusal(status), 'ok']);
    expect(outcome).toEqual(failure(code));
    expect(sentAt).toHaveLength(1);
  });

  it.each([refusal(429), refusal(503), silence(), 'hang'] as const)(
    'sends what must not be repeated once, whatever comes back',
    async (answer) => {
      const { outcome, sentAt } = await callWith([answer, 'ok'], { repeatable: false });
      expect(outcome).toBeInstanceOf(AppError);
      expect(sentAt).toHaveLength(1);
    },
  );

  it('ends a silent try after its time and goes on', async () => {
    const { outcome, sentAt } = await callWith(['hang', 'ok']);
    expect(outcome).toBe('value');
    expect(pauses(sentAt)[0]).toBeGreaterThanOrEqual(limits.perTryMs);
  });

  it.each([[['hang']], [[refusal(503)]], [[refusal(429)]]] as const)(
    'ends within the overall deadline when nothing helps',
    async (answers) => {
      const { outcome, ms } = await callWith(answers);
      expect(outcome).toBeInstanceOf(AppError);
      expect(ms).toBeLessThanOrEqual(limits.overallMs + 50);
    },
  );

  it('tells of the last answer, not of the try for which there was no time left', async () => {
    const within = { perTryMs: 5_000, overallMs: 6_000, firstDelayMs: 4_000, maxDelayMs: 4_000 };
    const { outcome } = await callWith([refusal(503), 'hang'], { within });
    expect(outcome).toMatchObject({ refusal: { status: 503 } });
  });
});
