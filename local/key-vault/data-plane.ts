import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { AuditRow, AuditRows, CallerIdentity } from './audit.ts';
import { errors, VaultError } from './errors.ts';
import type { Fault, FaultRules } from './faults.ts';
import type { Answer, Call, Change, Operation } from './operation.ts';
import { findRoute } from './router.ts';
import type { TokenCheck } from './token-check.ts';
import type { Vault } from './vault.ts';

export type DataPlane = {
  readonly vault: Vault;
  readonly operations: readonly Operation[];
  /** What a 401 tells the client to do. */
  readonly challenge: string;
  readonly checkToken: TokenCheck;
  readonly faults: FaultRules;
  readonly audit: AuditRows;
  readonly changed: (vault: Vault, change: Change) => void;
  /** Milliseconds since 1970. */
  readonly now: () => number;
};

/** What is known of a request so far; becomes its audit row. */
type Progress = {
  identity: CallerIdentity | null;
  operation: string | null;
  object: string | null;
  version: string | null;
  fault: Fault | null;
};
type Reply = { readonly status: number; readonly body?: unknown; readonly headers?: Headers };
type Headers = Readonly<Record<string, string>>;

const latestApiVersion = '2026-04-01';
const apiVersion =
  /^(7\.[0-6](-preview(\.\d+)?)?|2025-0[67]-0[1-9](-preview)?|2026-\d\d-\d\d-preview|2026-04-01)$/;
const maxBodyBytes = 1024 * 1024;

/** Answers one request as a vault does: with JSON, whatever happens. */
export async function respond(
  plane: DataPlane,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  setCommonHeaders(plane.vault, request, response);
  const progress: Progress = {
    identity: null,
    operation: null,
    object: null,
    version: null,
    fault: null,
  };
  const reply = await answerOrRefuse(plane, request, progress);
  plane.audit.add(auditRow(plane, progress, reply));
  if (reply === 'reset') request.socket.destroy();
  else if (reply !== 'hang') send(response, reply);
}

async function answerOrRefuse(
  plane: DataPlane,
  request: IncomingMessage,
  progress: Progress,
): Promise<Reply | 'reset' | 'hang'> {
  try {
    return await answer(plane, request, progress);
  } catch (error) {
    if (error instanceof VaultError) return refused(error);
    // The client went away in the middle of its body.
    if (request.destroyed && !request.complete) return 'reset';
    console.error(`key-vault: ${request.method} ${request.url} failed`, error);
    return refused(errors.internal());
  }
}

async function answer(
  plane: DataPlane,
  request: IncomingMessage,
  progress: Progress,
): Promise<Reply | 'reset' | 'hang'> {
  // Before anything else is read: SDK clients send their first request without a body to get this refusal.
  progress.identity = await plane.checkToken(request.headers.authorization);
  const body = await readBody(request);
  const { path, query } = splitTarget(request.url ?? '/');
  checkApiVersion(query);
  const { operation, params } = findRoute(plane.operations, request.method ?? '', path);
  progress.operation = operation.id;
  progress.object = params['name'] ?? null;
  progress.version = params['version'] || null;
  const fault = plane.faults.decide({
    vault: plane.vault.name,
    operation: operation.id,
    object: params['name'] ?? '',
  });
  progress.fault = fault;
  const early = fault === null ? null : beforeRun(plane, fault);
  if (early !== null) return early;
  if (plane.vault.readOnly && operation.effect === 'write') {
    throw errors.readOnly(operation.serviceName);
  }
  const call: Call = {
    vault: plane.vault,
    params,
    query,
    body: parseJson(body),
    now: Math.floor(plane.now() / 1000),
    changed: (change) => plane.changed(plane.vault, change),
  };
  const result: Answer = await operation.run(call);
  progress.version = result.version ?? progress.version;
  return afterRun(fault) ?? { status: result.status ?? 200, body: result.body };
}

function beforeRun(plane: DataPlane, fault: Fault): Reply | 'reset' | 'hang' | null {
  switch (fault.kind) {
    case 'reset':
    case 'hang':
      return fault.kind;
    case 'status': {
      const { status, code, message, retryAfter } = fault;
      const challenge = status === 401 ? { 'www-authenticate': plane.challenge } : {};
      const pause = retryAfter === undefined ? {} : { 'retry-after': String(retryAfter) };
      return {
        ...refused(new VaultError([status, code ?? codeOf(status)], message ?? messageOf(status))),
        headers: { ...challenge, ...pause },
      };
    }
    case 'fail-after-commit':
    case 'reset-after-commit':
      return null;
  }
}

function afterRun(fault: Fault | null): Reply | 'reset' | null {
  if (fault?.kind === 'reset-after-commit') return 'reset';
  if (fault?.kind !== 'fail-after-commit') return null;
  return refused(new VaultError([fault.status, codeOf(fault.status)], messageOf(fault.status)));
}

function codeOf(status: number): string {
  const codes: Readonly<Record<number, string>> = {
    401: 'Unauthorized',
    403: 'Forbidden',
    408: 'RequestTimeout',
    429: 'Throttled',
    500: 'InternalServerError',
    503: 'ServiceUnavailable',
    504: 'GatewayTimeout',
  };
  return codes[status] ?? 'InjectedFault';
}

function messageOf(status: number): string {
  return status === 429
    ? 'Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached'
    : 'A fault rule of the emulator answered this call.';
}

export function challengeFor(tenantId: string): string {
  return `Bearer authorization="https://login.microsoftonline.com/${tenantId}", resource="https://vault.azure.net"`;
}

function checkApiVersion(query: URLSearchParams): void {
  const wanted = query.get('api-version');
  if (wanted === null || wanted === '') throw errors.missingApiVersion();
  if (!apiVersion.test(wanted)) throw errors.unknownApiVersion(wanted, latestApiVersion);
}

/** By hand, because a URL parser would take `//x` for a host and fold empty and dotted segments. */
function splitTarget(target: string): { path: string; query: URLSearchParams } {
  const at = target.indexOf('?');
  return at < 0
    ? { path: target, query: new URLSearchParams() }
    : { path: target.slice(0, at), query: new URLSearchParams(target.slice(at + 1)) };
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    // Read to the end all the same: leaving the loop would close the socket before the refusal is sent.
    if (bytes <= maxBodyBytes) chunks.push(chunk);
  }
  if (bytes > maxBodyBytes) throw errors.bodyTooLarge(maxBodyBytes);
  return Buffer.concat(chunks).toString('utf8');
}

function parseJson(text: string): unknown {
  if (text === '') return undefined;
  try {
    return JSON.parse(text);
  } catch {
    throw errors.badProperty('');
  }
}

function refused(error: VaultError): Reply {
  return { status: error.status, body: error.body(), headers: error.headers };
}

function setCommonHeaders(vault: Vault, request: IncomingMessage, response: ServerResponse): void {
  const clientRequestId = request.headers['x-ms-client-request-id'];
  const headers = {
    'cache-control': 'no-cache',
    pragma: 'no-cache',
    expires: '-1',
    'strict-transport-security': 'max-age=31536000;includeSubDomains',
    'x-content-type-options': 'nosniff',
    'x-ms-request-id': randomUUID(),
    'x-ms-keyvault-region': vault.location,
    'x-ms-keyvault-service-version': '1.9.2000.1',
    'x-ms-keyvault-network-info': 'conn_type=Ipv4;addr=127.0.0.1;act_addr_fam=InterNetwork;',
    ...(typeof clientRequestId === 'string' ? { 'x-ms-client-request-id': clientRequestId } : {}),
  };
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
}

function send(response: ServerResponse, { status, body, headers }: Reply): void {
  for (const [name, value] of Object.entries(headers ?? {})) response.setHeader(name, value);
  if (body === undefined) {
    response.writeHead(status).end();
    return;
  }
  const json = Buffer.from(JSON.stringify(body));
  response.writeHead(status, {
    'content-type': 'application/json; charset=utf-8',
    'content-length': json.length,
  });
  response.end(json);
}

/** For what Node's parser refuses before there is a request. */
export function refuseMalformed(error: NodeJS.ErrnoException, socket: Socket): void {
  if (!socket.writable || error.code === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  const statuses: Readonly<Record<string, readonly [number, string]>> = {
    HPE_HEADER_OVERFLOW: [431, 'Request Header Fields Too Large'],
    ERR_HTTP_REQUEST_TIMEOUT: [408, 'Request Timeout'],
  };
  const [status, reason] = statuses[error.code ?? ''] ?? [400, 'Bad Request'];
  const json = JSON.stringify(errors.malformedRequest(status, reason).body());
  socket.end(
    `HTTP/1.1 ${status} ${reason}\r\ncontent-type: application/json; charset=utf-8\r\n` +
      `content-length: ${json.length}\r\nconnection: close\r\n\r\n${json}`,
  );
}

function auditRow(
  plane: DataPlane,
  { fault, ...progress }: Progress,
  reply: Reply | 'reset' | 'hang',
): AuditRow {
  return {
    time: new Date(plane.now()).toISOString(),
    vault: plane.vault.name,
    ...progress,
    status: typeof reply === 'string' ? null : reply.status,
    fault: fault?.kind ?? null,
  };
}
