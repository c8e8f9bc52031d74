// A room's subscription on the present connection, which all readers of the room share. It begins at the earliest of their
// positions, proves by the ids that nothing is missing, and begins again after a temporary refusal or a hole.
import { RoomlogError, isTemporary } from "../errors.js";
import { before, compareIds, follows } from "../ids.js";
import type { Reading } from "../outbox.js";
import type { Push, Start } from "../protocol.js";
import { itemOf } from "./items.js";
import type { LogItem } from "./items.js";
import type { Positions } from "./positions.js";
import type { RoomContext, RoomOptions, Unsubscribed } from "./types.js";

/** Pause before the next attempt after a refusal, or after a hole that shows again. */
const PAUSE_MS = 1000;

/** A reader, as the subscription uses it. */
export interface Subscriber {
  readonly options: RoomOptions;
  readonly positions: Positions;
  /** True while it takes no more, because too many messages wait for its handlers. */
  readonly isFull: boolean;
  /** The subscription has begun after `position`, where this reader had asked it to begin. */
  began(position: string): void;
  /** The subscription has begun elsewhere, at a time when `head` was the newest message. */
  join(head: string): void;
  /** The subscription has stopped, or will begin anew. */
  stopped(): void;
  take(item: LogItem): void;
  caughtUp(id: string): void;
  ended(unsubscribed: Unsubscribed): void;
  failed(error: RoomlogError): void;
}

export class Subscription {
  /** Whether the server has delivered the backlog on this connection. */
  isCaughtUp = false;
  /** The last id that the server delivered on this connection. Undefined while it does not deliver. */
  cursor: string | undefined;
  /** The last id that the server delivered on any connection. */
  position: string | undefined;
  /** Everything from this id to `position` was delivered, without a jump. */
  seenFrom: string | undefined;
  readonly #room: string;
  readonly #context: RoomContext;
  readonly #readers = new Set<Subscriber>();
  /** Aborted when delivery stops or begins anew: an answer to an older `subscribe` is ignored. */
  #attempt = new AbortController();
  #isBeginning = false;
  #headAtStart = "0-0";
  #holes = 0;
  #retry: ReturnType<typeof setTimeout> | undefined;

  constructor(room: string, context: RoomContext) {
    this.#room = room;
    this.#context = context;
  }

  /** How far the room is read, as the outbox asks. */
  get reading(): Reading {
    // A full reader waits for handlers. One of them may be awaiting a publication, which must not wait for the reader in turn.
    if (this.#active.length === 0) return "away";
    return this.isCaughtUp ? "live" : "behind";
  }

  /** The durable reader. There is at most one, since the server has one subscription for a room and a connection. */
  get #durable(): Subscriber | undefined {
    return [...this.#readers].find(({ options }) => options.durable !== undefined);
  }

  /** The newest message that is known, while the server delivers. */
  get #head(): string {
    return compareIds(this.#headAtStart, this.cursor!) > 0 ? this.#headAtStart : this.cursor!;
  }

  /** The readers that take messages now. */
  get #active(): Subscriber[] {
    return [...this.#readers].filter(({ isFull }) => !isFull);
  }

  /** Adds a reader, whose delivery begins now or with the connection. */
  add(reader: Subscriber): void {
    const { durable } = reader.options;
    if (durable !== undefined && this.#durable) {
      const message = `this client holds another durable subscription of the room, ${JSON.stringify(this.#durable.options.durable)}: close that one first`;
      return reader.ended({ room: this.#room, code: "bad_request", message });
    }
    this.#readers.add(reader);
    if (this.cursor !== undefined && durable === undefined) reader.join(this.#head);
    else if (!this.#isBeginning || durable !== undefined) this.begin();
  }

  /** Removes a reader. The last one ends the subscription; with `forget`, a durable position is deleted on the server, too. */
  remove(reader: Subscriber, forget: boolean): void {
    if (!this.#readers.delete(reader)) return;
    reader.stopped();
    const { durable } = reader.options;
    if (this.#readers.size === 0 || (forget && durable)) this.#unsubscribe(forget && durable ? { forget, durable } : {});
    if (this.#readers.size === 0) this.stop();
    else if (this.#active.length === 0) this.filled();
    // It may have been the one to begin for; and a durable subscription is released by an ordinary one.
    else if (durable !== undefined || this.#isBeginning) this.begin();
    this.#context.outbox.kick(this.#room);
  }

  /** Begins delivery, if there is a connection and a reader that takes messages. */
  begin(): void {
    if (this.#context.connection.state === "open" && this.#active.length > 0) void this.#begin(this.stop());
  }

  /** Stops delivery: later pushes and answers belong to an older subscription. Returns the signal of the next one. */
  stop(): AbortSignal {
    this.#attempt.abort();
    this.#attempt = new AbortController();
    this.cursor = undefined;
    this.isCaughtUp = this.#isBeginning = false;
    clearTimeout(this.#retry);
    for (const reader of this.#readers) reader.stopped();
    return this.#attempt.signal;
  }

  /** Stops the server's delivery if all readers are full. Otherwise the full one will read the log on its own. */
  filled(): void {
    if (this.#active.length > 0) return;
    this.stop();
    // A durable subscription is kept: releasing it would hand it to another connection.
    if (!this.#durable) this.#unsubscribe({});
    this.#context.outbox.kick(this.#room);
  }

  /** Continues for a reader that was full. */
  drained(reader: Subscriber): void {
    if (!this.#readers.has(reader)) return;
    if (this.cursor !== undefined) reader.join(this.#head);
    else if (!this.#isBeginning) this.begin();
  }

  /** Takes a push, if it belongs to the room's log. */
  push(push: Push): void {
    switch (push.op) {
      case "message":
      case "gap":
        return this.#take(itemOf(push, this.#context.outbox));
      case "live":
        if (this.cursor === undefined) return;
        this.isCaughtUp = true;
        this.#holes = 0;
        this.#context.outbox.kick(this.#room);
        for (const reader of this.#readers) reader.caughtUp(push.id);
        return;
      case "unsubscribed":
        return this.#ended({ room: push.room, code: push.code, message: push.message });
    }
  }

  async #begin(signal: AbortSignal): Promise<void> {
    this.#isBeginning = true;
    for (const { positions } of this.#readers) await positions.load();
    if (signal.aborted) return;
    const first = firstOf(this.#active);
    if (!first) return void this.stop();
    this.#context.connection.ask("subscribe", { room: this.#room, ...startOf(first) }, (answer) => {
      if (signal.aborted) return;
      this.#isBeginning = false;
      if (answer instanceof RoomlogError) this.#refused(answer, first);
      else this.#began(answer, first, signal);
    });
  }

  #began({ position, head }: { position: string; head: string }, first: Subscriber, signal: AbortSignal): void {
    const { position: previous, seenFrom } = this;
    const isJump = previous === undefined || compareIds(position, previous) > 0;
    if (isJump || compareIds(position, seenFrom!) < 0) this.seenFrom = position;
    this.cursor = this.position = position;
    this.#headAtStart = head;
    first.began(position);
    for (const reader of this.#active) {
      // A handler of the application may have closed a room.
      if (signal.aborted) return;
      if (reader !== first) reader.join(this.#head);
    }
    this.#context.outbox.kick(this.#room);
  }

  #take(item: LogItem): void {
    const { cursor } = this;
    if (cursor === undefined) return;
    if (item.kind === "message") {
      const { id } = item.message;
      if (compareIds(id, cursor) <= 0) return;
      if (!follows(cursor, id)) return this.#heal(cursor, id);
      this.cursor = this.position = id;
    } else this.cursor = this.position = before(item.gap.next);
    for (const reader of this.#readers) reader.take(item);
  }

  #refused(error: RoomlogError, first: Subscriber): void {
    const { code, message, retryAfterMs } = error;
    if (code === "disconnected") return;
    if (isTemporary(error) || code === "internal") return this.#later(retryAfterMs);
    // The server may refuse only the start of this reader: the others begin without it.
    this.#end(code === "forbidden" ? [...this.#readers] : [first], { room: this.#room, code, message });
  }

  #ended(unsubscribed: Unsubscribed): void {
    const durable = this.#durable;
    this.#end(durable && unsubscribed.code === "replaced" ? [durable] : [...this.#readers], unsubscribed);
  }

  #end(readers: Subscriber[], unsubscribed: Unsubscribed): void {
    this.stop();
    for (const reader of readers) this.#readers.delete(reader);
    this.begin();
    for (const reader of readers) reader.ended(unsubscribed);
    this.#context.outbox.kick(this.#room);
  }

  #later(ms = PAUSE_MS): void {
    clearTimeout(this.#retry);
    this.#isBeginning = true;
    this.#retry = setTimeout(() => this.begin(), ms);
  }

  /** Reports messages that are missing without a `gap`, and asks for them again. */
  #heal(from: string, id: string): void {
    this.stop();
    if (this.#holes++ === 0) this.begin();
    else this.#later();
    const missing = `the room ${this.#room} delivered ${id} right after ${from}, so messages are missing in between`;
    const [reader] = this.#readers;
    reader?.failed(new RoomlogError("hole", `${missing}; they are fetched again`));
  }

  #unsubscribe(fields: { forget?: boolean; durable?: string }): void {
    this.#context.connection.tell("unsubscribe", { room: this.#room, ...fields });
  }
}

/** Returns the reader for which to begin: the durable one, or else the one that is furthest behind. */
function firstOf(readers: Subscriber[]): Subscriber | undefined {
  const known = readers.filter(({ positions }) => positions.received !== undefined);
  return (
    readers.find(({ options }) => options.durable !== undefined) ??
    known.sort((a, b) => compareIds(a.positions.received!, b.positions.received!))[0] ??
    readers.find(({ options: { since, last } }) => since !== undefined || last !== undefined) ??
    readers[0]
  );
}

function startOf({ options: { since, last, durable }, positions: { received } }: Subscriber): Omit<Start, "room"> {
  // For a durable subscription `since` would replace the position, which another device may have moved on.
  if (durable === undefined && received !== undefined) return { since: received };
  const start = received === undefined && since !== undefined ? { since } : { last };
  return durable === undefined ? start : { durable, ...start };
}
