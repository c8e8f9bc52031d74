// The bounded queue of items that wait for slow handlers. At its limit the room stops delivery; it continues from the log when
// most items are handled.

/** Limit of waiting items. */
const LIMIT = 1000;

export class BoundedQueue<T> {
  /** Whether the limit was reached, and too many items still wait. */
  isFull = false;
  #items: T[] = [];
  readonly #filled: () => void;
  readonly #drained: () => void;

  constructor(filled: () => void, drained: () => void) {
    this.#filled = filled;
    this.#drained = drained;
  }

  get first(): T | undefined {
    return this.#items[0];
  }

  push(item: T): void {
    this.#items.push(item);
    if (this.isFull || this.#items.length < LIMIT) return;
    this.isFull = true;
    this.#filled();
  }

  /** Removes the first item, unless the queue was cleared since it was taken. */
  done(item: T): void {
    if (this.first === item) this.#items.shift();
    if (!this.isFull || this.#items.length > LIMIT / 4) return;
    this.isFull = false;
    this.#drained();
  }

  clear(): void {
    this.#items = [];
    this.isFull = false;
  }
}
