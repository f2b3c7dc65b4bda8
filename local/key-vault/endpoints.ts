import {
  createServer as createHttpServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https';
import type { Socket } from 'node:net';
import { listen } from '../loopback-http.ts';
import type { ControlPlane } from './control/plane.ts';
import { respondToControl } from './control/server.ts';
import { respond } from './data-plane.ts';
import type { DataPlane, Service } from './exchange.ts';
import { refuseMalformed } from './response.ts';
import { seenAt, type Vault } from './vault.ts';

export type Endpoint = {
  readonly url: string;
  /** Closes every connection. */
  readonly close: () => Promise<void>;
};

export type Tls = { readonly key: string; readonly cert: string };

// Node would refuse a request without Host with an empty body.
const lenient = { requireHostHeader: false };

/** The vault itself. @param port 0: any free one. @throws Error when the port is taken */
export async function serveVault(
  service: Service,
  vault: Vault,
  tls: Tls,
  port: number,
): Promise<Endpoint> {
  const server = createTlsServer({ ...tls, ...lenient });
  answerWith(server, { service, vault });
  const { port: actual, close } = await open(server, port, `vault ${vault.name}`);
  return { url: `https://localhost:${actual}`, close };
}

/** The same vault without TLS, under a URL of its own. @param port 0: any free one. @throws Error as above */
export async function serveVaultPlainly(
  service: Service,
  vault: Vault,
  port: number,
): Promise<Endpoint> {
  const server = createHttpServer(lenient);
  const { port: actual, close } = await open(server, port, `vault ${vault.name}`);
  const url = `http://localhost:${actual}`;
  answerWith(server, { service, vault: seenAt(vault, url) });
  return { url, close };
}

export async function serveControl(control: ControlPlane, port: number): Promise<Endpoint> {
  const server = createHttpServer((request, response) => {
    void respondToControl(control, request, response);
  });
  const { port: actual, close } = await open(server, port, 'control API');
  return { url: `http://127.0.0.1:${actual}`, close };
}

function answerWith(server: Server | TlsServer, plane: DataPlane): void {
  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    respond(plane, request, response).catch((error: unknown) => {
      console.error(`key-vault: ${request.method} ${request.url} was not answered`, error);
      response.destroy();
    });
  };
  server.on('request', answer);
  // Node would refuse an unknown Expect with an empty body.
  server.on('checkExpectation', answer);
  server.on('clientError', refuseMalformed);
  // Longer than clients keep idle connections, lest they write into one that is being closed.
  server.keepAliveTimeout = 65_000;
}

async function open(
  server: Server | TlsServer,
  port: number,
  what: string,
): Promise<{ readonly port: number; readonly close: Endpoint['close'] }> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve());
      // Not closeAllConnections: it overlooks clients that never finished their TLS handshake.
      for (const socket of sockets) socket.destroy();
    });
  return { port: await listen(server, port, what), close };
}
