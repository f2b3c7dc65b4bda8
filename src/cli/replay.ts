/** npm run replay: what a log of accesses would have come to under other settings. */
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { AppError } from '../core/errors.ts';
import { replayLive } from '../core/simulation/live-target.ts';
import { type ReplayResult, replaySimulated } from '../core/simulation/replay.ts';
import type { ReplayDifference } from '../core/simulation/replay-differences.ts';
import type { LogFault } from '../core/simulation/replay-log.ts';
import { type Options, readOptions, usage } from './replay-options.ts';
import { renderReport } from './replay-report.ts';

/** Bad input, told in one sentence; everything else is a fault of ours and keeps its stack. */
class BadInput extends Error {}

const maxFaultsTold = 10;

/** Lines of the log, of which the bad ones are told and counted. */
interface Faults {
  readonly told: (fault: LogFault) => void;
  count(): number;
}

function countFaults({ strict }: Options): Faults {
  let count = 0;
  return {
    count: () => count,
    told: ({ line, what }) => {
      const text = `line ${line}: ${what}`;
      if (strict)
        throw new BadInput(`${text} (--strict stops at the first; leave it out to go on)`);
      count++;
      if (count <= maxFaultsTold) console.error(`${text}; left out`);
      if (count === maxFaultsTold) console.error('further lines like these are counted only');
    },
  };
}

async function* linesOf(path: string): AsyncIterable<string> {
  const input = path === '-' ? process.stdin : createReadStream(path);
  const lines = createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY });
  try {
    yield* lines;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new BadInput(`LOG cannot be read: ${why}; name a file, or - for the standard input`);
  } finally {
    lines.close();
  }
}

async function run(options: Options): Promise<void> {
  const faults = countFaults(options);
  const different = options.differences ? tellDifference : () => undefined;
  const results = await replay(options, faults, different);
  const first = results[0]?.result;
  if (first === undefined || first.from === null) {
    const why = first !== undefined ? reasonsIn(first) : '';
    throw new BadInput(`${options.log}: there is no line in it that can be replayed${why}`);
  }
  if (options.json) {
    process.stdout.write(`${JSON.stringify({ badLines: faults.count(), results })}\n`);
  } else {
    process.stdout.write(renderReport(results, faults.count()));
  }
}

function reasonsIn({ skipped }: ReplayResult): string {
  const reasons = Object.keys(skipped);
  return reasons.length === 0 ? '' : `: ${reasons.join('; ')}`;
}

async function replay(
  options: Options,
  faults: Faults,
  different: (difference: ReplayDifference) => void,
): Promise<{ settings: string; result: ReplayResult }[]> {
  const { log, base, against, live } = options;
  if (live === null) {
    const sides = against === null ? [base] : [base, against];
    const settings = sides.map((side) => side.settings);
    const results = await replaySimulated(linesOf(log), settings, faults.told, { different });
    return results.map((result, index) => ({ settings: sides[index]?.text ?? '', result }));
  }
  // Loaded only here: it brings the SDK along.
  const { openVaults } = await import('../core/index.ts');
  const { share, transactions, breaker } = base.settings;
  const result = await replayLive(linesOf(log), base.settings, faults.told, {
    different,
    ...{ speed: live.speed, allowsWrites: live.allowsWrites },
    aliases: live.vaults.map(({ alias }) => alias),
    open: (observer) =>
      openVaults(live.vaults, {
        observer,
        ...(share === null ? {} : { budget: { share, transactions } }),
        ...(breaker === null ? {} : { breaker }),
      }),
  });
  return [{ settings: base.text, result }];
}

/** To where diagnostics go, so that the report stays what it is. */
function tellDifference(difference: ReplayDifference): void {
  console.error(JSON.stringify(difference));
}

async function main(given: readonly string[]): Promise<number> {
  try {
    const options = readOptions(given);
    if (options === 'help') process.stdout.write(usage);
    else await run(options);
    return 0;
  } catch (error) {
    if (
      error instanceof BadInput ||
      (error instanceof AppError && error.code === 'invalid_input')
    ) {
      console.error(error instanceof AppError ? error.detail : error.message);
      return 2;
    }
    throw error;
  }
}

process.exitCode = await main(process.argv.slice(2));
