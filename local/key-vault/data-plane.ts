import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { AuditRecord } from './audit.ts';
import { errors, VaultError } from './errors.ts';
import { type DataPlane, type Exchange, type Gate, type Outcome, refused } from './exchange.ts';
import { accessGate } from './gates/access.ts';
import { apiVersionGate } from './gates/api-version.ts';
import { bodyGate } from './gates/body.ts';
import { faultGate } from './gates/faults.ts';
import { firewallGate } from './gates/firewall.ts';
import { readOnlyGate } from './gates/read-only.ts';
import { routeGate } from './gates/route.ts';
import { runGate } from './gates/run.ts';
import { throttleGate } from './gates/throttle.ts';
import { tokenGate } from './gates/token.ts';
import { nextLatency } from './latency.ts';
import { send, wait } from './response.ts';

/** What a request passes, in this order; the first gate that answers or refuses ends its way. */
const gates: readonly Gate[] = [
  tokenGate,
  bodyGate,
  firewallGate,
  apiVersionGate,
  routeGate,
  accessGate,
  throttleGate,
  faultGate,
  readOnlyGate,
  runGate,
];

/** Answers one request as a vault does: with JSON, whatever happens. */
export async function respond(
  plane: DataPlane,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const exchange = arrive(plane, request);
  // Most answers have nothing to wait for, and waiting for nothing has its price too.
  const answered = answerOrRefuse(exchange);
  const outcome = answered instanceof Promise ? await answered : answered;
  const wished = nextLatency(plane.vault.latency);
  if (wished > 0) await wait(wished - (performance.now() - exchange.startedAt));
  plane.service.audit.add(recordOf(exchange, outcome));
  if (outcome === 'reset') request.socket.destroy();
  else if (outcome !== 'hang') send(exchange, response, outcome);
}

function arrive(plane: DataPlane, request: IncomingMessage): Exchange {
  return {
    plane,
    request,
    requestId: randomUUID(),
    startedAt: performance.now(),
    ...splitTarget(request.url ?? '/'),
    body: '',
    caller: null,
    clientAddress: request.socket.remoteAddress ?? '',
    isAddressAuthorized: true,
    route: null,
    assignmentId: null,
    isAllowed: true,
    fault: null,
    version: null,
    refusal: null,
  };
}

function answerOrRefuse(exchange: Exchange): Outcome | Promise<Outcome> {
  try {
    const outcome = passGates(exchange, 0);
    return outcome instanceof Promise
      ? outcome.catch((error: unknown) => refuse(exchange, error))
      : outcome;
  } catch (error) {
    return refuse(exchange, error);
  }
}

function passGates(exchange: Exchange, from: number): Outcome | Promise<Outcome> {
  for (let at = from; at < gates.length; at += 1) {
    const passing = gates[at]?.(exchange) ?? null;
    if (passing instanceof Promise) {
      return passing.then((outcome) => outcome ?? passGates(exchange, at + 1));
    }
    if (passing !== null) return passing;
  }
  throw new Error('no gate has answered');
}

function refuse(exchange: Exchange, error: unknown): Outcome {
  const { request } = exchange;
  if (error instanceof VaultError) {
    exchange.refusal = error;
    return refused(error);
  }
  // The client went away in the middle of its body.
  if (request.destroyed && !request.complete) return 'reset';
  console.error(`key-vault: ${request.method} ${request.url} failed`, error);
  return refused(errors.internal());
}

/** By hand, because a URL parser would take `//x` for a host and fold empty and dotted segments. */
function splitTarget(target: string): { path: string; query: URLSearchParams } {
  const at = target.indexOf('?');
  return at < 0
    ? { path: target, query: queryOf('') }
    : { path: target.slice(0, at), query: queryOf(target.slice(at + 1)) };
}

// Most calls have the query of the call before, an api-version and nothing else. Nobody changes it.
let lastQuery = { text: '', query: new URLSearchParams() };

function queryOf(text: string): URLSearchParams {
  if (text !== lastQuery.text) lastQuery = { text, query: new URLSearchParams(text) };
  return lastQuery.query;
}

function recordOf(exchange: Exchange, outcome: Outcome): AuditRecord {
  const { plane, request, route, refusal } = exchange;
  const { vault, service } = plane;
  const { 'x-ms-client-request-id': clientRequestId, 'user-agent': userAgent } = request.headers;
  const durationMs = performance.now() - exchange.startedAt;
  return {
    at: service.now() - durationMs,
    durationMs,
    vault: vault.name,
    subscriptionId: vault.subscriptionId,
    baseUrl: vault.publicUrl,
    operation: route?.operation ?? null,
    collection: route?.collection ?? null,
    object: route?.params['name'] ?? null,
    version: exchange.version,
    caller: exchange.caller,
    status: typeof outcome === 'string' ? null : outcome.status,
    description: refusal?.message ?? null,
    fault: exchange.fault?.kind ?? null,
    target: request.url ?? '',
    clientAddress: exchange.clientAddress,
    isAddressAuthorized: exchange.isAddressAuthorized,
    userAgent: userAgent ?? null,
    correlationId: typeof clientRequestId === 'string' ? clientRequestId : exchange.requestId,
    tls: tlsVersion(request.socket),
    isAllowed: vault.access.enforced && route !== null ? exchange.isAllowed : null,
    assignmentId: exchange.assignmentId,
  };
}

const tlsVersions = new WeakMap<Socket, string>();

/** `TLS1_3`; `null` for plain connections. */
function tlsVersion(socket: Socket | TLSSocket): string | null {
  const known = tlsVersions.get(socket);
  if (known !== undefined) return known;
  const protocol = 'getProtocol' in socket ? socket.getProtocol() : null;
  if (protocol === null) return null;
  const version = protocol.replace('TLSv', 'TLS').replace('.', '_');
  tlsVersions.set(socket, version);
  return version;
}
