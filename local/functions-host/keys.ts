import { timingSafeEqual } from 'node:crypto';
import type { HostOptions } from './options.ts';
import type { HttpCall } from './server.ts';

export type Access = 'anonymous' | 'function' | 'admin' | 'eventgrid';

/**
 * Whether the caller's key opens `level`: the header `x-functions-key`, else the query's `code`.
 * Everything is open unless `--enable-auth` is given, as in Core Tools. Source: azure-functions-host, AuthenticationLevelHandler.
 */
export function isAllowed(call: HttpCall, level: Access, options: HostOptions): boolean {
  if (!options.enableAuth || level === 'anonymous') return true;
  const given = call.headers['x-functions-key'] ?? call.url.searchParams.get('code') ?? '';
  if (isSame(given, options.masterKey)) return true;
  if (level === 'function') return isSame(given, options.functionKey);
  return level === 'eventgrid' && isSame(given, options.eventGridKey);
}

function isSame(given: string, key: string | null): boolean {
  if (key === null || key === '') return false;
  const [a, b] = [Buffer.from(given), Buffer.from(key)];
  return a.length === b.length && timingSafeEqual(a, b);
}
