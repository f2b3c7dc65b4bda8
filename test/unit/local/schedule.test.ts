import { describe, expect, it } from 'vitest';
import { parseSchedule } from '../../../local/functions-host/schedule.ts';
import { parseTimeSpan } from '../../../local/functions-host/time.ts';

describe('timer schedules', () => {
  it.each([
    ['*/5 * * * * *', '2030-01-01T00:00:02Z', '2030-01-01T00:00:05Z'],
    ['30 4 * * *', '2030-01-01T05:00:00Z', '2030-01-02T04:30:00Z'],
    ['0 0 9-17/4 * * MON-FRI', '2030-01-05T00:00:00Z', '2030-01-07T09:00:00Z'],
    ['0 0 0 1 JAN,jul *', '2030-02-01T00:00:00Z', '2030-07-01T00:00:00Z'],
    // NCRONTAB wants both the day of the month and the day of the week: the next Friday 13th.
    ['0 0 0 13 * 5', '2030-01-01T00:00:00Z', '2030-09-13T00:00:00Z'],
    ['01:30:00', '2030-01-01T00:00:00Z', '2030-01-01T01:30:00Z'],
  ])('%s after %s gives %s', (text, from, next) => {
    expect(parseSchedule(text, 'UTC').next(new Date(from))).toEqual(new Date(next));
  });

  it('are read in their time zone', () => {
    const schedule = parseSchedule('0 0 9 * * *', 'Europe/Berlin');
    expect(schedule.next(new Date('2030-07-01T00:00:00Z'))).toEqual(
      new Date('2030-07-01T07:00:00Z'),
    );
  });

  it.each([
    'every day',
    '0 0 0 L * *',
    '* * * *',
    '0 0 0 31 2 *',
    '0 0 25 * * *',
    '00:00:00',
    '0 0 0 * * 5#2',
  ])('refuse "%s"', (text) => {
    expect(() => parseSchedule(text, 'UTC')).toThrow('schedule');
  });

  it.each([
    ['*/30 * * * * *', true],
    ['0 * * * * *', false],
    ['0,10 0 0 * * *', true],
    ['00:00:59', true],
    ['00:01:00', false],
  ])('%s fires more than once a minute: %s', (text, expected) => {
    expect(parseSchedule(text, 'UTC').isSubMinute).toBe(expected);
  });
});

describe('time spans', () => {
  it.each([
    ['00:00:05', 5000],
    ['00:00:00.250', 250],
    ['1.02:03:04', 93_784_000],
    ['02:03', 7_380_000],
    ['24:00:00', null],
    ['00:60:00', null],
    ['5', null],
  ])('%s is %s ms', (text, ms) => {
    expect(parseTimeSpan(text)).toBe(ms);
  });
});
