import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createBudgets, weightOf } from '../../../src/core/vault/budget.ts';
import { handClock } from './support.ts';

const whole = { share: 1 };
const forever = Number.POSITIVE_INFINITY;

/** The most that was sent in any 10 s. */
function busiest(sent: readonly { readonly at: number; readonly weight: number }[]): number {
  return Math.max(
    0,
    ...sent.map(({ at: from }) =>
      sent
        .filter(({ at }) => at >= from && at < from + 10_000)
        .reduce((sum, { weight }) => sum + weight, 0),
    ),
  );
}

describe('the budget', () => {
  it('lets a burst through at once, and spreads what comes on top', () => {
    const clock = handClock();
    const budget = createBudgets({ share: 0.5 }, clock.now).vault();
    for (let n = 0; n < 400; n++) expect(budget.take(1, 0)).toBe(0);
    expect(budget.take(1, 0)).toBeNull();
    expect(budget.take(1, forever)).toBeCloseTo(10_000 / 1_600);
    expect(budget.take(1, forever)).toBeCloseTo(20_000 / 1_600);
    clock.pass(10_000);
    expect(budget.take(1, 0)).toBe(0);
  });

  it('takes nothing when the wait would be too long', () => {
    const clock = handClock();
    const budget = createBudgets({ share: 1, transactions: 10 }, clock.now).vault();
    expect(budget.take(2, 0)).toBe(0);
    expect(budget.take(8, 9_000)).toBeNull();
    expect(budget.take(8, 10_000)).toBe(10_000);
  });

  it('charges creating calls for what they cost', () => {
    expect(weightOf('getSecret')).toBe(1);
    expect(weightOf('setSecret')).toBeCloseTo(13.33, 2);
    expect(weightOf('createKey')).toBe(200);
  });

  it('never sends more than its share in any 10 s', () => {
    const demand = fc.record({
      pause: fc.nat(3_000),
      weight: fc.constantFrom(1, 1, 1, 4, 13.4, 200),
      maxWait: fc.constantFrom(0, 1_000, 30_000),
    });
    const share = fc.constantFrom(0.05, 0.3, 1);
    fc.assert(
      fc.property(fc.array(demand, { minLength: 50, maxLength: 250 }), share, (demands, part) => {
        const clock = handClock();
        const budget = createBudgets({ share: part, transactions: 1_000 }, clock.now).vault();
        const sent: { at: number; weight: number }[] = [];
        for (const { pause, weight, maxWait } of demands) {
          clock.pass(pause / 30);
          const wait = budget.take(weight, maxWait);
          if (wait === null) continue;
          expect(wait).toBeLessThanOrEqual(maxWait);
          sent.push({ at: clock.now() + wait, weight });
        }
        const heaviest = Math.max(0, ...sent.map(({ weight }) => weight));
        // One call that is heavier than the whole share still has to go, alone.
        expect(busiest(sent)).toBeLessThanOrEqual(Math.max(1_000 * part, heaviest) + 1e-6);
      }),
    );
  });

  it('keeps all vaults together within the subscription', () => {
    const clock = handClock();
    const budgets = createBudgets({ share: 1, transactions: 100 }, clock.now);
    const vaults = Array.from({ length: 20 }, () => budgets.vault());
    const sent: { at: number; weight: number }[] = [];
    for (let n = 0; n < 2_000; n++) {
      const wait = vaults[n % 20]?.take(1, 20_000) ?? null;
      if (wait !== null) sent.push({ at: wait, weight: 1 });
    }
    // A burst of 100, and 40 a second for 20 s.
    expect(sent).toHaveLength(900);
    expect(busiest(sent)).toBeLessThanOrEqual(500);
  });

  it('halves its rate on a 429, once for many of them, and comes back slowly', () => {
    const clock = handClock();
    const budget = createBudgets(whole, clock.now).vault();
    expect(budget.cut()).toBe(0.5);
    expect(budget.cut()).toBe(0.5);
    expect(budget.take(1, 0)).toBeNull();
    clock.pass(1_000);
    expect(budget.share()).toBeCloseTo(0.55);
    expect(budget.cut()).toBeCloseTo(0.275);
    for (let n = 0; n < 20; n++) {
      clock.pass(1_000);
      budget.cut();
    }
    expect(budget.share()).toBeGreaterThanOrEqual(1 / 16);
    clock.pass(60_000);
    expect(budget.share()).toBe(1);
  });
});
