/** Keeps what comes first at hand; of two that are equal, the one that was added first. */
export class Heap<T> {
  readonly #isBefore: (left: T, right: T) => boolean;
  readonly #items: { readonly item: T; readonly order: number }[] = [];
  #added = 0;

  /** @param isBefore whether `left` comes strictly before `right` */
  constructor(isBefore: (left: T, right: T) => boolean) {
    this.#isBefore = isBefore;
  }

  get size(): number {
    return this.#items.length;
  }

  first(): T | undefined {
    return this.#items[0]?.item;
  }

  add(item: T): void {
    const items = this.#items;
    items.push({ item, order: this.#added++ });
    for (let child = items.length - 1; child > 0; ) {
      const parent = (child - 1) >> 1;
      if (!this.#precedes(child, parent)) return;
      this.#swap(child, parent);
      child = parent;
    }
  }

  take(): T | undefined {
    const items = this.#items;
    this.#swap(0, items.length - 1);
    const taken = items.pop();
    for (let parent = 0; ; ) {
      const child = this.#firstChild(parent);
      if (child >= items.length || !this.#precedes(child, parent)) return taken?.item;
      this.#swap(child, parent);
      parent = child;
    }
  }

  #firstChild(parent: number): number {
    const left = 2 * parent + 1;
    const right = left + 1;
    return right < this.#items.length && this.#precedes(right, left) ? right : left;
  }

  #precedes(left: number, right: number): boolean {
    const one = this.#items[left];
    const other = this.#items[right];
    if (one === undefined || other === undefined) return false;
    if (this.#isBefore(one.item, other.item)) return true;
    return !this.#isBefore(other.item, one.item) && one.order < other.order;
  }

  #swap(left: number, right: number): void {
    const one = this.#items[left];
    const other = this.#items[right];
    if (one === undefined || other === undefined) return;
    this.#items[left] = other;
    this.#items[right] = one;
  }
}
