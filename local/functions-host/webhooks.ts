import type { LoadedFunction } from './functions.ts';
import type { Invoker } from './invoke.ts';
import { isAllowed } from './keys.ts';
import { messageOf } from './log.ts';
import type { HostOptions } from './options.ts';
import type { HttpAnswer, HttpCall } from './server.ts';

export interface WebhookDependencies {
  readonly functions: readonly LoadedFunction[];
  readonly invoker: Invoker;
  readonly options: HostOptions;
}

const methods = ['GET', 'PUT', 'POST', 'DELETE', 'OPTIONS'];

/** Serves `/runtime/webhooks/eventgrid`. The order of the checks is the real one. Source: azure-sdk-for-net, Event Grid HttpRequestProcessor. */
export async function serveEventGrid(
  deps: WebhookDependencies,
  call: HttpCall,
): Promise<HttpAnswer> {
  if (!methods.includes(call.method)) return { status: 404 };
  if (!isAllowed(call, 'eventgrid', deps.options)) return { status: 401 };
  const name = call.url.searchParams.get('functionName') ?? '';
  const fn = deps.functions.find((other) => other.name === name);
  if (fn === undefined || fn.trigger.type !== 'eventGrid' || fn.disabled) {
    return { status: 404, body: `cannot find function: '${name}'` };
  }
  if (call.method === 'OPTIONS') return allowOrigin(call);
  switch (call.headers['aeg-event-type']?.toLowerCase()) {
    case 'subscriptionvalidation':
      return validate(call);
    case 'notification':
      return notify(deps, fn, call);
    case 'unsubscribe':
      return { status: 202 };
    default:
      return { status: 400 };
  }
}

function allowOrigin(call: HttpCall): HttpAnswer {
  const asked = call.headers['webhook-request-origin'] ?? '';
  const known = /^eventgrid\.azure\.(net|us|cn|eaglex\.ic\.gov|microsoft\.scloud)$/i.test(asked);
  return {
    status: 200,
    headers: { 'webhook-allowed-origin': known ? asked : 'eventgrid.azure.net' },
  };
}

async function validate(call: HttpCall): Promise<HttpAnswer> {
  const body: unknown = JSON.parse((await call.body.read()).toString('utf8'));
  const code = Array.isArray(body)
    ? codeOf(memberOf(body[0], 'data'))
    : codeOf(parseText(memberOf(body, 'data')));
  return {
    status: 200,
    headers: { 'content-type': 'application/json; charset=utf-8' },
    body: JSON.stringify({ validationResponse: code }),
  };
}

// In the single-object form `data` is JSON text.
function parseText(data: unknown): unknown {
  return typeof data === 'string' ? JSON.parse(data) : data;
}

function codeOf(data: unknown): string {
  const code = memberOf(data, 'validationCode');
  if (typeof code !== 'string') throw new Error('the validation event has no validationCode');
  return code;
}

function memberOf(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null) return undefined;
  return Object.entries(value).find(([key]) => key.toLowerCase() === name.toLowerCase())?.[1];
}

async function notify(
  deps: WebhookDependencies,
  fn: LoadedFunction,
  call: HttpCall,
): Promise<HttpAnswer> {
  const body: unknown = JSON.parse((await call.body.read()).toString('utf8'));
  const events: readonly unknown[] = Array.isArray(body) ? body : [body];
  const results = await Promise.allSettled(
    events.map((event) => invokeWithEvent(deps.invoker, fn, event)),
  );
  const failure = results.find((result) => result.status === 'rejected');
  return failure === undefined ? { status: 202 } : { status: 500, body: messageOf(failure.reason) };
}

/** Runs an Event Grid function with one event, in whatever schema. @throws Error when it is no object */
export async function invokeWithEvent(
  invoker: Invoker,
  fn: LoadedFunction,
  event: unknown,
): Promise<void> {
  if (typeof event !== 'object' || event === null || Array.isArray(event)) {
    throw new Error('an Event Grid event must be one JSON object');
  }
  const data = 'data' in event ? event.data : null;
  await invoker.invoke(fn, {
    reason: 'EventGrid trigger fired.',
    input: { json: JSON.stringify(event) },
    triggerMetadata: { Data: { json: JSON.stringify(data ?? null) } },
  });
}
