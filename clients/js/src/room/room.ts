// The room as applications use it. It follows the log from the last handled position, and publishes to it. The parts beside this
// file do the work.
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

  /** Whether the room is followed, and how far. */
  get state(): RoomState {
    return this.#state;
  }

  /** The last id received from the server, or the position where the room began. Undefined before that is known. */
  get position(): string | undefined {
    return this.positions.received;
  }

  /** This client's unconfirmed messages to the room, in order, including those from before a reload. */
  get pending(): Publication<T>[] {
    return this.context.outbox.waiting(this.name);
  }

  /** Adds a handler, and returns a function that removes it. The room is followed while there is a handler for `message`. */
  override on<K extends keyof RoomEvents<T>>(event: K, listener: (value: RoomEvents<T>[K]) => unknown): Off {
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
  publish(data: T, options?: PublishOptions): Publication<T> {
    return this.context.outbox.publish(this.name, data, options);
  }

  /** Acknowledges a message of a durable subscription, and all before it. */
  ack(message: Message<T> | string): void {
    if (!this.options.durable) {
      throw new RoomlogError("not_durable", "only a durable subscription is acknowledged: open the room with the option `durable`");
    }
    void this.acks.note(typeof message === "string" ? message : message.id);
  }

  /** Reads a part of the history. Waits for a connection if there is none. */
  history(query: HistoryQuery = {}): Promise<HistoryPage<T>> {
    return readHistory(this.context.connection, this.name, query) as Promise<HistoryPage<T>>;
  }

  /** Sends a signal to the users who are present, such as that this user types. It is not stored, and lost without a connection. */
  signal(type: string, data: unknown = null, options: { to?: string } = {}): void {
    sendSignal(this, type, data, options);
  }

  /**
   * Returns the messages as an asynchronous iterator: first the history after `since`, if it is given, then new messages. A
   * message counts as handled when the next one is asked for.
   */
  messages(options: { since?: string } = {}): AsyncGenerator<Message<T>, void, undefined> {
    return messagesOf(this, options.since);
  }

  /** Follows the room again after the server ended it. */
  resume(): void {
    if (this.#state === "ended") this.#begin();
  }

  /** Stops following the room; this object is of no more use. With `forget`, a durable position is deleted on the server, too. */
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
    // A full queue waits for handlers. One of them may be awaiting a publication, which must not wait for the queue in turn.
    if (!this.#isFollowing || this.queue.isFull) return "away";
    return this.#subscription.isCaughtUp ? "live" : "behind";
  }

  /** @internal Begins delivery anew on a new connection. */
  up(): void {
    if (this.#isFollowing && !this.queue.isFull) void this.#subscription.begin();
  }

  /** @internal Ends delivery with the connection. */
  down(): void {
    this.#subscription.stop();
    if (this.#isFollowing) this.#become("catching_up");
  }

  /** @internal Takes a push of the server for this room. */
  push(push: Push): void {
    this.#subscription.push(push);
    this.emit("push", push);
  }

  /** @internal Reports that delivery has begun after `position`. */
  started(position: string): void {
    this.emit("started", position);
    this.#reconsider();
  }

  /** @internal Reports that the server ended the subscription, or refused it. */
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

  /** Stops delivery. Unhandled messages are delivered again the next time. */
  #leave(forget: boolean): void {
    const { durable } = this.options;
    if (this.#isFollowing) this.#unsubscribe(forget && durable ? { forget, durable } : {});
    this.#subscription.stop();
    this.queue.clear();
    this.positions.received = this.positions.handled;
    this.#reconsider();
  }

  /** Stops the server's delivery while too many items wait for the handlers. */
  #pause(): void {
    this.#subscription.stop();
    this.#become("catching_up");
    // A durable subscription is kept: releasing it would hand it to another connection.
    if (!this.options.durable) this.#unsubscribe({});
    this.#reconsider();
  }

  #unsubscribe(fields: { forget?: boolean; durable?: string }): void {
    this.context.connection.tell("unsubscribe", { room: this.name, ...fields });
  }

  /** Lets the outbox look again which messages it may send, since that depends on how far the room was read. */
  #reconsider(): void {
    this.context.outbox.kick(this.name);
  }

  #become(state: RoomState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.emit("state", state);
  }
}
