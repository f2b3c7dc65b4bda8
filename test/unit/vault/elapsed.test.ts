import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { elapsedClock } from '../../../src/core/vault/elapsed.ts';

const hour = 3_600_000;

function clocks() {
  let monotonic = 5_000;
  let wall = 1_900_000_000_000;
  const now = elapsedClock(
    () => monotonic,
    () => wall,
  );
  const start = now();
  return {
    passed: () => now() - start,
    run: (ms: number) => {
      monotonic += ms;
      wall += ms;
    },
    /** The machine sleeps: only the wall's clock goes on. */
    suspend: (ms: number) => {
      wall += ms;
    },
    setWall: (by: number) => {
      wall += by;
    },
  };
}

describe('elapsedClock', () => {
  it('counts what both clocks count', () => {
    const { passed, run } = clocks();
    run(1_234);
    expect(passed()).toBe(1_234);
  });

  it('goes on as before when the system’s clock is set back', () => {
    const { passed, run, setWall } = clocks();
    run(10_000);
    setWall(-hour);
    run(10_000);
    expect(passed()).toBe(20_000);
  });

  it('counts a suspension, also after the clock was set back', () => {
    const { passed, run, setWall, suspend } = clocks();
    setWall(-hour);
    run(1_000);
    passed();
    suspend(hour);
    run(1_000);
    expect(passed()).toBe(hour + 2_000);
  });

  it('never runs backwards, and never slower than the monotonic clock', () => {
    const step = fc.record({ run: fc.nat(5_000), wall: fc.integer({ min: -hour, max: hour }) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 50 }), (steps) => {
        const clock = clocks();
        let ran = 0;
        let before = clock.passed();
        for (const { run, wall } of steps) {
          clock.run(run);
          clock.setWall(wall);
          ran += run;
          const after = clock.passed();
          expect(after).toBeGreaterThanOrEqual(before);
          expect(after).toBeGreaterThanOrEqual(ran - 1e-6);
          before = after;
        }
      }),
    );
  });
});
