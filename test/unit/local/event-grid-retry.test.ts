import { describe, expect, it } from 'vitest';
import { retryDelayMs } from '../../../local/event-grid/subscription.ts';

describe('retryDelayMs', () => {
  it('follows the schedule of Azure and stays at 12 hours', () => {
    const delays = Array.from(
      { length: 12 },
      (_, index) => retryDelayMs({}, index + 1, () => 0) / 1000,
    );
    expect(delays).toEqual([
      10, 30, 60, 300, 600, 1800, 3600, 10_800, 21_600, 43_200, 43_200, 43_200,
    ]);
  });

  it('adds jitter to a schedule of its own', () => {
    expect(retryDelayMs({ scheduleSeconds: [1, 2] }, 5, () => 0.5)).toBe(2100);
  });
});
