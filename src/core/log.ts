import { AppError } from './errors.ts';

export type LogFields = Readonly<Record<string, string | number | boolean | null | undefined>>;

/** One past-tense event name and flat fields; the names are listed in docs/runbook.md. */
export interface Log {
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
}

/** One JSON line per event to `write` (default: standard output, where the Functions host reads it). */
export function jsonLog(write: (line: string) => void = (line) => console.log(line)): Log {
  const at =
    (level: string) =>
    (event: string, fields: LogFields = {}) =>
      write(JSON.stringify({ level, event, ...fields }));
  return { info: at('info'), warn: at('warn'), error: at('error') };
}

/** An error as log fields: code and detail of every link of its cause chain, no stack, no value. */
export function errorFields(error: unknown): LogFields {
  const chain: string[] = [];
  let code = 'internal';
  for (
    let at: unknown = error, depth = 0;
    at instanceof Error && depth < 4;
    at = at.cause, depth++
  ) {
    if (at instanceof AppError && depth === 0) code = at.code;
    chain.push(at.message.slice(0, 300));
  }
  return { code, error: chain.join(' <- ') || String(error) };
}
