// The messages that are not confirmed yet. Each room has a lane, whose messages are sent one after another, so that their order
// holds whatever fails. Each is sent with the same key until there is an answer.
import type { Connection } from "./connection.js";
import { snapshot } from "./data.js";
import type { Data } from "./data.js";
import { RoomlogError, isTemporary, wrap } from "./errors.js";
import { compareIds } from "./ids.js";
import { Publication } from "./publication.js";
import type { OutboxEntry, OutboxStore } from "./stores.js";
import { uuid } from "./uuid.js";

/** Pause after a temporary refusal, unless the server names one. */
const PAUSE_MS = 1000;

/**
 * How far a room is read. `away`: it is not followed. `behind`: it is, and has not caught up on this connection. `live`: every
 * message after `seenFrom` was seen.
 */
export type Reading = "away" | "behind" | "live";

/** A room's subscription, as the outbox uses it. */
export interface Reader {
  readonly reading: Reading;
  /** The id up to which the room was read. */
  readonly position: string | undefined;
  readonly seenFrom: string | undefined;
}

export interface OutboxHooks {
  reader(room: string): Reader | undefined;
  changed(publication: Publication<any>): void;
  failed(error: RoomlogError): void;
}

/** Options of a message to publish. */
export interface PublishOptions<K extends string = string> {
  /** `message` if it is missing. */
  type?: K;
  /** A UUID, generated if it is missing. Publishing a key again stores nothing new. */
  key?: string;
}

export class Outbox {
  readonly #lanes = new Map<string, Lane>();
  /** The application decides on the type of a message's content. */
  readonly #byKey = new Map<string, Publication<any>>();
  readonly #ready: Promise<void>;
  #stored: Promise<void> = Promise.resolve();
  #last = 0;
  #closed: RoomlogError | undefined;
  readonly #store: OutboxStore | undefined;
  readonly #limit: number;
  readonly #binary: boolean;
  readonly #connection: Connection;
  readonly #hooks: OutboxHooks;

  constructor(store: OutboxStore | undefined, limit: number, binary: boolean, connection: Connection, hooks: OutboxHooks) {
    this.#store = store;
    this.#limit = limit;
    this.#binary = binary;
    this.#connection = connection;
    this.#hooks = hooks;
    this.#ready = this.#load();
  }

  publish<T>(room: string, data: T, { type = "message", key = uuid() }: PublishOptions = {}): Publication<T> {
    const entry: OutboxEntry = { key, room, type: snapshot(type, false) as string, data: data as Data, n: this.#next(), attempted: false };
    const publication = new Publication<T>(entry, this);
    const known = this.#byKey.get(key);
    if (known) return known;
    try {
      if (this.#closed) throw this.#closed;
      if (this.#byKey.size >= this.#limit) {
        const advice = "try again later, or raise outbox.limit";
        throw new RoomlogError("outbox_full", `${this.#limit} messages are waiting to be confirmed, and the outbox takes no more: ${advice}`);
      }
      entry.data = snapshot(data, this.#binary);
    } catch (error) {
      publication.settle(error as RoomlogError);
      return publication;
    }
    this.#byKey.set(key, publication);
    this.#lane(room).items.push(publication);
    this.#hooks.changed(publication);
    // With a connection, the message is stored right before it is sent.
    if (this.#connection.state !== "open") void this.#keep(entry);
    this.kick(room);
    return publication;
  }

  /** Returns the unconfirmed messages of a room, in order. */
  waiting(room: string): Publication<any>[] {
    return [...(this.#lanes.get(room)?.items ?? [])];
  }

  cancel(publication: Publication<any>): boolean {
    const { entry } = publication;
    if (publication.state !== "sending" || entry.attempted || this.#byKey.get(entry.key) !== publication) return false;
    void this.#settle(publication, new RoomlogError("cancelled", "the message was cancelled before it was sent"));
    this.kick(entry.room);
    return true;
  }

  changed(publication: Publication): void {
    this.#hooks.changed(publication);
  }

  /** Takes the arrival of a message through its room as its confirmation. Resolves when the store has it; nothing if it is not ours. */
  seen(key: string, id: string): Promise<void> | undefined {
    const publication = this.#byKey.get(key);
    return publication && this.#settle(publication, id);
  }

  /** Sends the messages that may be sent now, of a room or of all, since something has changed for them. */
  kick(room?: string): void {
    for (const name of room === undefined ? [...this.#lanes.keys()] : [room]) {
      const lane = this.#lanes.get(name);
      if (!lane) continue;
      lane.again = true;
      if (!lane.running) void this.#run(name, lane);
    }
  }

  /** Ends sending. Unconfirmed messages fail with `reason`, and stay in the store for the next client. */
  close(reason: RoomlogError): void {
    this.#closed = reason;
    for (const publication of this.#byKey.values()) publication.settle(reason);
    this.#byKey.clear();
    this.#lanes.clear();
  }

  /** Drains a lane until nothing has changed meanwhile. Runs once at a time for each lane. */
  async #run(room: string, lane: Lane): Promise<void> {
    lane.running = true;
    await this.#ready;
    while (lane.again) {
      lane.again = false;
      await this.#drain(room, lane);
    }
    lane.running = false;
    if (lane.items.length === 0) this.#lanes.delete(room);
  }

  /** Sends the messages of a lane in order, until none is left or the next one must wait. */
  async #drain(room: string, lane: Lane): Promise<void> {
    for (;;) {
      const publication = lane.items[0];
      if (!publication || this.#closed || this.#connection.state !== "open") return;
      const { entry } = publication;
      try {
        if (!(await this.#mayGo(entry))) return;
        if (publication.state !== "sending") continue;
        if (!entry.attempted) {
          entry.attempted = true;
          const position = this.#hooks.reader(room)?.position;
          if (position !== undefined) entry.after = position;
          await this.#keep(entry);
        }
        // While it was stored, it may have been confirmed, or the connection lost.
        if (lane.items[0] !== publication || this.#connection.state !== "open") continue;
        const { key, type, data } = entry;
        const { id } = await this.#connection.request("publish", { room, key, type, data });
        void this.#settle(publication, id);
      } catch (error) {
        const failure = wrap(error, "internal", "the message could not be sent");
        if (!isTemporary(failure)) void this.#settle(publication, failure);
        else if (failure.code !== "disconnected") await pause((failure.retryAfterMs ?? PAUSE_MS) * (1 + Math.random() / 4));
      }
    }
  }

  /**
   * Tells whether a message may be sent now. A message that was attempted before the connection was lost may be stored already.
   * It is looked for first, since the server forgets keys: in the backlog of a followed room, or else in the history.
   */
  async #mayGo(entry: OutboxEntry): Promise<boolean> {
    const reader = this.#hooks.reader(entry.room);
    const reading = reader?.reading ?? "away";
    if (!entry.attempted) return reading !== "behind" || reader!.position !== undefined;
    if (reading === "behind") return false;
    if (entry.after === undefined) return true;
    if (reading === "live" && compareIds(reader!.seenFrom!, entry.after) <= 0) return true;
    await this.#search(entry, entry.after);
    return true;
  }

  /** Looks for a message in the history, and confirms it if it is there. */
  async #search(entry: OutboxEntry, after: string): Promise<void> {
    const { room, key } = entry;
    for (let more = true; more; ) {
      let page;
      try {
        page = await this.#connection.request("history", { room, after, limit: 1000 });
      } catch (error) {
        // Without permission to read, the server's memory of keys must do.
        if (error instanceof RoomlogError && error.code === "forbidden") return;
        throw error;
      }
      for (const message of page.messages) if (message.key === key) return void this.seen(key, message.id);
      more = page.more;
      after = page.messages.at(-1)?.id ?? after;
    }
    entry.after = after;
  }

  async #settle(publication: Publication<any>, outcome: string | RoomlogError): Promise<void> {
    const { key, room } = publication;
    if (this.#byKey.get(key) !== publication) return;
    this.#byKey.delete(key);
    const items = this.#lanes.get(room)?.items;
    items?.splice(items.indexOf(publication), 1);
    publication.settle(outcome);
    await this.#storing(() => this.#store?.delete(key));
  }

  async #load(): Promise<void> {
    const entries = (await this.#guard(() => this.#store?.load())) ?? [];
    for (const entry of entries.sort((a, b) => a.n - b.n).reverse()) {
      if (this.#byKey.has(entry.key)) continue;
      const publication = new Publication(entry, this);
      this.#byKey.set(entry.key, publication);
      this.#lane(entry.room).items.unshift(publication);
      this.#last = Math.max(this.#last, entry.n);
    }
    for (const entry of entries) this.#hooks.changed(this.#byKey.get(entry.key)!);
    if (this.#closed) this.close(this.#closed);
    else if (entries.length > 0) queueMicrotask(() => this.kick());
  }

  #keep(entry: OutboxEntry): Promise<void> {
    return this.#storing(() => (this.#byKey.has(entry.key) ? this.#store?.put({ ...entry }) : undefined));
  }

  /** Runs operations on the store one after another. */
  #storing(work: () => void | Promise<void>): Promise<void> {
    if (!this.#store) return Promise.resolve();
    return (this.#stored = this.#stored.then(() => this.#guard(work)));
  }

  /** Reports a store that fails, and continues without it. */
  async #guard<T>(work: () => T | Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      this.#hooks.failed(wrap(error, "application", "the store of the outbox failed, and the client continues without it"));
      return undefined;
    }
  }

  #lane(room: string): Lane {
    let lane = this.#lanes.get(room);
    if (!lane) this.#lanes.set(room, (lane = { items: [], running: false, again: false }));
    return lane;
  }

  /** Returns a number above all earlier ones, those of earlier clients included. */
  #next(): number {
    return (this.#last = Math.max(this.#last + 1, Date.now() * 1000));
  }
}

interface Lane {
  items: Publication<any>[];
  running: boolean;
  /** Whether something has changed since the lane was last drained. */
  again: boolean;
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
