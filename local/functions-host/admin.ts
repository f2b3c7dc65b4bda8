import type { LoadedFunction } from './functions.ts';
import { type HttpDependencies, invokeHttp } from './http.ts';
import { isAllowed } from './keys.ts';
import { messageOf } from './log.ts';
import { invokeWithText } from './queues.ts';
import type { HttpAnswer, HttpCall } from './server.ts';
import { invokeTimer } from './timers.ts';
import { invokeWithEvent } from './webhooks.ts';

export interface AdminDependencies extends HttpDependencies {
  readonly hostId: string;
  readonly baseUrl: string;
}

/** Serves `/admin/*`. Source: azure-functions-host, HostController and FunctionsController. */
export async function serveAdmin(deps: AdminDependencies, call: HttpCall): Promise<HttpAnswer> {
  const path = call.url.pathname.toLowerCase().replace(/\/$/, '');
  const is = (method: string, wanted: string) => call.method === method && path === wanted;
  if (is('GET', '/admin/host/ping') || is('POST', '/admin/host/ping')) return { status: 200 };
  if (!isAllowed(call, 'admin', deps.options)) return { status: 401 };
  if (is('GET', '/admin/host/status')) return json(200, hostStatus(deps));
  if (is('POST', '/admin/host/synctriggers')) return json(200, { status: 'success' });
  if (is('GET', '/admin/functions'))
    return json(
      200,
      deps.functions.map((fn) => describeFunction(deps, fn)),
    );
  const match = /^\/admin\/functions\/([^/]+)(\/status)?$/.exec(path);
  const fn = deps.functions.find((other) => other.name.toLowerCase() === match?.[1]);
  if (match === null || fn === undefined) return { status: 404 };
  if (call.method === 'GET')
    return json(200, match[2] === undefined ? describeFunction(deps, fn) : {});
  if (call.method === 'POST' && match[2] === undefined) return start(deps, fn, call);
  return { status: 404 };
}

function json(status: number, value: unknown): HttpAnswer {
  return {
    status,
    headers: { 'content-type': 'application/json; charset=utf-8' },
    body: JSON.stringify(value),
  };
}

function hostStatus(deps: AdminDependencies): object {
  return {
    id: deps.hostId,
    state: 'Running',
    version: '4.1052.200.0',
    versionDetails: '4.1052.200 (keyturn local host)',
    processUptime: Math.round(process.uptime() * 1000),
    functionAppContentEditingState: 'NotAllowed',
  };
}

// What the admin endpoints tell about one function; names as the real host writes them.
function describeFunction(
  deps: Pick<AdminDependencies, 'baseUrl' | 'config'>,
  fn: LoadedFunction,
): object {
  return {
    name: fn.name,
    href: `${deps.baseUrl}/admin/functions/${fn.name}`,
    invoke_url_template: fn.trigger.type === 'http' ? urlOf(deps, fn) : null,
    language: 'node',
    isDisabled: fn.disabled,
    config: {
      name: fn.name,
      language: 'node',
      bindings: Object.entries(fn.metadata.bindings).map(([name, binding]) => ({
        ...binding,
        name,
      })),
    },
  };
}

export function urlOf(
  deps: Pick<AdminDependencies, 'baseUrl' | 'config'>,
  fn: LoadedFunction,
): string {
  if (fn.trigger.type !== 'http') throw new Error(`${fn.name} has no HTTP trigger`);
  const prefix = deps.config.http.routePrefix;
  return [deps.baseUrl, prefix, fn.trigger.route.text.replace(/^\/+/, '')]
    .filter((part) => part !== '')
    .join('/');
}

async function start(
  deps: AdminDependencies,
  fn: LoadedFunction,
  call: HttpCall,
): Promise<HttpAnswer> {
  const input = parseInput(await call.body.read());
  if (input === null) return { status: 400 };
  runNow(deps, fn, input).catch((error: unknown) => {
    deps.log.warn(`${fn.name}, started by the admin endpoint, failed: ${messageOf(error)}`);
  });
  return { status: 202 };
}

function parseInput(body: Buffer): string | null {
  try {
    const value: unknown = JSON.parse(body.toString('utf8'));
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return null;
    const input = 'input' in value ? (value.input ?? '') : '';
    return typeof input === 'string' ? input : null;
  } catch {
    return null;
  }
}

async function runNow(
  deps: AdminDependencies,
  fn: LoadedFunction,
  input: string,
): Promise<unknown> {
  const { invoker } = deps;
  switch (fn.trigger.type) {
    case 'http':
      return invokeHttp(deps, fn, { url: new URL(urlOf(deps, fn)), input });
    case 'timer':
      return invokeTimer(invoker, fn);
    case 'queue':
      return invokeWithText(invoker, fn, input);
    case 'eventGrid':
      return invokeWithEvent(invoker, fn, JSON.parse(input));
  }
}
