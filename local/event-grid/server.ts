import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { close, listen } from '../loopback-http.ts';
import type { Confirmations } from './handshake.ts';

export interface TopicServer extends Confirmations {
  readonly url: string;
  close(): Promise<void>;
}

type Accept = (topic: string, events: readonly unknown[]) => void;

// How long Azure lets a subscription await manual action.
const confirmationMs = 10 * 60_000;

// Azure's limit for one publish call.
const bodyLimit = 1_048_576;

/**
 * Serves `POST /topics/{name}/api/events` on 127.0.0.1, an array of events or one CloudEvent, and
 * the URLs that confirm a subscription.
 */
export async function startTopicServer(
  options: { readonly port: number; readonly timeScale: number },
  accept: Accept,
): Promise<TopicServer> {
  const open = new Map<string, (isConfirmed: boolean) => void>();
  const server = createServer((request, response) => {
    const id = /^\/validate\/([^/?]+)$/.exec(request.url ?? '')?.[1];
    if (id !== undefined) {
      const confirm = open.get(id);
      confirm?.(true);
      return answer(response, confirm ? 200 : 404, confirm ? null : 'no such validation');
    }
    publish(request, response, accept).catch((error: unknown) => {
      answer(response, 500, String(error));
    });
  });
  const bound = await listen(server, options.port, 'Event Grid');
  const url = `http://127.0.0.1:${bound}`;
  return {
    url,
    open() {
      const id = randomUUID();
      const { promise: confirmed, resolve } = Promise.withResolvers<boolean>();
      const timer = setTimeout(() => resolve(false), confirmationMs * options.timeScale);
      const close = () => {
        clearTimeout(timer);
        open.delete(id);
        resolve(false);
      };
      open.set(id, resolve);
      return { url: `${url}/validate/${id}`, confirmed, close };
    },
    close() {
      for (const end of open.values()) end(false);
      return close(server);
    },
  };
}

async function publish(
  request: IncomingMessage,
  response: ServerResponse,
  accept: Accept,
): Promise<void> {
  const { pathname } = new URL(`http://127.0.0.1${request.url ?? '/'}`);
  const topic = /^\/topics\/([^/]+)\/api\/events\/?$/.exec(pathname)?.[1];
  if (topic === undefined) return answer(response, 404, 'no such topic path');
  if (request.method !== 'POST') return answer(response, 405, 'only POST publishes');
  const text = await readText(request);
  if (text === null) return answer(response, 413, 'more than 1 MB');
  try {
    const body: unknown = JSON.parse(text);
    accept(decodeURIComponent(topic), Array.isArray(body) ? body : [body]);
  } catch (error) {
    return answer(response, 400, error instanceof Error ? error.message : String(error));
  }
  answer(response, 200, null);
}

async function readText(request: IncomingMessage): Promise<string | null> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    // No encoding is set on the request, so every chunk is a Buffer.
    const bytes = chunk as Buffer;
    size += bytes.length;
    if (size > bodyLimit) return null;
    chunks.push(bytes);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function answer(response: ServerResponse, status: number, message: string | null): void {
  if (message === null) response.writeHead(status).end();
  else {
    const error = { code: status === 400 ? 'BadRequest' : 'Error', message };
    response
      .writeHead(status, { 'content-type': 'application/json' })
      .end(JSON.stringify({ error }));
  }
}
