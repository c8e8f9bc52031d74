// Gives the items of a room to its handlers, one after another, and moves the room's position as they are handled.
import { wrap } from "../errors.js";
import type { RoomlogError } from "../errors.js";
import { before, compareIds } from "../ids.js";
import type { Gap, Message } from "../protocol.js";
import type { Acks } from "./acks.js";
import type { BoundedQueue } from "./backpressure.js";
import type { Item } from "./items.js";
import { ABANDONED } from "./messages.js";
import type { Positions } from "./positions.js";
import type { RoomOptions } from "./types.js";

/** The room, as the delivery to its handlers uses it. */
export interface Recipient {
  readonly name: string;
  readonly options: RoomOptions;
  count(event: "message"): number;
  /** The application decides on the type of a message's content. */
  call(event: "message", message: Message<any>): Promise<unknown>[];
  emit(event: "error", error: RoomlogError): void;
  emit(event: "gap", gap: Gap): void;
}

/** How far its reader is. */
export interface Progress {
  readonly positions: Positions;
  readonly acks: Acks;
  /** Reports that the backlog up to `id` is handled. */
  handledBacklog(id: string): void;
}

export class Delivery {
  readonly #room: Recipient;
  readonly #reader: Progress;
  readonly #queue: BoundedQueue<Item>;
  #running = false;

  constructor(room: Recipient, reader: Progress, queue: BoundedQueue<Item>) {
    this.#room = room;
    this.#reader = reader;
    this.#queue = queue;
  }

  /** Handles the waiting items, while there is a handler. */
  async run(): Promise<void> {
    if (this.#running) return;
    this.#running = true;
    const queue = this.#queue;
    const { positions } = this.#reader;
    for (let item; (item = queue.first) && this.#room.count("message") > 0; ) {
      const handled = await this.#handle(item);
      if (handled === ABANDONED) continue;
      // Even if the room was left in the meantime: a handled message is not taken again.
      if (handled !== undefined) {
        positions.handled = handled;
        if (compareIds(handled, positions.received!) > 0) positions.received = handled;
      }
      queue.done(item);
    }
    this.#running = false;
  }

  /** Handles one item, and returns the position after it, if it moved. */
  async #handle(item: Item): Promise<string | typeof ABANDONED | undefined> {
    const { options } = this.#room;
    const { positions } = this.#reader;
    switch (item.kind) {
      case "message":
        // The position must not pass an own message that the outbox still has: it would be sent again.
        await item.noted;
        // Meanwhile, the room may have been left.
        if (this.#queue.first !== item) return undefined;
        return this.#message(item.message);
      case "gap": {
        const to = before(item.gap.next);
        this.#room.emit("gap", item.gap);
        if (!options.durable) await positions.save(to);
        return to;
      }
      case "moved":
        return item.to;
      case "live":
        this.#reader.handledBacklog(item.id);
        return undefined;
    }
  }

  async #message(message: Message): Promise<string | typeof ABANDONED> {
    const { name, options: { autoAck, durable } } = this.#room;
    const { acks, positions } = this.#reader;
    const { id } = message;
    const results = await Promise.allSettled(this.#room.call("message", message));
    const failures = results.flatMap((result) => (result.status === "rejected" ? [result.reason as unknown] : []));
    if (failures.length === results.length && failures.every((reason) => reason === ABANDONED)) return ABANDONED;
    for (const reason of failures) {
      if (reason === ABANDONED) continue;
      this.#room.emit("error", wrap(reason, "handler", `a handler of the room ${name} failed on the message ${id}`));
    }
    if (!durable) await positions.save(id);
    else if (autoAck) await acks.note(id);
    return id;
  }
}
