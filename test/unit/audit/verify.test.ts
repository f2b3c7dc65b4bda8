import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { canonicalJson, lineText } from '../../../src/core/audit/chain.ts';
import { openAudit } from '../../../src/core/audit/log.ts';
import { verifyAudit } from '../../../src/core/audit/verify.ts';
import { memoryLog } from '../../../src/core/storage/memory.ts';
import type { AppendLog, Json } from '../../../src/core/storage/ports.ts';

type Segments = ReadonlyMap<string, Uint8Array>;

/** Two linked segments of four and two entries, as they were written. */
let written: Segments;
let first: string;
let second: string;

beforeAll(async () => {
  const log = memoryLog();
  const clock = { now: () => new Date('2026-11-22T08:00:00.000Z') };
  const audit = openAudit(log, { writer: 'engine', clock, rollAfter: 4 });
  for (const id of ['a', 'b', 'c', 'd', 'e', 'f']) {
    const detail = { note: `grüße ${id}` };
    await audit.append([{ id, at: clock.now(), actor: 'x', action: 'y', detail }]);
  }
  const names: string[] = [];
  for await (const name of log.list('audit/')) names.push(name);
  written = new Map(await Promise.all(names.map(async (n) => [n, await log.read(n)] as const)));
  [first = '', second = ''] = names;
});

function aLog(segments: Segments): AppendLog {
  return {
    append: () => Promise.reject(new Error('read only')),
    read: async (name) => segments.get(name) ?? new Uint8Array(),
    async *list(prefix) {
      yield* [...segments.keys()].filter((name) => name.startsWith(prefix)).sort();
    },
  };
}

/** The faults after `change` was done to the lines of one segment. */
async function faultsAfter(segment: string, change: (lines: string[]) => readonly string[]) {
  const text = Buffer.from(written.get(segment)!).toString();
  const lines = text.trimEnd().split('\n');
  const changed = change(lines).map((line) => `${line}\n`);
  const { faults } = await verifyAudit(
    aLog(new Map(written).set(segment, Buffer.from(changed.join('')))),
  );
  return faults.map(({ line, kind }) => `${kind} ${line}`);
}

/** `line` with other content and a hash that fits it. */
function forged(line: string, change: Record<string, Json>): string {
  const { hash: _, ...content } = { ...JSON.parse(line), ...change };
  const hash = createHash('sha256').update(canonicalJson(content)).digest('hex');
  return lineText(canonicalJson(content), hash);
}

describe('verifyAudit', () => {
  it('finds nothing wrong with what was written', async () => {
    expect(await verifyAudit(aLog(written))).toEqual({ segments: 2, records: 6, faults: [] });
  });

  it('detects the flip of any bit of any byte', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(first, second),
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        async (segment, at, mask) => {
          const bytes = Uint8Array.from(written.get(segment)!);
          const index = at % bytes.length;
          bytes[index] = (bytes[index] ?? 0) ^ mask;
          const { faults } = await verifyAudit(aLog(new Map(written).set(segment, bytes)));
          expect(faults).not.toEqual([]);
        },
      ),
      { numRuns: 1500 },
    );
  });

  it('detects every byte cut off the first segment, and torn tails of the last', async () => {
    const bytes = written.get(first)!;
    for (let length = 0; length < bytes.length; length += 7) {
      const cut = new Map(written).set(first, bytes.subarray(0, length));
      expect((await verifyAudit(aLog(cut))).faults, `${length}`).not.toEqual([]);
    }
    const torn = new Map(written).set(second, written.get(second)!.subarray(0, -1));
    expect((await verifyAudit(aLog(torn))).faults).toMatchObject([{ line: 3, kind: 'torn' }]);
  });

  it.each<[string, (lines: string[]) => readonly string[], string[]]>([
    ['a changed line', (l) => l.with(2, l[2]!.replace('"x"', '"z"')), ['changed 3']],
    ['white space', (l) => l.with(2, `${l[2]} `), ['changed 3']],
    ['a line that is no object', (l) => l.with(2, '[]'), ['changed 3']],
    ['a line without a number', (l) => l.with(2, '{"hash":"","prev":""}'), ['changed 3']],
    ['a byte order mark', (l) => l.with(2, `\ufeff${l[2]}`), ['changed 3']],
    ['a forged line', (l) => l.with(2, forged(l[2]!, { actor: 'z' })), ['inserted 4']],
    ['a removed line', (l) => l.toSpliced(2, 1), ['removed 3']],
    ['a removed opening', (l) => l.toSpliced(0, 1), ['removed 1']],
    ['a repeated line', (l) => l.toSpliced(3, 0, l[2]!), ['inserted 4']],
    [
      'an inserted line',
      (l) => l.toSpliced(3, 0, forged(l[2]!, { seq: 3, prev: JSON.parse(l[2]!).hash })),
      ['inserted 5'],
    ],
    [
      'a second opening',
      (l) => l.with(2, forged(l[2]!, { open: {} })),
      ['inserted 3', 'inserted 4'],
    ],
    [
      'swapped lines',
      (l) => l.with(2, l[3]!).with(3, l[2]!),
      ['reordered 3', 'reordered 4', 'reordered 5'],
    ],
  ])('detects %s', async (_name, change, expected) => {
    const faults = await faultsAfter(first, change);
    expect(faults.filter((fault) => !fault.startsWith('unlinked'))).toEqual(expected);
  });

  it('detects lines cut off the end of a segment that another follows', async () => {
    expect(await faultsAfter(first, (lines) => lines.slice(0, -1))).toEqual(['unlinked 0']);
  });

  it('detects a removed segment', async () => {
    const left = new Map(written);
    left.delete(first);
    expect((await verifyAudit(aLog(left))).faults).toMatchObject([
      { segment: second, line: 0, kind: 'removed' },
    ]);
  });

  it('detects a segment in another one’s place', async () => {
    const moved = new Map(written).set('audit/2026/11/22/other.jsonl', written.get(first)!);
    expect((await verifyAudit(aLog(moved))).faults).toMatchObject([
      { segment: 'audit/2026/11/22/other.jsonl', line: 1, kind: 'foreign' },
    ]);
  });

  it.each<[string, Json, string[]]>([
    ['another writer', { segment: '', writer: 'z', after: null }, ['foreign 1']],
    [
      'no link where it does not start at 0',
      { segment: '', writer: 'engine', after: null },
      ['foreign 1'],
    ],
    ['a malformed link', { segment: '', writer: 'engine', after: { seq: 1 } }, ['foreign 1']],
    ['no writer', { segment: '' }, ['removed 1']],
  ])('detects an opening forged to name %s', async (_name, open, expected) => {
    const faults = await faultsAfter(second, (lines) => {
      const named = { ...(open as Record<string, Json>), segment: second };
      return lines.with(0, forged(lines[0]!, { open: named }));
    });
    expect(faults).toEqual([...expected, 'inserted 2']);
  });

  it('does not mind a segment whose writer died before its first append', async () => {
    const empty = new Map(written).set('audit/2026/11/22/z.jsonl', new Uint8Array());
    expect(await verifyAudit(aLog(empty))).toEqual({ segments: 3, records: 6, faults: [] });
  });
});
