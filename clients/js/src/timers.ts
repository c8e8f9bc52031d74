// Timers by name. At most one of each name runs, and all can be cleared together.

/** The longest time that a timer takes: 24 days. */
const LONGEST_MS = 2 ** 31 - 1;

export class Timers<Name extends string> {
  readonly #running = new Map<Name, ReturnType<typeof setTimeout>>();

  /** Starts a timer, in place of the one of the same name. */
  set(name: Name, ms: number, run: () => void): void {
    this.clear(name);
    const again = (): void => this.set(name, ms - LONGEST_MS, run);
    this.#running.set(name, ms > LONGEST_MS ? setTimeout(again, LONGEST_MS) : setTimeout(run, ms));
  }

  clear(name: Name): void {
    clearTimeout(this.#running.get(name));
    this.#running.delete(name);
  }

  clearAll(): void {
    for (const name of [...this.#running.keys()]) this.clear(name);
  }
}
