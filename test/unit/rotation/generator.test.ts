import { describe, expect, it } from 'vitest';
import { Generator } from '../../../src/core/policies/policy.ts';
import { generatePassword } from '../../../src/core/rotation/generator.ts';

const patterns = {
  lower: /[a-z]/,
  upper: /[A-Z]/,
  digit: /[0-9]/,
  symbol: /[^a-zA-Z0-9]/,
} as const;

/** A small generator with a seed (mulberry32), so that a failure can be repeated. */
function seeded(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/** How far the counts of single characters lie from equal; about its degrees of freedom when they are. */
function chiSquare(draws: number, random: (below: number) => number): number {
  const rules = Generator.parse({ length: 64, classes: ['lower'] });
  const counts = new Map<string, number>();
  for (let i = 0; i < draws; i++) {
    for (const character of generatePassword(rules, random).expose()) {
      counts.set(character, (counts.get(character) ?? 0) + 1);
    }
  }
  const expected = (draws * 64) / 26;
  return [...counts.values()].reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
}

/** 25 degrees of freedom: exceeded by chance once in 10,000 times. */
const limit = 61;

describe('a generated password', () => {
  it.each([
    { classes: ['lower'] },
    { classes: ['digit'], length: 16 },
    { classes: ['lower', 'upper', 'digit', 'symbol'], length: 16 },
    { classes: ['upper', 'symbol'], length: 256 },
    {},
  ] as const)('has the length and every class of %j, and nothing else', (given) => {
    const rules = Generator.parse(given);
    for (let i = 0; i < 200; i++) {
      const text = generatePassword(rules).expose();
      expect(text).toHaveLength(rules.length);
      for (const [name, pattern] of Object.entries(patterns)) {
        expect(pattern.test(text), name).toBe((rules.classes as string[]).includes(name));
      }
    }
  });

  it('holds no excluded character', () => {
    const exclude = 'lI1O0!|~';
    const rules = Generator.parse({
      length: 64,
      classes: ['lower', 'upper', 'digit', 'symbol'],
      exclude,
    });
    for (let i = 0; i < 200; i++) {
      const text = generatePassword(rules).expose();
      expect([...exclude].some((character) => text.includes(character))).toBe(false);
    }
  });

  it('holds nothing that a connection string, a URL or a shell takes for its own', () => {
    const rules = Generator.parse({ length: 256, classes: ['symbol'] });
    for (let i = 0; i < 50; i++) {
      expect(generatePassword(rules).expose()).not.toMatch(/['"`\\ @:/?#%&;$]/);
    }
  });

  it('is refused when the exclusions leave a class empty', () => {
    const rules = Generator.parse({ classes: ['lower', 'digit'], exclude: '0123456789' });
    expect(() => generatePassword(rules)).toThrow(/generator\.exclude: leaves no digit/);
  });

  it('is another one each time', () => {
    const texts = Array.from({ length: 1000 }, () =>
      generatePassword(Generator.parse({})).expose(),
    );
    expect(new Set(texts).size).toBe(1000);
  });

  it('draws every character equally often', () => {
    expect(chiSquare(4000, seeded(1))).toBeLessThan(limit);
  });

  it('would be found out if it did not', () => {
    const even = seeded(1);
    // What reducing a byte by modulo does to an alphabet of 26: the first characters come more often.
    const biased = (below: number) => even(256) % below;
    expect(chiSquare(4000, biased)).toBeGreaterThan(limit);
  });
});
