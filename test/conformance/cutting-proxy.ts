import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export interface Address {
  readonly host: string;
  readonly port: number;
}

/**
 * What happens to message `at` from client to server, counted from 1 over all connections:
 * `before`: the connection ends and the server never sees it; `after`: the server sees it and acts,
 * the connection ends before its answer passes; `silence`: from here on nothing passes either way
 * and nobody hangs up. `at: 0` with `silence` is a target that accepts and says nothing.
 */
export interface Fault {
  readonly kind: 'before' | 'after' | 'silence';
  readonly at: number;
}

export interface CuttingProxy {
  readonly address: Address;
  /** Messages from client to server so far: chunks as they arrive. */
  messages(): number;
  hasStruck(): boolean;
  /** From now on each message is held back for so long. */
  delay(milliseconds: number): void;
  close(): Promise<void>;
}

/** How long a server that neither answers nor hangs up may take over the message of `after`. */
const actMs = 300;

/** A TCP proxy on loopback in front of `to` that knows no protocol. Strikes once, then passes all. */
export async function startCuttingProxy(
  to: Address,
  fault: Fault | null = null,
): Promise<CuttingProxy> {
  const sockets = new Set<Socket>();
  const line = { count: 0, hasStruck: fault?.at === 0, delayMs: 0 };
  const isSilent = () => fault?.kind === 'silence' && line.hasStruck;
  const strikes = () => {
    line.count += 1;
    if (line.hasStruck || line.count !== fault?.at) return null;
    line.hasStruck = true;
    return fault.kind;
  };
  const server = createServer({ allowHalfOpen: true }, (client) => {
    keep(sockets, client);
    if (isSilent()) {
      client.resume();
      return;
    }
    const upstream = connect({ ...to, allowHalfOpen: true });
    keep(sockets, upstream);
    join({ client, upstream, isSilent, strikes, delayMs: () => line.delayMs });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    address: { host: '127.0.0.1', port: (server.address() as AddressInfo).port },
    messages: () => line.count,
    hasStruck: () => line.hasStruck,
    delay: (milliseconds) => {
      line.delayMs = milliseconds;
    },
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

interface Line {
  readonly client: Socket;
  readonly upstream: Socket;
  isSilent(): boolean;
  strikes(): Fault['kind'] | null;
  delayMs(): number;
}

function join({ client, upstream, isSilent, strikes, delayMs }: Line): void {
  let isLastMessage = false;
  const sever = () => {
    client.destroy();
    upstream.destroy();
  };
  const pass = (chunk: Buffer) => {
    const strike = strikes();
    if (strike === 'before') return sever();
    if (isSilent() || isLastMessage) return;
    upstream.write(chunk);
    if (strike !== 'after') return;
    isLastMessage = true;
    setTimeout(sever, actMs).unref();
  };
  client.on('data', (chunk) => {
    const milliseconds = delayMs();
    if (milliseconds === 0) return pass(chunk);
    client.pause();
    setTimeout(() => {
      pass(chunk);
      client.resume();
    }, milliseconds);
  });
  upstream.on('data', (chunk) => {
    // The answer shows that the server has acted.
    if (isLastMessage) sever();
    else if (!isSilent()) client.write(chunk);
  });
  client.on('end', () => {
    if (!isSilent() && !isLastMessage) upstream.end();
  });
  upstream.on('end', () => {
    if (isLastMessage) sever();
    else if (!isSilent()) client.end();
  });
  client.on('close', () => {
    if (!isLastMessage) upstream.destroy();
  });
  upstream.on('close', () => {
    if (!isSilent()) client.destroy();
  });
}

function keep(sockets: Set<Socket>, socket: Socket): void {
  sockets.add(socket);
  socket.setNoDelay(true);
  // The other side of the line learns of it by `close`.
  socket.on('error', () => undefined);
  socket.on('close', () => sockets.delete(socket));
}
