// Typed events. A listener that throws hurts no other.

/** Removes the listener that it was given for. */
export type Off = () => void;

type Listener<T> = (value: T) => unknown;

export class Emitter<Events extends object> {
  readonly #listeners = new Map<keyof Events, Set<Listener<never>>>();

  /** Adds a listener; what is returned removes it. */
  on<K extends keyof Events>(event: K, listener: (value: Events[K]) => unknown): Off {
    let set = this.#listeners.get(event);
    if (!set) this.#listeners.set(event, (set = new Set()));
    // Its own function each time, so that adding the same one twice is two.
    const own: Listener<never> = (value) => listener(value);
    set.add(own);
    return () => void set.delete(own);
  }

  protected count(event: keyof Events): number {
    return this.#listeners.get(event)?.size ?? 0;
  }

  protected emit<K extends keyof Events>(event: K, value: Events[K]): void {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) {
      try {
        (listener as Listener<Events[K]>)(value);
      } catch (error) {
        this.#failed(error);
      }
    }
  }

  /** What the listeners return, for those that are waited for. */
  protected call<K extends keyof Events>(event: K, value: Events[K]): Promise<unknown>[] {
    return [...(this.#listeners.get(event) ?? [])].map(async (listener) => (listener as Listener<Events[K]>)(value));
  }

  /** A listener threw: shown as uncaught, as an event target of the browser does, without breaking who emitted. */
  #failed(error: unknown): void {
    setTimeout(() => {
      throw error;
    });
  }
}
