interface Flight<T> {
  readonly result: Promise<T>;
  readonly controller: AbortController;
  waiting: number;
}

/** `run`, unless it runs for `id` already: then what that gives. */
export type SingleFlights<T> = (
  id: string,
  run: (signal: AbortSignal) => Promise<T>,
  signal?: AbortSignal,
) => Promise<T>;

/**
 * One call for all who ask for the same while it runs. Whose signal fires stops waiting, with the
 * signal's reason; the call's own signal fires once nobody waits any more.
 */
export function singleFlights<T>(): SingleFlights<T> {
  const flights = new Map<string, Flight<T>>();

  const launch = (id: string, run: (signal: AbortSignal) => Promise<T>): Flight<T> => {
    const controller = new AbortController();
    const flight: Flight<T> = { result: run(controller.signal), controller, waiting: 0 };
    const land = () => remove(id, flight);
    // Also takes a failure that nobody waits for any more.
    flight.result.then(land, land);
    flights.set(id, flight);
    return flight;
  };
  const remove = (id: string, flight: Flight<T>) => {
    if (flights.get(id) === flight) flights.delete(id);
  };

  return async (id, run, signal) => {
    signal?.throwIfAborted();
    const flight = flights.get(id) ?? launch(id, run);
    flight.waiting++;
    try {
      return await abortable(flight.result, signal);
    } finally {
      flight.waiting--;
      if (flight.waiting === 0) {
        remove(id, flight);
        flight.controller.abort();
      }
    }
  };
}

async function abortable<T>(result: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return await result;
  let stop = () => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
  });
  try {
    return await Promise.race([result, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
