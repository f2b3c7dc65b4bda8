import { createHash, timingSafeEqual } from 'node:crypto';
import { inspect } from 'node:util';

const shown = '[redacted]';

/**
 * A value that cannot be printed by accident: `toString`, `toJSON`, `util.inspect` and template
 * strings all give `[redacted]`. `expose()` is the only way out.
 */
export class SecretString {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** The clear value. Hand it to a wire at once; never keep, log or put it into an error. */
  expose(): string {
    return this.#value;
  }

  /** Compares in constant time, whatever the lengths. */
  equals(other: SecretString): boolean {
    return timingSafeEqual(digest(this.#value), digest(other.#value));
  }

  toString(): string {
    return shown;
  }

  toJSON(): string {
    return shown;
  }

  [inspect.custom](): string {
    return shown;
  }
}

function digest(value: string): Buffer {
  return createHash('sha256').update(value).digest();
}
