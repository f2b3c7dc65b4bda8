import { afterAll, beforeAll, describe, it } from 'vitest';
import type { AnyHandler } from '../../src/core/rotation/handler.ts';
import { bareChecks, checks, targetlessChecks } from './checks.ts';
import type { Fixture, TestTarget } from './fixture.ts';

/** Every check as a test of its own. They run side by side: each has a login of its own. */
export function conformance(handler: AnyHandler, fixture: Fixture): void {
  describe(`${handler.id} (${fixture.name})`, () => {
    for (const { name, run } of bareChecks) it(name, () => run(handler));
    if (fixture.start) atTarget(handler, fixture.start);
    else for (const { name, run } of targetlessChecks) it(name, () => run(handler));
  });
}

const running = new Set<TestTarget>();

function atTarget(handler: AnyHandler, start: () => Promise<TestTarget>): void {
  let target: TestTarget | undefined;
  beforeAll(async () => {
    target = await start();
    running.add(target);
  });
  afterAll(async () => {
    if (!target) return;
    running.delete(target);
    await target.stop();
  });
  for (const { name, run } of checks) {
    it.concurrent(name, async () => {
      if (!target) throw new Error('the target did not start');
      await run(handler, target);
    });
  }
}

/** Ctrl-C reaches this process directly, and by default ends it before any hook has run. */
async function stopAll(): Promise<void> {
  await Promise.allSettled([...running].map((target) => target.stop()));
  // Inside vitest `process.exit` only throws.
  process.kill(process.pid, 'SIGKILL');
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void stopAll());
