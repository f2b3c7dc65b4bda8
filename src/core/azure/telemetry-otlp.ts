import { OTLPMetricExporter } from '@opentelemetry/exporter-metrics-otlp-http';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';

// Where to, and with which headers, they read from the environment, by the names of the standard.

export const otlpSpans = () => new OTLPTraceExporter();
export const otlpMetrics = () => new OTLPMetricExporter();
