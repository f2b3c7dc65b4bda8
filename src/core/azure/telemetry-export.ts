/** Exporters that cost nothing before they are used, and never more than their time. */
import type { PushMetricExporter } from '@opentelemetry/sdk-metrics';
import { errorFields, type Log } from '../log.ts';

/** What spans' and metrics' exporters have in common. */
export interface Exporter<Batch> {
  export(batch: Batch, done: Done): void;
  forceFlush?(): Promise<void>;
  shutdown(): Promise<void>;
}

type Done = Parameters<PushMetricExporter['export']>[1];

/** `ExportResultCode.FAILED`, whose package is not one of ours. */
const failed = 1;

/**
 * An exporter that is loaded with its first batch, so that neither start nor invocation waits for it,
 * and that has failed when it does not answer within `exportMs` milliseconds.
 *
 * @param destination its name in the log, where one line tells the first of several failures
 */
export function lazyExporter<Batch>(
  destination: string,
  load: () => Promise<Exporter<Batch>>,
  { exportMs, log }: { readonly exportMs: number; readonly log: Log },
): Exporter<Batch> {
  let loading: Promise<Exporter<Batch>> | null = null;
  let isFailing = false;
  const settle = (result: Parameters<Done>[0]) => {
    if (result.code === failed && !isFailing) {
      log.warn('telemetry.not_sent', { destination, ...errorFields(result.error) });
    }
    isFailing = result.code === failed;
  };
  return {
    export: (batch, done) => {
      loading ??= load();
      const exported = loading.then(
        (exporter) => new Promise<Parameters<Done>[0]>((told) => exporter.export(batch, told)),
      );
      void within(exportMs, exported).then((result) => {
        settle(result);
        done(result);
      });
    },
    forceFlush: async () => await (await loading)?.forceFlush?.(),
    shutdown: async () => await (await loading)?.shutdown(),
  };
}

/** The result, or the failure to bring one in time. */
async function within(
  milliseconds: number,
  exported: Promise<Parameters<Done>[0]>,
): Promise<Parameters<Done>[0]> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`no answer within ${milliseconds} ms`)),
      milliseconds,
    );
    // A process that has nothing else to do is not kept for it.
    timer.unref();
  });
  try {
    return await Promise.race([exported, late]);
  } catch (error) {
    return { code: failed, error: error instanceof Error ? error : new Error(String(error)) };
  } finally {
    clearTimeout(timer);
  }
}
