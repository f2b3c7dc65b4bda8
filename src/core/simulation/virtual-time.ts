import { Heap } from './heap.ts';

/** The time in which a log is replayed: milliseconds since 1970, as the log has them. */
export interface ReplayTime {
  now(): number;
  /** Resolves when `instant` has come, and all that was due before has been done. */
  until(instant: number): Promise<void>;
  sleep(ms: number): Promise<void>;
  /** Resolves when what was just begun has done what it can do without waiting. */
  settled(): Promise<void>;
}

interface Sleeper {
  readonly at: number;
  readonly wake: () => void;
}

/** Time that passes when it is told to: whoever sleeps is woken in order, and does all it can at that instant. */
export class VirtualTime implements ReplayTime {
  #now = 0;
  readonly #sleepers = new Heap<Sleeper>((left, right) => left.at < right.at);

  now(): number {
    return this.#now;
  }

  sleep(ms: number): Promise<void> {
    const at = this.#now + Math.max(0, ms);
    return new Promise((wake) => this.#sleepers.add({ at, wake }));
  }

  async until(instant: number): Promise<void> {
    for (;;) {
      const next = this.#sleepers.first();
      if (next === undefined || next.at > instant) break;
      await this.#wakeNext();
    }
    this.#now = Math.max(this.#now, instant);
  }

  /** Lets everybody sleep their fill. */
  async finish(): Promise<void> {
    while (this.#sleepers.size > 0) await this.#wakeNext();
  }

  // By then all microtasks are done, and nothing here waits for anything else.
  settled(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }

  async #wakeNext(): Promise<void> {
    const next = this.#sleepers.take();
    if (next === undefined) return;
    this.#now = next.at;
    next.wake();
    await this.settled();
  }
}
