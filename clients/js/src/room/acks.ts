// The acknowledgements of a durable subscription: gathered briefly, then sent as one.
import { compareIds } from "../ids.js";
import type { Positions } from "./positions.js";

/** Longest time that an acknowledgement waits for others. */
const GATHER_MS = 50;

export class Acks {
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #positions: Positions;
  readonly #send: (id: string) => void;

  constructor(positions: Positions, send: (id: string) => void) {
    this.#positions = positions;
    this.#send = send;
  }

  /** Acknowledges everything up to `id`. Resolves when the store has it. */
  async note(id: string): Promise<void> {
    const { acked } = this.#positions;
    if (acked !== undefined && compareIds(id, acked) <= 0) return;
    this.#positions.acked = id;
    this.#timer ??= setTimeout(() => this.flush(), GATHER_MS);
    await this.#positions.save(id);
  }

  /** Sends the newest acknowledgement now. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const { acked } = this.#positions;
    if (acked !== undefined) this.#send(acked);
  }
}
