import type { TokenCredential } from '@azure/identity';
import { errorFields, type Log } from '../log.ts';

/** Who gets spans and metrics. */
export interface TelemetrySettings {
  /** Whether OTEL_EXPORTER_OTLP_ENDPOINT is set: the exporters read it, and its like, themselves. */
  readonly otlp: boolean;
  readonly azureMonitor: {
    readonly connectionString: string;
    /** Null: what the connection string holds is all that is asked for. */
    readonly credential: TokenCredential | null;
  } | null;
  /** Whether the functions host exports OpenTelemetry itself, wherever we do. */
  readonly hostExports: boolean;
  /** Whether OTEL_TRACES_SAMPLER says what is recorded; else everything is. */
  readonly hasSampler: boolean;
  /** What a receiver has not taken by then is lost. */
  readonly exportMs: number;
  readonly metricsEveryMs: number;
  /** Of the resource: `service.name` and the like. */
  readonly resource: Readonly<Record<string, string>>;
}

/** What was set up. Its members never throw; nobody waits for a receiver but in `stop`. */
export interface Telemetry {
  /** Sends the spans that have ended, a moment later. */
  flush(): void;
  /** Sends what is left; resolves after 3 s at the latest. */
  stop(): Promise<void>;
}

/**
 * Sets up the OpenTelemetry SDK for this process, which is loaded for it; null when nobody is to get
 * anything. Also null, and logged, when that fails: everything works without telemetry.
 */
export async function startTelemetry(
  settings: TelemetrySettings,
  log: Log,
): Promise<Telemetry | null> {
  if (!settings.otlp && settings.azureMonitor === null) return null;
  try {
    const { setUpTelemetry } = await import('./telemetry-sdk.ts');
    return setUpTelemetry(settings, log);
  } catch (error) {
    log.error('telemetry.failed', errorFields(error));
    return null;
  }
}
