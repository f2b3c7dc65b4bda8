import { AppError } from '../errors.ts';
import type { AppendLog, JsonObject } from '../storage/ports.ts';
import { canonicalJson, contentHash, lineText, segmentSeed } from './chain.ts';
import type { AuditEntry } from './log.ts';

type AuditFaultKind =
  | 'changed'
  | 'removed'
  | 'inserted'
  | 'reordered'
  | 'torn'
  | 'foreign'
  | 'unlinked';

interface AuditFault {
  readonly segment: string;
  /** From 1; 0 when the segment as a whole is meant. */
  readonly line: number;
  readonly kind: AuditFaultKind;
  readonly message: string;
}

export interface AuditVerdict {
  readonly segments: number;
  /** Entries, without the line that opens each segment. */
  readonly records: number;
  readonly faults: readonly AuditFault[];
}

interface Link {
  readonly segment: string;
  readonly seq: number;
  readonly hash: string;
}

interface Line {
  readonly number: number;
  readonly content: JsonObject;
  readonly seq: number;
  readonly prev: string;
  readonly hash: string;
}

/** What one segment says of itself, and where it ends. */
interface SegmentVerdict {
  readonly records: number;
  readonly faults: readonly AuditFault[];
  readonly after: Link | null;
  readonly end: Link | null;
}

/**
 * Reads every segment whose name starts with `prefix` and lists each place where the chain does
 * not hold. Lines cut off the end of a writer's last segment leave a chain that holds: only a
 * record of its last hash kept elsewhere would tell. An empty segment is no fault: its writer died
 * between creating it and the first append.
 */
export async function verifyAudit(log: AppendLog, prefix = 'audit/'): Promise<AuditVerdict> {
  const segments = new Map<string, SegmentVerdict>();
  for await (const name of log.list(prefix)) {
    segments.set(name, verifySegment(name, await log.read(name)));
  }
  const all = [...segments.values()];
  return {
    segments: all.length,
    records: all.reduce((sum, segment) => sum + segment.records, 0),
    faults: [...all.flatMap((segment) => segment.faults), ...verifyLinks(segments, prefix)],
  };
}

/** A segment that follows another must follow its very last line; a followed one must exist. */
function verifyLinks(
  segments: ReadonlyMap<string, SegmentVerdict>,
  prefix: string,
): readonly AuditFault[] {
  const faults: AuditFault[] = [];
  for (const [segment, { after }] of segments) {
    if (after === null || !after.segment.startsWith(prefix)) continue;
    const before = segments.get(after.segment);
    if (before === undefined) {
      const message = 'the segment it follows is gone';
      faults.push({ segment, line: 0, kind: 'removed', message: `${message}: ${after.segment}` });
    } else if (before.end?.hash !== after.hash || before.end.seq !== after.seq) {
      const message = 'it does not follow the last line of the segment before';
      faults.push({ segment, line: 0, kind: 'unlinked', message: `${message}: ${after.segment}` });
    }
  }
  return faults;
}

function verifySegment(segment: string, bytes: Uint8Array): SegmentVerdict {
  const faults: AuditFault[] = [];
  const report = (line: number, kind: AuditFaultKind, message: string) =>
    faults.push({ segment, line, kind, message });
  const { texts, isTorn } = splitLines(bytes);
  const lines: (Line | null)[] = texts.map((text, index) => parseLine(text, index + 1));
  const chain = lines.filter((line) => line !== null);
  const first = lines[0];
  const opening = first == null ? null : readOpening(first.content);

  for (const [index, line] of lines.entries()) {
    if (line === null) report(index + 1, 'changed', 'the line is not a record as it was written');
    else if (contentHash(canonicalJson(line.content)) !== line.hash) {
      report(line.number, 'changed', 'the content does not have the hash that the line names');
    }
  }
  if (first != null && opening === null) report(1, 'removed', 'the opening line is missing');
  if (first != null && opening !== null) checkOpening(first, opening, segment, report);
  checkOrder(chain, report);
  if (isTorn) report(texts.length + 1, 'torn', 'the last line is not complete');

  const last = chain.at(-1);
  return {
    records: chain.length - (opening === null ? 0 : 1),
    faults,
    after: opening?.after ?? null,
    end: last === undefined ? null : { segment, seq: last.seq, hash: last.hash },
  };
}

type Report = (line: number, kind: AuditFaultKind, message: string) => void;

function checkOpening(first: Line, opening: Opening, segment: string, report: Report): void {
  const firstSeq = (opening.after?.seq ?? -1) + 1;
  if (opening.segment !== segment) {
    report(1, 'foreign', `the segment was written as ${opening.segment}`);
  } else if (first.prev !== segmentSeed(segment, opening.writer) || first.seq !== firstSeq) {
    report(1, 'foreign', 'the opening line does not belong to this place');
  }
}

/** Each line must follow the one before; where one could not be read, only numbers are compared. */
function checkOrder(chain: readonly Line[], report: Report): void {
  const counts = new Map<number, number>();
  for (const { seq } of chain) counts.set(seq, (counts.get(seq) ?? 0) + 1);
  for (const [index, line] of chain.entries()) {
    const before = chain[index - 1];
    if (before === undefined) continue;
    if (line.content['open'] !== undefined) {
      report(line.number, 'inserted', 'a segment is opened in the middle of another');
    }
    const distance = line.number - before.number;
    const expected = before.seq + distance;
    if (line.seq !== expected) {
      const message = `record ${line.seq} stands where ${expected} belongs`;
      report(line.number, misplaced(line.seq, expected, counts), message);
    } else if (distance === 1 && line.prev !== before.hash) {
      report(line.number, 'inserted', 'the line does not follow the one before it');
    }
  }
}

function misplaced(
  seq: number,
  expected: number,
  counts: ReadonlyMap<number, number>,
): AuditFaultKind {
  if ((counts.get(seq) ?? 0) > 1) return 'inserted';
  return seq > expected && !counts.has(expected) ? 'removed' : 'reordered';
}

function splitLines(bytes: Uint8Array): { texts: readonly Uint8Array[]; isTorn: boolean } {
  const texts: Uint8Array[] = [];
  let start = 0;
  for (let end = bytes.indexOf(10); end !== -1; end = bytes.indexOf(10, start)) {
    texts.push(bytes.subarray(start, end));
    start = end + 1;
  }
  return { texts, isTorn: start < bytes.length };
}

/** The line's parts, or null when its bytes are not exactly what a writer would have written. */
function parseLine(bytes: Uint8Array, number: number): Line | null {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    const parsed: unknown = JSON.parse(text);
    if (!isObject(parsed)) return null;
    const { hash, ...content } = parsed;
    const { seq, prev } = content;
    if (typeof seq !== 'number' || typeof prev !== 'string' || typeof hash !== 'string')
      return null;
    if (lineText(canonicalJson(content), hash) !== text) return null;
    return { number, content, seq, prev, hash };
  } catch {
    return null;
  }
}

interface Opening {
  readonly segment: string;
  readonly writer: string;
  readonly after: Link | null;
}

function readOpening(content: JsonObject): Opening | null {
  const open = content['open'];
  if (!isObject(open)) return null;
  const { segment, writer, after } = open;
  if (typeof segment !== 'string' || typeof writer !== 'string') return null;
  if (!isObject(after)) return { segment, writer, after: null };
  const { segment: name, seq, hash } = after;
  const isLink = typeof name === 'string' && typeof seq === 'number' && typeof hash === 'string';
  return { segment, writer, after: isLink ? { segment: name, seq, hash } : null };
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export interface AuditFilter {
  /** Of segment names: `audit/2026/11/` is one month. */
  readonly prefix?: string;
  readonly action?: string;
  readonly object?: string;
  readonly rotationId?: string;
  readonly correlationId?: string;
}

export interface AuditRecord extends AuditEntry {
  readonly segment: string;
  readonly seq: number;
}

/**
 * The entries that match, in order within a writer, segments in order of name. A fact may come
 * twice, with one id. Nothing is proved here: that is `verifyAudit`.
 * @throws AppError `corrupt` at a line that is not a record
 */
export async function* readAudit(
  log: AppendLog,
  filter: AuditFilter = {},
): AsyncIterable<AuditRecord> {
  const { prefix = 'audit/', ...wanted } = filter;
  const fields = Object.entries(wanted).filter(([, value]) => value !== undefined);
  for await (const segment of log.list(prefix)) {
    for (const [index, text] of splitLines(await log.read(segment)).texts.entries()) {
      const line = parseLine(text, index + 1);
      if (line === null) throw new AppError('corrupt', { detail: `${segment} line ${index + 1}` });
      if (line.content['open'] !== undefined) continue;
      if (fields.every(([field, value]) => line.content[field] === value)) {
        yield toRecord(line, segment);
      }
    }
  }
}

function toRecord({ content, seq }: Line, segment: string): AuditRecord {
  const { at, prev: _prev, seq: _seq, ...fields } = content;
  // What a writer wrote was an AuditEntry; parseLine has seen that the line is as written.
  return { ...(fields as unknown as AuditEntry), at: new Date(String(at)), segment, seq };
}
