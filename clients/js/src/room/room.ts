// A room as applications have it: follows the log from the last position that was handled, and publishes to it. The work is done
// by the parts beside this file.
import type { Data } from "../data.js";
import { Emitter } from "../emitter.js";
import type { Off } from "../emitter.js";
import { RoomlogError } from "../errors.js";
import type { PublishOptions, Reader } from "../outbox.js";
import type { HistoryPage, HistoryQuery, Message, Push } from "../protocol.js";
import type { Publication } from "../publication.js";
import { Acks } from "./acks.js";
import { BoundedQueue } from "./backpressure.js";
import { Delivery } from "./delivery.js";
import { readHistory } from "./history.js";
import { messagesOf } from "./messages.js";
import { Positions } from "./positions.js";
import { deliverSignals, sendSignal } from "./signals.js";
import { Subscription } from "./subscription.js";
import type { Item, RoomContext, RoomEvents, RoomOptions, RoomState, Unsubscribed } from "./types.js";

/** A room. Made by `client.room(name)`; followed as soon as it has a handler for messages. */
export class Room<T = Data> extends Emitter<RoomEvents<T>> {
  /** The room's name. */
  readonly name: string;
  /** @internal How it is followed. */
  options: RoomOptions;
  /** @internal */
  readonly context: RoomContext;
  /** @internal */
  readonly positions: Positions;
  /** @internal */
  readonly acks: Acks;
  /** @internal */
  readonly queue: BoundedQueue<Item>;
  readonly #subscription: Subscription;
  readonly #delivery: Delivery;
  #state: RoomState = "idle";
  #isClosed = false;

  /** @internal */
  constructor(name: string, options: RoomOptions, context: RoomContext) {
    super();
    this.name = name;
    this.options = options;
    this.context = context;
    const storedAs = (): string => (this.options.durable ? `${name}/${this.options.durable}` : name);
    this.positions = new Positions(context.positions, storedAs, (error) => this.emit("error", error));
    this.acks = new Acks(this.positions, (id) => {
      if (this.options.durable && this.#subscription.isDelivering) context.connection.tell("ack", { room: name, id });
    });
    this.queue = new BoundedQueue<Item>(
      () => this.#pause(),
      () => this.up(),
    );
    this.#subscription = new Subscription(this);
    this.#delivery = new Delivery(this);
    deliverSignals(this);
  }

  /** How far it is. */
  get state(): RoomState {
    return this.#state;
  }

  /** The last id that was taken from the server, or where the room was begun; nothing before that is known. */
  get position(): string | undefined {
    return this.positions.received;
  }

  /** Messages of this client to this room that are not confirmed yet, in order; also those left from before a reload. */
  get pending(): Publication<T>[] {
    return this.context.outbox.waiting(this.name);
  }

  /** Adds a handler, and returns a function that removes it. The room is followed while there is a handler for `message`. */
  override on<K extends keyof RoomEvents<T>>(event: K, listener: (value: RoomEvents<T>[K]) => unknown): Off {
    const off = super.on(event, listener);
    if (event === "message") this.#wanted();
    return () => {
      off();
      // Not at once: an application that changes handlers removes one and adds the next.
      if (event === "message") queueMicrotask(() => this.#unwanted());
    };
  }

  /**
   * Publishes a message. The publication shows at once and changes its state; awaiting it gives the id, once the message is
   * stored. Without a connection it waits.
   */
  publish(data: T, options?: PublishOptions): Publication<T> {
    return this.context.outbox.publish(this.name, data, options);
  }

  /** Acknowledges a message, and all before it, of a durable subscription. */
  ack(message: Message<T> | string): void {
    if (!this.options.durable) throw new RoomlogError("not_durable", "only a durable subscription is acknowledged: open the room with the option `durable`");
    void this.acks.note(typeof message === "string" ? message : message.id);
  }

  /** Reads a part of the history. Waits for a connection if there is none. */
  history(query: HistoryQuery = {}): Promise<HistoryPage<T>> {
    return readHistory(this.context.connection, this.name, query) as Promise<HistoryPage<T>>;
  }

  /** Sends something to those present that is not stored, such as that a user types. Lost if there is no connection. */
  signal(type: string, data: unknown = null, options: { to?: string } = {}): void {
    const { binary, connection } = this.context;
    sendSignal(connection, binary, this.name, type, data, options);
  }

  /**
   * The messages as an asynchronous iterator: first the history after `since`, if it is given, then the messages that the room
   * brings. A message counts as handled when the next one is asked for.
   */
  messages(options: { since?: string } = {}): AsyncGenerator<Message<T>, void, undefined> {
    return messagesOf(this, options.since);
  }

  /** Follows the room again after the server ended it. */
  resume(): void {
    if (this.#state === "ended") this.#begin();
  }

  /** Stops following the room, and forgets this object. With `forget`, a durable position is deleted on the server too. */
  close({ forget = false }: { forget?: boolean } = {}): void {
    if (this.#isClosed) return;
    this.acks.flush();
    this.#leave(forget);
    this.#isClosed = true;
    if (forget) this.positions.delete();
    this.#become("idle");
    this.context.closed(this.name);
  }

  /** @internal */
  get seenFrom(): string | undefined {
    return this.positions.seenFrom;
  }

  /** @internal */
  get reading(): Reader["reading"] {
    // A full queue waits for handlers, one of which may wait for a message to be confirmed.
    if (!this.#isFollowing || this.queue.isFull) return "away";
    return this.#subscription.isCaughtUp ? "live" : "behind";
  }

  /** @internal The connection is up: delivery begins anew, from where this client stands. */
  up(): void {
    if (this.#isFollowing && !this.queue.isFull) void this.#subscription.begin();
  }

  /** @internal The connection was lost. */
  down(): void {
    this.#subscription.stop();
    if (this.#isFollowing) this.#become("catching_up");
  }

  /** @internal The server pushed something for this room. */
  push(push: Push): void {
    this.#subscription.push(push);
    this.emit("push", push);
  }

  /** @internal Delivery has begun, after `position`. */
  started(position: string): void {
    this.emit("started", position);
    this.#reconsider();
  }

  /** @internal The server ended the subscription, or refused it. */
  ended(unsubscribed: Unsubscribed): void {
    this.#subscription.stop();
    this.#become("ended");
    this.emit("unsubscribed", unsubscribed);
    this.#reconsider();
  }

  /** @internal */
  enqueue(item: Item): void {
    this.queue.push(item);
    void this.#delivery.run();
  }

  /** @internal */
  handledBacklog(id: string): void {
    if (this.#subscription.isCaughtUp) this.#become("live");
    this.emit("live", { room: this.name, id });
  }

  get #isFollowing(): boolean {
    return this.#state === "catching_up" || this.#state === "live";
  }

  #wanted(): void {
    if (this.#isClosed) throw new RoomlogError("closed", `the room ${this.name} is closed: call client.room() to open it again`);
    if (this.#state === "idle") this.#begin();
    else void this.#delivery.run();
  }

  #unwanted(): void {
    if (this.count("message") > 0 || this.#state === "idle") return;
    this.#leave(false);
    this.#become("idle");
  }

  #begin(): void {
    const { connection } = this.context;
    this.#become("catching_up");
    connection.connect();
    if (connection.state === "open") void this.#subscription.begin();
  }

  /** Stops delivery. Messages that were not handled are delivered again the next time. */
  #leave(forget: boolean): void {
    const { durable } = this.options;
    if (this.#isFollowing) this.#unsubscribe(forget && durable ? { forget, durable } : {});
    this.#subscription.stop();
    this.queue.clear();
    this.positions.received = this.positions.handled;
    this.#reconsider();
  }

  /** Too many items wait: the server stops delivery until most of them are handled. */
  #pause(): void {
    this.#subscription.stop();
    this.#become("catching_up");
    // A durable subscription is kept, since letting go would hand it to another connection.
    if (!this.options.durable) this.#unsubscribe({});
    this.#reconsider();
  }

  #unsubscribe(fields: { forget?: boolean; durable?: string }): void {
    this.context.connection.tell("unsubscribe", { room: this.name, ...fields });
  }

  /** How the room is read decides which messages the outbox may send. */
  #reconsider(): void {
    this.context.outbox.kick(this.name);
  }

  #become(state: RoomState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.emit("state", state);
  }
}
