import type { RpcCookie, RpcHttp, RpcTypedData } from './core-api.ts';
import type { InvocationRequest, Invoker } from './invoke.ts';
import { isAllowed } from './keys.ts';
import type { LoadedFunction } from './load.ts';
import type { Log } from './log.ts';
import { matchRoute, parseRoute, type RouteTemplate, type RouteValues } from './routes.ts';
import type { HttpAnswer, HttpCall } from './server.ts';
import type { HostConfig, HostOptions } from './settings.ts';

export interface HttpDependencies {
  readonly functions: readonly LoadedFunction[];
  readonly invoker: Invoker;
  readonly log: Log;
  readonly options: HostOptions;
  readonly config: HostConfig;
}

interface Route {
  readonly fn: LoadedFunction;
  readonly template: RouteTemplate;
  readonly methods: readonly string[];
  readonly authLevel: 'anonymous' | 'function' | 'admin';
}

/** Serves the HTTP functions: first match in name order, typed-data mode. Source: azure-functions-host, ToRpcHttp. */
export function createHttpFunctions(
  deps: HttpDependencies,
): (call: HttpCall) => Promise<HttpAnswer> {
  const routes = createRoutes(deps);
  const { maxOutstandingRequests } = deps.config.http;
  let outstanding = 0;
  return async (call) => {
    const found = findRoute(routes, call);
    if (found === null) return call.url.pathname === '/' ? homePage() : { status: 404 };
    const { route, values } = found;
    // A disabled function is hidden from everyone but an administrator.
    if (route.fn.disabled && !(deps.options.enableAuth && isAllowed(call, 'admin', deps.options)))
      return { status: 404 };
    if (!isAllowed(call, route.authLevel, deps.options)) return { status: 401 };
    if (maxOutstandingRequests > 0 && outstanding >= maxOutstandingRequests) return { status: 429 };
    outstanding += 1;
    try {
      return await run(deps, route, call, values);
    } finally {
      outstanding -= 1;
    }
  };
}

function createRoutes({ functions, config }: HttpDependencies): readonly Route[] {
  const prefix = config.http.routePrefix;
  return functions.flatMap((fn) => {
    if (fn.trigger.type !== 'http') return [];
    const { route, methods, authLevel } = fn.trigger;
    const text = prefix === '' ? route.text : `${prefix}/${route.text.replace(/^\/+/, '')}`;
    return [{ fn, template: parseRoute(text), methods, authLevel }];
  });
}

function findRoute(
  routes: readonly Route[],
  call: HttpCall,
): { route: Route; values: RouteValues } | null {
  for (const route of routes) {
    if (!route.methods.includes(call.method)) continue;
    const values = matchRoute(route.template, call.url.pathname);
    if (values !== null) return { route, values };
  }
  return null;
}

function homePage(): HttpAnswer {
  if (process.env['AzureWebJobsDisableHomepage']?.toLowerCase() === 'true') return { status: 204 };
  return {
    status: 200,
    headers: { 'content-type': 'text/html; charset=utf-8' },
    body: '<!doctype html><title>Functions</title><p>Your Functions app is up and running.</p>',
  };
}

async function run(
  deps: HttpDependencies,
  route: Route,
  call: HttpCall,
  values: RouteValues,
): Promise<HttpAnswer> {
  if (call.body.length > 0 && isChunked(call)) {
    deps.log.warn(
      `${route.fn.name}: a chunked request body was dropped, as Azure does without enableHttpStream`,
    );
  }
  const request = toInvocation(call, values, deps.options);
  try {
    return toAnswer((await deps.invoker.invoke(route.fn, request)).returnValue);
  } catch {
    // Logged by the invoker; the caller learns nothing.
    return { status: 500 };
  }
}

function toInvocation(
  call: HttpCall,
  params: RouteValues,
  options: HostOptions,
): InvocationRequest {
  const query: Record<string, string> = {};
  for (const [name, value] of call.url.searchParams) {
    query[name] = Object.hasOwn(query, name) ? `${query[name]},${value}` : value;
  }
  const headers = { ...clientHeaders(call, options), ...principalHeaders(options) };
  const http: RpcHttp = { method: call.method, url: call.url.href, headers, query, params };
  if (call.body.length > 0 && !isChunked(call)) http.body = { bytes: call.body };
  return {
    reason: 'This function was programmatically called via the host APIs.',
    input: { http },
    traceParent: call.headers['traceparent'],
  };
}

function isChunked(call: HttpCall): boolean {
  return call.headers['content-length'] === undefined;
}

// Azure without Easy Auth passes these on, so an app must not believe them; the flag shows it does not.
function clientHeaders(call: HttpCall, options: HostOptions): Record<string, string> {
  if (options.passClientPrincipal) return { ...call.headers };
  const kept = Object.entries(call.headers).filter(
    ([name]) => !name.startsWith('x-ms-client-principal'),
  );
  return Object.fromEntries(kept);
}

function principalHeaders({ easyAuth }: HostOptions): Record<string, string> {
  if (easyAuth === null) return {};
  const { id, name, provider, claims } = easyAuth;
  const principal = { auth_typ: provider, name_typ: 'name', role_typ: 'roles', claims };
  return {
    'x-ms-client-principal': Buffer.from(JSON.stringify(principal)).toString('base64'),
    'x-ms-client-principal-id': id,
    'x-ms-client-principal-name': name,
    'x-ms-client-principal-idp': provider,
  };
}

function toAnswer(value: RpcTypedData | null | undefined): HttpAnswer {
  const http = value?.http;
  if (http === undefined) return { status: 204 };
  const cookies = (http.cookies ?? []).map(formatCookie);
  const headers: Record<string, string | string[]> = { ...http.headers };
  if (cookies.length > 0) {
    const own = headers['set-cookie'];
    headers['set-cookie'] = typeof own === 'string' ? [own, ...cookies] : cookies;
  }
  return {
    status: Number(http.statusCode ?? 200),
    headers,
    body: http.body?.bytes ?? http.body?.string ?? '',
  };
}

function formatCookie(cookie: RpcCookie): string {
  const parts = [`${cookie.name}=${encodeURIComponent(cookie.value)}`];
  if (cookie.expires)
    parts.push(`expires=${new Date(cookie.expires.value.seconds * 1000).toUTCString()}`);
  if (cookie.maxAge) parts.push(`max-age=${cookie.maxAge.value}`);
  if (cookie.domain) parts.push(`domain=${cookie.domain.value}`);
  parts.push(`path=${cookie.path?.value ?? '/'}`);
  if (cookie.secure?.value) parts.push('secure');
  const sameSite = cookie.sameSite === 'explicitNone' ? 'none' : cookie.sameSite;
  if (sameSite !== undefined && cookie.sameSite !== 'none') parts.push(`samesite=${sameSite}`);
  if (cookie.httpOnly?.value) parts.push('httponly');
  return parts.join('; ');
}

/** Runs an HTTP function from the admin endpoint: a POST to its own route with `input` as body. */
export function invokeHttp(
  deps: Pick<HttpDependencies, 'invoker' | 'options'>,
  fn: LoadedFunction,
  target: { readonly url: URL; readonly input: string },
): Promise<unknown> {
  const body = Buffer.from(target.input);
  const headers = { 'content-type': 'application/json', 'content-length': String(body.length) };
  const call: HttpCall = { method: 'POST', url: target.url, headers, body };
  return deps.invoker.invoke(fn, toInvocation(call, {}, deps.options));
}
