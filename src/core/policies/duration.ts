import { z } from 'zod';

const pattern = /^P(?!$)(?:(\d+)W)?(?:(\d+)D)?(?:T(?!$)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?$/;

/**
 * Seconds of an ISO 8601 duration made of weeks, days, hours, minutes and seconds (`P30D`, `PT90S`).
 * Years and months are refused: they have no fixed length. Null when `text` is none.
 */
export function parseDuration(text: string): number | null {
  const match = pattern.exec(text);
  if (!match) return null;
  const [weeks, days, hours, minutes, seconds] = match.slice(1).map((part) => Number(part ?? 0));
  const total =
    (((weeks ?? 0) * 7 + (days ?? 0)) * 24 + (hours ?? 0)) * 3600 +
    (minutes ?? 0) * 60 +
    (seconds ?? 0);
  return Number.isSafeInteger(total) ? total : null;
}

/** ISO 8601 text in, seconds out. */
export const Duration = z.string().transform((text, context) => {
  const seconds = parseDuration(text);
  if (seconds !== null) return seconds;
  context.addIssue({ code: 'custom', message: 'write an ISO 8601 duration such as P30D or PT12H' });
  return z.NEVER;
});
