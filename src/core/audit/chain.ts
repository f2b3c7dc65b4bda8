import { hash as digest } from 'node:crypto';
import type { Json, JsonObject } from '../storage/ports.ts';

/** Where a line stands in its writer's chain: its number, and the hash it follows. */
export interface ChainPosition {
  readonly seq: number;
  readonly prev: string;
}

/** One JSON text for one value, whatever the order of its keys: they are sorted, at every depth. */
export function canonicalJson(value: Json): string {
  return JSON.stringify(ordered(value));
}

/** `value` with its keys in order; itself when they are already. */
function ordered(value: Json): Json {
  if (value === null || typeof value !== 'object') return value;
  if (isList(value)) return value.map(ordered);
  const keys = Object.keys(value);
  const isInOrder = keys.every((key, index) => {
    const member = value[key];
    const isPlain = typeof member !== 'object' || member === null;
    return isPlain && (index === 0 || (keys[index - 1] ?? '') < key);
  });
  if (isInOrder) return value;
  // Defines each member, so that a key like `__proto__` is a key like any other.
  return Object.fromEntries(keys.sort().map((key) => [key, ordered(value[key] ?? null)]));
}

function isList(value: Json): value is readonly Json[] {
  return Array.isArray(value);
}

/** SHA-256 of a line's content, which is the line without its `hash`, in hexadecimal. */
export function contentHash(content: string): string {
  return digest('sha256', content);
}

/** The `prev` of a segment's first line: it binds the chain to its writer and its place. */
export function segmentSeed(segment: string, writer: string): string {
  return digest('sha256', canonicalJson({ format: 'keyturn-audit-1', segment, writer }));
}

/** The line of canonical `content`: `hash` is its last member, so all before it is what was hashed. */
export function lineText(content: string, hash: string): string {
  return `${content.slice(0, -1)},"hash":"${hash}"}`;
}

/** `body` as a finished line, newline included, and the hash that the next line follows. */
export function sealLine(
  body: JsonObject,
  { seq, prev }: ChainPosition,
): { readonly text: string; readonly hash: string } {
  const content = canonicalJson({ ...body, prev, seq });
  const hash = contentHash(content);
  return { text: `${lineText(content, hash)}\n`, hash };
}
