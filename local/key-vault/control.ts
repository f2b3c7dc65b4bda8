import type { IncomingMessage, ServerResponse } from 'node:http';
import { z } from 'zod';
import { isLoopbackHost, readJson } from '../loopback-http.ts';
import type { AuditRows } from './audit.ts';
import { findEventKind, type VaultEvents } from './events.ts';
import { FaultRule, type FaultRules } from './faults.ts';
import { findVersion, objectTypes } from './store.ts';
import { storeOf, type Vault } from './vault.ts';

export type ControlPlane = {
  readonly vaults: readonly Vault[];
  readonly faults: FaultRules;
  readonly audit: AuditRows;
  readonly events: VaultEvents;
  readonly startedAt: Date;
  /** Milliseconds since 1970. */
  readonly now: () => number;
};

type ControlCall = {
  readonly plane: ControlPlane;
  /** What the path's captures matched; names and ids need no decoding. */
  readonly params: readonly string[];
  readonly query: URLSearchParams;
  readonly body: unknown;
};
type Reply = { readonly status: number; readonly body?: unknown };
type Route = readonly [method: string, path: RegExp, run: (call: ControlCall) => Reply];

const Mode = z.strictObject({ readOnly: z.boolean() });
const Republish = z.strictObject({
  type: z.string(),
  name: z.string(),
  version: z.string().default(''),
});

const maxBodyBytes = 64 * 1024;

/**
 * The control API: plain http, JSON, no token, loopback only. Never shows a secret's value.
 *
 * | call | does |
 * | --- | --- |
 * | `GET /status` | vaults with url, counts and mode; number of rules and calls |
 * | `GET /faults` | rules with `id`, `seen`, `fired` |
 * | `POST /faults` | adds a rule `{vault?, operation?, object?, nth?, times?, fault}`, answers 201 with its `id` |
 * | `DELETE /faults`, `DELETE /faults/{id}` | removes all, or one |
 * | `PUT /vaults/{name}/mode` `{readOnly}` | refuses writes as after a failover, or allows them again |
 * | `GET /audit[?vault=&operation=&object=]` | a row a call, oldest first |
 * | `DELETE /audit` | forgets the rows |
 * | `POST /vaults/{name}/events/republish` `{type, name, version?}` | sends that event again, under the id it had |
 *
 * A fault rule: `operation` is an operation id or `*`, `object` a name or a glob with `*`; calls without a valid token do
 * not count. From the `nth` matching call on (default 1) the next `times` calls (default 1; 0 = until removed) get `fault`:
 *
 * | fault | effect |
 * | --- | --- |
 * | `{kind: 'status', status, code?, message?, retryAfter?}` | that answer, nothing is done |
 * | `{kind: 'reset'}` | the connection is closed, nothing is done |
 * | `{kind: 'hang'}` | no answer, ever |
 * | `{kind: 'fail-after-commit', status?}` | done, answered with an error (default 503) |
 * | `{kind: 'reset-after-commit'}` | done, the connection is closed |
 */
const routes: readonly Route[] = [
  ['GET', /^\/status$/, getStatus],
  ['GET', /^\/faults$/, ({ plane }) => ({ status: 200, body: { value: plane.faults.list() } })],
  ['POST', /^\/faults$/, addFault],
  ['DELETE', /^\/faults$/, removeFaults],
  ['DELETE', /^\/faults\/([^/]+)$/, removeFault],
  ['PUT', /^\/vaults\/([^/]+)\/mode$/, setMode],
  ['GET', /^\/audit$/, getAudit],
  ['DELETE', /^\/audit$/, clearAudit],
  ['POST', /^\/vaults\/([^/]+)\/events\/republish$/, republish],
];

export async function respondToControl(
  plane: ControlPlane,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { status, body } = await answer(plane, request).catch((error: unknown): Reply => {
    console.error(`key-vault control: ${request.method} ${request.url} failed`, error);
    return failure(500, 'The emulator failed; its output says why.');
  });
  response.writeHead(status, { 'content-type': 'application/json; charset=utf-8' });
  response.end(body === undefined ? undefined : JSON.stringify(body));
}

async function answer(plane: ControlPlane, request: IncomingMessage): Promise<Reply> {
  if (!isLoopbackHost(request.headers.host))
    return failure(403, 'Only loopback hosts are answered.');
  const url = URL.parse(request.url ?? '/', 'http://127.0.0.1');
  const body = await readJson(request, maxBodyBytes);
  for (const [method, path, run] of routes) {
    const match = url === null ? null : path.exec(url.pathname);
    if (url === null || match === null || method !== request.method) continue;
    return run({ plane, params: match.slice(1), query: url.searchParams, body });
  }
  return failure(404, `There is no ${request.method} ${request.url}; see docs/emulator.md.`);
}

function getStatus({ plane }: ControlCall): Reply {
  const vaults = plane.vaults.map((vault) => {
    const now = Math.floor(plane.now() / 1000);
    const counts = objectTypes.map((type) => {
      const store = storeOf(vault, type);
      return [type, { live: store.list().length, deleted: store.listDeleted(now).length }];
    });
    return {
      name: vault.name,
      url: vault.publicUrl,
      mode: vault.readOnly ? 'read-only' : 'read-write',
      retentionDays: vault.retentionDays,
      purgeProtection: vault.purgeProtection,
      objects: Object.fromEntries(counts),
    };
  });
  const { faults, audit, startedAt } = plane;
  const counts = { faults: faults.list().length, calls: audit.list().length };
  return { status: 200, body: { startedAt: startedAt.toISOString(), vaults, ...counts } };
}

function addFault({ plane, body }: ControlCall): Reply {
  const rule = FaultRule.safeParse(body);
  if (!rule.success) return failure(400, z.prettifyError(rule.error));
  const { id } = plane.faults.add(rule.data);
  return { status: 201, body: { id, ...rule.data } };
}

function removeFaults({ plane }: ControlCall): Reply {
  plane.faults.clear();
  return { status: 204 };
}

function removeFault({ plane, params: [id = ''] }: ControlCall): Reply {
  return plane.faults.remove(id) ? { status: 204 } : failure(404, `There is no fault rule ${id}.`);
}

function setMode({ plane, params: [name = ''], body }: ControlCall): Reply {
  const vault = findVault(plane, name);
  if (vault === null) return failure(404, `There is no vault ${name}.`);
  const mode = Mode.safeParse(body);
  if (!mode.success) return failure(400, z.prettifyError(mode.error));
  vault.readOnly = mode.data.readOnly;
  return { status: 200, body: mode.data };
}

function getAudit({ plane, query }: ControlCall): Reply {
  const wanted = (['vault', 'operation', 'object'] as const).filter((field) => query.has(field));
  const value = plane.audit
    .list()
    .filter((row) => wanted.every((field) => row[field] === query.get(field)));
  return { status: 200, body: { value } };
}

function clearAudit({ plane }: ControlCall): Reply {
  plane.audit.clear();
  return { status: 204 };
}

function republish({ plane, params: [vaultName = ''], body }: ControlCall): Reply {
  const vault = findVault(plane, vaultName);
  if (vault === null) return failure(404, `There is no vault ${vaultName}.`);
  const wish = Republish.safeParse(body);
  if (!wish.success) return failure(400, z.prettifyError(wish.error));
  const { type, name, version: versionId } = wish.data;
  const named = findEventKind(type);
  if (named === null) return failure(400, `There is no event type ${type}.`);
  const object = storeOf(vault, named.type).find(name);
  const version = object === null ? null : findVersion(object, versionId);
  if (object === null || version === null) {
    return failure(404, `There is no ${name} with that version in vault ${vaultName}.`);
  }
  const event = plane.events.sendAgain(named.kind, { vault, type: named.type, object, version });
  return { status: 200, body: event };
}

function findVault(plane: ControlPlane, name: string): Vault | null {
  return plane.vaults.find((vault) => vault.name.toLowerCase() === name.toLowerCase()) ?? null;
}

function failure(status: number, message: string): Reply {
  return { status, body: { error: { message } } };
}
