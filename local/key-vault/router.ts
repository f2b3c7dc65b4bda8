import { errors } from './errors.ts';
import type { Operation } from './operation.ts';

export type Route = {
  readonly operation: Operation;
  /** Values of the template's braces, decoded. An absent or empty `{version}` is the empty string. */
  readonly params: Readonly<Record<string, string>>;
  /** What holds the object in its URL: `secrets`, also for what was deleted, or `certificates/issuers`. */
  readonly collection: string;
};

/**
 * The operation for a method and a raw path; of several matching templates the one with the most fixed words.
 *
 * @throws VaultError 400 for a path that cannot be decoded, 404 for an unknown one, 405 for the wrong method
 */
export type Router = (method: string, path: string) => Route;

type Candidate = {
  readonly operation: Operation;
  readonly template: readonly string[];
  readonly collection: string;
};

export function createRouter(operations: readonly Operation[]): Router {
  const byFirstWord = new Map<string, Candidate[]>();
  for (const operation of operations.toSorted((a, b) => fixedWords(b) - fixedWords(a))) {
    const template = segmentsOf(operation.template);
    const [word = ''] = template;
    const candidate = { operation, template, collection: collectionOf(template) };
    byFirstWord.set(word, [...(byFirstWord.get(word) ?? []), candidate]);
  }
  return (method, path) => {
    const segments = segmentsOf(path);
    const candidates = byFirstWord.get((segments[0] ?? '').toLowerCase()) ?? [];
    for (const { operation, template, collection } of candidates) {
      const params = operation.method === method ? match(template, segments) : null;
      if (params !== null) return { operation, params, collection };
    }
    const isPathKnown = candidates.some(({ template }) => match(template, segments) !== null);
    throw isPathKnown ? errors.methodNotAllowed(method) : errors.unknownPath();
  };
}

function collectionOf(template: readonly string[]): string {
  const at = template.indexOf('{name}');
  const words = at < 0 ? template.slice(0, 1) : template.slice(0, at);
  return words.join('/').replace(/^deleted/, '');
}

function fixedWords({ template }: Operation): number {
  return segmentsOf(template).filter(isWord).length;
}

/** `/secrets/x/` and `/secrets/x` are the same: the version is empty, which means the latest. */
function segmentsOf(path: string): string[] {
  let end = path.length;
  while (end > 0 && path[end - 1] === '/') end -= 1;
  const trimmed = path.slice(path.startsWith('/') ? 1 : 0, end);
  if (trimmed === '') return [];
  const segments = trimmed.split('/');
  return trimmed.includes('%') ? segments.map(decode) : segments;
}

function match(
  template: readonly string[],
  segments: readonly string[],
): Record<string, string> | null {
  const missing = template.length - segments.length;
  if (missing < 0 || missing > 1) return null;
  if (missing === 1 && template.at(-1) !== '{version}') return null;
  for (let index = 0; index < segments.length; index += 1) {
    const part = template[index] ?? '';
    if (isWord(part) && part !== segments[index]?.toLowerCase()) return null;
  }
  const params: Record<string, string> = {};
  template.forEach((part, index) => {
    if (!isWord(part)) params[part.slice(1, -1)] = segments[index] ?? '';
  });
  return params;
}

function isWord(part: string): boolean {
  return !part.startsWith('{');
}

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    throw errors.invalidName(segment);
  }
}
