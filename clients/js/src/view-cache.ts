// A view's part of the cache: what it showed last, saved a moment after it has changed.
import type { CachedRoom, MessageCache } from "./cache.js";
import { wrap } from "./errors.js";
import type { RoomlogError } from "./errors.js";

/** Time to wait for further changes. */
const PAUSE_MS = 500;

export class ViewCache {
  readonly #cache: MessageCache;
  readonly #room: string;
  readonly #failed: (error: RoomlogError) => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #shown: (() => CachedRoom) | undefined;

  constructor(cache: MessageCache, room: string, failed: (error: RoomlogError) => void) {
    this.#cache = cache;
    this.#room = room;
    this.#failed = failed;
  }

  load(): Promise<CachedRoom | undefined> {
    return this.#guard(() => this.#cache.load(this.#room));
  }

  /** Saves what `shown` returns, a moment later. */
  changed(shown: () => CachedRoom): void {
    this.#shown = shown;
    this.#timer ??= setTimeout(() => this.flush(), PAUSE_MS);
  }

  /** Saves now, as when the page may end. */
  readonly flush = (): void => {
    const shown = this.#shown;
    this.#drop();
    if (shown) void this.#guard(() => this.#cache.save(this.#room, shown()));
  };

  /** Forgets the room. */
  delete(): void {
    this.#drop();
    void this.#guard(() => this.#cache.delete(this.#room));
  }

  #drop(): void {
    clearTimeout(this.#timer);
    this.#timer = this.#shown = undefined;
  }

  /** Reports a cache that fails, and continues without it. */
  async #guard<R>(work: () => Promise<R>): Promise<R | undefined> {
    try {
      return await work();
    } catch (error) {
      this.#failed(wrap(error, "application", "the cache of messages failed, and the client continues without it"));
      return undefined;
    }
  }
}
