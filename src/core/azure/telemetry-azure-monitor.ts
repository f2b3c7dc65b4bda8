import {
  AzureMonitorMetricExporter,
  AzureMonitorTraceExporter,
} from '@azure/monitor-opentelemetry-exporter';
import type { TelemetrySettings } from './telemetry.ts';

// The exporters otherwise report on themselves to an address of Microsoft's that no setting names.
// biome-ignore lint/style/noProcessEnv: they can be told in no other way
process.env['APPLICATION_INSIGHTS_NO_STATSBEAT'] ??= 'true';

type Destination = NonNullable<TelemetrySettings['azureMonitor']>;

/** Nothing is kept on the disk of the instance: what cannot be sent is lost, as it is elsewhere. */
function options({ connectionString, credential }: Destination) {
  const identity = credential === null ? {} : { credential };
  return { connectionString, disableOfflineStorage: true, ...identity };
}

export const azureMonitorSpans = (to: Destination) => new AzureMonitorTraceExporter(options(to));
export const azureMonitorMetrics = (to: Destination) => new AzureMonitorMetricExporter(options(to));
