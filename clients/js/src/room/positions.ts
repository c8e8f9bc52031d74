// How far a room was read, handled and acknowledged, and the store that keeps it over a reload.
import { wrap } from "../errors.js";
import type { RoomlogError } from "../errors.js";
import type { PositionStore } from "../stores.js";

export class Positions {
  /** Everything up to this id was received from the server. */
  received: string | undefined;
  /** Everything up to this id was handled. */
  handled: string | undefined;
  /** Everything up to this id was acknowledged, of a durable subscription. */
  acked: string | undefined;
  #loading: Promise<void> | undefined;
  readonly #store: PositionStore;
  readonly #name: () => string;
  readonly #failed: (error: RoomlogError) => void;

  constructor(store: PositionStore, name: () => string, failed: (error: RoomlogError) => void) {
    this.#store = store;
    this.#name = name;
    this.#failed = failed;
  }

  /** Begins at a position. */
  begin(position: string): void {
    this.received = this.handled = position;
  }

  /** Reads the stored position once. */
  load(): Promise<void> {
    return (this.#loading ??= this.#load());
  }

  save(id: string): Promise<void> {
    return this.#guard(() => this.#store.set(this.#name(), id)) as Promise<void>;
  }

  delete(): void {
    void this.#guard(() => this.#store.delete(this.#name()));
  }

  async #load(): Promise<void> {
    const stored = await this.#guard(() => this.#store.get(this.#name()));
    if (!stored || this.received !== undefined) return;
    this.begin(stored);
    this.acked = stored;
  }

  /** Reports a store that fails, and continues without it. */
  async #guard<R>(work: () => R | Promise<R>): Promise<R | undefined> {
    try {
      return await work();
    } catch (error) {
      this.#failed(wrap(error, "application", "the store of positions failed, and the client continues without it"));
      return undefined;
    }
  }
}
