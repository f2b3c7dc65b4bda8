import { withPrincipal } from './easy-auth.ts';
import type { HttpRun } from './http.ts';
import type { RouteValues } from './routes.ts';
import type { HttpAnswer, HttpCall } from './server.ts';
import type { RpcCookie, RpcHttp, RpcTypedData } from './worker/protocol.ts';

/**
 * Runs an HTTP function with its request and answer as values, the mode of an app that does not set
 * enableHttpStream. Source: azure-functions-host, ToRpcHttp.
 */
export async function runTyped({ deps, fn, call, values }: HttpRun): Promise<HttpAnswer> {
  let body = await call.body.read();
  if (body.length > 0 && call.body.isChunked) {
    deps.log.warn(
      `${fn.name}: a chunked request body was dropped, as Azure does without enableHttpStream`,
    );
    body = Buffer.alloc(0);
  }
  const headers = withPrincipal(call.headers, deps.options);
  try {
    const { returnValue } = await deps.invoker.invoke(fn, {
      reason: 'This function was programmatically called via the host APIs.',
      input: { http: toRpcHttp(call, values, headers, body) },
      traceParent: call.headers['traceparent'],
    });
    return toAnswer(returnValue);
  } catch {
    // Logged by the invoker; the caller learns nothing.
    return { status: 500 };
  }
}

function toRpcHttp(
  call: HttpCall,
  params: RouteValues,
  headers: Record<string, string>,
  body: Buffer,
): RpcHttp {
  const query = joinedQuery(call.url);
  const http: RpcHttp = { method: call.method, url: call.url.href, headers, query, params };
  return body.length > 0 ? { ...http, body: { bytes: body } } : http;
}

/** The query as a dictionary, repeats joined with a comma. */
export function joinedQuery(url: URL): Record<string, string> {
  const query: Record<string, string> = {};
  for (const [name, value] of url.searchParams) {
    query[name] = Object.hasOwn(query, name) ? `${query[name]},${value}` : value;
  }
  return query;
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
