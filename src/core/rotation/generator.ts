import { randomInt } from 'node:crypto';
import { AppError } from '../errors.ts';
import type { Generator } from '../policies/policy.ts';
import { SecretString } from '../secret-string.ts';

const classes = {
  lower: 'abcdefghijklmnopqrstuvwxyz',
  upper: 'ABCDEFGHIJKLMNOPQRSTUVWXYZ',
  digit: '0123456789',
  // Without quotes, backslash, space, @ : / ? # % & ; $ which connection strings and shells eat.
  symbol: '!*+,-.=^_~()[]{}|<>',
} as const;

/**
 * A random password of exactly `rules.length` characters with at least one of every class.
 * `random(n)` must be uniform over 0 … n-1 (the default is: node's randomInt rejects and redraws).
 *
 * @throws AppError `invalid_input` when the exclusions leave a class empty
 */
export function generatePassword(
  rules: Generator,
  random: (below: number) => number = (below) => randomInt(below),
): SecretString {
  const alphabets = rules.classes.map((name) => {
    const left = [...classes[name]].filter((character) => !rules.exclude.includes(character));
    if (left.length > 0) return left;
    throw new AppError('invalid_input', {
      detail: `generator.exclude: leaves no ${name} character`,
    });
  });
  const all = [...new Set(alphabets.flat())];
  // Drawing the whole and redrawing when a class is missing keeps every valid password equally
  // likely; placing one of each class first and shuffling would not.
  for (;;) {
    const drawn = Array.from({ length: rules.length }, () => all[random(all.length)] ?? '');
    if (alphabets.every((alphabet) => drawn.some((character) => alphabet.includes(character)))) {
      return new SecretString(drawn.join(''));
    }
  }
}
