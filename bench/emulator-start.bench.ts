import { type Bench, median } from './bench.ts';
import { startChild } from './emulator-child.ts';

const processes = 5;

/** CPU time from loaded modules to a vault that answers, certificates and all. */
export const bench: Bench = {
  name: 'emulator: ms to start ÷ 300 ms',
  goal: 1,
  better: 'lower',
  async measure() {
    const times: number[] = [];
    for (let index = 0; index < processes; index++) {
      const child = startChild();
      try {
        times.push(await child.ask<number>({ kind: 'start' }));
      } finally {
        child.stop();
      }
    }
    return { ours: median(times), theirs: 300 };
  },
};
