/** Reads from a secondary vault while the primary one's circuit is open. Writes never go there. */
import { type Answering, answered, type Reads } from './answer.ts';
import type { CircuitState } from './observer.ts';
import { isOutage } from './vault-error.ts';

export interface Readable extends Reads {
  list(...given: never[]): AsyncIterable<object>;
  listVersions(name: string): AsyncIterable<object>;
}

/**
 * `primary`, but `get`, `list` and `listVersions` are answered by `secondary` when the circuit is not closed; the
 * answers, and each item of a list, say by which. A list that has begun is not continued elsewhere.
 *
 * The secondary vault may lag behind, so that it lacks something proves nothing: whatever it refuses, the error
 * is the primary's.
 */
export function failover<Service extends Readable>(
  primary: Service,
  secondary: Service,
  circuit: () => CircuitState,
): Answering<Service> {
  const mayFailOver = (error: unknown) => isOutage(error) && circuit() !== 'closed';
  const list = (first: AsyncIterable<object>, second: () => AsyncIterable<object>) =>
    listWith(first, second, mayFailOver);
  const reads = {
    get: async (name: string, version?: string) => {
      try {
        return answered(await primary.get(name, version));
      } catch (error) {
        if (!mayFailOver(error)) throw error;
        const value = await secondary.get(name, version).catch(() => Promise.reject(error));
        return answered(value, 'secondary');
      }
    },
    list: (...given: never[]) => list(primary.list(...given), () => secondary.list(...given)),
    listVersions: (name: string) =>
      list(primary.listVersions(name), () => secondary.listVersions(name)),
  };
  // The same methods with the same answers, and `served` beside them.
  return { ...primary, ...reads } as unknown as Answering<Service>;
}

async function* listWith(
  first: AsyncIterable<object>,
  second: () => AsyncIterable<object>,
  mayFailOver: (error: unknown) => boolean,
): AsyncIterable<object> {
  let hasBegun = false;
  let refusal: unknown;
  try {
    for await (const item of first) {
      hasBegun = true;
      yield answered(item);
    }
    return;
  } catch (error) {
    if (hasBegun || !mayFailOver(error)) throw error;
    refusal = error;
  }
  try {
    for await (const item of second()) {
      hasBegun = true;
      yield answered(item, 'secondary');
    }
  } catch (error) {
    throw hasBegun ? error : refusal;
  }
}
