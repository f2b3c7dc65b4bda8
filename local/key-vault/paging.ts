import { z } from 'zod';
import { errors } from './errors.ts';
import type { Call } from './operation.ts';

const maxPageSize = 25;
const SkipToken = z.object({ NextMarker: z.string() });

export type Listed<T> = {
  readonly item: T;
  /** Orders the list, and is where a next page continues: what is added or deleted meanwhile shifts nothing. */
  readonly marker: string;
};

/**
 * One page of a list as `{value, nextLink}`.
 *
 * @param path of the list, without a slash in front: `secrets`
 * @param items in the order of their markers
 * @throws VaultError 400 for maxresults outside 1 to 25 or a skip token that is not ours
 */
export function pageOf<T>(
  call: Call,
  path: string,
  items: readonly Listed<T>[],
): { value: T[]; nextLink: string | null } {
  const size = pageSize(call.query.get('maxresults'));
  const after = markerOf(call.query.get('$skiptoken'));
  const rest = items.filter(({ marker }) => after === null || marker > after);
  const page = rest.slice(0, size);
  const last = page.at(-1);
  const more = rest.length > page.length && last !== undefined;
  return {
    value: page.map(({ item }) => item),
    nextLink: more ? nextLink(call, path, { size, marker: last.marker }) : null,
  };
}

function nextLink(call: Call, path: string, next: { size: number; marker: string }): string {
  const token = Buffer.from(JSON.stringify({ NextMarker: next.marker, TargetLocation: 0 }));
  const apiVersion = encodeURIComponent(call.query.get('api-version') ?? '');
  // Written by hand: the real service leaves the dollar sign bare, URLSearchParams would encode it.
  return `${call.vault.publicUrl}/${path}?api-version=${apiVersion}&$skiptoken=${token.toString('base64url')}&maxresults=${next.size}`;
}

function pageSize(wanted: string | null): number {
  if (wanted === null) return maxPageSize;
  const size = /^\d{1,4}$/.test(wanted) ? Number(wanted) : 0;
  if (size < 1 || size > maxPageSize) throw errors.badProperty('maxresults');
  return size;
}

function markerOf(skipToken: string | null): string | null {
  if (skipToken === null) return null;
  try {
    const json: unknown = JSON.parse(Buffer.from(skipToken, 'base64url').toString('utf8'));
    return SkipToken.parse(json).NextMarker;
  } catch {
    throw errors.badProperty('$skiptoken');
  }
}
