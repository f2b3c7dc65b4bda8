import { once } from 'node:events';
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { createLocalCa } from '../local/tls.ts';
import { type Bench, median } from './bench.ts';
import { type Child, startChild } from './emulator-child.ts';
import type { Served } from './emulator-server.ts';

const concurrency = 16;
const requestsARound = 3000;
const warmUpRounds = 4;
const rounds = 11;
const path = '/secrets/orders-db/?api-version=2026-04-01';

/** GET of a secret, token and all, against a server of node:http that sends the same bytes to everybody. */
export const bench: Bench = {
  name: 'emulator: GET secret at 16 connections ÷ bare http',
  goal: 0.6,
  better: 'higher',
  async measure() {
    const children = { emulator: startChild(), bare: startChild() };
    try {
      const tls = await createLocalCa();
      const { httpPort, token } = await children.emulator.ask<Served>({ kind: 'emulator', tls });
      const sample = await prepareSecret(httpPort, token);
      const port = await children.bare.ask<number>({ kind: 'bare', ...sample });
      const ours = await openClients(httpPort, token);
      const theirs = await openClients(port, token);
      const rates = { ours: [] as number[], theirs: [] as number[] };
      for (let round = 0; round < warmUpRounds + rounds; round++) {
        const one = await rateOf(children.emulator, ours);
        const other = await rateOf(children.bare, theirs);
        if (round < warmUpRounds) continue;
        rates.ours.push(one);
        rates.theirs.push(other);
      }
      for (const client of [...ours, ...theirs]) client.socket.destroy();
      return { ours: median(rates.ours), theirs: median(rates.theirs) };
    } finally {
      for (const child of Object.values(children)) child.stop();
    }
  },
};

/** What the emulator answers, without the headers that Node adds by itself. */
async function prepareSecret(
  port: number,
  token: string,
): Promise<{ headers: string[]; body: string }> {
  const secret = JSON.stringify({ value: 'a-password-of-usual-length', tags: { owner: 'orders' } });
  await call({ port, token, method: 'PUT', payload: secret });
  const { rawHeaders, body } = await call({ port, token, method: 'GET', payload: '' });
  const own = new Set(['date', 'connection', 'keep-alive']);
  const headers = rawHeaders.filter(
    (_, index) => !own.has((rawHeaders[index - (index % 2)] ?? '').toLowerCase()),
  );
  return { headers, body };
}

type CallWish = {
  readonly port: number;
  readonly token: string;
  readonly method: string;
  readonly payload: string;
};

function call(wish: CallWish): Promise<{ rawHeaders: string[]; body: string }> {
  const { port, token, method, payload } = wish;
  const headers = { authorization: `Bearer ${token}`, 'content-length': payload.length };
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, method, headers, path: path.replace('/?', '?') };
    request(options, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        body += chunk;
      });
      response.on('end', () => resolve({ rawHeaders: response.rawHeaders, body }));
    })
      .on('error', reject)
      .end(payload);
  });
}

/** Bare sockets: an HTTP client would cost more than the servers it measures. */
type Client = { readonly socket: Socket; readonly request: string; answerBytes: number };

async function openClients(port: number, token: string): Promise<Client[]> {
  const text = `GET ${path} HTTP/1.1\r\nhost: localhost:${port}\r\nauthorization: Bearer ${token}\r\naccept: application/json\r\naccept-encoding: gzip,deflate\r\nuser-agent: bench\r\nx-ms-client-request-id: \r\n\r\n`;
  const clients = Array.from({ length: concurrency }, (): Client => {
    const socket = connect({ host: '127.0.0.1', port });
    return { socket: socket.setNoDelay(true), request: text, answerBytes: 0 };
  });
  await Promise.all(clients.map(({ socket }) => once(socket, 'connect')));
  for (const client of clients) {
    client.socket.write(text);
    const [answer] = (await once(client.socket, 'data')) as [Buffer];
    if (!answer.toString('latin1').startsWith('HTTP/1.1 200')) throw new Error(String(answer));
    client.answerBytes = answer.length;
  }
  return clients;
}

/** Answers for each millisecond of the server's CPU time: what else runs on the machine does not count. */
async function rateOf(server: Child, clients: readonly Client[]): Promise<number> {
  const before = await server.ask<number>({ kind: 'cpu' });
  const stayAwake = keepAwake();
  await callAll(clients);
  stayAwake();
  return requestsARound / ((await server.ask<number>({ kind: 'cpu' })) - before);
}

/**
 * This process does not sleep until the returned function is called. Waking it costs the server that writes to it more
 * than the answer itself, and only a fast server never has to.
 */
function keepAwake(): () => void {
  let isOver = false;
  const spin = (): void => {
    if (!isOver) setImmediate(spin);
  };
  spin();
  return () => {
    isOver = true;
  };
}

/** All clients together, each with one request under way. */
async function callAll(clients: readonly Client[]): Promise<void> {
  let left = requestsARound;
  await Promise.all(
    clients.map(async ({ socket, request: text, answerBytes }) => {
      let received = 0;
      let pending = 0;
      await new Promise<void>((resolve) => {
        const next = (): void => {
          if (left <= 0) {
            socket.off('data', onData);
            resolve();
            return;
          }
          left -= 1;
          pending += answerBytes;
          socket.write(text);
        };
        const onData = (chunk: Buffer): void => {
          received += chunk.length;
          if (received === pending) next();
        };
        socket.on('data', onData);
        next();
      });
    }),
  );
}
