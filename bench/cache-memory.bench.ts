import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Bench } from './bench.ts';

/** What the heap grows by when 10,000 secrets are cached: values of 32 characters, names, properties and all. */
export const bench: Bench = {
  name: 'bytes a cached secret of 10,000 ÷ 2 KiB',
  goal: 1,
  better: 'lower',
  async measure() {
    const script = fileURLToPath(new URL('./cache-heap.ts', import.meta.url));
    const child = spawnSync(process.execPath, ['--expose-gc', script, '10000'], {
      encoding: 'utf8',
    });
    if (child.status !== 0) throw new Error(child.stderr);
    return { ours: Number(child.stdout), theirs: 2048 };
  },
};
