import type { Bench } from './bench.ts';
import { startChild } from './emulator-child.ts';

/** What the heap has grown by once 100,000 secrets are there and all were listed, page by page. */
export const bench: Bench = {
  name: 'emulator: bytes a secret of 100,000, listed ÷ 1.5 KiB',
  goal: 1,
  better: 'lower',
  async measure() {
    const child = startChild(['--expose-gc']);
    try {
      return { ours: await child.ask<number>({ kind: 'list', secrets: 100_000 }), theirs: 1536 };
    } finally {
      child.stop();
    }
  },
};
