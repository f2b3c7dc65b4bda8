import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/conformance/*.conformance.ts'],
    reporters: ['verbose'],
    // A check of silence waits for the handler's deadlines; the others need not wait for it.
    maxConcurrency: 12,
    testTimeout: 90_000,
    hookTimeout: 60_000,
  },
});
