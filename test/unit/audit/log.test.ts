import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type AuditEntry, openAudit } from '../../../src/core/audit/log.ts';
import { readAudit, verifyAudit } from '../../../src/core/audit/verify.ts';
import { AppError } from '../../../src/core/errors.ts';
import { memoryLog } from '../../../src/core/storage/memory.ts';
import type { AppendLog } from '../../../src/core/storage/ports.ts';

function anEntry(id: string, more: Partial<AuditEntry> = {}): AuditEntry {
  const at = new Date('2026-11-22T08:00:00.000Z');
  return { id, at, actor: 'engine', action: 'rotation.transition', ...more };
}

/** A log that counts its appends and fails those that `fail` names, before or after writing. */
function aLog(fail: (call: number) => 'before' | 'after' | AppError | null = () => null) {
  const inner = memoryLog();
  const calls: { name: string; position: number }[] = [];
  const log: AppendLog = {
    ...inner,
    async append(name, position, bytes) {
      calls.push({ name, position });
      const fault = fail(calls.length);
      if (fault instanceof AppError) throw fault;
      const lost = new AppError('storage_unavailable', { detail: 'planted' });
      if (fault === 'before') throw lost;
      const length = await inner.append(name, position, bytes);
      if (fault === 'after') throw lost;
      return length;
    },
  };
  return { log, calls, inner };
}

function aClock(start = '2026-11-22T08:00:00.000Z') {
  let now = new Date(start);
  return {
    now: () => now,
    set: (iso: string) => {
      now = new Date(iso);
    },
  };
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

async function idsOf(log: AppendLog): Promise<string[]> {
  return (await collect(readAudit(log))).map(({ id }) => id);
}

async function segmentsOf(log: AppendLog): Promise<string[]> {
  return await collect(log.list('audit/'));
}

describe('openAudit', () => {
  it('calls nothing before the first entry', async () => {
    const { log, calls } = aLog();
    const audit = openAudit(log, { writer: 'engine-1', clock: aClock() });
    await audit.append([]);
    expect(calls).toEqual([]);
  });

  it('refuses a writer name that is no path segment', () => {
    expect(() => openAudit(memoryLog(), { writer: 'a/b', clock: aClock() })).toThrow(
      'bad_configuration',
    );
  });

  it('writes what it was given, in order, in a segment of the day', async () => {
    const { log } = aLog();
    const audit = openAudit(log, { writer: 'engine-1', clock: aClock() });
    const full = anEntry('b', {
      object: 'main/secret/orders-db',
      rotationId: 'R1',
      correlationId: 'C1',
      outcome: 'done',
      detail: { hash: 'x', line: 'a\nb', n: 1.5, yes: true, no: null },
    });
    await audit.append([anEntry('a'), full]);
    const records = await collect(readAudit(log));
    expect(records.map(({ segment: _, ...record }) => record)).toEqual([
      { ...anEntry('a'), seq: 1 },
      { ...full, seq: 2 },
    ]);
    const [segment] = await segmentsOf(log);
    expect(segment).toMatch(/^audit\/2026\/11\/22\/080000000-engine-1-[0-9a-f]{8}-0001\.jsonl$/);
    expect(await verifyAudit(log)).toEqual({ segments: 1, records: 2, faults: [] });
  });

  it('gives two writers of one name at one instant separate segments', async () => {
    const { log } = aLog();
    const options = { writer: 'engine', clock: aClock() };
    await Promise.all([
      openAudit(log, options).append([anEntry('a')]),
      openAudit(log, options).append([anEntry('b')]),
    ]);
    expect(await verifyAudit(log)).toEqual({ segments: 2, records: 2, faults: [] });
  });

  it('appends once for all callers that wait', async () => {
    const { log, calls } = aLog();
    const audit = openAudit(log, { writer: 'engine', clock: aClock() });
    const first = audit.append([anEntry('first')]);
    await Promise.resolve();
    await Promise.resolve();
    const later = Array.from({ length: 50 }, (_, i) => audit.append([anEntry(`${i}`)]));
    await Promise.all([first, ...later]);
    expect(calls.length).toBeLessThanOrEqual(2);
    expect(await idsOf(log)).toEqual(['first', ...Array.from({ length: 50 }, (_, i) => `${i}`)]);
  });

  it('splits a crowd too large for one append', async () => {
    const { log, calls } = aLog();
    const audit = openAudit(log, { writer: 'engine', clock: aClock() });
    const many = (prefix: string) => Array.from({ length: 1500 }, (_, i) => anEntry(prefix + i));
    await Promise.all([audit.append(many('a')), audit.append(many('b'))]);
    expect(calls.length).toBe(2);
    expect((await verifyAudit(log)).records).toBe(3000);
  });

  it('rejects an entry without a valid instant alone', async () => {
    const { log } = aLog();
    const audit = openAudit(log, { writer: 'engine', clock: aClock() });
    const bad = audit.append([anEntry('bad', { at: new Date(Number.NaN) })]);
    const good = audit.append([anEntry('good')]);
    await expect(bad).rejects.toThrow();
    await good;
    expect(await idsOf(log)).toEqual(['good']);
  });

  it.each(['before', 'after'] as const)(
    'goes on after an append that failed %s writing',
    async (when) => {
      const { log } = aLog((call) => (call === 2 ? when : null));
      const audit = openAudit(log, { writer: 'engine', clock: aClock() });
      await audit.append([anEntry('a')]);
      await expect(audit.append([anEntry('b')])).rejects.toMatchObject({
        code: 'storage_unavailable',
      });
      await audit.append([anEntry('b')]);
      await audit.append([anEntry('c')]);
      expect(await idsOf(log)).toEqual(['a', 'b', 'b', 'c']);
      expect((await verifyAudit(log)).faults).toEqual([]);
    },
  );

  it('keeps the chain whole while storage fails again and again', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom('before' as const, 'after' as const, null), { maxLength: 30 }),
        fc.integer({ min: 1, max: 4 }),
        async (faults, rollAfter) => {
          const { log } = aLog((call) => faults[call - 1] ?? null);
          const audit = openAudit(log, { writer: 'w', clock: aClock(), rollAfter });
          const accepted: string[] = [];
          for (let i = 0; i < 12; i++) {
            await audit.append([anEntry(`${i}`)]).then(
              () => accepted.push(`${i}`),
              () => {},
            );
          }
          const found = await idsOf(log);
          expect(found.filter((id) => accepted.includes(id))).toEqual(accepted);
          expect((await verifyAudit(log)).faults).toEqual([]);
        },
      ),
      { numRuns: 200 },
    );
  });

  it('takes any names and texts in the detail', async () => {
    const scalar = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.double(),
      fc.boolean(),
      fc.constant(null),
    );
    const key = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.constantFrom('__proto__', '10', '9', 'hash'),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(fc.dictionary(key, scalar)), async (details) => {
        const { log } = aLog();
        const audit = openAudit(log, { writer: 'w', clock: aClock() });
        await audit.append(details.map((detail, i) => anEntry(`${i}`, { detail })));
        expect((await verifyAudit(log)).faults).toEqual([]);
        const found = await collect(readAudit(log));
        const asJson = details.map((detail) => JSON.parse(JSON.stringify(detail)));
        expect(found.map(({ detail }) => detail)).toEqual(asJson);
      }),
      { numRuns: 300 },
    );
  });

  it('leaves a segment that somebody else wrote into, and the verifier says so', async () => {
    const { log, inner } = aLog();
    const audit = openAudit(log, { writer: 'engine', clock: aClock() });
    await audit.append([anEntry('a')]);
    const [segment = ''] = await segmentsOf(log);
    const length = (await inner.read(segment)).length;
    await inner.append(segment, length, Buffer.from('{"mine":true}\n'));
    await audit.append([anEntry('b')]);
    await audit.append([anEntry('c')]);
    const verdict = await verifyAudit(log);
    expect(verdict.segments).toBe(2);
    expect(verdict.faults[0]).toMatchObject({ segment, line: 3, kind: 'changed' });
    expect(await idsOf({ ...log, list: (p) => log.list(`${p}`) }).catch((e) => e.code)).toBe(
      'corrupt',
    );
  });

  it('gives up its place when an unanswered append turns out to be in conflict', async () => {
    const { log } = aLog((call) => {
      if (call === 1) return 'before';
      return call === 2 ? new AppError('conflict', { detail: 'planted' }) : null;
    });
    const audit = openAudit(log, { writer: 'engine', clock: aClock() });
    await expect(audit.append([anEntry('a')])).rejects.toMatchObject({
      code: 'storage_unavailable',
    });
    await audit.append([anEntry('b')]);
    expect(await idsOf(log)).toEqual(['b']);
    expect((await verifyAudit(log)).faults).toEqual([]);
  });

  it('says so when a new segment is refused too, and recovers later', async () => {
    const refused = new AppError('conflict', { detail: 'planted' });
    const { log } = aLog((call) => (call <= 2 ? refused : null));
    const audit = openAudit(log, { writer: 'engine', clock: aClock() });
    await expect(audit.append([anEntry('a')])).rejects.toMatchObject({ code: 'conflict' });
    await audit.append([anEntry('b')]);
    expect(await idsOf(log)).toEqual(['b']);
  });

  it('begins a linked segment after so many records and with each day', async () => {
    const { log } = aLog();
    const clock = aClock();
    const audit = openAudit(log, { writer: 'engine', clock, rollAfter: 3 });
    for (const id of ['a', 'b', 'c', 'd']) await audit.append([anEntry(id)]);
    clock.set('2026-11-23T00:00:00.001Z');
    await audit.append([anEntry('e')]);
    expect((await segmentsOf(log)).map((name) => name.slice(6, 26))).toEqual([
      '2026/11/22/080000000',
      '2026/11/22/080000000',
      '2026/11/23/000000001',
    ]);
    expect(await verifyAudit(log)).toEqual({ segments: 3, records: 5, faults: [] });
    expect((await verifyAudit(log, 'audit/2026/11/23/')).faults).toEqual([]);
    expect(await idsOf(log)).toEqual(['a', 'b', 'c', 'd', 'e']);
  });
});

describe('readAudit', () => {
  it('gives only what matches', async () => {
    const { log } = aLog();
    const audit = openAudit(log, { writer: 'engine', clock: aClock() });
    await audit.append([
      anEntry('a', { rotationId: 'R1' }),
      anEntry('b', { rotationId: 'R2', object: 'main/secret/x' }),
      anEntry('c', { rotationId: 'R1', action: 'event.skipped', correlationId: 'C' }),
    ]);
    const ids = async (filter: Parameters<typeof readAudit>[1]) =>
      (await collect(readAudit(log, filter))).map(({ id }) => id);
    expect(await ids({ rotationId: 'R1' })).toEqual(['a', 'c']);
    expect(await ids({ rotationId: 'R1', action: 'event.skipped' })).toEqual(['c']);
    expect(await ids({ object: 'main/secret/x' })).toEqual(['b']);
    expect(await ids({ correlationId: 'C' })).toEqual(['c']);
    expect(await ids({ prefix: 'audit/2025/' })).toEqual([]);
  });
});
