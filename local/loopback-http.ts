import { randomInt } from 'node:crypto';
import type { IncomingMessage, Server } from 'node:http';
import { type AddressInfo, createServer, type Server as TcpServer } from 'node:net';

/** Whether a request names this machine: a web page whose own name was re-bound to it gets nothing. */
export function isLoopbackHost(host: string | undefined): boolean {
  return host !== undefined && /^(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$/i.test(host);
}

/** The parsed body; `undefined` when it is empty, no JSON or too long, which no schema accepts. */
export async function readJson(request: IncomingMessage, maxBytes: number): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes <= maxBytes) chunks.push(chunk);
  }
  try {
    return bytes > maxBytes ? undefined : JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch {
    return undefined;
  }
}

/** Listens on 127.0.0.1; 0 is any free port. @returns the port. @throws Error that names `what` and port */
export function listen(server: TcpServer, port: number, what: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const fail = (cause: Error) =>
      reject(new Error(`The ${what} cannot listen on port ${port}: ${cause.message}`, { cause }));
    server.once('error', fail);
    server.listen(port, '127.0.0.1', () => {
      server.off('error', fail);
      resolve((server.address() as AddressInfo).port);
    });
  });
}

/** Stops listening and drops every connection. */
export function close(server: Pick<Server, 'close' | 'closeAllConnections'>): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}

const handedOut = new Set<number>();

/**
 * A port that nobody listens on, for a process that is told its port. Chosen below the range from
 * which systems take the ports of outgoing connections: one of those could take it meanwhile.
 */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < 200; tries++) {
    const port = randomInt(15_000, 32_000);
    if (handedOut.has(port) || !(await isFree(port))) continue;
    handedOut.add(port);
    return port;
  }
  throw new Error('no port between 15000 and 32000 is free on 127.0.0.1');
}

/** Whether nobody listens on `port` of 127.0.0.1 at this moment. */
export function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
