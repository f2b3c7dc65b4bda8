import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type Exporter, lazyExporter } from '../../src/core/azure/telemetry-export.ts';
import { jsonLog } from '../../src/core/log.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const exportMs = 5_000;
const succeeded = { code: 0 };
const refused = { code: 1, error: new Error('503') };

/** A lazy exporter whose own one does `work`, and what is seen of it. */
function exporterThat(work: Exporter<string>['export']) {
  const seen = { loads: 0, lines: [] as string[], results: [] as number[] };
  const log = jsonLog((line) => seen.lines.push(JSON.parse(line).event));
  const load = async () => {
    seen.loads++;
    return { export: work, shutdown: async () => undefined };
  };
  const exporter = lazyExporter('test', load, { exportMs, log });
  const send = async () => {
    exporter.export('batch', ({ code }) => seen.results.push(code));
    await vi.advanceTimersByTimeAsync(0);
  };
  return { exporter, seen, send };
}

describe('an exporter', () => {
  it('is loaded by its first batch, and once', async () => {
    const { exporter, seen, send } = exporterThat((_, done) => done(succeeded));
    await exporter.forceFlush?.();
    await exporter.shutdown();
    expect(seen.loads).toBe(0);
    await send();
    await send();
    expect(seen).toEqual({ loads: 1, lines: [], results: [0, 0] });
  });

  it('has failed when it does not answer in time, and what comes later is nothing', async () => {
    const late: (() => void)[] = [];
    const { seen, send } = exporterThat((_, done) => void late.push(() => done(succeeded)));
    await send();
    await vi.advanceTimersByTimeAsync(exportMs - 1);
    expect(seen.results).toEqual([]);
    await vi.advanceTimersByTimeAsync(1);
    for (const answer of late) answer();
    await vi.advanceTimersByTimeAsync(0);
    expect(seen).toMatchObject({ results: [1], lines: ['telemetry.not_sent'] });
  });

  it('that fails again and again is logged once until it succeeds', async () => {
    const answers = [refused, refused, succeeded, refused];
    const { seen, send } = exporterThat((_, done) => done(answers.shift() ?? succeeded));
    for (let batch = 0; batch < 4; batch++) await send();
    expect(seen.results).toEqual([1, 1, 0, 1]);
    expect(seen.lines).toEqual(['telemetry.not_sent', 'telemetry.not_sent']);
  });

  it('that throws, or cannot be loaded, has failed', async () => {
    const { seen, send } = exporterThat(() => {
      throw new Error('x');
    });
    await send();
    expect(seen.results).toEqual([1]);
    const results: number[] = [];
    const tools = { exportMs, log: jsonLog(vi.fn()) };
    const absent = lazyExporter('test', () => Promise.reject(new Error('x')), tools);
    absent.export('batch', ({ code }) => results.push(code));
    await vi.advanceTimersByTimeAsync(0);
    expect(results).toEqual([1]);
  });
});
