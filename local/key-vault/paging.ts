import { z } from 'zod';
import { errors } from './errors.ts';
import type { Call } from './operation.ts';

const maxPageSize = 25;
/** `TargetLocation` is 0 in the service's tokens; here it counts the empty pages since `NextMarker`. */
const SkipToken = z.object({ NextMarker: z.string(), TargetLocation: z.int().min(0).max(1000) });
type SkipToken = z.output<typeof SkipToken>;

export type Listed<T> = {
  readonly item: T;
  /** Orders the list, and is where a next page continues: what is added or deleted meanwhile shifts nothing. */
  readonly marker: string;
};

/** The items behind a marker in the order of their markers, or all of them; only as many are taken as a page needs. */
export type Listing<T> = (after: string | null) => Iterable<Listed<T>>;

/**
 * One page of a list as `{value, nextLink}`.
 *
 * @param path of the list, without a slash in front: `secrets`
 * @throws VaultError 400 for maxresults outside 1 to 25 or a skip token that is not ours
 */
export function pageOf<T>(
  call: Call,
  path: string,
  listing: Listing<T>,
): { value: T[]; nextLink: string | null } {
  const size = pageSize(call.query.get('maxresults'));
  const at = positionOf(call.query.get('$skiptoken'));
  if (at.TargetLocation < call.vault.emptyPages) {
    const next = { ...at, TargetLocation: at.TargetLocation + 1 };
    return { value: [], nextLink: nextLink(call, path, size, next) };
  }
  const page: Listed<T>[] = [];
  let isMore = false;
  for (const listed of listing(at.NextMarker === '' ? null : at.NextMarker)) {
    isMore = page.length === size;
    if (isMore) break;
    page.push(listed);
  }
  const next = { NextMarker: page.at(-1)?.marker ?? '', TargetLocation: 0 };
  return {
    value: page.map(({ item }) => item),
    nextLink: isMore ? nextLink(call, path, size, next) : null,
  };
}

/** A short list that lies ready, in the order of its markers. */
export function listingOf<T>(items: readonly Listed<T>[]): Listing<T> {
  return (after) => items.filter(({ marker }) => after === null || marker > after);
}

function nextLink(call: Call, path: string, size: number, next: SkipToken): string {
  const token = Buffer.from(JSON.stringify(next)).toString('base64url');
  const apiVersion = encodeURIComponent(call.query.get('api-version') ?? '');
  // Written by hand: the real service leaves the dollar sign bare, URLSearchParams would encode it.
  return `${call.vault.publicUrl}/${path}?api-version=${apiVersion}&$skiptoken=${token}&maxresults=${size}`;
}

function pageSize(wanted: string | null): number {
  if (wanted === null) return maxPageSize;
  const size = /^\d{1,4}$/.test(wanted) ? Number(wanted) : 0;
  if (size < 1 || size > maxPageSize) throw errors.badProperty('maxresults');
  return size;
}

function positionOf(skipToken: string | null): SkipToken {
  if (skipToken === null) return { NextMarker: '', TargetLocation: 0 };
  try {
    const json: unknown = JSON.parse(Buffer.from(skipToken, 'base64url').toString('utf8'));
    return SkipToken.parse(json);
  } catch {
    throw errors.badProperty('$skiptoken');
  }
}
