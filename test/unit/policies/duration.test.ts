import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Duration, parseDuration } from '../../../src/core/policies/duration.ts';

describe('a duration', () => {
  it.each([
    ['P1D', 86_400],
    ['P2W', 1_209_600],
    ['PT12H', 43_200],
    ['PT90S', 90],
    ['P1W2DT3H4M5S', 788_645],
    ['PT0S', 0],
  ])('%s has %i seconds', (text, seconds) => {
    expect(parseDuration(text)).toBe(seconds);
  });

  it.each(
    [
      [
        '',
        'P',
        'PT',
        'P1DT',
        'T1H',
        '1D',
        'p1d',
        ' P1D',
        'P1D ',
        'P-1D',
        'P1.5D',
        'PT1H1H',
        'PT1S1M',
      ],
      ['P1Y', 'P1M', 'P1Y2D', 'P99999999999999W'],
    ].flat(),
  )('%j is none', (text) => {
    expect(parseDuration(text)).toBeNull();
  });

  it('is never read as something that is no number of seconds', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const seconds = parseDuration(text);
        expect(seconds === null || Number.isSafeInteger(seconds)).toBe(true);
      }),
    );
  });

  it('in a document says how to write one', () => {
    expect(Duration.parse('PT1M')).toBe(60);
    expect(Duration.safeParse('a month').error?.issues[0]?.message).toContain('ISO 8601');
    expect(Duration.safeParse(60).success).toBe(false);
  });
});
