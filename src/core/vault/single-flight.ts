/** A load under way. */
export interface Flight<T> {
  readonly startedAt: number;
  readonly result: Promise<T>;
}

interface Plan<T> {
  readonly load: () => Promise<T>;
  /** Told before anybody who waits; neither is, once the flight has been detached or overtaken. */
  readonly land: (value: T) => void;
  readonly crash: (error: unknown) => void;
}

/** Loads under way, one a key, which whoever wants the same may join. */
export class Flights<T> {
  readonly #flying = new Map<string, Flight<T>>();

  find(key: string): Flight<T> | null {
    return this.#flying.get(key) ?? null;
  }

  /** Starts a load, which from now on is the one to be joined. */
  start(key: string, startedAt: number, { load, land, crash }: Plan<T>): Flight<T> {
    const isCurrent = () => this.#flying.get(key) === flight;
    const fly = async () => {
      try {
        const value = await load();
        if (isCurrent()) land(value);
        return value;
      } catch (error) {
        if (isCurrent()) crash(error);
        throw error;
      } finally {
        if (isCurrent()) this.#flying.delete(key);
      }
    };
    // A turn later: until it is on the map, it cannot be current.
    const flight: Flight<T> = { startedAt, result: Promise.resolve().then(fly) };
    this.#flying.set(key, flight);
    return flight;
  }

  /** Lets the loads of all keys with this prefix end for those who wait for them, and for nobody else. */
  detach(prefix: string): void {
    for (const key of this.#flying.keys()) {
      if (key.startsWith(prefix)) this.#flying.delete(key);
    }
  }
}
