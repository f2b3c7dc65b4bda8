import { finished, Readable } from 'node:stream';
import type { LoadedFunction } from './functions.ts';
import type { HostConfig } from './host-json.ts';
import { runStreaming } from './http-stream.ts';
import { runTyped } from './http-typed.ts';
import type { Invoker } from './invoke.ts';
import { isAllowed } from './keys.ts';
import type { Log } from './log.ts';
import type { HostOptions } from './options.ts';
import { bodyFrom } from './request-body.ts';
import { matchRoute, parseRoute, type RouteTemplate, type RouteValues } from './routes.ts';
import type { HttpAnswer, HttpCall } from './server.ts';
import { createThrottle } from './throttle.ts';
import type { Workers } from './workers.ts';

export interface HttpDependencies {
  readonly functions: readonly LoadedFunction[];
  readonly invoker: Invoker;
  readonly workers: Pick<Workers, 'httpUri'>;
  readonly log: Log;
  readonly options: HostOptions;
  readonly config: HostConfig;
}

/** One call of one HTTP function. */
export interface HttpRun {
  readonly deps: Pick<HttpDependencies, 'invoker' | 'workers' | 'log' | 'options'>;
  readonly fn: LoadedFunction;
  readonly call: HttpCall;
  readonly values: RouteValues;
}

interface Route {
  readonly fn: LoadedFunction;
  readonly template: RouteTemplate;
  readonly methods: readonly string[];
  readonly authLevel: 'anonymous' | 'function' | 'admin';
}

/** Serves the HTTP functions: the first match in name order. Source: WebJobsRouter. */
export function createHttpFunctions(
  deps: HttpDependencies,
): (call: HttpCall) => Promise<HttpAnswer> {
  const routes = createRoutes(deps);
  const throttle = createThrottle(deps.config.http);
  return async (call) => {
    const found = findRoute(routes, call);
    if (found === null) return call.url.pathname === '/' ? homePage() : { status: 404 };
    const { route, values } = found;
    // A disabled function is hidden from everyone but an administrator.
    if (route.fn.disabled && !(deps.options.enableAuth && isAllowed(call, 'admin', deps.options)))
      return { status: 404 };
    if (!isAllowed(call, route.authLevel, deps.options)) return { status: 401 };
    const place = throttle.enter();
    if (place === null) return { status: 429 };
    await place.turn;
    return leaveAfter(place.leave, runHttp({ deps, fn: route.fn, call, values }));
  };
}

/** Runs an HTTP function in the mode its app has chosen. */
async function runHttp(run: HttpRun): Promise<HttpAnswer> {
  const httpUri = await run.deps.workers.httpUri();
  return httpUri === null ? runTyped(run) : runStreaming(run, httpUri);
}

async function leaveAfter(leave: () => void, running: Promise<HttpAnswer>): Promise<HttpAnswer> {
  try {
    const answer = await running;
    if (answer.body instanceof Readable) finished(answer.body, leave);
    else leave();
    return answer;
  } catch (error) {
    leave();
    throw error;
  }
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

/** Runs an HTTP function from the admin endpoint: a POST to its own route with `input` as body. */
export async function invokeHttp(
  deps: HttpRun['deps'],
  fn: LoadedFunction,
  target: { readonly url: URL; readonly input: string },
): Promise<void> {
  const bytes = Buffer.from(target.input);
  const headers = { 'content-type': 'application/json', 'content-length': String(bytes.length) };
  const call = { method: 'POST', url: target.url, headers, body: bodyFrom(bytes) };
  const { body } = await runHttp({ deps, fn, call, values: {} });
  if (body instanceof Readable) body.resume();
}
