import type { Delivery, Endpoint } from './endpoint.ts';
import type { Outcome } from './outcome.ts';
import { type EventSchema, toSchema } from './schemas.ts';
import type { Batching } from './subscription.ts';

/** Delivers one event, alone or with others that are ready at the same moment. */
export type Deliver = (delivery: Delivery) => Promise<Outcome>;

interface Waiting {
  readonly delivery: Delivery;
  readonly bytes: number;
  readonly resolve: (outcome: Outcome) => void;
}

/** Puts events together as far as `batching` lets it; never waits for more of them to come. */
export function createBatches(
  endpoint: Endpoint,
  options: {
    readonly batching: Batching;
    readonly schema: EventSchema;
    readonly signal: AbortSignal;
  },
): Deliver {
  let ready: Waiting[] = [];
  const flush = () => {
    const batches = split(ready, options.batching);
    ready = [];
    for (const batch of batches) {
      void endpoint
        .deliver(
          batch.map(({ delivery }) => delivery),
          options.signal,
        )
        .then((outcome) => {
          for (const { resolve } of batch) resolve(outcome);
        });
    }
  };
  return (delivery) =>
    new Promise((resolve) => {
      if (ready.length === 0) setImmediate(flush);
      const bytes = Buffer.byteLength(JSON.stringify(toSchema(delivery.event, options.schema)));
      ready.push({ delivery, bytes, resolve });
    });
}

function split(waiting: readonly Waiting[], batching: Batching): readonly (readonly Waiting[])[] {
  const { maxEventsPerBatch = 1, preferredBatchSizeInKilobytes = 64 } = batching;
  const batches: Waiting[][] = [];
  let bytes = 0;
  for (const one of waiting) {
    const last = batches.at(-1);
    bytes += one.bytes;
    const fits = bytes <= preferredBatchSizeInKilobytes * 1024;
    if (last && last.length < maxEventsPerBatch && fits) last.push(one);
    else {
      batches.push([one]);
      bytes = one.bytes;
    }
  }
  return batches;
}
