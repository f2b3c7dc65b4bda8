import assert from 'node:assert/strict';
import type { AnyHandler } from '../../src/core/rotation/handler.ts';
import type { Check } from './check.ts';
import { type Fault, startCuttingProxy } from './cutting-proxy.ts';
import { changingVerbs } from './fence-checks.ts';
import type { TestTarget } from './fixture.ts';
import { messageOf, newSubject, type Subject, type Verb } from './subject.ts';

const allVerbs = ['preflight', 'verify', ...changingVerbs] as const;
const faultKinds = {
  before: 'is cut before any message',
  after: 'is cut after any message, before its answer',
  silence: 'goes silent at any message',
} as const;

const unreachable: readonly Check[] = allVerbs.map((verb) => ({
  name: `${verb} fails with target_unreachable when the target is down`,
  run: async (handler, target) => {
    const subject = await newSubject(handler, target);
    const proxy = await startCuttingProxy(target.address);
    await proxy.close();
    await subject.fail(verb, ['target_unreachable'], { at: proxy.address });
  },
}));

const silent: readonly Check[] = allVerbs.map((verb) => ({
  name: `${verb} gives up with target_unreachable at a target that accepts and stays silent`,
  run: async (handler, target) => {
    const subject = await newSubject(handler, target);
    const proxy = await startCuttingProxy(target.address, { kind: 'silence', at: 0 });
    try {
      await subject.fail(verb, ['target_unreachable'], { at: proxy.address });
    } finally {
      await proxy.close();
    }
  },
}));

const interrupted: readonly Check[] = changingVerbs.flatMap((verb) =>
  kinds().map((kind) => ({
    name: `${verb} ends and can be repeated when the line ${faultKinds[kind]}`,
    run: (handler, target) =>
      atEveryMessage(handler, target, {
        verb,
        kind,
        judge: async (subject, ending) => {
          if (ending === 'done') await subject.isReached(verb);
          await subject.succeed(verb);
          await subject.isReached(verb);
        },
      }),
  })),
);

const doubtful: readonly Check[] = kinds().flatMap((kind) => [
  {
    name: `verify never says false when the line ${faultKinds[kind]}`,
    run: (handler, target) =>
      atEveryMessage(handler, target, {
        verb: 'verify',
        kind,
        judge: async (_subject, ending, value) => {
          if (ending === 'done') assert.equal(value, true);
        },
      }),
  },
  {
    name: `preflight ends and changes nothing when the line ${faultKinds[kind]}`,
    run: (handler, target) =>
      atEveryMessage(handler, target, {
        verb: 'preflight',
        kind,
        judge: (subject) => subject.logsIn(subject.base),
      }),
  },
]);

export const faultChecks: readonly Check[] = [
  ...unreachable,
  ...silent,
  ...interrupted,
  ...doubtful,
];

function kinds(): readonly Fault['kind'][] {
  return ['before', 'after', 'silence'];
}

interface Sweep {
  readonly verb: Verb;
  readonly kind: Fault['kind'];
  judge(subject: Subject, ending: 'done' | 'failed', value: unknown): Promise<void>;
}

/** One run of the verb for each message it sends, each at a login of its own. */
async function atEveryMessage(
  handler: AnyHandler,
  target: TestTarget,
  sweep: Sweep,
): Promise<void> {
  const total = await countMessages(handler, target, sweep.verb);
  assert.ok(total > 0, `${sweep.verb} sends the target nothing`);
  const positions = Array.from({ length: total }, (_, index) => index + 1);
  // Silence costs the handler's whole patience each time, so these wait side by side.
  const results = await Promise.allSettled(
    positions.map((at) => interrupt(handler, target, { ...sweep, at, total })),
  );
  const failed = results.flatMap((result, index) =>
    result.status === 'rejected'
      ? [`at message ${index + 1} of ${total}: ${messageOf(result.reason)}`]
      : [],
  );
  if (failed.length > 0) assert.fail(failed.join('\n'));
}

async function countMessages(handler: AnyHandler, target: TestTarget, verb: Verb): Promise<number> {
  const subject = await newSubject(handler, target);
  await subject.prepare(verb);
  const proxy = await startCuttingProxy(target.address);
  try {
    await subject.succeed(verb, { at: proxy.address });
    return proxy.messages();
  } finally {
    await proxy.close();
  }
}

async function interrupt(
  handler: AnyHandler,
  target: TestTarget,
  sweep: Sweep & { readonly at: number; readonly total: number },
): Promise<void> {
  const subject = await newSubject(handler, target);
  await subject.prepare(sweep.verb);
  const proxy = await startCuttingProxy(target.address, { kind: sweep.kind, at: sweep.at });
  try {
    const ending = await subject.attempt(sweep.verb, { at: proxy.address });
    // Two messages may share a chunk, then there are fewer; the first is always there.
    assert.ok(proxy.hasStruck() || sweep.at > 1, 'no message passed');
    const value = ending.kind === 'done' ? ending.value : ending.error;
    await sweep.judge(subject, ending.kind, value);
  } finally {
    await proxy.close();
  }
}
