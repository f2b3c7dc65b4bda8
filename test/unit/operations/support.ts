import type { AuditEntry } from '../../../src/core/audit/log.ts';
import type { Caller } from '../../../src/core/auth/tokens.ts';
import { AppError } from '../../../src/core/errors.ts';
import { jsonLog } from '../../../src/core/log.ts';
import type { HttpRequest, ServeServices } from '../../../src/core/operations/index.ts';

export function aCaller(...roles: string[]): Caller {
  return { subject: 'subject-1', appId: 'app-1', objectId: 'object-1', roles };
}

export function aRequest(
  more: Partial<HttpRequest> & { readonly json?: unknown } = {},
): HttpRequest {
  const { json, ...rest } = more;
  const bytes = json === undefined ? new Uint8Array() : Buffer.from(JSON.stringify(json));
  return {
    method: 'GET',
    url: 'http://localhost/api/x',
    params: {},
    query: {},
    readBody: async () => bytes,
    ...rest,
    headers: {
      authorization: 'Bearer good',
      ...(json === undefined ? {} : { 'content-type': 'application/json' }),
      ...more.headers,
    },
  };
}

/** Services in which `Bearer good` is `caller`, with everything written in view. */
export function someServices(caller: Caller = aCaller('Keyturn.Rotations.Operate')) {
  const entries: AuditEntry[] = [];
  const lines: Record<string, unknown>[] = [];
  const services: ServeServices = {
    tokens: {
      verify: async (authorization) => {
        if (authorization === 'Bearer good') return caller;
        throw new AppError('unauthenticated', { detail: 'operator words' });
      },
    },
    audit: { append: async (added) => void entries.push(...added) },
    clock: { now: () => new Date('2026-11-22T08:00:00.000Z') },
    log: jsonLog((line) => lines.push(JSON.parse(line))),
  };
  return { services, entries, lines };
}
