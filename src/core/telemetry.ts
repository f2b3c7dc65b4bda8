/**
 * Spans, metrics and trace context, by the OpenTelemetry API alone: where no SDK is set up, each of
 * these does nothing. Which SDK is, and where it sends: core/azure/telemetry.ts. Names of spans,
 * metrics and facts: docs/runbook.md. No value ever is a fact.
 */
import {
  type Attributes,
  type Context,
  context,
  type Meter,
  metrics,
  ROOT_CONTEXT,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api';
import { type ErrorCode, toAppError } from './errors.ts';
import type { Log, LogFields } from './log.ts';

/** Null and undefined are left out. */
export type Facts = LogFields;

export interface SpanOptions {
  /** Default: `internal`. */
  readonly kind?: 'internal' | 'client' | 'server' | 'consumer';
  readonly facts?: Facts;
  /** Default: the span that is active; null begins a trace. */
  readonly parent?: SpanContext | null;
  readonly links?: readonly SpanContext[];
}

/** A span under way. */
export interface LiveSpan {
  /** Runs `work` with this span active: what begins in it is a child of this one. */
  within<T>(work: () => T): T;
  set(facts: Facts): void;
  /** Once. `ok`, or what went wrong: an error's code, or the status of an answer. */
  end(outcome: 'ok' | ErrorCode | `${number}`): void;
}

const scope = 'keyturn';

const kinds = {
  internal: SpanKind.INTERNAL,
  client: SpanKind.CLIENT,
  server: SpanKind.SERVER,
  consumer: SpanKind.CONSUMER,
} as const;

export function startSpan(name: string, options: SpanOptions = {}): LiveSpan {
  const { kind = 'internal', facts = {}, links = [] } = options;
  const spanOptions = {
    kind: kinds[kind],
    attributes: attributesOf(facts),
    links: links.map((link) => ({ context: link })),
  };
  const parent = contextOf(options.parent);
  const span = trace.getTracer(scope).startSpan(name, spanOptions, parent);
  const active = trace.setSpan(parent, span);
  return {
    within: (work) => context.with(active, work),
    set: (more) => void span.setAttributes(attributesOf(more)),
    end: (outcome) => {
      if (outcome !== 'ok') {
        span.setAttribute('error.type', outcome);
        span.setStatus({ code: SpanStatusCode.ERROR });
      }
      span.end();
    },
  };
}

function contextOf(parent: SpanContext | null | undefined): Context {
  if (parent === undefined) return context.active();
  return parent === null ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, parent);
}

/** Does `work` within a span that ends with it; of an error it keeps the code, not the words. */
export async function inSpan<T>(
  name: string,
  options: SpanOptions,
  work: (span: LiveSpan) => Promise<T>,
): Promise<T> {
  const span = startSpan(name, options);
  try {
    const result = await span.within(() => work(span));
    span.end('ok');
    return result;
  } catch (error) {
    span.end(toAppError(error, name).code);
    throw error;
  }
}

/** Notes something that happened in the active span, if there is one. */
export function spanEvent(name: string, facts: Facts = {}): void {
  trace.getActiveSpan()?.addEvent(name, attributesOf(facts));
}

/** The active span as W3C Trace Context writes it, for whoever goes on elsewhere; null without one. */
export function currentTraceparent(): string | null {
  const span = trace.getActiveSpan()?.spanContext();
  if (!span || !trace.isSpanContextValid(span)) return null;
  const flags = span.traceFlags.toString(16).padStart(2, '0');
  return `00-${span.traceId}-${span.spanId}-${flags}`;
}

const traceparentPattern =
  /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-|$)/;

/** A span elsewhere, from a `traceparent` of any version; null for whatever is none. */
export function parseTraceparent(text: unknown): SpanContext | null {
  const match = typeof text === 'string' ? traceparentPattern.exec(text) : null;
  const [, traceId, spanId, flags] = match ?? [];
  if (!traceId || !spanId || !flags) return null;
  return { traceId, spanId, traceFlags: Number.parseInt(flags, 16) & 1, isRemote: true };
}

/**
 * Where instruments are made. Ask when they are needed, not at import: those made before the SDK is
 * set up never measure.
 */
export function meter(): Meter {
  return metrics.getMeter(scope);
}

/** Upper ends of the buckets of durations, in seconds: from a hit of a cache to an invocation's end. */
export const durationBuckets = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 240,
];

/** `log`, whose lines also are events of the active span and name its trace. */
export function tracedLog(log: Log): Log {
  const at =
    (level: keyof Log) =>
    (event: string, fields: LogFields = {}) => {
      const span = trace.getActiveSpan();
      if (!span?.isRecording()) return log[level](event, fields);
      span.addEvent(event, { ...attributesOf(fields), 'log.level': level });
      log[level](event, { ...fields, traceId: span.spanContext().traceId });
    };
  return { info: at('info'), warn: at('warn'), error: at('error') };
}

export function attributesOf(facts: Facts): Attributes {
  const attributes: Attributes = {};
  for (const [name, fact] of Object.entries(facts)) {
    if (fact !== null && fact !== undefined) attributes[name] = fact;
  }
  return attributes;
}
