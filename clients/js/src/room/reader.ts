// One reader of a room: where it is, and its part of the room's subscription. It takes the messages of the subscription where they
// continue its own. Until then it reads the log by pages.
import { RoomlogError, isTemporary } from "../errors.js";
import { before, compareIds, follows } from "../ids.js";
import type { Gap, HistoryAnswer, HistoryQuery } from "../protocol.js";
import { Acks } from "./acks.js";
import { BoundedQueue } from "./backpressure.js";
import { Delivery } from "./delivery.js";
import type { Recipient } from "./delivery.js";
import { itemOf } from "./items.js";
import type { Item, LogItem } from "./items.js";
import { framesOfPage, startOf } from "./pages.js";
import { Positions } from "./positions.js";
import type { Subscriber, Subscription } from "./subscription.js";
import type { RoomContext, RoomEvents, RoomOptions, RoomState, Unsubscribed } from "./types.js";

/**
 * Returns the name of a reader: readers that start in different places have different ones. Its position is stored under it.
 */
export function readerName(room: string, { since, last, durable }: RoomOptions): string {
  if (durable !== undefined) return `${room}/${durable}`;
  return since !== undefined ? `${room}?since=${since}` : last !== undefined ? `${room}?last=${last}` : room;
}

/** Limit of messages of the subscription that wait while the last page before them is read. */
const HELD = 1000;

/** Pause before the log is read again, after a refusal or a page without progress. */
const PAUSE_MS = 1000;

/** The room, as its reader uses it. */
export interface Owner extends Recipient {
  readonly context: RoomContext;
  emit(event: "error", error: RoomlogError): void;
  emit(event: "gap", gap: Gap): void;
  emit(event: "live", live: RoomEvents["live"]): void;
  emit(event: "started", position: string): void;
  emit(event: "state", state: RoomState): void;
  emit(event: "unsubscribed", unsubscribed: Unsubscribed): void;
}

export class Reader implements Subscriber {
  state: RoomState = "idle";
  readonly positions: Positions;
  readonly acks: Acks;
  readonly #queue: BoundedQueue<Item>;
  readonly #delivery: Delivery;
  readonly #room: Owner;
  readonly #subscription: Subscription;
  /** Whether the messages of the subscription continue this reader's own. */
  #isJoined = false;
  /** Messages of the subscription since the present page was asked for. Undefined while there is none, or after too many. */
  #held: LogItem[] | undefined;
  /** Aborted when the reading of pages is of no more use. */
  #reading = new AbortController();

  constructor(room: Owner, subscription: Subscription) {
    this.#room = room;
    this.#subscription = subscription;
    const storedAs = (): string => readerName(room.name, room.options);
    this.positions = new Positions(room.context.positions, storedAs, (error) => this.failed(error));
    this.acks = new Acks(this.positions, (id) => {
      const isHeld = this.options.durable !== undefined && this.isFollowing && subscription.cursor !== undefined;
      if (isHeld) room.context.connection.tell("ack", { room: room.name, id });
    });
    this.#queue = new BoundedQueue<Item>(
      () => {
        this.stopped();
        this.#become("catching_up");
        subscription.filled();
      },
      () => subscription.drained(this),
    );
    this.#delivery = new Delivery(room, this, this.#queue);
  }

  get options(): RoomOptions {
    return this.#room.options;
  }

  get isFull(): boolean {
    return this.#queue.isFull;
  }

  get isFollowing(): boolean {
    return this.state === "catching_up" || this.state === "live";
  }

  /** Follows the room, from the position or the start of this reader on. */
  follow(): void {
    this.#become("catching_up");
    this.#room.context.connection.connect();
    this.#subscription.add(this);
  }

  /** Stops following. Unhandled messages are delivered again the next time. */
  leave(forget: boolean): void {
    this.#subscription.remove(this, forget);
    this.#queue.clear();
    this.positions.received = this.positions.handled;
    this.#become("idle");
  }

  /** Stops following for good. With `forget`, a durable position is deleted, too. */
  close(forget: boolean): void {
    this.acks.flush();
    this.leave(forget);
    if (forget) this.positions.delete();
  }

  /** Hands waiting messages to the handlers. */
  deliver(): void {
    void this.#delivery.run();
  }

  /** The connection was lost. */
  down(): void {
    if (this.isFollowing) this.#become("catching_up");
  }

  began(position: string): void {
    const { acks, options: { durable }, positions } = this;
    if (positions.received === undefined) this.#start(position);
    else if (durable) {
      if (compareIds(position, positions.received) > 0) {
        // Another device has handled the messages between.
        positions.received = position;
        this.#enqueue({ kind: "moved", to: position });
      }
      if (positions.acked !== undefined && compareIds(positions.acked, position) > 0) acks.flush();
    }
    this.#room.emit("started", position);
    // A handler may have closed the room.
    if (this.isFollowing) this.#joined();
  }

  join(head: string): void {
    this.stopped();
    void this.#join(head, this.#reading.signal);
  }

  stopped(): void {
    this.#reading.abort();
    this.#reading = new AbortController();
    this.#isJoined = false;
    this.#held = undefined;
  }

  take(item: LogItem): void {
    if (this.#isJoined) this.#accept(item);
    else if (this.#held && this.#held.push(item) > HELD) this.#held = undefined;
  }

  caughtUp(id: string): void {
    if (this.#isJoined) this.#enqueue({ kind: "live", id });
  }

  ended(unsubscribed: Unsubscribed): void {
    this.#become("ended");
    this.#room.emit("unsubscribed", unsubscribed);
  }

  failed(error: RoomlogError): void {
    this.#room.emit("error", error);
  }

  /** The backlog up to `id` is handled. */
  handledBacklog(id: string): void {
    if (this.#isJoined && this.#subscription.isCaughtUp) this.#become("live");
    this.#room.emit("live", { room: this.#room.name, id });
  }

  /** Finds this reader's place in a subscription that has begun elsewhere. */
  async #join(head: string, signal: AbortSignal): Promise<void> {
    const { positions, options: { since, last } } = this;
    await positions.load();
    if (signal.aborted) return;
    if (positions.received === undefined) {
      const isNew = !last && (since === undefined || since === "$");
      const start = isNew ? { position: head } : await this.#try(signal, () => startOf((query) => this.#page(query), { since, last }));
      if (!start || signal.aborted) return;
      this.#start(start.position);
    }
    const received = positions.received!;
    this.#room.emit("started", received);
    if (signal.aborted) return;
    // A position beyond the newest message is one that the log has lost: its history will tell.
    const isReached = compareIds(received, this.#subscription.cursor!) >= 0 && compareIds(received, head) <= 0;
    if (isReached) this.#joined();
    else await this.#read(signal);
  }

  /** Reads the log by pages until it meets the messages of the subscription. */
  async #read(signal: AbortSignal): Promise<void> {
    const { positions } = this;
    const { name, context } = this.#room;
    for (;;) {
      const { cursor } = this.#subscription;
      const from = positions.received!;
      this.#held = [];
      const page = await this.#try(signal, () => this.#page({ after: from, limit: 1000 }));
      if (!page || signal.aborted) return;
      const [frames, , isComplete] = framesOfPage(name, from, page);
      for (const frame of frames) {
        this.#accept(itemOf(frame, context.outbox));
        // This reader is full now, or a handler has closed the room.
        if (signal.aborted) return;
      }
      // The messages that are held follow the cursor of before, up to which the page reaches at least.
      if (isComplete && this.#held && compareIds(positions.received!, cursor!) >= 0) return this.#joined();
      if (frames.length === 0 && !(await pause(PAUSE_MS, signal))) return;
    }
  }

  /** Reads a page, or waits until it can be read. Returns nothing if it cannot be, or is of no more use. */
  async #try<R>(signal: AbortSignal, read: () => Promise<R>): Promise<R | undefined> {
    for (;;) {
      try {
        return await read();
      } catch (error) {
        const { code, message, retryAfterMs } = error as RoomlogError;
        // Without a connection, reading begins anew with the next one.
        if (signal.aborted || code === "disconnected") return undefined;
        if (!isTemporary(error as RoomlogError) && code !== "internal") {
          this.#subscription.remove(this, false);
          this.ended({ room: this.#room.name, code, message });
          return undefined;
        }
        if (!(await pause(retryAfterMs ?? PAUSE_MS, signal))) return undefined;
      }
    }
  }

  #page(query: HistoryQuery): Promise<HistoryAnswer> {
    const { name, context } = this.#room;
    return context.connection.request("history", { room: name, ...query });
  }

  /** Begins at a position, where none was known. */
  #start(position: string): void {
    this.positions.begin(position);
    // So that a reload before the first message continues here, too.
    if (this.options.durable) void this.acks.note(position);
    else void this.positions.save(position);
  }

  /** Takes the messages of the subscription from now on, and those that were held. */
  #joined(): void {
    const held = this.#held ?? [];
    this.#isJoined = true;
    this.#held = undefined;
    for (const item of held) this.take(item);
    if (this.#subscription.isCaughtUp) this.caughtUp(this.positions.received!);
  }

  /** Takes the next item of the log, if it is not known already. */
  #accept(item: LogItem): void {
    const { positions } = this;
    const received = positions.received!;
    if (item.kind === "message") {
      const { id } = item.message;
      if (compareIds(id, received) <= 0) return;
      if (!follows(received, id)) return this.join(id);
      positions.received = id;
    } else {
      const { after, next, reason } = item.gap;
      const to = before(next);
      // A reader that has passed the place where the log was rewound reads it again from where it is.
      if (reason === "rewound" && compareIds(after, received) !== 0) return this.join(to);
      if (reason !== "rewound" && compareIds(to, received) <= 0) return;
      positions.received = to;
      // The subscription may have begun before messages that this reader has, and that were deleted since.
      item = { kind: "gap", gap: { ...item.gap, after: received } };
    }
    this.#enqueue(item);
  }

  #enqueue(item: Item): void {
    this.#queue.push(item);
    this.deliver();
  }

  #become(state: RoomState): void {
    if (this.state === state) return;
    this.state = state;
    this.#room.emit("state", state);
  }
}

/** Returns false if `signal` was aborted meanwhile. */
const pause = async (ms: number, signal: AbortSignal): Promise<boolean> => {
  await new Promise((resolve) => setTimeout(resolve, ms));
  return !signal.aborted;
};
