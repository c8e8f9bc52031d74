// What a room is given and what it tells, as types.
import type { Connection } from "./connection.js";
import type { Data } from "./data.js";
import type { RoomlogError } from "./errors.js";
import type { Outbox } from "./outbox.js";
import type { Gap, HistoryPage, HistoryQuery, Message, Signal } from "./protocol.js";
import type { Publication } from "./publication.js";
import type { Room } from "./room.js";
import type { PositionStore } from "./stores.js";

/** How a room is followed. */
export interface RoomOptions {
  /** Where to start when nothing is known yet: an id (all after it), `"0"` (all there is) or `"$"` (only what is new, the default). */
  since?: string;
  /** Or with the newest so many, at most 1000. */
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
 * `idle`: not followed. `catching_up`: connecting, or reading what came before. `live`. `ended`: the server ended it, or refused;
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

/** What a room tells. */
export interface RoomEvents<T = Data> {
  /** The next message. Handlers may be asynchronous: the next one waits for them. */
  message: Message<T>;
  /** Messages are missing here, for good. In order with the messages. */
  gap: Gap;
  /** All that was there has been handled; what comes from here on is new. After each time that it connected. */
  live: { room: string; id: string };
  signal: Signal;
  /** Delivery began, or began again, after this id. */
  started: string;
  state: RoomState;
  unsubscribed: Unsubscribed;
  /** A message of this client to this room changed its state. */
  publication: Publication<T>;
  error: RoomlogError;
}

/** What a room has of its client. */
export interface RoomContext {
  connection: Connection;
  outbox: Outbox;
  positions: PositionStore;
  /** Whether the encoding has binary data. */
  binary: boolean;
  history(room: string, query: HistoryQuery): Promise<HistoryPage>;
  closed(room: Room<never>): void;
}
