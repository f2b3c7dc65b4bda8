import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { handlers } from '../../src/core/rotation/handlers/index.ts';
import type { Check } from './check.ts';
import { checks } from './checks.ts';
import { type Fault, startCuttingProxy } from './cutting-proxy.ts';
import { type Breakage, fakeHandler, startFakeTarget } from './fake-target.ts';
import type { TestTarget } from './fixture.ts';
import { fixtures } from './fixtures.ts';
import { newSubject } from './subject.ts';

let target: TestTarget;
beforeAll(async () => {
  target = await startFakeTarget();
});
afterAll(() => target.stop());

/** The names of those of `chosen` that a handler with this fault does not pass. */
async function failures(
  breakage: Breakage | null,
  { chosen = checks, at = target }: { chosen?: readonly Check[]; at?: TestTarget } = {},
): Promise<string[]> {
  const handler = fakeHandler(breakage);
  const failed: string[] = [];
  const queue = chosen.values();
  const work = async () => {
    for (const { name, run } of queue) await run(handler, at).catch(() => failed.push(name));
  };
  // Side by side because most of them wait, few at a time because the fake's deadlines are short.
  await Promise.all(Array.from({ length: 8 }, work));
  return failed;
}

describe('conformance kit', () => {
  it('lets a sound handler pass', async () => {
    expect(await failures(null)).toEqual([]);
  });

  it.each<[Breakage, ...RegExp[]]>([
    [
      'apply refuses what is in force already',
      /^apply makes the candidate log in and may be repeated/,
      /^apply ends and can be repeated .* before its answer/,
    ],
    [
      'verify says false when it cannot know',
      /^verify fails with target_unreachable when the target is down/,
      /^verify never says false .* before its answer/,
    ],
    [
      'fence ignored',
      /^apply changes nothing .* the lease is lost/,
      /^retire changes nothing .* guard throws/,
      /^restore changes nothing .* leaves no time/,
    ],
    [
      'deadline ignored',
      /^apply changes nothing .* a deadline in the past/,
      /^restore changes nothing .* arrive after the deadline/,
    ],
    ['password in the error', /^apply, retire and restore fail with nothing but/],
    ['password as base64 in the error', /^apply, retire and restore fail with nothing but/],
    ['preflight asks nothing', /^preflight fails .* wherever apply could not succeed/],
    ['host as written', /^names its resources the same whatever the letter case/],
  ])('catches a handler with the fault: %s', async (breakage, ...names) => {
    for (const name of names) {
      const chosen = checks.filter((check) => name.test(check.name));
      expect(chosen).toHaveLength(1);
      expect(await failures(breakage, { chosen })).toEqual(chosen.map((check) => check.name));
    }
  });

  it('catches a handler that waits for ever', async () => {
    const chosen = checks.filter(({ name }) => /^verify gives up .* stays silent/.test(name));
    const at = { ...target, patienceMs: 500 };
    expect(await failures('waits for ever', { chosen, at })).toHaveLength(1);
  });

  it.each<[Fault['kind'], { acts: boolean }]>([
    ['before', { acts: false }],
    ['after', { acts: true }],
    ['silence', { acts: false }],
  ])('cuts a line %s the message: %o', async (kind, { acts }) => {
    const subject = await newSubject(fakeHandler(null), target);
    const proxy = await startCuttingProxy(target.address, { kind, at: 1 });
    await subject.fail('apply', ['target_unreachable'], { at: proxy.address });
    expect(await subject.login.logsIn(subject.candidate)).toBe(acts);
    expect(proxy.messages()).toBe(1);
    await proxy.close();
  });

  it('has a fixture for every registered handler', () => {
    expect(Object.keys(fixtures).toSorted()).toEqual([...handlers.keys()].toSorted());
  });
});
