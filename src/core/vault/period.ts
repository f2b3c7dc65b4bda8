/** A calendar duration of ISO 8601, as rotation policies have them: `P90D`, `P2M`, `P1Y6M`. */
export interface Period {
  readonly months: number;
  readonly days: number;
}

const pattern = /^P(?=\d)(?:(\d{1,4})Y)?(?:(\d{1,4})M)?(?:(\d{1,4})W)?(?:(\d{1,4})D)?$/;

/** Null when `text` is none; times of day are refused, since a vault counts in days. */
export function parsePeriod(text: string): Period | null {
  const match = pattern.exec(text);
  if (match === null) return null;
  const [years = 0, months = 0, weeks = 0, days = 0] = match
    .slice(1)
    .map((part) => Number(part ?? 0));
  return { months: years * 12 + months, days: weeks * 7 + days };
}

/** About how many days it has: a month counts 30, a year 365. */
export function nominalDays({ months, days }: Period): number {
  return Math.floor(months / 12) * 365 + (months % 12) * 30 + days;
}

/** The same time of day after `period`, in UTC; where a month is too short, on its last day. */
export function addPeriod(date: Date, { months, days }: Period): Date {
  const target = new Date(date);
  target.setUTCDate(1);
  target.setUTCMonth(target.getUTCMonth() + months);
  const monthEnd = Date.UTC(target.getUTCFullYear(), target.getUTCMonth() + 1, 0);
  const day = Math.min(date.getUTCDate(), new Date(monthEnd).getUTCDate());
  target.setUTCDate(day + days);
  return target;
}
