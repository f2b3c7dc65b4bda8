import { type BulkheadPolicy, BulkheadRejectedError, bulkhead } from 'cockatiel';

export interface ConcurrencySettings {
  /** Calls under way at the same time. */
  readonly calls: number;
  /** Calls that may wait for one of them to end. */
  readonly waiting: number;
}

export const vaultConcurrency: ConcurrencySettings = { calls: 64, waiting: 4_000 };

/** Runs `work` as soon as there is room; gives `noRoom()` when there was none within `maxWaitMs`. */
export type Gate = <T>(work: () => Promise<T>, maxWaitMs: number, noRoom: () => T) => Promise<T>;

export function createGate({ calls, waiting }: ConcurrencySettings): Gate {
  const policy = bulkhead(calls, waiting);
  return (work, maxWaitMs, noRoom) =>
    policy.executionSlots > 0 ? policy.execute(work) : whenFree(policy, work, maxWaitMs, noRoom);
}

/** The library looks at a signal only when room is made: whoever waits in vain is let go here. */
async function whenFree<T>(
  policy: BulkheadPolicy,
  work: () => Promise<T>,
  maxWaitMs: number,
  noRoom: () => T,
): Promise<T> {
  const patience = new AbortController();
  const { promise: givenUp, resolve: giveUp } = Promise.withResolvers<T>();
  const timer = setTimeout(() => {
    patience.abort();
    giveUp(noRoom());
  }, maxWaitMs);
  const begin = () => {
    clearTimeout(timer);
    return work();
  };
  try {
    return await Promise.race([policy.execute(begin, patience.signal), givenUp]);
  } catch (error) {
    if (error instanceof BulkheadRejectedError) return noRoom();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}
