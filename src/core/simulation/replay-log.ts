/** Access logs as they are read for a replay: line by line, in the order in which the operations began. */
import { toAppError } from '../errors.ts';
import { type AccessLogEntry, parseAccessEntry } from '../vault/access-entry.ts';
import { findOperation, type VaultOperation } from '../vault/operation-names.ts';
import { Heap } from './heap.ts';

export interface LogLine {
  /** From 1. */
  readonly line: number;
  /** When it began, in milliseconds since 1970. */
  readonly at: number;
  readonly entry: AccessLogEntry;
  readonly operation: VaultOperation;
}

/** A line that cannot be replayed; `what` names the member. */
export interface LogFault {
  readonly line: number;
  readonly what: string;
}

/**
 * An operation is written down when it ends, so those that began first may come later: by how much depends on how
 * long one can take, which is a deadline for a call, and longer only for lists.
 */
const lookAheadMs = 120_000;

/**
 * The lines of `log` in the order of `at`; of those that began together, what the cache read in the background
 * first. Empty lines are nothing; a line that cannot be used is told, and left out.
 */
export async function* readAccessLog(
  log: AsyncIterable<string>,
  fault: (fault: LogFault) => void,
): AsyncIterable<LogLine> {
  const held = new Heap<LogLine>(isBefore);
  let line = 0;
  let latest = Number.NEGATIVE_INFINITY;
  let given = Number.NEGATIVE_INFINITY;
  for await (const text of log) {
    line++;
    if (text.trim() === '') continue;
    const read = readLine(line, text);
    if ('what' in read) {
      fault(read);
    } else if (read.at < given) {
      const behind = Math.ceil((given - read.at) / 1000);
      fault({
        line,
        what: `at: ${behind} s too late in the log; merge logs by sorting their lines`,
      });
    } else {
      held.add(read);
      latest = Math.max(latest, read.at + read.entry.ms);
    }
    for (let next = held.first(); next && next.at < latest - lookAheadMs; next = held.first()) {
      given = next.at;
      held.take();
      yield next;
    }
  }
  for (let next = held.take(); next !== undefined; next = held.take()) yield next;
}

function readLine(line: number, text: string): LogLine | LogFault {
  try {
    const entry = parseAccessEntry(text);
    const operation = findOperation(entry.operation);
    if (operation === null) return { line, what: `operation: there is none named so` };
    return { line, at: Date.parse(entry.at), entry, operation };
  } catch (error) {
    return { line, what: toAppError(error, 'line').detail };
  }
}

function isBefore(left: LogLine, right: LogLine): boolean {
  if (left.at !== right.at) return left.at < right.at;
  return left.entry.cache === 'refresh' && right.entry.cache !== 'refresh';
}
