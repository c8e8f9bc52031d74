// The state of a room as a page shows it: messages in order, unconfirmed ones, and users who type. Behind `useRoom`, without React.
import type { Roomlog } from "./client.js";
import type { DataOf, TypeOf } from "./content.js";
import { RoomlogError } from "./errors.js";
import { MessageList } from "./message-list.js";
import type { ShownMessage } from "./message-list.js";
import type { PublishOptions } from "./outbox.js";
import type { Gap, Message } from "./protocol.js";
import type { Publication } from "./publication.js";
import type { Room } from "./room/room.js";
import type { RoomOptions, RoomState, Unsubscribed } from "./room/types.js";
import { Typing } from "./typing.js";
import { ViewCache } from "./view-cache.js";

/** A room's state at one moment. */
export interface RoomSnapshot<T> {
  /** In order, unconfirmed ones last. */
  messages: ShownMessage<T>[];
  /**
   * The room's state; `live` when the backlog is there. `ended`: the server ended it, and `resume` tries again. `error`: it cannot be
   * followed, since its name or an option is not valid, or since the client is closed. Both have an `error`.
   */
  state: RoomState | "error";
  /** Whether older messages can be loaded. */
  hasOlder: boolean;
  /** Places where messages are missing for good. */
  gaps: Gap[];
  /** The users who type now. */
  typing: string[];
  /** The last error. */
  error: RoomlogError | undefined;
}

/** The options of a view, as they come from a component's properties. */
export type ViewOptions = { [K in keyof RoomOptions]: RoomOptions[K] | undefined };

/** Number of the newest messages to look for after a reconnect, since some may have been deleted. */
const CHECKED = 200;

export class RoomView<T> {
  #room: Room<T> | undefined;
  readonly #list = new MessageList<T>();
  /** Publications that failed, and those that are confirmed and have not come through the room. */
  readonly #settled = new Map<string, Publication<DataOf<T>>>();
  #typing: Typing | undefined;
  #error: RoomlogError | undefined;
  /** Whether the room cannot be followed. */
  #isRefused = false;
  #loading: Promise<boolean> | undefined;
  #telling: ReturnType<typeof setTimeout> | undefined;
  readonly #listeners = new Set<() => void>();
  #shown: RoomSnapshot<T>;

  readonly #client: Roomlog;
  readonly #name: string;
  readonly #options: ViewOptions;
  readonly #cache: ViewCache | undefined;

  constructor(client: Roomlog, name: string, options: ViewOptions) {
    this.#client = client;
    this.#name = name;
    this.#options = options;
    this.#cache = client.cache && new ViewCache(client.cache, name, (error) => client.emit("error", error));
    this.#shown = this.#show();
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  readonly snapshot = (): RoomSnapshot<T> => this.#shown;

  /** Follows the room. Returns a function that ends this; the view can be followed again afterwards. */
  readonly follow = (): (() => void) => {
    const offs = [
      this.#client.on("state", () => this.#change()),
      this.#client.on("publication", (publication) => publication.room === this.#name && this.#publication(publication as Publication<any>)),
    ];
    try {
      offs.push(this.#follow());
    } catch (error) {
      // Shown as a state, since an error in an effect would take the page down.
      this.#isRefused = true;
      this.#error = error as RoomlogError;
    }
    this.#change();
    return () => offs.forEach((off) => off());
  };

  readonly publish = <K extends TypeOf<T> = "message" & TypeOf<T>>(data: DataOf<T, K>, options?: PublishOptions<K>): Publication<DataOf<T, K>> => {
    return this.#client.publish(this.#name, data, options);
  };

  readonly loadOlder = (limit = 50): Promise<boolean> => {
    if (!this.#room) return Promise.resolve(false);
    this.#loading ??= this.#older(this.#room, limit).finally(() => (this.#loading = undefined));
    return this.#loading;
  };

  readonly setTyping = (typing: boolean): void => {
    this.#typing?.set(typing);
  };

  readonly dismiss = (key: string): void => {
    this.#change(() => this.#settled.delete(key));
    this.#pending.find((publication) => publication.key === key)?.cancel();
  };

  readonly resume = (): void => {
    if (this.#room?.state !== "ended") return;
    this.#isRefused = false;
    this.#error = undefined;
    this.#room.resume();
  };

  get #pending(): Publication<DataOf<T>>[] {
    return this.#client.pending(this.#name);
  }

  #follow(): () => void {
    const { last = 50, durable } = this.#options;
    const room = (this.#room = this.#open(last));
    const typing = (this.#typing = new Typing(room));
    const live = (): void => void this.#live(room, last);
    const offs = [
      room.on("started", (position) => this.#list.began(position)),
      room.on("message", (message) => this.#take(message)),
      room.on("gap", (gap) => this.#change(() => this.#list.addGaps([gap]))),
      room.on("deleted", ({ id }) => this.#change(() => this.#list.delete(id))),
      room.on("live", live),
      room.on("state", () => this.#change()),
      room.on("error", (error) => this.#change(() => (this.#error = error))),
      room.on("unsubscribed", (unsubscribed) => this.#change(() => this.#ended(unsubscribed))),
      typing.on("change", () => this.#change()),
      this.#useCache(room, live),
    ];
    // A durable subscription may have been live already.
    if (room.state === "live") live();
    return () => {
      typing.close();
      for (const off of offs) off();
      if (durable === undefined) room.close();
    };
  }

  /** Opens the room: with a start of this view's own, or as its durable subscription, which is one for the whole client. */
  #open(last: number): Room<T> {
    const { since, durable, autoAck } = this.#options;
    const options = { ...(since !== undefined ? { since } : { last }), ...(autoAck !== undefined && { autoAck }) };
    if (durable === undefined) return this.#client.openAnother<T>(this.#name, options);
    return this.#client.room<T>(this.#name, { ...options, durable });
  }

  /** Shows what the room showed last, and keeps the cache until the returned function is called. */
  #useCache(room: Room<T>, live: () => void): () => void {
    const cache = this.#cache;
    if (!cache) return () => {};
    if (this.#list.messages.length === 0) {
      void cache.load().then((cached) => {
        if (!cached || this.#room !== room) return;
        this.#change(() => this.#list.restore(cached, room.position));
        if (room.state === "live") live();
      });
    }
    const { document } = globalThis as Partial<typeof globalThis>;
    document?.addEventListener("visibilitychange", cache.flush);
    return () => {
      document?.removeEventListener("visibilitychange", cache.flush);
      cache.flush();
    };
  }

  #ended({ code, message }: Unsubscribed): void {
    this.#error = new RoomlogError(code, message);
    this.#isRefused = code === "bad_request";
    if (code !== "forbidden" && code !== "deleted") return;
    // What may no longer be read, or is gone, is shown no more.
    this.#list.clear();
    this.#cache?.delete();
  }

  #take(message: Message<T>): void {
    this.#change(() => {
      this.#settled.delete(message.key);
      this.#list.add([message]);
    });
  }

  /** The backlog is there. Completes the messages, and drops those that were deleted meanwhile. */
  async #live(room: Room<T>, last: number): Promise<void> {
    this.#list.connect();
    try {
      if (this.#list.isUnchecked) {
        this.#list.isUnchecked = false;
        const page = await room.history({ limit: Math.min(this.#list.messages.length || 1, CHECKED) });
        this.#change(() => this.#list.check(page));
      }
      // A durable subscription continues after the messages that were handled before.
      const missing = last - this.#list.messages.length;
      if (missing > 0 && this.#list.hasOlder) await this.loadOlder(missing);
    } catch {
      // `loadOlder` shows its errors, and a check is repeated after the next connect.
    }
  }

  async #older(room: Room<T>, limit: number): Promise<boolean> {
    const { oldest } = this.#list;
    try {
      const page = await room.history(oldest === undefined ? { limit } : { before: oldest, limit });
      this.#change(() => {
        for (const { key } of page.messages) this.#settled.delete(key);
        this.#list.addOlder(page);
      });
    } catch (error) {
      this.#change(() => (this.#error = error as RoomlogError));
      throw error;
    }
    return this.#list.hasOlder;
  }

  #publication(publication: Publication<DataOf<T>>): void {
    this.#change(() => {
      const { key, state } = publication;
      // Confirmed before it arrived through the room: shown as sent until it does.
      if (state === "failed" || (state === "sent" && !this.#list.has(key))) this.#settled.set(key, publication);
      else this.#settled.delete(key);
    });
  }

  /** Shows a change: immediately while the room is live, else together with others, so that a backlog takes few steps. */
  #change(how?: () => unknown): void {
    const { messages, gaps } = this.#list;
    how?.();
    const isChanged = messages !== this.#list.messages || gaps !== this.#list.gaps;
    if (isChanged && this.#list.messages.length > 0) this.#cache?.changed(() => this.#list.cached());
    if (this.#room?.state === "live") this.#tell();
    else this.#telling ??= setTimeout(() => this.#tell());
  }

  #tell(): void {
    clearTimeout(this.#telling);
    this.#telling = undefined;
    this.#shown = this.#show();
    for (const listener of this.#listeners) listener();
  }

  #show(): RoomSnapshot<T> {
    const { messages, hasOlder, gaps } = this.#list;
    const isClosed = this.#client.state === "closed";
    const unconfirmed = [...this.#settled.values(), ...this.#pending]
      .filter(({ key, state }) => state !== "cancelled" && !this.#list.has(key))
      .sort((a, b) => a.entry.n - b.entry.n);
    return {
      messages: [...messages, ...unconfirmed.map((publication) => this.#unconfirmed(publication))],
      state: isClosed || this.#isRefused ? "error" : (this.#room?.state ?? "idle"),
      hasOlder,
      gaps,
      typing: this.#typing?.users ?? [],
      error: isClosed ? this.#client.error : this.#error,
    };
  }

  #unconfirmed(publication: Publication<DataOf<T>>): ShownMessage<T> {
    const { key, room, type, data, state, id, error } = publication;
    const shown = {
      ...{ key, room, type, data, state, from: this.#client.user ?? "", time: new Date(publication.entry.n / 1000) },
      ...(id !== undefined && { id }),
      ...(error && { error }),
      ...(state === "sending" && { cancel: () => publication.cancel() }),
    };
    // Its type and data belong together, since `publish` took them so.
    return shown as unknown as ShownMessage<T>;
  }
}
