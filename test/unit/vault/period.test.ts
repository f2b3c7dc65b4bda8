import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addPeriod, nominalDays, parsePeriod } from '../../../src/core/vault/period.ts';

describe('parsePeriod', () => {
  it.each([
    ['P90D', { months: 0, days: 90 }],
    ['P1Y6M', { months: 18, days: 0 }],
    ['P2W', { months: 0, days: 14 }],
    ['P1Y1M1W1D', { months: 13, days: 8 }],
  ])('reads %s', (text, period) => {
    expect(parsePeriod(text)).toEqual(period);
  });

  it.each(['', 'P', 'PT1H', 'P1DT1H', '90', 'P-1D', 'P1.5D', 'p90d', 'P90D ', 'P1D1M', 'P12345D'])(
    'does not read %j',
    (text) => {
      expect(parsePeriod(text)).toBeNull();
    },
  );
});

describe('addPeriod', () => {
  it.each([
    ['2030-01-31T10:00:00.000Z', 'P1M', '2030-02-28T10:00:00.000Z'],
    ['2028-01-31T10:00:00.000Z', 'P1M', '2028-02-29T10:00:00.000Z'],
    ['2028-02-29T00:00:00.000Z', 'P1Y', '2029-02-28T00:00:00.000Z'],
    ['2030-12-31T23:59:59.000Z', 'P2M1D', '2031-03-01T23:59:59.000Z'],
    ['2030-03-30T12:00:00.000Z', 'P1W', '2030-04-06T12:00:00.000Z'],
  ])('makes of %s and %s %s', (from, text, to) => {
    expect(addPeriod(new Date(from), parsePeriod(text)!).toISOString()).toBe(to);
  });

  it('never goes back, and is about as long as it says', () => {
    const dates = fc.date({
      min: new Date('2000-01-01'),
      max: new Date('2037-01-01'),
      noInvalidDate: true,
    });
    const periods = fc.record({ months: fc.nat(60), days: fc.nat(400) });
    fc.assert(
      fc.property(dates, periods, (date, period) => {
        const days = (addPeriod(date, period).getTime() - date.getTime()) / 86_400_000;
        expect(days).toBeGreaterThanOrEqual(nominalDays(period) - 3);
        expect(days).toBeLessThanOrEqual(nominalDays(period) + 8);
      }),
    );
  });
});
