import { describe, expect, it } from 'vitest';
import { ulid, ulidPattern } from '../../../src/core/rotation/ulid.ts';

describe('a ULID', () => {
  it('begins with the time as its specification says', () => {
    // From the example of the specification: 1469918176385 is 01ARYZ6S41.
    expect(ulid(new Date(1_469_918_176_385))).toMatch(/^01ARYZ6S41[0-9A-HJKMNP-TV-Z]{16}$/);
  });

  it('sorts by time, also across carries', () => {
    const times = [0, 31, 32, 1023, 1024, 1_700_000_000_000, 1_700_000_000_001, 2 ** 48 - 1];
    const ids = times.map((time) => ulid(new Date(time)));
    expect(ids.toSorted()).toEqual(ids);
    for (const id of ids) expect(id).toMatch(ulidPattern);
  });

  it('is another one each time, also within a millisecond', () => {
    const now = new Date();
    expect(new Set(Array.from({ length: 1000 }, () => ulid(now))).size).toBe(1000);
  });
});
