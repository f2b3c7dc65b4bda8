import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { close, listen } from '../loopback-http.ts';

export interface TopicServer {
  readonly url: string;
  close(): Promise<void>;
}

type Accept = (topic: string, events: readonly unknown[]) => void;

// Azure's limit for one publish call.
const bodyLimit = 1_048_576;

/** Serves `POST /topics/{name}/api/events` on 127.0.0.1: an array of events, or one CloudEvent. */
export async function startTopicServer(port: number, accept: Accept): Promise<TopicServer> {
  const server = createServer((request, response) => {
    publish(request, response, accept).catch((error: unknown) => {
      answer(response, 500, String(error));
    });
  });
  const bound = await listen(server, port, 'Event Grid');
  return { url: `http://127.0.0.1:${bound}`, close: () => close(server) };
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
