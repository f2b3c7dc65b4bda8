import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Bench } from './bench.ts';
import { tryBench } from './verdict.ts';

const usage = `npm run bench: ratios, each measured side by side in one run.

  npm run bench -- [NAME …] [options]

  NAME      only files whose name contains it
  --json    one JSON line each: {name, ratio, goal, better, isMet}
  --help    this text

A goal that is missed is tried once more; missed twice, it ends the command with exit code 1.`;

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { json: { type: 'boolean' }, help: { type: 'boolean' } },
  });
  if (values.help) {
    console.log(usage);
    return;
  }
  const files = readdirSync(import.meta.dirname)
    .filter((file) => file.endsWith('.bench.ts'))
    .filter((file) => positionals.length === 0 || positionals.some((name) => file.includes(name)));
  if (files.length === 0) throw new Error(`no bench is named ${positionals.join(', ')}`);
  for (const file of files) {
    const { bench } = (await import(join(import.meta.dirname, file))) as { bench: Bench };
    if (!(await run(bench, values.json === true))) process.exitCode = 1;
  }
}

/** @returns whether the goal was met, at the latest at the second try */
async function run(bench: Bench, asJson: boolean): Promise<boolean> {
  const { name, goal, better } = bench;
  const wanted = `${better === 'lower' ? '≤' : '≥'} ${goal}`;
  let isMetAtLast = false;
  for await (const { ratio, isMet } of tryBench(bench)) {
    isMetAtLast = isMet;
    console.log(
      asJson
        ? JSON.stringify({ name, ratio, goal, better, isMet })
        : `${name.padEnd(56)} ${String(ratio).padStart(8)}  ${wanted.padEnd(7)} ${isMet ? 'met' : 'MISSED'}`,
    );
  }
  return isMetAtLast;
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 2;
}
