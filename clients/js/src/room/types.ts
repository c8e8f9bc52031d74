// The options, states and events of a room, and the types that its parts share.
import type { Connection } from "../connection.js";
import type { AnySignals, DataOf } from "../content.js";
import type { Data } from "../data.js";
import type { RoomlogError } from "../errors.js";
import type { Outbox } from "../outbox.js";
import type { Deleted, Gap, Message, Push, Signal } from "../protocol.js";
import type { Publication } from "../publication.js";
import type { PositionStore } from "../stores.js";

/** How a room is followed. */
export interface RoomOptions {
  /** The start when no position is known: an id (all messages after it), `"0"` (all) or `"$"` (only new ones, the default). */
  since?: string;
  /** Instead of `since`: start with this many of the newest messages, at most 1000. */
  last?: number;
  /**
   * The name of a durable subscription: its position is kept on the server, for this user, and moves as messages are
   * acknowledged. One connection at a time holds it, the newest.
   */
  durable?: string;
  /** Acknowledge each message after its handlers have returned, and their promises are fulfilled. Otherwise call `ack`. */
  autoAck?: boolean;
}

/**
 * `idle`: not followed. `catching_up`: connecting, or reading the backlog. `live`. `ended`: the server ended it, or refused;
 * `resume()` tries again.
 */
export type RoomState = "idle" | "catching_up" | "live" | "ended";

/** Why the server ended a subscription. */
export interface Unsubscribed {
  room: string;
  /** `replaced`: a newer connection holds the durable subscription. `forbidden`, `deleted`, or the code of the refusal. */
  code: string;
  message: string;
}

/** The events of a room. */
export interface RoomEvents<T = Data, S extends object = AnySignals> {
  /** The next message. Handlers may be asynchronous: the next message waits for them. */
  message: Message<T>;
  /** Messages are missing for good. In order with the messages. */
  gap: Gap;
  /** The backlog has been handled and the room is live. Fires once after every (re)connect. */
  live: { room: string; id: string };
  signal: Signal<S>;
  /** A message was deleted from the log. Shown messages should go, too. Only told while the room is followed and live. */
  deleted: Deleted;
  /** Delivery began, or began again, after this id. */
  started: string;
  state: RoomState;
  unsubscribed: Unsubscribed;
  /** A message of this client to this room changed its state. */
  publication: Publication<DataOf<T>>;
  error: RoomlogError;
  /** @internal Every push of the server for this room, after the log has taken its part. Features listen to it. */
  push: Push;
}

/** The parts of the client that its rooms share. */
export interface RoomContext {
  connection: Connection;
  outbox: Outbox;
  positions: PositionStore;
  /** Whether the encoding has binary data. */
  binary: boolean;
}
