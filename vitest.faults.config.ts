import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    // One point alone when asked for: see kill-sweep.test.ts.
    include: process.env['KEYTURN_FAULT_POINT']
      ? ['test/faults/kill-sweep.test.ts']
      : ['test/faults/**/*.test.ts'],
    testTimeout: 30 * 60_000,
    hookTimeout: 120_000,
    // One after the other: each file has a whole stack of its own, and its lanes fill the machine.
    fileParallelism: false,
    reporters: ['verbose'],
    disableConsoleIntercept: true,
  },
});
