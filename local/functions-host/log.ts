import type { LogLevel } from './worker/protocol.ts';

const order: readonly LogLevel[] = [
  'trace',
  'debug',
  'information',
  'warning',
  'error',
  'critical',
  'none',
];

const label: Readonly<Record<LogLevel, string>> = {
  trace: 'TRACE',
  debug: 'DEBUG',
  information: 'INFO ',
  warning: 'WARN ',
  error: 'ERROR',
  critical: 'FATAL',
  none: '     ',
};

interface LogEntry {
  readonly level: LogLevel;
  readonly text: string;
  /** `Host`, `Worker`, `Function.<name>` (about the function) or `Function.<name>.User` (by its handler). */
  readonly category?: string;
  readonly functionName?: string;
  readonly invocationId?: string;
}

export interface Log {
  write(entry: LogEntry): void;
  info(text: string): void;
  warn(text: string): void;
  error(text: string): void;
  /** Takes over the filters of host.json `logging.logLevel`. */
  setLevels(levels: Readonly<Record<string, string>>): void;
}

/**
 * A log that prints one line an entry: time, level, function, invocation id, text. Line breaks
 * inside a text (stack traces) become ` | `, so that one entry stays one line.
 */
export function createLog(options: {
  readonly quiet: boolean;
  readonly print: (line: string) => void;
}): Log {
  let filters: readonly (readonly [string, LogLevel])[] = [];
  const write = (entry: LogEntry): void => {
    const category = entry.category ?? 'Host';
    const floor = options.quiet ? 'warning' : levelFor(filters, category);
    if (entry.level === 'none' || order.indexOf(entry.level) < order.indexOf(floor)) return;
    options.print(format(entry));
  };
  return {
    write,
    info: (text) => write({ level: 'information', text }),
    warn: (text) => write({ level: 'warning', text }),
    error: (text) => write({ level: 'error', text }),
    setLevels(levels) {
      filters = Object.entries(levels)
        .map(([name, level]) => [name.toLowerCase(), parseLevel(level)] as const)
        .sort(([a], [b]) => b.length - a.length);
    },
  };
}

function levelFor(filters: readonly (readonly [string, LogLevel])[], category: string): LogLevel {
  const name = category.toLowerCase();
  const match = filters.find(([prefix]) => name === prefix || name.startsWith(`${prefix}.`));
  return (match ?? filters.find(([prefix]) => prefix === 'default'))?.[1] ?? 'information';
}

function parseLevel(text: string): LogLevel {
  const level = order.find((name) => name === text.toLowerCase());
  if (level === undefined) {
    throw new Error(
      `host.json: logging.logLevel: unknown level "${text}"; it is one of ${order.join(', ')}`,
    );
  }
  return level;
}

function format(entry: LogEntry): string {
  const parts = [new Date().toISOString(), label[entry.level]];
  parts.push(entry.functionName ?? 'host');
  if (entry.invocationId !== undefined) parts.push(`[${entry.invocationId}]`);
  parts.push(entry.text.replaceAll(/\s*[\r\n]+\s*/g, ' | '));
  return parts.join(' ');
}

/** The stack of an error, or a readable form of whatever else was thrown. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return `Thrown value: ${String(error)}`;
  const cause = error.cause === undefined ? '' : ` | caused by: ${describeError(error.cause)}`;
  return `${error.stack ?? `${error.name}: ${error.message}`}${cause}`;
}

/** The message of an error, or a readable form of whatever else was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
