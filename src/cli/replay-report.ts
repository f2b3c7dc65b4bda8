/** The result of a replay as a table to be read. */
import type { ReplayResult } from '../core/simulation/replay.ts';
import type { ReplayFigures } from '../core/simulation/replay-figures.ts';

export interface Reported {
  readonly settings: string;
  readonly result: ReplayResult;
}

const maxDifferences = 5;

/** @param results of one log; the first is what the others are set against */
export function renderReport(results: readonly Reported[], badLines: number): string {
  const first = results[0]?.result;
  if (first === undefined) return '';
  const columns = [first.recorded, ...results.map(({ result }) => result.replayed)];
  const letters = results.map((_, index) => String.fromCharCode('A'.charCodeAt(0) + index));
  const table = [['', 'recorded', ...letters], ...figureRows(columns)];
  const parts = [
    headLines(first, badLines),
    results.map(({ settings }, index) => `${letters[index]}: ${settings}`),
    renderTable([...table, ...differenceRows(results)]),
    ...results.map(({ result }, index) => differenceLines(result, letters[index] ?? '')),
  ];
  return `${parts
    .filter((lines) => lines.length > 0)
    .map((lines) => lines.join('\n'))
    .join('\n\n')}\n`;
}

function headLines({ from, to, recorded, skipped }: ReplayResult, badLines: number): string[] {
  return [
    `${count(recorded.operations)} operations from ${from} to ${to}`,
    ...(badLines === 0 ? [] : [`${count(badLines)} lines left out: they cannot be read`]),
    ...Object.entries(skipped).map(([why, times]) => `${count(times)} operations left out: ${why}`),
  ];
}

function figureRows(columns: readonly ReplayFigures[]): string[][] {
  const row = (label: string, cell: (figures: ReplayFigures) => string) => [
    label,
    ...columns.map(cell),
  ];
  const vaults = [...new Set(columns.flatMap(({ peaks }) => peaks.map(({ vault }) => vault)))];
  return [
    row('hit rate', ({ hitRate }) => percent(hitRate)),
    row('reads that waited for another', ({ sources }) => count(sources.shared)),
    row('reads beyond their time', ({ sources }) => count(sources.stale)),
    row('vault calls', ({ vaultCalls }) => count(vaultCalls)),
    row(
      'vault calls per operation',
      ({ callsPerOperation }) => callsPerOperation?.toFixed(3) ?? '-',
    ),
    row('429s', ({ throttled }) => count(throttled)),
    row('operations failed', ({ byOperation }) =>
      count(byOperation.reduce((sum, { failed }) => sum + failed, 0)),
    ),
    row('latency p50', ({ latencyMs }) => milliseconds(latencyMs.p50)),
    row('latency p95', ({ latencyMs }) => milliseconds(latencyMs.p95)),
    row('latency p99', ({ latencyMs }) => milliseconds(latencyMs.p99)),
    ...vaults.map((vault) =>
      row(`busiest 10 s of ${vault}`, ({ peaks }) =>
        peakOf(peaks.find((one) => one.vault === vault)),
      ),
    ),
  ];
}

function differenceRows(results: readonly Reported[]): string[][] {
  const row = (label: string, cell: (result: ReplayResult) => number) => [
    label,
    '',
    ...results.map(({ result }) => count(cell(result))),
  ];
  return [
    row('ended otherwise', ({ differences }) => differences.total),
    row('  better', ({ differences }) => differences.byEffect.better),
    row('  worse', ({ differences }) => differences.byEffect.worse),
  ];
}

function differenceLines({ differences }: ReplayResult, letter: string): string[] {
  if (differences.total === 0) return [];
  const reasons = Object.entries(differences.byReason)
    .sort(([, left], [, right]) => right - left)
    .map(([reason, times]) => `  ${count(times)} times: ${reason}`);
  const examples = differences.examples
    .slice(0, maxDifferences)
    .map(
      ({ line, operation, object, recorded, replayed, reason }) =>
        `  line ${line}: ${operation} ${object ?? ''}: ${short(recorded)} became ${short(replayed)}: ${reason}`,
    );
  return [`${letter} ended otherwise`, ...reasons, ...examples];
}

function renderTable(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((cells) => cells[column]?.length ?? 0)),
  );
  return rows.map((cells) =>
    cells
      .map((cell, column) =>
        column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart((widths[column] ?? 0) + 2),
      )
      .join('')
      .trimEnd(),
  );
}

function peakOf(peak: ReplayFigures['peaks'][number] | undefined): string {
  if (peak === undefined) return '0';
  const { transactions, limit } = peak;
  return `${count(Math.round(transactions))} (${percent(transactions / limit)})`;
}

function count(number: number): string {
  return number.toLocaleString('en-US');
}

function percent(share: number | null): string {
  return share === null ? '-' : `${(share * 100).toFixed(1)} %`;
}

function milliseconds(ms: number | null): string {
  return ms === null ? '-' : `${ms} ms`;
}

/** Of a version, as much as tells it from others. */
function short(outcome: string): string {
  return outcome.replace(/^(version [0-9a-f]{8})[0-9a-f]+$/, '$1…');
}
