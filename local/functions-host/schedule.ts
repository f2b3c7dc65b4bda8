import { Cron } from 'croner';
import { parseTimeSpan } from './time.ts';

export interface Schedule {
  readonly text: string;
  /** The first occurrence strictly after `from`; `null` when there is none any more. */
  next(from: Date): Date | null;
  /** Fires more than once a minute, so no state is kept for it. */
  readonly isSubMinute: boolean;
}

/**
 * A timer's schedule: NCRONTAB with 6 fields (5 are accepted, without seconds) or a constant
 * interval `hh:mm:ss`. Source: azure-webjobs-sdk-extensions, TimerListener and TimerSchedule.
 * @throws Error when it is neither, or never fires
 */
export function parseSchedule(text: string, timeZone: string): Schedule {
  const interval = parseTimeSpan(text);
  if (interval !== null) {
    if (interval === 0) throw new Error(`schedule "${text}": the interval is zero`);
    return {
      text,
      next: (from) => new Date(from.getTime() + interval),
      isSubMinute: interval < 60_000,
    };
  }
  const cron = parseCron(text, timeZone);
  const next = (from: Date) => cron.nextRun(from);
  if (next(new Date()) === null) throw new Error(`schedule "${text}" never fires`);
  return { text, next, isSubMinute: firesMoreThanOnceAMinute(next) };
}

function parseCron(text: string, timeZone: string): Cron {
  // Croner also knows L, W, # and ?, which NCRONTAB refuses.
  if (
    !text
      .trim()
      .split(/\s+/)
      .every((field) => /^([0-9*,/-]|[A-Z]{3})+$/i.test(field))
  ) {
    throw new Error(`schedule "${text}" is neither NCRONTAB nor hh:mm:ss`);
  }
  try {
    return new Cron(text.trim(), {
      paused: true,
      mode: '5-or-6-parts',
      domAndDow: true,
      sloppyRanges: true,
      timezone: timeZone,
    });
  } catch (cause) {
    throw new Error(`schedule "${text}" is neither NCRONTAB nor hh:mm:ss`, { cause });
  }
}

function firesMoreThanOnceAMinute(next: (from: Date) => Date | null): boolean {
  let previous = next(new Date());
  for (let count = 0; count < 5 && previous !== null; count += 1) {
    const following = next(previous);
    if (following !== null && following.getTime() - previous.getTime() < 60_000) return true;
    previous = following;
  }
  return false;
}
