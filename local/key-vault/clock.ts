/** The emulator's time, which can be set, and what is to happen at a time. Milliseconds since 1970. */
export type Clock = {
  readonly now: () => number;
  /**
   * Calls back when the time has come, soon if it has come already; never for a time that is not finite.
   *
   * @returns takes the call back
   */
  readonly at: (time: number, run: () => unknown) => () => void;
  /**
   * Sets the clock. What becomes due on the way forward is done in the order of its times, each at its own time;
   * backwards nothing is undone.
   */
  readonly set: (time: number) => Promise<void>;
  /** Forgets everything that was to happen, and takes nothing more: what is under way cannot keep it going. */
  readonly stop: () => void;
};

type Entry = { readonly at: number; readonly run: () => unknown };

// What setTimeout can wait for: 24.8 days. Longer waits are taken in steps.
const longestTimerMs = 2 ** 31 - 1;

/** Runs at the speed of the system clock, from the same time on until it is set. */
export function createClock(): Clock {
  const agenda = new Agenda();
  let offset = 0;
  let timer: NodeJS.Timeout | undefined;
  let setting: Promise<void> = Promise.resolve();
  let isSetting = false;
  let isStopped = false;
  const now = (): number => Date.now() + offset;

  const arm = (): void => {
    clearTimeout(timer);
    const next = agenda.peek();
    if (next === null || isSetting || isStopped) return;
    const wait = Math.min(Math.max(Math.ceil(next.at - now()), 1), longestTimerMs);
    timer = setTimeout(() => void runDue(), wait).unref();
  };
  const runDue = (): void => {
    for (let due = agenda.take(now()); due !== null; due = agenda.take(now())) void perform(due);
    arm();
  };
  const travel = async (time: number): Promise<void> => {
    isSetting = true;
    for (let due = agenda.take(time); due !== null && !isStopped; due = agenda.take(time)) {
      offset = Math.max(due.at, now()) - Date.now();
      await perform(due);
    }
    offset = time - Date.now();
    isSetting = false;
    arm();
  };
  return {
    now,
    at: (time, run) => {
      if (isStopped || !Number.isFinite(time)) return () => undefined;
      const entry = { at: time, run };
      agenda.add(entry);
      if (agenda.peek() === entry) arm();
      return () => {
        const wasNext = agenda.peek() === entry;
        agenda.remove(entry);
        if (wasNext) arm();
      };
    },
    set: (time) => {
      setting = setting.then(() => travel(time));
      return setting;
    },
    stop: () => {
      isStopped = true;
      clearTimeout(timer);
      agenda.clear();
    },
  };
}

async function perform({ run }: Entry): Promise<void> {
  try {
    await run();
  } catch (error) {
    console.error('key-vault: something that was due failed', error);
  }
}

/** A binary heap, since a vault may hold a hundred thousand things that expire. */
class Agenda {
  #heap: Entry[] = [];
  readonly #removed = new Set<Entry>();

  add(entry: Entry): void {
    const heap = this.#heap;
    let index = heap.push(entry) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (timeAt(heap, parent) <= entry.at) break;
      swap(heap, index, parent);
      index = parent;
    }
  }

  /** Takes effect when the entry comes to the top. */
  remove(entry: Entry): void {
    this.#removed.add(entry);
    // What was removed must not outweigh what is left.
    if (this.#removed.size * 2 > this.#heap.length) this.#rebuild();
  }

  peek(): Entry | null {
    for (let top = this.#heap[0]; top !== undefined; top = this.#heap[0]) {
      if (!this.#removed.delete(top)) return top;
      this.#pop();
    }
    return null;
  }

  /** The earliest entry that is due by `time`, which leaves the agenda. */
  take(time: number): Entry | null {
    const top = this.peek();
    if (top === null || top.at > time) return null;
    this.#pop();
    return top;
  }

  clear(): void {
    this.#heap = [];
    this.#removed.clear();
  }

  #rebuild(): void {
    const kept = this.#heap.filter((entry) => !this.#removed.has(entry));
    // Sorted is a valid heap.
    this.#heap = kept.sort((a, b) => a.at - b.at);
    this.#removed.clear();
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    heap[0] = last;
    for (let index = 0; ; ) {
      const left = 2 * index + 1;
      const least = timeAt(heap, left + 1) < timeAt(heap, left) ? left + 1 : left;
      if (timeAt(heap, least) >= last.at) return;
      swap(heap, index, least);
      index = least;
    }
  }
}

function timeAt(heap: readonly Entry[], index: number): number {
  return heap[index]?.at ?? Number.POSITIVE_INFINITY;
}

function swap(heap: Entry[], a: number, b: number): void {
  [heap[a], heap[b]] = [heap[b] as Entry, heap[a] as Entry];
}
