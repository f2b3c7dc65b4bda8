/** One span and one measurement for each invocation of a function, whatever began it. */
import type { SpanContext } from '@opentelemetry/api';
import { toAppError } from './errors.ts';
import {
  attributesOf,
  durationBuckets,
  type LiveSpan,
  meter,
  parseTraceparent,
  type SpanOptions,
  startSpan,
} from './telemetry.ts';

/** What began a function, as the edge tells it. */
export interface Invocation {
  readonly functionName: string;
  readonly id: string;
  readonly trigger: 'http' | 'queue' | 'event' | 'timer';
  /** Of an HTTP request. */
  readonly request: { readonly method: string; readonly route: string } | null;
  /** `traceparent` of the request, the message or the event; whatever is none does not count. */
  readonly traceparent: unknown;
  /** That of the host's own span of this invocation. */
  readonly hostTraceparent: unknown;
}

export type ObserveInvocation = <T>(invocation: Invocation, work: () => Promise<T>) => Promise<T>;

const shapes = {
  http: { kind: 'server', trigger: 'http' },
  timer: { kind: 'server', trigger: 'timer' },
  queue: { kind: 'consumer', trigger: 'pubsub' },
  event: { kind: 'consumer', trigger: 'pubsub' },
} as const;

/**
 * @param hostTells whether the host sends spans of its own, to which ours can belong; what it hands
 * in otherwise names a span that nobody will ever see
 */
export function invocationObserver(hostTells: boolean): ObserveInvocation {
  const durations = meter().createHistogram('keyturn.invocation.duration', {
    unit: 's',
    description: 'Invocations of functions',
    advice: { explicitBucketBoundaries: durationBuckets },
  });
  return async (invocation, work) => {
    const { functionName, request } = invocation;
    const { kind, trigger } = shapes[invocation.trigger];
    const about = { 'faas.name': functionName, 'faas.trigger': trigger };
    const name = request ? `${request.method} /${request.route}` : functionName;
    const facts = { ...about, 'faas.invocation_id': invocation.id, ...requestFacts(invocation) };
    const span = startSpan(name, { kind, facts, ...originOf(invocation, hostTells) });
    const start = performance.now();
    const end = (outcome: Parameters<LiveSpan['end']>[0]) => {
      span.end(outcome);
      const error = outcome === 'ok' ? undefined : outcome;
      const seconds = (performance.now() - start) / 1000;
      durations.record(seconds, attributesOf({ ...about, 'error.type': error }));
    };
    try {
      const result = await span.within(work);
      const status = request && statusOf(result);
      span.set({ 'http.response.status_code': status });
      end(status !== null && status >= 500 ? `${status}` : 'ok');
      return result;
    } catch (error) {
      end(toAppError(error, functionName).code);
      throw error;
    }
  };
}

function requestFacts({ request }: Invocation) {
  if (request === null) return {};
  return { 'http.request.method': request.method, 'http.route': `/${request.route}` };
}

/** An HTTP answer without a status is a 200. */
function statusOf(answer: unknown): number {
  const { status } = Object(answer);
  return typeof status === 'number' ? status : 200;
}

/**
 * The trace that a request, message or event is part of goes on. The host's span is the parent when
 * it is in that trace or when there is none, and is linked when it is in another: a host does not
 * look into messages.
 */
function originOf(
  { traceparent, hostTraceparent }: Invocation,
  hostTells: boolean,
): Pick<SpanOptions, 'parent' | 'links'> {
  const received = parseTraceparent(traceparent);
  const host: SpanContext | null = hostTells ? parseTraceparent(hostTraceparent) : null;
  if (received === null || host?.traceId === received.traceId) return { parent: host };
  return { parent: received, links: host ? [host] : [] };
}
