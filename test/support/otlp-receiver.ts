import { once } from 'node:events';
import { createServer, type RequestListener, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';

type Value = string | number | boolean | null;
type Attributes = Readonly<Record<string, Value>>;

export interface ReceivedSpan {
  readonly name: string;
  readonly kind: 'internal' | 'server' | 'client' | 'producer' | 'consumer';
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string | null;
  readonly attributes: Attributes;
  readonly events: readonly { readonly name: string; readonly attributes: Attributes }[];
  readonly links: readonly { readonly traceId: string; readonly spanId: string }[];
  readonly isError: boolean;
}

/** One point of one metric, as it was sent at some time. */
export interface ReceivedPoint {
  readonly metric: string;
  readonly attributes: Attributes;
  /** A sum or a level; of a histogram how many it holds. */
  readonly value: number;
}

/** A receiver of HTTP bodies that answers, or takes a request and never answers. */
export interface Receiver {
  readonly url: string;
  /** Every body so far, decompressed, with its path. */
  bodies(): readonly { readonly path: string; readonly text: string }[];
  /** Answers what hangs, too. */
  behave(how: 'answer' | 'hang'): void;
  stop(): Promise<void>;
}

/** @param tls with key and certificate it speaks TLS */
export async function startReceiver(
  answer: (path: string) => object,
  tls: { readonly key: string; readonly cert: string } | null = null,
): Promise<Receiver> {
  const bodies: { path: string; text: string }[] = [];
  let hanging: (() => void)[] | null = null;
  const listener: RequestListener = async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const raw = Buffer.concat(chunks);
    const isZipped = request.headers['content-encoding'] === 'gzip';
    const path = request.url ?? '';
    bodies.push({ path, text: (isZipped ? gunzipSync(raw) : raw).toString() });
    const reply = () => answerJson(response, answer(path));
    if (hanging === null) reply();
    else hanging.push(reply);
  };
  const server = tls === null ? createServer(listener) : createTlsServer(tls, listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `${tls === null ? 'http' : 'https'}://127.0.0.1:${port}`,
    bodies: () => bodies,
    behave: (how) => {
      for (const reply of hanging ?? []) reply();
      hanging = how === 'hang' ? [] : null;
    },
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function answerJson(response: ServerResponse, body: object): void {
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

export interface OtlpReceiver extends Receiver {
  spans(): readonly ReceivedSpan[];
  points(): readonly ReceivedPoint[];
}

/** An OpenTelemetry collector as far as OTLP over HTTP with JSON goes. */
export async function startOtlpReceiver(): Promise<OtlpReceiver> {
  const receiver = await startReceiver(() => ({}));
  const sent = (path: string) =>
    receiver.bodies().flatMap((body) => (body.path === path ? [JSON.parse(body.text)] : []));
  return {
    ...receiver,
    spans: () => sent('/v1/traces').flatMap(spansOf),
    points: () => sent('/v1/metrics').flatMap(pointsOf),
  };
}

// biome-ignore lint/suspicious/noExplicitAny: JSON of the protocol, read where it is taken apart
type Json = any;

const kinds = ['internal', 'internal', 'server', 'client', 'producer', 'consumer'] as const;

function spansOf({ resourceSpans }: Json): ReceivedSpan[] {
  return resourceSpans
    .flatMap(({ scopeSpans }: Json) => scopeSpans)
    .flatMap(({ spans }: Json) => spans)
    .map((span: Json) => ({
      name: span.name,
      kind: kinds[span.kind],
      traceId: span.traceId,
      spanId: span.spanId,
      parentSpanId: span.parentSpanId || null,
      attributes: attributesOf(span.attributes),
      events: (span.events ?? []).map((event: Json) => ({
        name: event.name,
        attributes: attributesOf(event.attributes),
      })),
      links: (span.links ?? []).map(({ traceId, spanId }: Json) => ({ traceId, spanId })),
      isError: span.status?.code === 2,
    }));
}

function pointsOf({ resourceMetrics }: Json): ReceivedPoint[] {
  return resourceMetrics
    .flatMap(({ scopeMetrics }: Json) => scopeMetrics)
    .flatMap(({ metrics }: Json) => metrics)
    .flatMap(({ name, histogram, sum, gauge }: Json) =>
      (histogram ?? sum ?? gauge).dataPoints.map((point: Json) => ({
        metric: name,
        attributes: attributesOf(point.attributes),
        value: Number(point.count ?? point.asDouble ?? point.asInt),
      })),
    );
}

function attributesOf(list: Json): Attributes {
  return Object.fromEntries(
    (list ?? []).map(({ key, value }: Json) => {
      const { stringValue, intValue, doubleValue, boolValue } = value;
      const number = intValue ?? doubleValue;
      return [key, stringValue ?? boolValue ?? (number === undefined ? null : Number(number))];
    }),
  );
}
