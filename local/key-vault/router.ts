import { errors } from './errors.ts';
import type { Operation } from './operation.ts';

export type Route = { readonly operation: Operation; readonly params: Record<string, string> };

/**
 * The operation for a method and a raw path; of several matching templates the one with the most fixed words.
 *
 * @throws VaultError 400 for a path that cannot be decoded, 404 for an unknown one, 405 for the wrong method
 */
export function findRoute(operations: readonly Operation[], method: string, path: string): Route {
  const segments = segmentsOf(path);
  const matches = operations.flatMap((operation) => {
    const template = segmentsOf(operation.template);
    const params = match(template, segments);
    return params === null ? [] : [{ operation, params, words: template.filter(isWord).length }];
  });
  if (matches.length === 0) throw errors.unknownPath();
  const [best] = matches
    .filter(({ operation }) => operation.method === method)
    .sort((a, b) => b.words - a.words);
  if (best === undefined) throw errors.methodNotAllowed(method);
  return best;
}

/** `/secrets/x/` and `/secrets/x` are the same: the version is empty, which means the latest. */
function segmentsOf(path: string): string[] {
  const trimmed = path.replace(/^\//, '').replace(/\/+$/, '');
  return trimmed === '' ? [] : trimmed.split('/').map(decode);
}

function match(
  template: readonly string[],
  segments: readonly string[],
): Record<string, string> | null {
  const missing = template.length - segments.length;
  if (missing < 0 || missing > 1) return null;
  if (missing === 1 && template.at(-1) !== '{version}') return null;
  const params: Record<string, string> = {};
  for (const [index, part] of template.entries()) {
    const segment = segments[index] ?? '';
    if (!isWord(part)) params[part.slice(1, -1)] = segment;
    else if (part !== segment.toLowerCase()) return null;
  }
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
