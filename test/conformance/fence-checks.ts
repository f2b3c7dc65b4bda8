import assert from 'node:assert/strict';
import type { AnyHandler, Fence } from '../../src/core/rotation/handler.ts';
import type { Check } from './check.ts';
import { startCuttingProxy } from './cutting-proxy.ts';
import type { TestTarget } from './fixture.ts';
import { type ChangingVerb, leaseLost, newSubject, openFence } from './subject.ts';

export const changingVerbs = ['apply', 'retire', 'restore'] as const;

const closedFences: Record<string, Partial<Fence>> = {
  'hold says that the lease is lost': {
    hold: async () => {
      throw leaseLost();
    },
  },
  'hold leaves no time': { hold: async () => 0 },
  'hold leaves a deadline in the past': { hold: async () => -60_000 },
  'guard throws': {
    guard: () => {
      throw leaseLost();
    },
  },
};

const closed: readonly Check[] = changingVerbs.flatMap((verb) =>
  Object.entries(closedFences).map(([when, changes]) => ({
    name: `${verb} changes nothing and fails with lease_lost when ${when}`,
    run: (handler, target) =>
      changesNothing(handler, target, { verb, fence: () => openFence(changes) }),
  })),
);

const late: readonly Check[] = changingVerbs.map((verb) => ({
  name: `${verb} changes nothing and fails with lease_lost when its bytes arrive after the deadline`,
  run: async (handler, target) => {
    // Without a clock a target cannot tell; the guard is all there is.
    if (!target.hasClock) return;
    const proxy = await startCuttingProxy(target.address);
    const delayMs = target.patienceMs / 10;
    const hold = async () => {
      proxy.delay(delayMs);
      return delayMs / 2;
    };
    const fence = () => openFence({ hold });
    try {
      await changesNothing(handler, target, { verb, fence, at: proxy.address });
    } finally {
      await proxy.close();
    }
  },
}));

const asked: readonly Check[] = changingVerbs.map((verb) => ({
  name: `${verb} asks hold first and guard last, once at least`,
  run: async (handler, target) => {
    const subject = await newSubject(handler, target);
    await subject.prepare(verb);
    const order: string[] = [];
    const hold = async () => {
      order.push('hold');
      return 60_000;
    };
    await subject.succeed(verb, { fence: { hold, guard: () => void order.push('guard') } });
    assert.equal(order[0], 'hold');
    assert.equal(order.at(-1), 'guard');
  },
}));

export const fenceChecks: readonly Check[] = [...asked, ...closed, ...late];

async function changesNothing(
  handler: AnyHandler,
  target: TestTarget,
  call: {
    readonly verb: ChangingVerb;
    readonly fence: () => Fence;
    readonly at?: TestTarget['address'];
  },
): Promise<void> {
  const subject = await newSubject(handler, target);
  await subject.prepare(call.verb);
  const before = await subject.login.state();
  const { at = target.address } = call;
  await subject.fail(call.verb, ['lease_lost'], { fence: call.fence(), at });
  assert.equal(await subject.login.state(), before, 'something has changed');
}
