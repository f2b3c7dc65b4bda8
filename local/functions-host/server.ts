import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { listen } from '../loopback-http.ts';
import { describeError, type Log } from './log.ts';
import { BodyTooLong, bodyOf, type RequestBody } from './request-body.ts';

/** A request as the host's parts see it: header names in lower case, repeats joined with a comma. */
export interface HttpCall {
  readonly method: string;
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: RequestBody;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  readonly body?: Uint8Array | string | Readable;
}

export interface HttpServer {
  readonly url: string;
  /** From now on calls go here; before, every call is answered 503. */
  serve(handler: (call: HttpCall) => Promise<HttpAnswer>, rules: HttpRules): void;
  /** Takes no new connections; resolves when the open ones have been answered. */
  close(): Promise<void>;
  /** Ends what is left, answered or not. */
  kill(): void;
}

interface HttpRules {
  readonly corsOrigins: readonly string[];
  readonly corsCredentials: boolean;
  readonly customHeaders: Readonly<Record<string, string>>;
}

/** The listening socket on 127.0.0.1: limits, CORS, custom headers, 503 until loaded, 500 on errors. */
export async function startServer(port: number, log: Log): Promise<HttpServer> {
  let handler: ((call: HttpCall) => Promise<HttpAnswer>) | null = null;
  let rules: HttpRules = { corsOrigins: [], corsCredentials: false, customHeaders: {} };
  let isClosing = false;
  const server = createServer((request, response) => {
    answer(request, handler, rules)
      .catch((error: unknown): HttpAnswer => {
        if (error instanceof BodyTooLong) return { status: 413, headers: { connection: 'close' } };
        log.error(`${request.method} ${request.url?.split('?')[0]}: ${describeError(error)}`);
        return { status: 500 };
      })
      .then((result) => {
        // A connection kept alive would keep a stopping host waiting.
        if (isClosing) response.setHeader('connection', 'close');
        return send(response, result);
      })
      .catch((error: unknown) => {
        log.error(`the answer could not be sent: ${describeError(error)}`);
        response.destroy();
      });
  });
  // The platform cuts HTTP calls after 230 s; until then a silent handler is the app's affair.
  server.requestTimeout = 0;
  const bound = await listen(server, port, 'functions host');
  return {
    url: `http://127.0.0.1:${bound}`,
    serve(next, nextRules) {
      rules = nextRules;
      handler = next;
    },
    close() {
      isClosing = true;
      return new Promise((resolve) => {
        server.close(() => resolve());
        server.closeIdleConnections();
      });
    },
    kill: () => server.closeAllConnections(),
  };
}

async function answer(
  request: IncomingMessage,
  handler: ((call: HttpCall) => Promise<HttpAnswer>) | null,
  rules: HttpRules,
): Promise<HttpAnswer> {
  if (handler === null) return { status: 503, body: 'Function host is not running.' };
  const headers = joinHeaders(request.rawHeaders);
  const origin = headers['origin'];
  const cors = origin === undefined ? {} : corsHeaders(origin, rules);
  if (
    request.method === 'OPTIONS' &&
    headers['access-control-request-method'] &&
    origin &&
    cors['access-control-allow-origin']
  ) {
    return { status: 204, headers: { ...cors, ...preflightHeaders(headers) } };
  }
  const url = parseTarget(request.url ?? '/', headers['host']);
  if (url === null) return { status: 400 };
  const method = request.method ?? 'GET';
  const result = await handler({ method, url, headers, body: bodyOf(request) });
  return { ...result, headers: { ...lowerNames(rules.customHeaders), ...cors, ...result.headers } };
}

function lowerNames(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]),
  );
}

function joinHeaders(raw: readonly string[]): Record<string, string> {
  const headers: Record<string, string> = {};
  for (let at = 0; at < raw.length; at += 2) {
    const name = (raw[at] ?? '').toLowerCase();
    const value = raw[at + 1] ?? '';
    const known = headers[name];
    headers[name] = known === undefined ? value : `${known},${value}`;
  }
  return headers;
}

function corsHeaders(origin: string, rules: HttpRules): Record<string, string> {
  const isAny = rules.corsOrigins.includes('*');
  if (!isAny && !rules.corsOrigins.includes(origin)) return {};
  const credentials =
    rules.corsCredentials && !isAny ? { 'access-control-allow-credentials': 'true' } : {};
  return { 'access-control-allow-origin': isAny ? '*' : origin, ...credentials };
}

function preflightHeaders(headers: Readonly<Record<string, string>>): Record<string, string> {
  return {
    'access-control-allow-methods': headers['access-control-request-method'] ?? '',
    'access-control-allow-headers': headers['access-control-request-headers'] ?? '',
  };
}

// Not new URL(target, base): a target such as //other/path would change the host.
function parseTarget(target: string, host: string | undefined): URL | null {
  if (!target.startsWith('/')) return null;
  try {
    return new URL(`http://${host ?? '127.0.0.1'}${target}`);
  } catch {
    return null;
  }
}

async function send(response: ServerResponse, result: HttpAnswer): Promise<void> {
  response.statusCode = result.status;
  for (const [name, value] of Object.entries(result.headers ?? {})) {
    // Node frames the body itself.
    if (name !== 'transfer-encoding') response.setHeader(name, value);
  }
  const { body = '' } = result;
  if (body instanceof Readable) return sendStream(response, body);
  const hasBody = result.status >= 200 && ![204, 205, 304].includes(result.status);
  if (hasBody) {
    response.setHeader(
      'content-length',
      typeof body === 'string' ? Buffer.byteLength(body) : body.length,
    );
  }
  response.end(hasBody ? body : undefined);
}

async function sendStream(response: ServerResponse, body: Readable): Promise<void> {
  // At once, so that the caller sees the status before the handler has anything to say.
  response.flushHeaders();
  try {
    await pipeline(body, response);
  } catch {
    // Either side went away in the middle; the pipeline has ended the other.
  }
}
