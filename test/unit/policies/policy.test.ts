import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { choosePolicy, covers, Policy } from '../../../src/core/policies/policy.ts';
import { isDue } from '../../../src/core/policies/schedule.ts';
import type { ObjectRef } from '../../../src/core/vault/ports.ts';

const orders: ObjectRef = { vault: 'main', type: 'secret', name: 'orders-db' };
const body = {
  id: 'orders',
  covers: [{ vault: 'main', type: 'secret', name: 'orders-*' }],
  handler: 'generated',
  schedule: { validFor: 'P90D', leadTime: 'P30D' },
  grace: 'P1D',
};
const policy = (changes: object = {}) => Policy.parse({ ...body, ...changes });
const faults = (changes: object) =>
  (Policy.safeParse({ ...body, ...changes }).error?.issues ?? []).map(
    ({ path, message }) => `${path.join('.')}: ${message}`,
  );
const named = (name: string) => [{ vault: 'main', type: 'secret' as const, name }];

describe('a policy', () => {
  it('says only what differs from the usual', () => {
    expect(policy()).toEqual({
      ...body,
      target: null,
      schedule: { validFor: 90 * 86_400, leadTime: 30 * 86_400, minimumAge: 0 },
      grace: 86_400,
      generator: { length: 32, classes: ['lower', 'upper', 'digit'], exclude: '' },
      value: { shape: 'raw' },
      consumers: [],
      paused: false,
    });
  });

  it('tells every fault at once, each with its field', () => {
    const found = faults({
      id: 'Orders!',
      covers: [{ vault: 'MAIN', type: 'password', name: 'a b' }],
      handler: '',
      schedule: { validFor: 'P31D', leadTime: 'P30D', minimumAge: 'soon' },
      generator: { length: 4, classes: [], exclude: 'x'.repeat(65) },
      value: { shape: 'json', template: { user: 'app' } },
      consumers: [{ kind: 'pigeon' }],
      colour: 'red',
    });
    for (const field of [
      'id',
      'covers.0.vault',
      'covers.0.type',
      'covers.0.name',
      'handler',
      'schedule.minimumAge',
      'schedule.validFor: must be longer than leadTime plus grace',
      'generator.length',
      'generator.classes',
      'generator.exclude',
      'value.template',
      'consumers.0.kind',
      ': Unrecognized key: "colour"',
    ]) {
      expect(
        found.some((fault) => fault.startsWith(field)),
        `${field} in ${found}`,
      ).toBe(true);
    }
  });

  it.each([
    ['P31D', 'P30D', 'P1D', false],
    ['P31DT1S', 'P30D', 'P1D', true],
    ['P1D', 'P30D', 'P0D', false],
    ['PT0S', 'PT0S', 'PT0S', false],
  ])(
    'valid for %s with lead time %s and grace %s is accepted: %s',
    (validFor, leadTime, grace, ok) => {
      expect(Policy.safeParse({ ...body, schedule: { validFor, leadTime }, grace }).success).toBe(
        ok,
      );
    },
  );

  it('may not tell two consumers under one name', () => {
    const consumer = {
      kind: 'webhook',
      id: 'shop',
      url: 'https://shop.example.com/',
      signingSecret: { vault: 'main', name: 'webhook-shop' },
    };
    expect(policy({ consumers: [consumer, { ...consumer, id: 'till' }] }).consumers).toHaveLength(
      2,
    );
    expect(faults({ consumers: [consumer, consumer] })).toEqual(['consumers: ids must differ']);
  });
});

describe('what a policy covers', () => {
  it.each([
    ['orders-db', 'orders-db', true],
    ['orders-db', 'ORDERS-DB', true],
    ['orders-db', 'orders-db2', false],
    ['orders-db', 'my-orders-db', false],
    ['orders-*', 'orders-', true],
    ['orders-*', 'orders', false],
    ['*-db', 'orders-db', true],
    ['*-db', 'db', false],
    ['*', 'anything', true],
    ['a*b*c', 'abc', true],
    ['a*b*c', 'axxbxxc', true],
    ['a*b*c', 'axxcxxb', false],
    ['a*a', 'a', false],
    ['ab*ba', 'aba', false],
    ['**', 'x', true],
    ['a**b', 'ab', true],
    ['*a*', 'bab', true],
    ['*a*', 'bbb', false],
  ])('%s fits %s: %s', (glob, name, fits) => {
    expect(covers(named(glob), { ...orders, name })).toBe(fits);
  });

  it.each([
    ['vault', { vault: 'other' }],
    ['type', { type: 'key' as const }],
  ])('is of one %s', (_what, change) => {
    expect(covers(named('*'), { ...orders, ...change })).toBe(false);
  });

  const letter = fc.constantFrom('a', 'b', 'A', '-', '1');
  const name = fc.string({ unit: letter, minLength: 1, maxLength: 8 });
  const glob = fc.string({ unit: fc.oneof(letter, fc.constant('*')), minLength: 1, maxLength: 6 });

  it('is what a regular expression says', () => {
    fc.assert(
      fc.property(glob, name, (pattern, text) => {
        const expression = pattern.replaceAll('-', '\\-').replaceAll('*', '.*');
        const expected = new RegExp(`^${expression}$`, 'i').test(text);
        expect(covers(named(pattern), { ...orders, name: text })).toBe(expected);
      }),
      { numRuns: 5000 },
    );
  });

  it('is found in no time for a pattern made to take for ever', () => {
    const pattern = `${'*a'.repeat(60)}b`;
    const started = performance.now();
    expect(covers(named(pattern), { ...orders, name: 'a'.repeat(127) })).toBe(false);
    expect(performance.now() - started).toBeLessThan(100);
  });
});

describe('the choice of a policy', () => {
  const two = [policy({ id: 'first' }), policy({ id: 'second' })];

  it('is the one that lists the object, none, or ambiguous', () => {
    expect(choosePolicy([policy()], orders, {})).toMatchObject({
      kind: 'one',
      policy: { id: 'orders' },
    });
    expect(choosePolicy([], orders, {})).toEqual({ kind: 'none' });
    expect(choosePolicy(two, orders, {})).toMatchObject({
      kind: 'ambiguous',
      detail: expect.stringContaining('first, second'),
    });
  });

  it('is the tagged one among several', () => {
    expect(choosePolicy(two, orders, { policy: 'second' })).toMatchObject({
      policy: { id: 'second' },
    });
    expect(choosePolicy(two, orders, { policy: 'third' })).toMatchObject({ kind: 'ambiguous' });
  });

  it('never falls on a policy that does not list the object, whatever its tags say', () => {
    const anyName = fc.constantFrom('orders-db', 'admin', 'orders-*', '*', 'a*', '*-db');
    const anyPolicy = fc.record({ id: fc.constantFrom('p1', 'p2', 'p3'), covered: anyName });
    const tags = fc.record({ policy: fc.constantFrom('p1', 'p2', 'p3', 'x', '') });
    const objects = fc.constantFrom('orders-db', 'admin', 'shop-db', 'other');
    fc.assert(
      fc.property(fc.array(anyPolicy, { maxLength: 4 }), objects, tags, (given, object, tag) => {
        const policies = given.map(({ id, covered }) => policy({ id, covers: named(covered) }));
        const ref = { ...orders, name: object };
        const choice = choosePolicy(policies, ref, tag);
        if (choice.kind === 'one') expect(covers(choice.policy.covers, ref)).toBe(true);
        const listing = policies.filter((one) => covers(one.covers, ref));
        expect(choice.kind === 'none').toBe(listing.length === 0);
      }),
    );
  });
});

describe('a version', () => {
  const now = new Date('2026-03-01T00:00:00Z');
  it.each([
    [null, false],
    ['2026-03-31T00:00:00Z', true],
    ['2026-03-31T00:00:01Z', false],
    ['2026-02-01T00:00:00Z', true],
  ])('that expires %s is due 30 days ahead: %s', (expiresOn, due) => {
    expect(isDue(expiresOn === null ? null : new Date(expiresOn), 30 * 86_400, now)).toBe(due);
  });
});
