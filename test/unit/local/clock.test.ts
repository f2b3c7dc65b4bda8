import { describe, expect, it } from 'vitest';
import { createClock } from '../../../local/key-vault/clock.ts';

describe('the clock of the emulator', () => {
  it('never comes to a time that is none, and comes to all the others', async () => {
    const clock = createClock();
    const start = clock.now();
    const seen: number[] = [];
    const times = [
      3000,
      Number.NaN,
      1000,
      Number.POSITIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
      2000,
    ];
    for (const time of times) clock.at(start + time, () => seen.push(time));
    await clock.set(start + 10_000);
    expect(seen).toEqual([1000, 2000, 3000]);
    clock.stop();
  });

  it('stands still after the stop, also on the way to another time', async () => {
    const clock = createClock();
    let runs = 0;
    const again = (): void => {
      runs += 1;
      if (runs === 3) clock.stop();
      clock.at(clock.now() + 1000, again);
    };
    clock.at(clock.now() + 1000, again);
    await clock.set(clock.now() + 100_000);
    expect(runs).toBe(3);
  });
});
