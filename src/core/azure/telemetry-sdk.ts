import { setTimeout as pause } from 'node:timers/promises';
import { metrics, SpanKind } from '@opentelemetry/api';
import { resourceFromAttributes } from '@opentelemetry/resources';
import {
  AggregationTemporality,
  MeterProvider,
  PeriodicExportingMetricReader,
  type PushMetricExporter,
} from '@opentelemetry/sdk-metrics';
import {
  AlwaysOnSampler,
  BatchSpanProcessor,
  NodeTracerProvider,
  type ReadableSpan,
  type SpanExporter,
} from '@opentelemetry/sdk-trace-node';
import type { Log } from '../log.ts';
import type { Telemetry, TelemetrySettings } from './telemetry.ts';
import { lazyExporter } from './telemetry-export.ts';

/** One place that spans and metrics go to. */
interface Destination {
  readonly spans: SpanExporter;
  readonly metrics: PushMetricExporter;
}

/** The host gives a worker 5 s to end. */
const stopMs = 3_000;
/** Between a span's end and its sending, where no flush comes first. */
const batchMs = 1_000;
/** Makes the SDK the one behind @opentelemetry/api. */
export function setUpTelemetry(settings: TelemetrySettings, log: Log): Telemetry {
  const resource = resourceFromAttributes(settings.resource);
  const destinations = destinationsOf(settings, log);
  // A little more than the exporter's own time, which tells better what went wrong.
  const giveUpMs = settings.exportMs + 1_000;
  const tracers = new NodeTracerProvider({
    resource,
    forceFlushTimeoutMillis: giveUpMs,
    // A caller's flag must not keep us from recording what was done here.
    ...(settings.hasSampler ? {} : { sampler: new AlwaysOnSampler() }),
    spanProcessors: destinations.map(
      ({ spans }) =>
        new BatchSpanProcessor(spans, {
          scheduledDelayMillis: batchMs,
          exportTimeoutMillis: giveUpMs,
        }),
    ),
  });
  // Context goes by our own members; baggage of strangers goes nowhere.
  tracers.register({ propagator: null });
  const meters = new MeterProvider({
    resource,
    readers: destinations.map(
      ({ metrics: exporter }) =>
        new PeriodicExportingMetricReader({
          exporter,
          exportIntervalMillis: settings.metricsEveryMs,
          exportTimeoutMillis: Math.min(giveUpMs, settings.metricsEveryMs),
        }),
    ),
  });
  metrics.setGlobalMeterProvider(meters);
  return telemetryOf(tracers, meters);
}

/** Failures are told by the exporters themselves. */
function telemetryOf(tracers: NodeTracerProvider, meters: MeterProvider): Telemetry {
  let isFlushing = false;
  return {
    flush: () => {
      // What ends meanwhile goes with the next batch.
      if (isFlushing) return;
      isFlushing = true;
      void afterAnswer()
        .then(() => tracers.forceFlush())
        .catch(() => undefined)
        .finally(() => {
          isFlushing = false;
        });
    },
    stop: async () => {
      const limit = new AbortController();
      const stopped = Promise.allSettled([tracers.shutdown(), meters.shutdown()]);
      const late = pause(stopMs, undefined, { signal: limit.signal }).catch(() => undefined);
      await Promise.race([stopped, late]);
      limit.abort();
    },
  };
}

/** Whoever waits for the invocation comes first. */
function afterAnswer(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function destinationsOf(
  { otlp, azureMonitor, hostExports, exportMs }: TelemetrySettings,
  log: Log,
): Destination[] {
  const tools = { exportMs, log };
  const found: Destination[] = [];
  if (otlp) {
    const load = () => import('./telemetry-otlp.ts');
    const spans = lazyExporter('otlp', async () => (await load()).otlpSpans(), tools);
    found.push({
      spans: hostExports ? besideHost(spans) : spans,
      metrics: {
        ...lazyExporter('otlp', async () => (await load()).otlpMetrics(), tools),
        forceFlush: nothing,
        selectAggregationTemporality: () => AggregationTemporality.CUMULATIVE,
      },
    });
  }
  if (azureMonitor !== null) {
    const load = () => import('./telemetry-azure-monitor.ts');
    const name = 'azure-monitor';
    const spans = async () => (await load()).azureMonitorSpans(azureMonitor);
    const measures = async () => (await load()).azureMonitorMetrics(azureMonitor);
    found.push({
      // The host tells Application Insights everything, whatever its mode.
      spans: besideHost(lazyExporter(name, spans, tools)),
      metrics: {
        ...lazyExporter(name, measures, tools),
        forceFlush: nothing,
        selectAggregationTemporality: () => AggregationTemporality.DELTA,
      },
    });
  }
  return found;
}

const nothing = async () => undefined;

/**
 * `exporter`, to which the host tells invocations and log lines too: ours are part of the host's, and
 * nothing is told twice.
 */
function besideHost(exporter: SpanExporter): SpanExporter {
  return { ...exporter, export: (spans, done) => exporter.export(spans.map(asPart), done) };
}

function asPart(span: ReadableSpan): ReadableSpan {
  const events = span.events.filter(({ attributes }) => attributes?.['log.level'] === undefined);
  const isRequest = span.kind === SpanKind.SERVER || span.kind === SpanKind.CONSUMER;
  // With the method it would be taken for a call to somebody else.
  const { 'http.request.method': _method, ...attributes } = span.attributes;
  return Object.create(span, {
    events: { value: events, enumerable: true },
    ...(isRequest
      ? {
          kind: { value: SpanKind.INTERNAL, enumerable: true },
          attributes: { value: attributes, enumerable: true },
        }
      : {}),
  });
}
