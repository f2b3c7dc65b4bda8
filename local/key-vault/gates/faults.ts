import { challengeFor } from '../challenges.ts';
import { VaultError } from '../errors.ts';
import {
  type Exchange,
  type Gate,
  type Outcome,
  type Reply,
  refused,
  routeOf,
} from '../exchange.ts';
import type { Fault } from '../faults.ts';

/** What somebody wants to go wrong before anything is done. */
export const faultGate: Gate = (exchange) => {
  const { service, vault } = exchange.plane;
  const { operation, params } = routeOf(exchange);
  exchange.fault = service.faults.decide({
    vault: vault.name,
    operation: operation.id,
    object: params['name'] ?? '',
  });
  return exchange.fault === null ? null : beforeRun(exchange, exchange.fault);
};

/** What somebody wants to go wrong after it was done. */
export function afterRun(fault: Fault | null, reply: Reply): Outcome {
  switch (fault?.kind) {
    case 'reset-after-commit':
      return 'reset';
    case 'fail-after-commit':
      return refusedBy(fault.status);
    case 'slow-body':
      return { ...reply, slowBodyMs: fault.ms };
    default:
      return reply;
  }
}

function beforeRun(exchange: Exchange, fault: Fault): Outcome | null {
  switch (fault.kind) {
    case 'reset':
    case 'hang':
      return fault.kind;
    case 'empty-body':
      return { status: fault.status };
    case 'status': {
      const { status, code, message, retryAfter } = fault;
      const { tenantId, challenges } = exchange.plane.service;
      const challenge =
        status === 401 ? { 'www-authenticate': challengeFor(tenantId, challenges.style) } : {};
      const pause = retryAfter === undefined ? {} : { 'retry-after': String(retryAfter) };
      return { ...refusedBy(status, code, message), headers: { ...challenge, ...pause } };
    }
    case 'fail-after-commit':
    case 'reset-after-commit':
    case 'slow-body':
      return null;
  }
}

function refusedBy(status: number, code = codeOf(status), message = messageOf(status)): Reply {
  return refused(new VaultError([status, code], message));
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
  const texts: Readonly<Record<number, string>> = {
    401: 'AKV10046: Unable to resolve the key used for signature validation.',
    429: 'Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached',
  };
  return texts[status] ?? 'A fault rule of the emulator answered this call.';
}
