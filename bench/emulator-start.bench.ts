import { type Bench, median } from './bench.ts';
import { startChild } from './emulator-child.ts';

const processes = 5;

/** CPU time from loaded modules to the first answer of a vault: certificates, identity service, a token and its check. */
export const bench: Bench = {
  name: 'emulator and identity: ms of CPU to start ÷ 300 ms',
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
