/** A load under way. */
export interface Flight<T> {
  readonly startedAt: number;
  readonly result: Promise<T>;
}

interface Plan<Loaded, T> {
  /** What those who wait are given. */
  readonly answer: (loaded: Loaded) => T;
  /** Told before anybody who waits; neither is, once the flight has been detached or overtaken. */
  readonly land: (answer: T) => void;
  readonly crash: (error: unknown) => void;
}

/** Loads under way, one a key, which whoever wants the same may join. */
export class Flights<T> {
  readonly #flying = new Map<string, Flight<T>>();

  find(key: string): Flight<T> | null {
    return this.#flying.get(key) ?? null;
  }

  /** From now on `loading`, which began at `startedAt`, is the one to be joined. */
  start<Loaded>(
    key: string,
    startedAt: number,
    loading: Promise<Loaded>,
    plan: Plan<Loaded, T>,
  ): Flight<T> {
    const flight: Flight<T> = { startedAt, result: this.#fly(key, loading, plan, () => flight) };
    this.#flying.set(key, flight);
    return flight;
  }

  async #fly<Loaded>(
    key: string,
    loading: Promise<Loaded>,
    { answer, land, crash }: Plan<Loaded, T>,
    self: () => Flight<T>,
  ): Promise<T> {
    try {
      const arrived = answer(await loading);
      if (this.find(key) === self()) land(arrived);
      return arrived;
    } catch (error) {
      if (this.find(key) === self()) crash(error);
      throw error;
    } finally {
      if (this.find(key) === self()) this.#flying.delete(key);
    }
  }

  /** Lets the loads of all keys with this prefix end for those who wait for them, and for nobody else. */
  detach(prefix: string): void {
    for (const key of this.#flying.keys()) {
      if (key.startsWith(prefix)) this.#flying.delete(key);
    }
  }
}
