import {
  Agent,
  createServer,
  type IncomingMessage,
  request,
  type Server,
  type ServerResponse,
} from 'node:http';
import * as https from 'node:https';
import type { AddressInfo, Server as NetServer, Socket } from 'node:net';
import { journalState, kindOf, labelOf, type Outgoing, type Service } from './call-kinds.ts';

/** A call of the app's process to the outside; `index` counts from 1, null for what does not count. */
export interface Call {
  readonly index: number | null;
  readonly service: Service;
  readonly kind: string;
  readonly label: string;
  /** The state of the journal it writes. */
  readonly state: string | null;
  /** The text of the queue message it sends, as a queue holds it. */
  readonly message: string | null;
  readonly at: number;
}

export interface Trap {
  readonly when: 'before' | 'after';
  readonly catches: (call: Call) => boolean;
  /** Runs once, while the call is held. `drop`: whoever called gets nothing but a closed connection. */
  readonly spring: (call: Call) => Promise<'pass' | 'drop'>;
}

/**
 * Every call of one process, over all its proxies, in one order. A trap stops one of them before it
 * is forwarded or after its whole answer has come, and decides what becomes of it.
 */
export class Recorder {
  calls: Call[] = [];
  #count = 0;
  #trap: Trap | null = null;
  #isOpen = true;
  #isCounting = false;

  /** Counts from 1 from now on; what was seen before is forgotten. */
  arm(trap: Trap | null): void {
    this.calls = [];
    this.#count = 0;
    this.#trap = trap;
    this.#isCounting = true;
  }

  disarm(): void {
    this.#trap = null;
    this.#isCounting = false;
  }

  /** Nothing passes any more: the process is dead, what it sent is not. */
  close(): void {
    this.#isOpen = false;
  }

  open(): void {
    this.#isOpen = true;
  }

  get counted(): number {
    return this.#count;
  }

  see(outgoing: Outgoing): Call {
    const { kind, counts } = kindOf(outgoing);
    const index = counts && this.#isCounting ? ++this.#count : null;
    const { service } = outgoing;
    const state = journalState(outgoing);
    const message = /<MessageText>([^<]+)</.exec(outgoing.body)?.[1] ?? null;
    const label = labelOf(outgoing);
    const call = { index, service, kind, label, state, message, at: Date.now() };
    if (this.#isCounting) this.calls.push(call);
    return call;
  }

  async enter(call: Call): Promise<'pass' | 'drop' | 'hold'> {
    if (!this.#isOpen) return 'drop';
    const trap = this.#trap;
    if (trap === null || !trap.catches(call)) return 'pass';
    if (trap.when === 'after') return 'hold';
    return this.#springOnce(trap, call);
  }

  /** The whole answer of a held call is here. */
  async leave(call: Call): Promise<'pass' | 'drop'> {
    const trap = this.#trap;
    if (trap?.catches(call)) return this.#springOnce(trap, call);
    return this.#isOpen ? 'pass' : 'drop';
  }

  async #springOnce(trap: Trap, call: Call): Promise<'pass' | 'drop'> {
    this.#trap = null;
    return trap.spring(call);
  }
}

export interface ServiceProxy {
  readonly port: number;
  /** Cuts what is open, as the end of the calling process does. */
  cut(): void;
  stop(): Promise<void>;
}

export interface HttpProxyOptions {
  readonly service: Service;
  readonly recorder: Recorder;
  /** Port of the service behind; asked at each call. */
  readonly port: () => number;
  /** Both sides speak TLS under this certificate and authority. */
  readonly tls?: { readonly key: string; readonly cert: string; readonly caPem: string };
}

export async function startHttpProxy(options: HttpProxyOptions): Promise<ServiceProxy> {
  const { tls } = options;
  const agent = tls
    ? new https.Agent({ keepAlive: true, ca: tls.caPem })
    : new Agent({ keepAlive: true });
  const relay = (incoming: IncomingMessage, response: ServerResponse) => {
    relayCall({ ...options, agent }, incoming, response).catch(() => incoming.socket.destroy());
  };
  const server: Server = tls
    ? https.createServer({ key: tls.key, cert: tls.cert }, relay)
    : createServer(relay);
  server.keepAliveTimeout = 120_000;
  const listening = await listenOn(server);
  return {
    ...listening,
    stop: async () => {
      await listening.stop();
      agent.destroy();
    },
  };
}

/** Listens on a free port and knows its connections. */
export async function listenOn(server: NetServer): Promise<ServiceProxy> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => resolve());
  });
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    port: (server.address() as AddressInfo).port,
    cut,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        cut();
      }),
  };
}

interface Answer {
  readonly status: number;
  readonly headers: readonly string[];
  readonly body: Buffer;
}

type Relay = HttpProxyOptions & { readonly agent: Agent };

async function relayCall(
  relay: Relay,
  incoming: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { recorder } = relay;
  const body = await bytesOf(incoming);
  const call = recorder.see(outgoingOf(relay.service, incoming, body));
  const verdict = await recorder.enter(call);
  if (verdict === 'drop') return void incoming.socket.destroy();
  const answer = await forward(relay, incoming, body).catch(() => null);
  const isHeld = verdict === 'hold';
  if ((isHeld && (await recorder.leave(call)) === 'drop') || answer === null) {
    return void incoming.socket.destroy();
  }
  response.writeHead(answer.status, [...answer.headers]);
  response.end(answer.body);
}

function outgoingOf(service: Service, incoming: IncomingMessage, body: Buffer): Outgoing {
  const url = new URL(incoming.url ?? '/', 'http://127.0.0.1');
  const headers = Object.fromEntries(
    Object.entries(incoming.headers).map(([name, value]) => [name, String(value)]),
  );
  const path = decodeURIComponent(url.pathname);
  const method = incoming.method ?? '';
  return { service, method, path, query: url.searchParams, headers, body: body.toString('utf8') };
}

function forward(relay: Relay, incoming: IncomingMessage, body: Buffer): Promise<Answer> {
  const headers = withLength(incoming.rawHeaders, body.length);
  const options = {
    host: relay.tls ? 'localhost' : '127.0.0.1',
    port: relay.port(),
    method: incoming.method,
    path: incoming.url,
    headers,
    agent: relay.agent,
  };
  return new Promise((resolve, reject) => {
    const send = relay.tls ? https.request : request;
    const outgoing = send(options, (answer) => {
      bytesOf(answer).then((bytes) => {
        const { statusCode: status = 0, rawHeaders } = answer;
        const isBare = incoming.method === 'HEAD' || status === 204 || status === 304;
        const kept = isBare ? rawHeaders : withLength(rawHeaders, bytes.length, true);
        resolve({ status, headers: kept, body: bytes });
      }, reject);
    });
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

/** The headers as they came, but a body sent in chunks is now sent whole. */
function withLength(raw: readonly string[], length: number, always = false): string[] {
  const kept: string[] = [];
  let isChunked = always;
  for (let at = 0; at < raw.length; at += 2) {
    const name = (raw[at] ?? '').toLowerCase();
    if (name === 'transfer-encoding') isChunked = true;
    if (['transfer-encoding', 'connection', 'keep-alive'].includes(name)) continue;
    if (always && name === 'content-length') continue;
    kept.push(raw[at] ?? '', raw[at + 1] ?? '');
  }
  if (isChunked) kept.push('Content-Length', String(length));
  return kept;
}

async function bytesOf(message: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of message) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
