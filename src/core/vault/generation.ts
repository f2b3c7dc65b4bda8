/**
 * Tells the caches of all instances what has changed: by one small document, under an ETag, that each of them
 * reads again every few seconds. It lists the latest changes, each with its generation; whoever has missed more
 * than it lists drops everything.
 */
import { z } from 'zod';
import { hasCode } from '../errors.ts';
import type { ObjectCache } from './cache.ts';
import type { Observer } from './observer.ts';
import { withDeadline } from './pipeline.ts';

const Generation = z.object({
  generation: z.int().min(0),
  /** Of this generation and older ones, some changes are listed no more. */
  completeSince: z.int().min(0),
  /** Of each object the last change. */
  changes: z.array(z.object({ object: z.string(), generation: z.int().min(1) })),
});
export type Generation = z.output<typeof Generation>;

/** Where the document lies. Both throw AppError `storage_unavailable` when that does not answer. */
export interface GenerationStore {
  /** @returns null when there is none; `unchanged` when its ETag still is `ifNoneMatch` */
  read(
    ifNoneMatch: string | null,
  ): Promise<{ readonly body: unknown; readonly etag: string } | 'unchanged' | null>;
  /**
   * @param ifMatch the ETag it must have now; null when there must be none
   * @returns the new ETag. @throws AppError `conflict`
   */
  write(body: Generation, ifMatch: string | null): Promise<string>;
}

/** A store of documents, as far as it is needed here. */
interface Documents {
  get(
    partition: string,
    id: string,
  ): Promise<{ readonly body: unknown; readonly etag: string } | null>;
  put(
    partition: string,
    id: string,
    body: Generation,
    when: 'absent' | { readonly etag: string },
  ): Promise<string>;
}

/** The document in a store whose reads know no condition, as those of Azure Tables: it is small enough. */
export function generationsIn(documents: Documents, partition = 'cache'): GenerationStore {
  const id = 'generation';
  return {
    read: async (ifNoneMatch) => {
      const found = await documents.get(partition, id);
      return found !== null && found.etag === ifNoneMatch ? 'unchanged' : found;
    },
    write: (body, ifMatch) =>
      documents.put(partition, id, body, ifMatch === null ? 'absent' : { etag: ifMatch }),
  };
}

export interface InvalidationSettings {
  readonly pollMs: number;
  /** How long a write waits until others can learn of it; after that it is told in the background. */
  readonly publishMs: number;
}

export const vaultInvalidation: InvalidationSettings = { pollMs: 5_000, publishMs: 2_000 };

const keptChanges = 100;
const maxConflicts = 10;

export interface Invalidations {
  /** Drops objects from the cache here at once, and elsewhere at the next poll. Never throws. */
  publish(objects: readonly string[]): Promise<void>;
  /** Drops what others have changed, and tells what could not be told before. Never throws. */
  poll(): Promise<void>;
  /** Polls from now on, until it is stopped; it keeps no process alive. */
  start(): void;
  stop(): void;
}

export function createInvalidations(
  cache: ObjectCache,
  store: GenerationStore,
  {
    observer = {},
    ...given
  }: Partial<InvalidationSettings> & { readonly observer?: Observer } = {},
): Invalidations {
  const { pollMs, publishMs } = { ...vaultInvalidation, ...given };
  const copy = createCopy(cache, store);
  const untold = new Set<string>();
  let loop: { timer: NodeJS.Timeout } | null = null;
  // One after the other: what one of them has read must not overtake what the next one writes.
  let last: Promise<unknown> = Promise.resolve();
  const inTurn = (work: () => Promise<void>): Promise<void> => {
    const turn = last.then(work, work);
    last = turn.catch(() => undefined);
    return turn;
  };

  async function tell(): Promise<void> {
    const objects = [...untold];
    if (objects.length === 0) return;
    untold.clear();
    try {
      await copy.add(objects);
    } catch (error) {
      for (const object of objects) untold.add(object);
      throw error;
    }
  }

  async function poll(): Promise<void> {
    try {
      await inTurn(copy.refresh);
      await inTurn(tell);
    } catch (error) {
      observer.invalidationFailed?.('poll', error);
    }
  }

  function pollAfter(ms: number): void {
    const mine = {
      timer: setTimeout(async () => {
        await poll();
        if (loop === mine) pollAfter(pollMs);
      }, ms).unref(),
    };
    loop = mine;
  }

  return {
    publish: async (objects) => {
      for (const object of objects) {
        cache.invalidate(object);
        untold.add(object);
      }
      try {
        const told = inTurn(tell);
        await withDeadline(publishMs, () => told);
      } catch (error) {
        observer.invalidationFailed?.('publish', error);
      }
    },
    poll,
    start: () => {
      if (loop === null) pollAfter(0);
    },
    stop: () => {
      if (loop !== null) clearTimeout(loop.timer);
      loop = null;
    },
  };
}

interface Copy {
  /** Applies what has changed since. */
  refresh(): Promise<void>;
  /** Applies what has changed since, and adds changes of our own. */
  add(objects: readonly string[]): Promise<void>;
}

/** The document as this instance last saw it. */
function createCopy(cache: ObjectCache, store: GenerationStore): Copy {
  let document: Generation | null = null;
  let etag: string | null = null;

  async function refresh(): Promise<void> {
    const found = await store.read(etag);
    if (found === 'unchanged') return;
    const parsed = Generation.safeParse(found?.body);
    const latest = parsed.success ? parsed.data : { generation: 0, completeSince: 0, changes: [] };
    apply(latest);
    document = latest;
    etag = found?.etag ?? null;
  }

  function apply({ generation, completeSince, changes }: Generation): void {
    // At first nothing is known of what was cached before; later, a document may have been lost.
    const hasMissed =
      document === null || generation < document.generation || document.generation < completeSince;
    if (hasMissed) {
      cache.clear();
      return;
    }
    const seen = document?.generation ?? 0;
    for (const change of changes) {
      if (change.generation > seen) cache.invalidate(change.object);
    }
  }

  async function add(objects: readonly string[]): Promise<void> {
    for (let conflicts = 0; ; conflicts++) {
      await refresh();
      const next = withChanges(document, objects);
      try {
        etag = await store.write(next, etag);
        document = next;
        return;
      } catch (error) {
        if (!hasCode(error, 'conflict') || conflicts >= maxConflicts) throw error;
      }
    }
  }

  return { refresh, add };
}

function withChanges(document: Generation | null, objects: readonly string[]): Generation {
  const generation = (document?.generation ?? 0) + 1;
  const others = (document?.changes ?? []).filter(({ object }) => !objects.includes(object));
  const changes = [...others, ...objects.map((object) => ({ object, generation }))];
  const dropped = changes.slice(0, -keptChanges).at(-1)?.generation ?? 0;
  return {
    generation,
    completeSince: Math.max(document?.completeSince ?? 0, dropped),
    changes: changes.slice(-keptChanges),
  };
}
