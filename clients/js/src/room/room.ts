// The room as applications use it. It follows the log from the last handled position, and publishes to it. The parts beside this
// file do the work: each room object has a reader, and those of the same name share a subscription.
import type { AnySignals, DataOf, TypeOf } from "../content.js";
import type { Data } from "../data.js";
import { Emitter } from "../emitter.js";
import type { Off } from "../emitter.js";
import { RoomlogError } from "../errors.js";
import type { PublishOptions } from "../outbox.js";
import type { HistoryPage, HistoryQuery, Message } from "../protocol.js";
import type { Publication } from "../publication.js";
import { readHistory } from "./history.js";
import { messagesOf } from "./messages.js";
import { Reader } from "./reader.js";
import { deliverSignals, sendSignal } from "./signals.js";
import type { Subscription } from "./subscription.js";
import type { RoomContext, RoomEvents, RoomOptions, RoomState } from "./types.js";

/**
 * A room. Made by `client.room(name)`; followed as soon as it has a handler for messages. `T` is the type of the messages' content, or
 * `ByType<…>`; `S` gives the type of the content of each type of signal.
 */
export class Room<T = Data, S extends object = AnySignals> extends Emitter<RoomEvents<T, S>> {
  /** The room's name. */
  readonly name: string;
  /** @internal How it is followed. */
  options: RoomOptions;
  /** @internal */
  readonly context: RoomContext;
  readonly #reader: Reader;
  readonly #closed: () => void;
  #isClosed = false;

  /** @internal */
  constructor(name: string, options: RoomOptions, context: RoomContext, subscription: Subscription, closed: () => void) {
    super();
    this.name = name;
    this.options = options;
    this.context = context;
    this.#closed = closed;
    this.#reader = new Reader(this, subscription);
    deliverSignals(this);
  }

  /** Whether the room is followed, and how far. */
  get state(): RoomState {
    return this.#reader.state;
  }

  /** The last id received from the server, or the position where the room began. Undefined before that is known. */
  get position(): string | undefined {
    return this.#reader.positions.received;
  }

  /** This client's unconfirmed messages to the room, in order, including those from before a reload. */
  get pending(): Publication<DataOf<T>>[] {
    return this.context.outbox.waiting(this.name);
  }

  /** Adds a handler, and returns a function that removes it. The room is followed while there is a handler for `message`. */
  override on<K extends keyof RoomEvents<T, S>>(event: K, listener: (value: RoomEvents<T, S>[K]) => unknown): Off {
    const off = super.on(event, listener);
    if (event === "message") this.#wanted();
    return () => {
      off();
      // Deferred, for applications that replace a handler by removing it and adding the next.
      if (event === "message") queueMicrotask(() => this.#unwanted());
    };
  }

  /**
   * Publishes a message. Returns a publication immediately, to show; awaiting it gives the id, once the message is stored.
   * Without a connection, the message waits.
   */
  publish<K extends TypeOf<T> = "message" & TypeOf<T>>(data: DataOf<T, K>, options?: PublishOptions<K>): Publication<DataOf<T, K>> {
    return this.context.outbox.publish(this.name, data, options);
  }

  /** Acknowledges a message of a durable subscription, and all before it. */
  ack(message: Message<T> | string): void {
    if (!this.options.durable) {
      throw new RoomlogError("not_durable", "only a durable subscription is acknowledged: open the room with the option `durable`");
    }
    void this.#reader.acks.note(typeof message === "string" ? message : message.id);
  }

  /** Reads a part of the history. Waits for a connection if there is none. */
  history(query: HistoryQuery = {}): Promise<HistoryPage<T>> {
    return readHistory(this.context.connection, this.name, query) as Promise<HistoryPage<any>>;
  }

  /** Sends a signal to the users who are present, such as that this user types. It is not stored, and lost without a connection. */
  signal<K extends keyof S & string>(type: K, data: S[K] | null = null, options: { to?: string } = {}): void {
    sendSignal(this, type, data, options);
  }

  /**
   * Returns the messages as an asynchronous iterator: first the history after `since`, if it is given, then new messages. A
   * message counts as handled when the next one is asked for.
   */
  messages(options: { since?: string } = {}): AsyncGenerator<Message<T>, void, undefined> {
    return messagesOf<T>(this, options.since);
  }

  /** Follows the room again after the server ended it. */
  resume(): void {
    if (this.state === "ended") this.#reader.follow();
  }

  /** Stops following the room; this object is of no more use. With `forget`, a durable position is deleted on the server, too. */
  close({ forget = false }: { forget?: boolean } = {}): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#reader.close(forget);
    this.#closed();
  }

  /** @internal The connection was lost. */
  down(): void {
    this.#reader.down();
  }

  #wanted(): void {
    if (this.#isClosed) throw new RoomlogError("closed", `the room ${this.name} is closed: call client.room() to open it again`);
    if (this.state === "idle") this.#reader.follow();
    else this.#reader.deliver();
  }

  #unwanted(): void {
    if (this.count("message") === 0 && this.state !== "idle") this.#reader.leave(false);
  }
}
