/** Above this many new keys one sort is cheaper than that many insertions. */
const fewKeys = 64;

/** Keys in order. What is added is put in its place when the order is next asked for. */
export class SortedKeys {
  #sorted: string[];
  #added = new Set<string>();

  constructor(keys: Iterable<string> = []) {
    this.#sorted = [...keys].sort();
  }

  /** @param key one that is not in here yet */
  add(key: string): void {
    this.#added.add(key);
  }

  delete(key: string): void {
    if (this.#added.delete(key)) return;
    const at = this.#firstFrom(key);
    if (this.#sorted[at] === key) this.#sorted.splice(at, 1);
  }

  /** The keys behind `after`, or all of them. */
  *from(after: string | null): Generator<string> {
    this.#settle();
    const sorted = this.#sorted;
    let at = after === null ? 0 : this.#firstFrom(after);
    if (sorted[at] === after) at += 1;
    for (; at < sorted.length; at += 1) yield sorted[at] as string;
  }

  #settle(): void {
    if (this.#added.size > fewKeys) {
      this.#sorted = [...this.#sorted, ...this.#added].sort();
    } else {
      for (const key of this.#added) this.#sorted.splice(this.#firstFrom(key), 0, key);
    }
    this.#added.clear();
  }

  /** Where `key` is, or would be. */
  #firstFrom(key: string): number {
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#sorted[middle] as string) < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
