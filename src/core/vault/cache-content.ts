/** What lies in the cache: as it is, or sealed. */
import type { AppError } from '../errors.ts';
import { type Answered, answered } from './answer.ts';
import { createMemoryCipher } from './memory-cipher.ts';

/** How the secret part of what one scope loads is taken out, to be sealed, and put back. */
export interface Sealing {
  take(value: object): { readonly rest: object; readonly secret: string };
  give(rest: object, secret: string): object;
}

export type Content =
  | { readonly kind: 'open'; readonly hit: Answered<object> }
  | {
      readonly kind: 'sealed';
      readonly rest: object;
      readonly secret: Buffer;
      readonly sealing: Sealing;
    }
  | { readonly kind: 'missing'; readonly error: AppError };

export interface ContentKeeper {
  /** @param sealing null for what is not secret */
  keep(key: string, answer: Answered<object>, sealing: Sealing | null): Content;
  /** What was kept, as a hit. @throws the error of what is missing */
  open(key: string, content: Content): Answered<object>;
  /** Wipes what can be wiped. */
  drop(content: Content): void;
}

/** @param isSealed whether secrets are sealed under a key of this process */
export function createContentKeeper(isSealed: boolean): ContentKeeper {
  const cipher = createMemoryCipher();
  return {
    keep: (key, answer, sealing) => {
      const hit = freeze(answered(answer, answer.served.servedBy, 'cached'));
      if (!isSealed || sealing === null) return { kind: 'open', hit };
      const { rest, secret } = sealing.take(hit);
      return { kind: 'sealed', rest, secret: cipher.seal(secret, key), sealing };
    },
    open: (key, content) => {
      switch (content.kind) {
        case 'open':
          return content.hit;
        case 'sealed':
          // `rest` has kept where it came from.
          return content.sealing.give(
            content.rest,
            cipher.open(content.secret, key),
          ) as Answered<object>;
        case 'missing':
          throw content.error;
      }
    },
    drop: (content) => {
      if (content.kind === 'sealed') content.secret.fill(0);
    },
  };
}

/** All callers are given the same object: plain objects and arrays in it cannot be changed. */
function freeze<T extends object>(value: T): T {
  for (const key in value) {
    const member: unknown = value[key];
    if (typeof member === 'object' && member !== null && isPlain(member)) freeze(member);
  }
  return Object.freeze(value);
}

function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return (prototype === Object.prototype && !Object.isFrozen(value)) || Array.isArray(value);
}
