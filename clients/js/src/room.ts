// One room: follows its log from the last position that was handled, gives each message to the handlers once and in order, and
// proves by the ids that nothing is missing.
import { Emitter } from "./emitter.js";
import type { Off } from "./emitter.js";
import { RoomlogError, isTemporary, wrap } from "./errors.js";
import { snapshot } from "./data.js";
import type { Data } from "./data.js";
import type { PublishOptions, Reader } from "./outbox.js";
import { before, compareIds, follows } from "./ids.js";
import type { Gap, HistoryPage, HistoryQuery, Message, Push, Start } from "./protocol.js";
import { ABANDONED, messagesOf } from "./messages.js";
import type { Publication } from "./publication.js";
import type { RoomContext, RoomEvents, RoomOptions, RoomState, Unsubscribed } from "./room-types.js";

/** What waits for the handlers, in order. */
type Item =
  | { kind: "message"; message: Message; noted: Promise<void> | undefined }
  | { kind: "gap"; gap: Gap }
  | { kind: "live"; id: string }
  | { kind: "moved"; to: string };

/** Messages that may wait for slow handlers. Beyond, the room lets go, and reads on from the log when they are through. */
const WAITING = 1000;

/** How long acknowledgements are gathered. */
const ACK_EVERY_MS = 50;

/** Pause before a room is resumed that was refused, or showed a hole again. */
const PAUSE_MS = 1000;

/** A room. Made by `client.room(name)`; followed as soon as it has a handler for messages. */
export class Room<T = Data> extends Emitter<RoomEvents<T>> {
  /** Where the server's delivery stands on this connection; nothing while it does not deliver. */
  #cursor: string | undefined;
  /** All up to here was taken from the server. */
  #received: string | undefined;
  /** All up to here was handled. */
  #handled: string | undefined;
  /** All up to here was acknowledged, of a durable subscription. */
  #acked: string | undefined;
  /** From here on everything was seen, with no jump. */
  seenFrom: string | undefined;
  #current: RoomState = "idle";
  /** Whether the server has delivered all that there was, on this connection. */
  #caughtUp = false;
  /** Counts subscribe frames, so that the answer to an older one is known. */
  #subscribed = 0;
  #loading: Promise<void> | undefined;
  #queue: Item[] = [];
  #pumping = false;
  #holes = 0;
  #paused = false;
  #closed = false;
  #ackTimer: ReturnType<typeof setTimeout> | undefined;
  #retryTimer: ReturnType<typeof setTimeout> | undefined;

  /** @internal */
  constructor(
    /** The room's name. */
    readonly name: string,
    /** @internal How it is followed. */
    public options: RoomOptions,
    private readonly context: RoomContext,
  ) {
    super();
  }

  /** How far it is. */
  get state(): RoomState {
    return this.#current;
  }

  /** The last id that was taken from the server, or where the room was begun; nothing before that is known. */
  get position(): string | undefined {
    return this.#received;
  }

  /** @internal */
  get reading(): Reader["reading"] {
    // While it is paused it waits for handlers, one of which may wait for a message to be confirmed.
    if (!this.#following || this.#paused) return "away";
    return this.#caughtUp ? "live" : "behind";
  }

  /** Messages of this client to this room that are not confirmed yet, in order; also those left from before a reload. */
  get pending(): Publication<T>[] {
    return this.context.outbox.waiting(this.name);
  }

  /** Adds a handler; what is returned removes it. The room is followed while there is one for `message`. */
  override on<K extends keyof RoomEvents<T>>(event: K, listener: (value: RoomEvents<T>[K]) => unknown): Off {
    const off = super.on(event, listener);
    if (event === "message") this.#wanted();
    return () => {
      off();
      // Not at once: who changes handlers removes one and adds the next.
      if (event === "message") queueMicrotask(() => this.#unwanted());
    };
  }

  /**
   * Publishes a message. What is returned shows at once and changes its state; awaiting it gives the id, once the
   * message is stored. While there is no connection it waits.
   */
  publish(data: T, options?: PublishOptions): Publication<T> {
    return this.context.outbox.publish(this.name, data, options);
  }

  /** Acknowledges a message, and all before it, of a durable subscription. */
  ack(message: Message<T> | string): void {
    if (!this.options.durable) throw new RoomlogError("not_durable", "only durable subscriptions are acknowledged");
    void this.#acknowledge(typeof message === "string" ? message : message.id);
  }

  /** Reads a part of the history. Waits for a connection if there is none. */
  history(query: HistoryQuery = {}): Promise<HistoryPage<T>> {
    return this.context.history(this.name, query) as Promise<HistoryPage<T>>;
  }

  /** Tells those present something that is not stored, such as that somebody types. Lost if there is no connection. */
  signal(type: string, data: unknown = null, options: { to?: string } = {}): void {
    const plain = snapshot(data, this.context.binary);
    this.context.connection.tell("signal", { room: this.name, type: snapshot(type, false) as string, data: plain, ...options });
  }

  /**
   * The messages as an asynchronous iterator: first the history after `since`, if it is given, then what the room brings. A
   * message counts as handled when the next one is asked for.
   */
  messages(options: { since?: string } = {}): AsyncGenerator<Message<T>, void, undefined> {
    return messagesOf(this, options.since);
  }

  /** Follows the room again after the server ended it. */
  resume(): void {
    if (this.#current === "ended") this.#begin();
  }

  /** Stops following the room, and forgets this object. With `forget`, a durable position is deleted on the server too. */
  close({ forget = false }: { forget?: boolean } = {}): void {
    if (this.#closed) return;
    this.flush();
    this.#leave(forget);
    this.#closed = true;
    if (forget) void this.context.positions.delete(this.#storedAs);
    this.#become("idle");
    this.context.closed(this as unknown as Room<never>);
  }

  /** @internal The connection is up: delivery begins anew, from where this client stands. */
  up(): void {
    if (this.#following && !this.#paused) void this.#subscribe();
  }

  /** @internal */
  down(): void {
    this.#silence();
    if (this.#following) this.#become("catching_up");
  }

  /** @internal Sends what is acknowledged and was not sent yet. */
  flush(): void {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = undefined;
    if (this.options.durable && this.#cursor !== undefined && this.#acked !== undefined) {
      this.context.connection.tell("ack", { room: this.name, id: this.#acked });
    }
  }

  /** @internal */
  frame(frame: Push): void {
    switch (frame.op) {
      case "message": {
        const { op: _, ...message } = frame;
        // Also one that is not delivered now says that it is stored.
        const noted = this.context.outbox.seen(message.key, message.id);
        if (this.#cursor === undefined || compareIds(message.id, this.#cursor) <= 0) return;
        if (!follows(this.#cursor, message.id)) return this.#heal(message.id);
        this.#cursor = message.id;
        if (compareIds(message.id, this.#received!) <= 0) return;
        this.#received = message.id;
        return this.#enqueue({ kind: "message", message, noted });
      }
      case "gap": {
        if (this.#cursor === undefined) return;
        const { op: _, ...gap } = frame;
        this.#cursor = before(gap.next);
        if (gap.reason !== "rewound" && compareIds(this.#cursor, this.#received!) <= 0) return;
        this.#received = this.#cursor;
        return this.#enqueue({ kind: "gap", gap });
      }
      case "live":
        if (this.#cursor === undefined) return;
        this.#caughtUp = true;
        this.#holes = 0;
        this.context.outbox.kick(this.name);
        return this.#enqueue({ kind: "live", id: frame.id });
      case "signal": {
        const { op: _, ...signal } = frame;
        return this.emit("signal", signal);
      }
      case "unsubscribed":
        return this.#end({ room: this.name, code: frame.code, message: frame.message });
    }
  }

  /** @internal */
  published(publication: Publication): void {
    this.emit("publication", publication as unknown as Publication<T>);
  }

  get #following(): boolean {
    return this.#current === "catching_up" || this.#current === "live";
  }

  get #storedAs(): string {
    return this.options.durable ? `${this.name}/${this.options.durable}` : this.name;
  }

  #wanted(): void {
    if (this.#closed) throw new RoomlogError("closed", `the room ${this.name} was closed; ask the client for it again`);
    if (this.#current === "idle") this.#begin();
    else void this.#pump();
  }

  #unwanted(): void {
    if (this.count("message") > 0 || this.#current === "idle") return;
    this.#leave(false);
    this.#become("idle");
  }

  #begin(): void {
    this.#become("catching_up");
    this.context.connection.connect();
    if (this.context.connection.state === "open") void this.#subscribe();
  }

  /** Stops delivery. What was not handled is taken again the next time. */
  #leave(forget: boolean): void {
    if (this.#following) {
      const { durable } = this.options;
      this.context.connection.tell("unsubscribe", { room: this.name, ...(forget && durable ? { forget, durable } : {}) });
    }
    this.#silence();
    this.#paused = false;
    this.#queue = [];
    this.#received = this.#handled;
    this.context.outbox.kick(this.name);
  }

  /** From now on, what comes is of an older subscription. */
  #silence(): void {
    this.#subscribed++;
    this.#cursor = undefined;
    this.#caughtUp = false;
    clearTimeout(this.#retryTimer);
  }

  async #subscribe(): Promise<void> {
    this.#silence();
    const mine = this.#subscribed;
    await (this.#loading ??= this.#load());
    if (mine !== this.#subscribed) return;
    const { since, last, durable } = this.options;
    const frame: Start = { room: this.name };
    if (durable !== undefined) frame.durable = durable;
    const known = this.#received;
    // For a durable subscription `since` would replace the position, which another device may have moved on.
    if (known !== undefined && durable === undefined) frame.since = known;
    else Object.assign(frame, known !== undefined || since === undefined ? { last } : { since });
    this.context.connection.ask("subscribe", frame, (answer) => {
      if (mine !== this.#subscribed) return;
      if (answer instanceof RoomlogError) this.#refused(answer);
      else this.#started(answer.position);
    });
  }

  async #load(): Promise<void> {
    const stored = await this.#guard(() => this.context.positions.get(this.#storedAs));
    if (stored && this.#received === undefined) {
      this.#received = this.#handled = this.#acked = this.seenFrom = stored;
    }
  }

  #started(position: string): void {
    this.#cursor = position;
    if (this.#received === undefined) {
      this.#received = this.#handled = this.seenFrom = position;
      // So that a reload before the first message goes on here, too.
      if (this.options.durable) void this.#acknowledge(position);
      else void this.#save(position);
    } else if (this.options.durable) {
      if (compareIds(position, this.#received) > 0) {
        // Another device has handled what lies between.
        this.#received = this.seenFrom = position;
        this.#enqueue({ kind: "moved", to: position });
      }
      if (this.#acked !== undefined && compareIds(this.#acked, position) > 0) this.flush();
    }
    this.emit("started", position);
    this.context.outbox.kick(this.name);
  }

  #refused(error: RoomlogError): void {
    if (error.code === "disconnected") return;
    if (isTemporary(error) || error.code === "internal") this.#later(error.retryAfterMs);
    else this.#end({ room: this.name, code: error.code, message: error.message });
  }

  #end(unsubscribed: Unsubscribed): void {
    this.#silence();
    this.#become("ended");
    this.emit("unsubscribed", unsubscribed);
    this.context.outbox.kick(this.name);
  }

  #later(ms = PAUSE_MS): void {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => this.up(), ms);
  }

  /** A message is missing and nothing said so: reported, and asked for again from the last that was there. */
  #heal(id: string): void {
    const from = this.#cursor!;
    this.#silence();
    if (this.#holes++ === 0) void this.#subscribe();
    else this.#later();
    this.emit("error", new RoomlogError("hole", `${this.name}: ${id} came after ${from}; resumed`));
  }

  #enqueue(item: Item): void {
    this.#queue.push(item);
    if (this.#queue.length >= WAITING && !this.#paused) {
      this.#paused = true;
      this.#silence();
      this.#become("catching_up");
      // A durable subscription is kept, since letting go would hand it to another connection.
      if (!this.options.durable) this.context.connection.tell("unsubscribe", { room: this.name });
      this.context.outbox.kick(this.name);
    }
    void this.#pump();
  }

  /** Gives what waits to the handlers, one after the other. */
  async #pump(): Promise<void> {
    if (this.#pumping) return;
    this.#pumping = true;
    while (this.#queue.length > 0 && this.count("message") > 0) {
      const queue = this.#queue;
      const handled = await this.#handle(queue[0]!);
      if (handled === ABANDONED) continue;
      // Left in the meantime: the queue is another one, and what was handled all the same is not taken again.
      if (handled !== undefined) {
        this.#handled = handled;
        if (compareIds(handled, this.#received!) > 0) this.#received = handled;
      }
      queue.shift();
      if (this.#paused && this.#queue.length <= WAITING / 4) {
        this.#paused = false;
        this.up();
      }
    }
    this.#pumping = false;
  }

  /** Handles one item, and returns the position after it, if it moved. */
  async #handle(item: Item): Promise<string | typeof ABANDONED | undefined> {
    switch (item.kind) {
      case "message": {
        // The position must not pass a message of our own that the outbox still has: it would be sent again.
        await item.noted;
        const { id } = item.message;
        const results = await Promise.allSettled(this.call("message", item.message as Message<T>));
        const failures = results.flatMap((result) => (result.status === "rejected" ? [result.reason as unknown] : []));
        if (failures.length === results.length && failures.every((reason) => reason === ABANDONED)) return ABANDONED;
        for (const reason of failures) {
          if (reason !== ABANDONED) this.emit("error", wrap(reason, "handler", `a handler of ${this.name} failed for ${id}`));
        }
        if (!this.options.durable) await this.#save(id);
        else if (this.options.autoAck) await this.#acknowledge(id);
        return id;
      }
      case "gap": {
        const to = before(item.gap.next);
        this.emit("gap", item.gap);
        if (!this.options.durable) await this.#save(to);
        return to;
      }
      case "moved":
        return item.to;
      case "live":
        if (this.#caughtUp) this.#become("live");
        this.emit("live", { room: this.name, id: item.id });
        return undefined;
    }
  }

  async #acknowledge(id: string): Promise<void> {
    if (this.#acked !== undefined && compareIds(id, this.#acked) <= 0) return;
    this.#acked = id;
    this.#ackTimer ??= setTimeout(() => this.flush(), ACK_EVERY_MS);
    await this.#save(id);
  }

  #save(id: string): Promise<void> {
    return this.#guard(() => this.context.positions.set(this.#storedAs, id)) as Promise<void>;
  }

  /** A store that fails is reported, and does without. */
  async #guard<R>(work: () => R | Promise<R>): Promise<R | undefined> {
    try {
      return await work();
    } catch (error) {
      this.emit("error", wrap(error, "application", "the store of positions failed"));
      return undefined;
    }
  }

  #become(state: RoomState): void {
    if (this.#current === state) return;
    this.#current = state;
    this.emit("state", state);
  }
}
