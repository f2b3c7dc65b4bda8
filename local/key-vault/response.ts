import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { errors } from './errors.ts';
import type { Exchange, Reply } from './exchange.ts';

const constantHeaders: readonly string[] = Object.entries({
  'cache-control': 'no-cache',
  pragma: 'no-cache',
  expires: '-1',
  'strict-transport-security': 'max-age=31536000;includeSubDomains',
  'x-content-type-options': 'nosniff',
  'x-ms-keyvault-service-version': '1.9.2000.1',
  'x-ms-keyvault-network-info': 'conn_type=Ipv4;addr=127.0.0.1;act_addr_fam=InterNetwork;',
}).flat();
const slowBodySteps = 10;

/** Sends an answer with the headers of the service. */
export function send(
  { plane, request, requestId }: Exchange,
  response: ServerResponse,
  { status, body, headers, slowBodyMs }: Reply,
): void {
  const lines = commonHeaders(request, requestId, plane.vault.location);
  for (const name in headers) lines.push(name, headers[name] ?? '');
  if (body === undefined) {
    // 204 has no length; any other empty answer must tell that it is empty.
    if (status !== 204) lines.push('content-length', '0');
    response.writeHead(status, lines).end();
    return;
  }
  // As text, Node sends it in one piece with the headers.
  const json = JSON.stringify(body);
  lines.push('content-type', 'application/json; charset=utf-8');
  lines.push('content-length', String(Buffer.byteLength(json)));
  response.writeHead(status, lines);
  if (slowBodyMs === undefined) response.end(json);
  else void trickle(response, Buffer.from(json), slowBodyMs);
}

/** Names and values in turn. */
function commonHeaders(request: IncomingMessage, requestId: string, region: string): string[] {
  const lines = [...constantHeaders, 'x-ms-request-id', requestId, 'x-ms-keyvault-region', region];
  const clientRequestId = request.headers['x-ms-client-request-id'];
  if (typeof clientRequestId === 'string') lines.push('x-ms-client-request-id', clientRequestId);
  return lines;
}

async function trickle(response: ServerResponse, json: Buffer, ms: number): Promise<void> {
  const step = Math.ceil(json.length / slowBodySteps);
  response.flushHeaders();
  for (let at = 0; at < json.length && !response.destroyed; at += step) {
    await wait(ms / slowBodySteps);
    response.write(json.subarray(at, at + step));
  }
  response.end();
}

/** Does not keep the process alive. */
export function wait(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms).unref();
  });
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
