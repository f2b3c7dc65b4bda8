/** A calendar duration of ISO 8601, as rotation policies have them: P90D, P2M, P1Y6M. */
export type Duration = { readonly months: number; readonly days: number };

const pattern = /^P(?=\d)(?:(\d{1,4})Y)?(?:(\d{1,4})M)?(?:(\d{1,4})W)?(?:(\d{1,4})D)?$/;

/** @returns `null` for what is none, and for times of day: policies count in days */
export function parseDuration(text: string): Duration | null {
  const match = pattern.exec(text);
  if (match === null) return null;
  const [years = 0, months = 0, weeks = 0, days = 0] = match
    .slice(1)
    .map((part) => Number(part ?? 0));
  return { months: years * 12 + months, days: weeks * 7 + days };
}

/** For comparing: months of 30 days, years of 365. */
export function nominalDays({ months, days }: Duration): number {
  return Math.floor(months / 12) * 365 + (months % 12) * 30 + days;
}

/**
 * The time that is a duration later, by the calendar in UTC; a day that the month does not have is its last one.
 *
 * @param seconds since 1970
 * @param sign -1: earlier
 */
export function shift(seconds: number, { months, days }: Duration, sign: 1 | -1 = 1): number {
  const date = new Date(seconds * 1000);
  const dayOfMonth = date.getUTCDate();
  date.setUTCDate(1);
  date.setUTCMonth(date.getUTCMonth() + sign * months);
  const lastDay = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate();
  date.setUTCDate(Math.min(dayOfMonth, lastDay) + sign * days);
  return Math.floor(date.getTime() / 1000);
}
