/** One line of the access log: who asked which vault for what, and how it went. */
import { z } from 'zod';
import { AppError, type ErrorCode, errorInfo } from '../errors.ts';
import type { ReadSource } from './observer.ts';

const sources = [
  ...(['hit', 'negative', 'stale', 'shared', 'miss'] as const),
  'refresh',
] as const satisfies readonly (ReadSource | 'refresh')[];

const name = z.string().regex(/^[0-9a-z-]{1,127}$/i, 'is no name of an object');
const version = z.string().regex(/^[0-9a-f]{32}$/i, 'is no version: 32 hexadecimal digits');
const label = z.string().min(1).max(256);
const isOutcome = (text: string): boolean => text === 'ok' || isErrorCode(text);

/**
 * An operation on a vault, or a read of the cache in the background (`cache` is `refresh`). Its members stand in
 * this order, so that logs of several processes are merged by sorting their lines.
 *
 * It never holds a value: what is not the name of an object, or a version, is not written down.
 */
export const AccessLogEntry = z.object({
  /** When it began: UTC, `2026-11-22T08:00:00.000Z`. */
  at: z.iso.datetime({ precision: 3, error: 'is no instant such as 2026-11-22T08:00:00.000Z' }),
  /** The process whose cache it went through. */
  instance: label,
  /** On whose behalf; null when nobody said. */
  caller: label.nullable(),
  /** The alias. */
  vault: label,
  /** As the vault's own log names it: `getSecret`, `setSecret`, `getSecretVersions`. */
  operation: label,
  /** The object's name; null for what concerns no single one, such as lists. */
  object: name.nullable(),
  /** The version that was asked for; null for the latest. */
  version: version.nullable(),
  /** The version that the answer was about; null where it was about none. */
  servedVersion: version.nullable(),
  /** `ok`, or the code of the error. */
  outcome: z.custom<'ok' | ErrorCode>((text) => typeof text === 'string' && isOutcome(text), {
    error: 'is neither ok nor the code of an error',
  }),
  /** How long it took, in milliseconds. */
  ms: z.number({ error: 'is no number of milliseconds' }).min(0).max(86_400_000),
  /** Where the answer came from; null for what went by no cache. */
  cache: z.enum(sources, { error: `is none of ${sources.join(', ')}` }).nullable(),
  /** Requests that were sent to the vault for it: 0 for a hit, one a page for a list, one more for each retry. */
  requests: z.int({ error: 'is no count' }).min(0),
  /** Those of them that the vault answered with 429. */
  throttled: z.int({ error: 'is no count' }).min(0),
});
export type AccessLogEntry = z.output<typeof AccessLogEntry>;

/** @throws AppError `invalid_input` whose detail says, for each wrong member, what is wrong with it */
export function parseAccessEntry(line: string): AccessLogEntry {
  let body: unknown;
  try {
    body = JSON.parse(line);
  } catch {
    throw new AppError('invalid_input', { detail: 'is not JSON' });
  }
  const parsed = AccessLogEntry.safeParse(body);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map(({ path, message }) =>
    path.length === 0 ? `is no object of JSON` : `${path.join('.')}: ${message}`,
  );
  throw new AppError('invalid_input', { detail: faults.join('; ') });
}

function isErrorCode(text: string): text is ErrorCode {
  // The table has no such row otherwise, whatever its type says.
  return (errorInfo(text as ErrorCode) as object | undefined) !== undefined;
}

/** `text` when it is the name of an object, which a value passed by mistake is not likely to be; else null. */
export function nameOrNull(text: unknown): string | null {
  return name.safeParse(text).data ?? null;
}

/** `text` when it is a version, else null. */
export function versionOrNull(text: unknown): string | null {
  return version.safeParse(text).data ?? null;
}
