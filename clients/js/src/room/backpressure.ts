// The items that wait for slow handlers, within a bound: when it is reached, the room stops delivery, and it reads on from the
// log when most of them are handled.

/** Items that may wait. */
const LIMIT = 1000;

export class BoundedQueue<T> {
  /** Whether the bound was reached, and too many items wait still. */
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
