import { randomUUID } from 'node:crypto';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { withPrincipal } from './easy-auth.ts';
import type { HttpRun } from './http.ts';
import { joinedQuery } from './http-typed.ts';
import { isRecord } from './parse.ts';
import { bodyFrom } from './request-body.ts';
import type { HttpAnswer, HttpCall } from './server.ts';
import { pause } from './time.ts';
import type { RpcTypedData } from './worker/protocol.ts';

// The answer and the news of the invocation's end come on two connections: how much later the first
// may be before there is none.
const graceMs = 1000;

// They speak of one connection, and there are two: the caller's and the worker's.
const hopByHop: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/**
 * Runs an HTTP function whose worker serves HTTP itself: the request is passed on as it comes, the
 * answer is passed back as it is made. Source: azure-functions-host, DefaultHttpProxyService.
 */
export async function runStreaming(run: HttpRun, httpUri: string): Promise<HttpAnswer> {
  const { deps, fn, values } = run;
  const { call, text } = await readable(run.call);
  const invocationId = randomUUID();
  const headers = withPrincipal(call.headers, deps.options);
  const proxied = passOn(call, { httpUri, headers, invocationId });
  const invocation = deps.invoker
    .invoke(fn, {
      invocationId,
      reason: 'This function was programmatically called via the host APIs.',
      input: { string: '' },
      triggerMetadata: bindingData({ url: call.url, text, headers, values }),
      traceParent: call.headers['traceparent'],
    })
    .then(
      () => true,
      () => false,
    );
  const answered = new AbortController();
  const silence = invocation.then(() => pause(graceMs, answered.signal)).then(() => null);
  const answer = await Promise.race([proxied.answer, silence]);
  answered.abort();
  if (answer === null) {
    proxied.end();
    deps.log.warn(
      `${fn.name}: the handler ended without an answer. With enableHttpStream Azure would leave the caller waiting for 240 s; return a response object from every path`,
    );
    return { status: 500 };
  }
  // A handler that fails in the middle of its answer never ends it.
  void invocation.then((isDone) => isDone || answer.destroy());
  return { status: answer.statusCode ?? 500, headers: endToEnd(answer), body: answer };
}

/**
 * The call with a body that can still be passed on, and its text where the host looks into it. It
 * does where Content-Length tells of a body, which is thereby read whole; a chunked one is not.
 */
async function readable(call: HttpCall): Promise<{ call: HttpCall; text: string }> {
  if (call.body.isChunked) return { call, text: '' };
  const bytes = await call.body.read();
  return { call: { ...call, body: bodyFrom(bytes) }, text: bytes.toString('utf8') };
}

interface Target {
  readonly httpUri: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly invocationId: string;
}

/** Sends the request to the worker. `answer` is `null` when the connection broke before there was one. */
function passOn(
  call: HttpCall,
  { httpUri, headers, invocationId }: Target,
): { answer: Promise<IncomingMessage | null>; end(): void } {
  const { port, hostname } = new URL(httpUri);
  const kept = Object.entries(headers).filter(([name]) => !hopByHop.has(name));
  const request = httpRequest({
    // A connection of its own: one kept alive could be closed by the worker at that very moment.
    ...{ agent: false, hostname, port, method: call.method },
    path: `${call.url.pathname}${call.url.search}`,
    headers: {
      ...Object.fromEntries(kept),
      ...(call.body.isChunked ? { 'transfer-encoding': 'chunked' } : {}),
      'x-ms-invocation-id': invocationId,
      'x-forwarded-host': call.url.host,
      'x-forwarded-proto': 'http',
    },
  });
  const answer = new Promise<IncomingMessage | null>((resolve) => {
    request.once('response', resolve);
    request.on('error', () => resolve(null));
  });
  const body = call.body.stream();
  body.on('error', (error) => request.destroy(error));
  body.pipe(request);
  return { answer, end: () => void request.destroy() };
}

function endToEnd(answer: IncomingMessage): Record<string, string | readonly string[]> {
  const kept = Object.entries(answer.headers).flatMap(([name, value]) =>
    value === undefined || hopByHop.has(name) ? [] : [[name, value] as const],
  );
  return Object.fromEntries(kept);
}

interface BindingSource {
  readonly url: URL;
  readonly text: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly values: Readonly<Record<string, string>>;
}

/**
 * What the programming model makes `request.params` and `request.headers` of: the body's scalars,
 * over them the query without its key, over them the route. Source: HttpTriggerAttributeBindingProvider.
 */
function bindingData({ url, text, headers, values }: BindingSource): Record<string, RpcTypedData> {
  const { code: _key, ...query } = joinedQuery(url);
  const named = { ...scalarsOf(text), ...query, ...values };
  const data = Object.entries(named).map(([name, value]) => [name, { string: value }] as const);
  return {
    ...Object.fromEntries(data),
    Query: { json: JSON.stringify(query) },
    Headers: { json: JSON.stringify(headers) },
  };
}

function scalarsOf(text: string): Record<string, string> {
  if (!text.trimStart().startsWith('{')) return {};
  try {
    const body: unknown = JSON.parse(text);
    if (!isRecord(body)) return {};
    const scalars = Object.entries(body).filter(
      ([, value]) => value !== null && typeof value !== 'object',
    );
    return Object.fromEntries(scalars.map(([name, value]) => [name, String(value)]));
  } catch {
    return {};
  }
}
