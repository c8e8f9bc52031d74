// Typed events. A listener that throws does not affect the others.

/** Removes a listener. */
export type Off = () => void;

type Listener<T> = (value: T) => unknown;

export class Emitter<Events extends object> {
  readonly #listeners = new Map<keyof Events, Set<Listener<never>>>();

  /** Adds a listener, and returns a function that removes it. */
  on<K extends keyof Events>(event: K, listener: (value: Events[K]) => unknown): Off {
    let set = this.#listeners.get(event);
    if (!set) this.#listeners.set(event, (set = new Set()));
    // A new function each time, so that the same listener can be added twice.
    const own: Listener<never> = (value) => listener(value);
    set.add(own);
    return () => void set.delete(own);
  }

  /** @internal */
  count(event: keyof Events): number {
    return this.#listeners.get(event)?.size ?? 0;
  }

  /** @internal */
  emit<K extends keyof Events>(event: K, value: Events[K]): void {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) {
      try {
        (listener as Listener<Events[K]>)(value);
      } catch (error) {
        this.#failed(error);
      }
    }
  }

  /** @internal Calls the listeners of an event that waits for them, and returns what they return. */
  call<K extends keyof Events>(event: K, value: Events[K]): Promise<unknown>[] {
    return [...(this.#listeners.get(event) ?? [])].map(async (listener) => (listener as Listener<Events[K]>)(value));
  }

  /** Shows an error of a listener as uncaught, as an event target of the browser does. The emitter is not affected. */
  #failed(error: unknown): void {
    setTimeout(() => {
      throw error;
    });
  }
}
