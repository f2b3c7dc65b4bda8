import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Bench } from './bench.ts';

const usage = `npm run bench: ratios, each measured side by side in one run.

  npm run bench -- [NAME …] [options]

  NAME      only files whose name contains it
  --json    one JSON line each: {name, ratio, goal, better}
  --help    this text`;

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
    const { ours, theirs } = await bench.measure();
    const ratio = Number((ours / theirs).toPrecision(3));
    const { name, goal, better } = bench;
    if (values.json) {
      console.log(JSON.stringify({ name, ratio, goal, better }));
      continue;
    }
    const isMet = better === 'lower' ? ratio <= goal : ratio >= goal;
    const wanted = `${better === 'lower' ? '≤' : '≥'} ${goal}`;
    console.log(
      `${name.padEnd(56)} ${String(ratio).padStart(8)}  ${wanted.padEnd(7)} ${isMet ? 'met' : 'MISSED'}`,
    );
  }
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 2;
}
