import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isLike } from '../../../local/key-vault/glob.ts';
import type { KeySpec } from '../../../local/key-vault/key-material.ts';
import { Latency, nextLatency } from '../../../local/key-vault/latency.ts';
import { operations } from '../../../local/key-vault/operations.ts';
import { SortedKeys } from '../../../local/key-vault/sorted-keys.ts';
import { chargeOf, Throttle, Throttling } from '../../../local/key-vault/throttling.ts';

const rsa = (size: number, kty: 'RSA' | 'RSA-HSM' = 'RSA'): KeySpec => ({ kty, size });
const ec = (kty: 'EC' | 'EC-HSM' = 'EC'): KeySpec => ({ kty, crv: 'P-256' });

describe('throttling', () => {
  const published = Throttling.parse({ enabled: true });
  const customer = { vault: 'main', subscriptionId: 's' };

  it.each<[string, KeySpec | null, string, number]>([
    ['setSecret', null, 'secretCreate', 300],
    ['importKey', rsa(2048), 'secretCreate', 300],
    ['importCertificate', null, 'secretCreate', 300],
    ['getSecret', null, 'other', 4000],
    ['getKeys', null, 'other', 4000],
    ['createKey', rsa(4096), 'softwareKeyCreate', 20],
    ['createKey', ec('EC-HSM'), 'hsmKeyCreate', 10],
    ['rotateKey', rsa(2048), 'softwareKeyCreate', 20],
    ['release', rsa(2048, 'RSA-HSM'), 'hsmKeyCreate', 10],
    ['sign', rsa(2048), 'softwareKey', 4000],
    ['sign', rsa(3072), 'softwareKey', 1000],
    ['sign', rsa(4096), 'softwareKey', 500],
    ['sign', ec(), 'softwareKey', 4000],
    ['getKey', rsa(2048, 'RSA-HSM'), 'hsmKey', 2000],
    ['sign', rsa(3072, 'RSA-HSM'), 'hsmKey', 500],
    ['sign', rsa(4096, 'RSA-HSM'), 'hsmKey', 250],
    ['wrapKey', { kty: 'oct-HSM', size: 256 }, 'hsmKey', 2000],
  ])('counts %s with %j as %s of %i', (operationId, key, bucket, limit) => {
    expect(chargeOf(published, { operationId, key })).toEqual({ bucket, limit });
    expect(operations.map(({ id }) => id)).toContain(operationId);
  });

  it('weighs keys: 248 calls with 4096 bits and 16 with 2048 fill a window', () => {
    const throttle = new Throttle();
    const sign = (size: number) => {
      const charge = chargeOf(published, { operationId: 'sign', key: rsa(size, 'RSA-HSM') });
      return throttle.admit(published, charge, customer, 0);
    };
    for (let index = 0; index < 248; index += 1) expect(sign(4096)).toBe('admitted');
    for (let index = 0; index < 16; index += 1) expect(sign(2048)).toBe('admitted');
    expect(sign(2048)).toBe('vault-limit');
    expect(sign(4096)).toBe('vault-limit');
  });

  it('admits exactly the limit in each window, and does not count what it refuses', () => {
    const throttle = new Throttle();
    const charge = chargeOf(published, { operationId: 'setSecret', key: null });
    const admitted = (count: number, now: number) =>
      Array.from({ length: count }, () => throttle.admit(published, charge, customer, now)).filter(
        (verdict) => verdict === 'admitted',
      ).length;
    expect(admitted(1000, 0)).toBe(300);
    expect(admitted(1000, 9_999)).toBe(0);
    expect(admitted(1000, 10_000)).toBe(300);
    throttle.clear();
    expect(admitted(1000, 10_000)).toBe(300);
  });

  it('lets the vaults of one subscription have five times as much together', () => {
    const throttle = new Throttle();
    const charge = chargeOf(published, { operationId: 'setSecret', key: null });
    const verdicts = Array.from({ length: 6 }, (_, vault) =>
      Array.from({ length: 300 }, () =>
        throttle.admit(published, charge, { vault: `v${vault}`, subscriptionId: 's' }, 0),
      ),
    );
    expect(
      verdicts
        .slice(0, 5)
        .flat()
        .every((verdict) => verdict === 'admitted'),
    ).toBe(true);
    expect(new Set(verdicts[5])).toEqual(new Set(['subscription-limit']));
  });
});

describe('latency', () => {
  const draw = (latency: unknown, count = 20_000): number[] => {
    const parsed = Latency.parse(latency);
    return Array.from({ length: count }, () => nextLatency(parsed)).sort((a, b) => a - b);
  };
  const quantile = (sorted: number[], at: number) => sorted[Math.floor(sorted.length * at)]!;

  it.each([
    ['nothing', { kind: 'none' }, 0, 0],
    ['a fixed time', { kind: 'fixed', ms: 7 }, 7, 7],
    ['a uniform one', { kind: 'uniform', minMs: 0, maxMs: 100, seed: 1 }, 50, 99],
    ['a lognormal one', { kind: 'lognormal', medianMs: 20, p99Ms: 200, seed: 1 }, 20, 200],
    [
      'one by percentiles',
      { kind: 'percentiles', points: { 0: 0, 50: 10, 99: 80, 100: 300 }, seed: 1 },
      10,
      80,
    ],
  ])('is %s', (_, latency, median, p99) => {
    const sorted = draw(latency);
    expect(quantile(sorted, 0.5)).toBeCloseTo(median, -0.8);
    expect(Math.abs(quantile(sorted, 0.99) - p99)).toBeLessThanOrEqual(p99 * 0.1);
  });

  it('is the same again for a seed, and another without', () => {
    const seeded = { kind: 'uniform', minMs: 0, maxMs: 1, seed: 42 };
    expect(draw(seeded, 5)).toEqual(draw(seeded, 5));
    expect(draw({ ...seeded, seed: 43 }, 5)).not.toEqual(draw(seeded, 5));
    const { seed: _, ...free } = seeded;
    expect(draw(free, 5)).not.toEqual(draw(free, 5));
  });
});

describe('isLike', () => {
  it.each([
    ['abc', 'abc', true],
    ['abc', 'ABC', true],
    ['abc', 'ab', false],
    ['abc', 'a*', true],
    ['abc', '*c', true],
    ['abc', 'a*c', true],
    ['abc', '*', true],
    ['', '*', true],
    ['abc', '*b*', true],
    ['abc', 'a*b', false],
    ['ab', 'ab*b', false],
    ['aba', 'ab*ba', false],
    ['a.c', 'a?c', false],
    ['axxbxxc', 'a*b*c', true],
  ])('%s is like %s: %s', (text, glob, expected) => {
    expect(isLike(text, glob)).toBe(expected);
  });

  it('agrees with a regular expression', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', '*'), maxLength: 8 });
    fc.assert(
      fc.property(letters, letters, (text, glob) => {
        const pattern = new RegExp(`^${glob.replaceAll('*', '.*')}$`);
        const plain = text.replaceAll('*', 'c');
        expect(isLike(plain, glob)).toBe(pattern.test(plain));
      }),
    );
  });
});

describe('SortedKeys', () => {
  type Step = { readonly key: string; readonly how: 'add' | 'delete' | 'read' };
  const key = fc.string({ unit: fc.constantFrom('A', 'B', '-', '1'), maxLength: 3 });
  const steps = fc.array(
    fc.record({ key, how: fc.constantFrom<Step['how'][]>('add', 'delete', 'read') }),
    { maxLength: 150 },
  );

  /** @param model what must be in `keys` */
  function take(keys: SortedKeys, model: Set<string>, { key: name, how }: Step): void {
    if (how === 'read') expect([...keys.from(null)]).toEqual([...model].sort());
    if (how === 'add' && !model.has(name)) keys.add(name);
    if (how === 'add') model.add(name);
    if (how === 'delete') keys.delete(name);
    if (how === 'delete') model.delete(name);
  }

  it('gives what is in it in order, from anywhere on, however it came there', () => {
    fc.assert(
      fc.property(fc.array(key, { maxLength: 100 }), steps, key, (first, changes, after) => {
        const model = new Set(first);
        const keys = new SortedKeys(model);
        for (const step of changes) take(keys, model, step);
        const sorted = [...model].sort();
        expect([...keys.from(null)]).toEqual(sorted);
        expect([...keys.from(after)]).toEqual(sorted.filter((one) => one > after));
      }),
    );
  });
});
