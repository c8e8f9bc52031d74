// A room's subscription on the present connection. It begins at the room's position, proves by the ids that nothing is missing,
// and begins again after a temporary refusal or a hole.
import { RoomlogError, isTemporary } from "../errors.js";
import { before, compareIds, follows } from "../ids.js";
import type { Gap, Message, Push, Start } from "../protocol.js";
import type { Acks } from "./acks.js";
import type { Positions } from "./positions.js";
import type { Item, RoomContext, RoomOptions, Unsubscribed } from "./types.js";

/** Pause before the next attempt after a refusal, or after a hole that shows again. */
const PAUSE_MS = 1000;

/** The room, as its subscription uses it. */
export interface Subscriber {
  readonly name: string;
  readonly options: RoomOptions;
  readonly context: RoomContext;
  readonly positions: Positions;
  readonly acks: Acks;
  enqueue(item: Item): void;
  started(position: string): void;
  ended(unsubscribed: Unsubscribed): void;
  emit(event: "error", error: RoomlogError): void;
}

export class Subscription {
  /** Whether the server has delivered the backlog on this connection. */
  isCaughtUp = false;
  readonly #room: Subscriber;
  /** The last id that the server delivered on this connection. Undefined while it does not deliver. */
  #cursor: string | undefined;
  /** Aborted when delivery stops or begins anew: an answer to an older `subscribe` is ignored. */
  #attempt = new AbortController();
  #holes = 0;
  #retry: ReturnType<typeof setTimeout> | undefined;

  constructor(room: Subscriber) {
    this.#room = room;
  }

  get isDelivering(): boolean {
    return this.#cursor !== undefined;
  }

  /** Begins delivery after the room's position. */
  async begin(): Promise<void> {
    const signal = this.stop();
    const { context, positions, name: room } = this.#room;
    await positions.load();
    if (signal.aborted) return;
    context.connection.ask("subscribe", { room, ...this.#start() }, (answer) => {
      if (signal.aborted) return;
      if (answer instanceof RoomlogError) this.#refused(answer);
      else this.#started(answer.position);
    });
  }

  /** Stops delivery: later pushes and answers belong to an older subscription. Returns the signal of the next one. */
  stop(): AbortSignal {
    this.#attempt.abort();
    this.#attempt = new AbortController();
    this.#cursor = undefined;
    this.isCaughtUp = false;
    clearTimeout(this.#retry);
    return this.#attempt.signal;
  }

  /** Takes a push, if it belongs to the room's log. */
  push(push: Push): void {
    switch (push.op) {
      case "message": {
        const { op: _, ...message } = push;
        return this.#message(message);
      }
      case "gap": {
        const { op: _, ...gap } = push;
        return this.#gap(gap);
      }
      case "live":
        if (this.#cursor === undefined) return;
        this.isCaughtUp = true;
        this.#holes = 0;
        this.#room.context.outbox.kick(this.#room.name);
        return this.#room.enqueue({ kind: "live", id: push.id });
      case "unsubscribed":
        return this.#room.ended({ room: push.room, code: push.code, message: push.message });
    }
  }

  #message(message: Message): void {
    const { context, positions } = this.#room;
    // Even a message that is not delivered now is proof that it is stored.
    const noted = context.outbox.seen(message.key, message.id);
    if (this.#cursor === undefined || compareIds(message.id, this.#cursor) <= 0) return;
    if (!follows(this.#cursor, message.id)) return this.#heal(this.#cursor, message.id);
    this.#cursor = message.id;
    if (compareIds(message.id, positions.received!) <= 0) return;
    positions.received = message.id;
    this.#room.enqueue({ kind: "message", message, noted });
  }

  #gap(gap: Gap): void {
    if (this.#cursor === undefined) return;
    const { positions } = this.#room;
    this.#cursor = before(gap.next);
    if (gap.reason !== "rewound" && compareIds(this.#cursor, positions.received!) <= 0) return;
    positions.received = this.#cursor;
    this.#room.enqueue({ kind: "gap", gap });
  }

  #start(): Omit<Start, "room"> {
    const { options: { since, last, durable }, positions: { received } } = this.#room;
    // For a durable subscription `since` would replace the position, which another device may have moved on.
    if (durable === undefined && received !== undefined) return { since: received };
    const start = received === undefined && since !== undefined ? { since } : { last };
    return durable === undefined ? start : { durable, ...start };
  }

  #started(position: string): void {
    const { acks, options: { durable }, positions } = this.#room;
    this.#cursor = position;
    if (positions.received === undefined) {
      positions.begin(position);
      // So that a reload before the first message continues here, too.
      if (durable) void acks.note(position);
      else void positions.save(position);
    } else if (durable) {
      if (compareIds(position, positions.received) > 0) {
        // Another device has handled the messages between.
        positions.received = positions.seenFrom = position;
        this.#room.enqueue({ kind: "moved", to: position });
      }
      if (positions.acked !== undefined && compareIds(positions.acked, position) > 0) acks.flush();
    }
    this.#room.started(position);
  }

  #refused(error: RoomlogError): void {
    const { code, message, retryAfterMs } = error;
    if (code === "disconnected") return;
    if (isTemporary(error) || code === "internal") this.#later(retryAfterMs);
    else this.#room.ended({ room: this.#room.name, code, message });
  }

  #later(ms = PAUSE_MS): void {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => void this.begin(), ms);
  }

  /** Reports messages that are missing without a `gap`, and asks for them again. */
  #heal(from: string, id: string): void {
    this.stop();
    if (this.#holes++ === 0) void this.begin();
    else this.#later();
    const missing = `the room ${this.#room.name} delivered ${id} right after ${from}, so messages are missing in between`;
    this.#room.emit("error", new RoomlogError("hole", `${missing}; they are fetched again`));
  }
}
