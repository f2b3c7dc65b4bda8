/**
 * Keys as a table may hold them, in the order of their UTF-16 code units.
 *
 * Letters, digits, `-` and `_` stand for themselves. Every other code unit becomes an introducer
 * that sorts where the unit sorts, and one to three digits of base 62 (`0-9A-Za-z`):
 *
 * | code units       | become              |
 * | ---------------- | ------------------- |
 * | 00 to 2C         | `!` and one digit   |
 * | `.` and `/`      | `.0` and `.1`       |
 * | 3A to 40         | `:` and one digit   |
 * | 5B to 5E         | `[` and one digit   |
 * | 60               | `` `0 ``            |
 * | 7B to 7F         | `{` and one digit   |
 * | 80 to F83        | `|` and two digits  |
 * | F84 to FFFF      | `~` and three       |
 *
 * No code of one unit starts another's, so order and prefixes survive, and nothing a table or a URL
 * minds (`/ \ # ? % '`, control characters) is left. 200 ASCII characters always fit.
 */
import { AppError } from '../errors.ts';

const digits = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const idLimit = 200;
/** A table key holds 1 KiB of UTF-16. */
const keyLimit = 512;

const ranges = [
  { from: 0x00, to: 0x2c, introducer: '!', width: 1 },
  { from: 0x2e, to: 0x2f, introducer: '.', width: 1 },
  { from: 0x3a, to: 0x40, introducer: ':', width: 1 },
  { from: 0x5b, to: 0x5e, introducer: '[', width: 1 },
  { from: 0x60, to: 0x60, introducer: '`', width: 1 },
  { from: 0x7b, to: 0x7f, introducer: '{', width: 1 },
  { from: 0x80, to: 0xf83, introducer: '|', width: 2 },
  { from: 0xf84, to: 0xffff, introducer: '~', width: 3 },
] as const;

/** The table key of a document id or partition. @throws AppError `invalid_input` when it is empty or too long */
export function encodeKey(id: string): string {
  const key = encodePrefix(id);
  if (id.length === 0 || id.length > idLimit || key.length > keyLimit) {
    throw new AppError('invalid_input', {
      detail: `a key has 1 to ${idLimit} characters and ${keyLimit} when encoded; this has ${id.length} and ${key.length}`,
    });
  }
  return key;
}

/** What the key of every id that starts with `prefix` starts with. */
export function encodePrefix(prefix: string): string {
  if (/^[\w-]*$/.test(prefix)) return prefix;
  let key = '';
  for (let at = 0; at < prefix.length; at++) key += encodeUnit(prefix.charCodeAt(at));
  return key;
}

/** The id of a key made by `encodeKey`. @throws AppError `corrupt` for anything else */
export function decodeKey(key: string): string {
  let id = '';
  for (let at = 0; at < key.length; ) {
    const range = ranges.find(({ introducer }) => introducer === key[at]);
    const width = range?.width ?? 0;
    id += range ? decodeUnit(range.from, key.slice(at + 1, at + 1 + width)) : key[at];
    at += 1 + width;
  }
  if (encodePrefix(id) !== key) throw new AppError('corrupt', { detail: 'a key not made by us' });
  return id;
}

/** The id after which a page starts. A cursor is the key of the last id of the page before. */
export function parseCursor(cursor: string): string {
  try {
    return decodeKey(cursor);
  } catch (cause) {
    throw new AppError('invalid_input', { detail: 'not a cursor of this store', cause });
  }
}

/** The least string above everything that starts with `prefix`, a result of `encodePrefix`. */
export function afterPrefix(prefix: string): string {
  const last = prefix.charCodeAt(prefix.length - 1);
  return prefix.slice(0, -1) + String.fromCharCode(last + 1);
}

function encodeUnit(unit: number): string {
  const range = ranges.find(({ from, to }) => unit >= from && unit <= to);
  if (range === undefined) return String.fromCharCode(unit);
  let rest = unit - range.from;
  let code = '';
  for (let place = 0; place < range.width; place++) {
    code = digits.charAt(rest % 62) + code;
    rest = Math.floor(rest / 62);
  }
  return range.introducer + code;
}

function decodeUnit(from: number, code: string): string {
  let value = 0;
  for (const digit of code) value = value * 62 + digits.indexOf(digit);
  return String.fromCharCode(from + value);
}
