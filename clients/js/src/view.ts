// The state of a room as a page shows it: messages in order, unconfirmed ones, and users who type. Behind `useRoom`, without React.
import type { Roomlog } from "./client.js";
import type { Content, DataOf, TypeOf } from "./content.js";
import { RoomlogError } from "./errors.js";
import { compareIds, parseId } from "./ids.js";
import type { PublishOptions } from "./outbox.js";
import type { Gap, Message } from "./protocol.js";
import type { Publication, PublicationState } from "./publication.js";
import type { Room } from "./room/room.js";
import type { RoomOptions, RoomState, Unsubscribed } from "./room/types.js";
import { Typing } from "./typing.js";

/** A message as a page shows it: of the room, or unconfirmed. Its `key` stays the same. */
export type ShownMessage<T> = Content<T> & {
  room: string;
  /** Missing while the message is unconfirmed. */
  id?: string;
  key: string;
  from: string;
  /** When the server stored it; of an unconfirmed message, when it was published. */
  time: Date;
  state: PublicationState;
  /** Why it failed. */
  error?: RoomlogError;
  /** Withdraws the message while it waits to be sent. Returns whether that was in time. */
  cancel?: () => boolean;
};

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

/** Limit of messages to keep. Beyond it the oldest are dropped; they can be loaded again. */
const KEPT = 2000;

/** Number of the newest messages to look for after a reconnect, since some may have been deleted. */
const CHECKED = 200;

export class RoomView<T> {
  #room: Room<T> | undefined;
  #confirmed: ShownMessage<T>[] = [];
  readonly #failed = new Map<string, Publication<DataOf<T>>>();
  #hasOlder = true;
  #gaps: Gap[] = [];
  #typing: Typing | undefined;
  #error: RoomlogError | undefined;
  /** Whether the room cannot be followed. */
  #isRefused = false;
  /** Where delivery began, while older messages are shown that may not reach up to there. */
  #began: string | undefined;
  /** Whether messages are shown that may have been deleted while there was no connection. */
  #isUnchecked = false;
  #loading: Promise<boolean> | undefined;
  #telling: ReturnType<typeof setTimeout> | undefined;
  readonly #listeners = new Set<() => void>();
  #shown: RoomSnapshot<T>;

  readonly #client: Roomlog;
  readonly #name: string;
  readonly #options: ViewOptions;

  constructor(client: Roomlog, name: string, options: ViewOptions) {
    this.#client = client;
    this.#name = name;
    this.#options = options;
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
    this.#loading ??= this.#older(limit).finally(() => (this.#loading = undefined));
    return this.#loading;
  };

  readonly setTyping = (typing: boolean): void => {
    this.#typing?.set(typing);
  };

  readonly dismiss = (key: string): void => {
    this.#change(() => this.#failed.delete(key));
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
    const offs = [
      room.on("started", (position) => this.#started(position)),
      room.on("message", (message) => this.#merge([message])),
      room.on("gap", (gap) => this.#change(() => (this.#gaps = [...this.#gaps, gap]))),
      room.on("deleted", ({ id }) => this.#change(() => this.#keep((message) => message.id !== id))),
      room.on("live", () => void this.#live(last)),
      room.on("state", () => this.#change()),
      room.on("error", (error) => this.#change(() => (this.#error = error))),
      room.on("unsubscribed", (unsubscribed) => this.#change(() => this.#ended(unsubscribed))),
      typing.on("change", () => this.#change()),
    ];
    // A durable subscription may have been live already.
    if (room.state === "live") void this.#live(last);
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

  #started(position: string): void {
    if (this.#confirmed.length === 0) return;
    this.#began = position;
    this.#isUnchecked = true;
  }

  #ended({ code, message }: Unsubscribed): void {
    this.#error = new RoomlogError(code, message);
    this.#isRefused = code === "bad_request";
  }

  /** The backlog is there. Completes the messages, and drops those that were deleted meanwhile. */
  async #live(last: number): Promise<void> {
    this.#connect();
    try {
      if (this.#isUnchecked) await this.#check();
      // A durable subscription, or a reload, may continue after few messages.
      if (this.#confirmed.length < last && this.#hasOlder) await this.loadOlder(last - this.#confirmed.length || 1);
    } catch {
      // `loadOlder` shows its errors, and a check is repeated after the next connect.
    }
  }

  /** Drops the messages of before if others are missing between them and those that are delivered now: they can be loaded again. */
  #connect(): void {
    const began = this.#began;
    this.#began = undefined;
    const newest = began && this.#confirmed.findLast(({ id }) => compareIds(id!, began) <= 0)?.id;
    if (!newest || parseId(newest)[1] >= parseId(began)[1]) return;
    this.#keep(({ id }) => compareIds(id!, began) > 0);
    this.#gaps = this.#gaps.filter(({ next }) => compareIds(next, began) > 0);
    this.#hasOlder = true;
  }

  /** Drops the messages that were deleted while there was no connection. */
  async #check(): Promise<void> {
    this.#isUnchecked = false;
    const { messages, more, head } = await this.#room!.history({ limit: Math.min(Math.max(this.#confirmed.length, 1), CHECKED) });
    const ids = new Set(messages.map(({ id }) => id));
    const isOutside = (id: string): boolean => compareIds(id, head) > 0 || (more && compareIds(id, messages[0]!.id) < 0);
    this.#change(() => this.#keep(({ id }) => ids.has(id!) || isOutside(id!)));
  }

  #keep(which: (message: ShownMessage<T>) => boolean): void {
    this.#confirmed = this.#confirmed.filter(which);
  }

  async #older(limit: number): Promise<boolean> {
    const oldest = this.#confirmed[0]?.id;
    try {
      const page = await this.#room!.history(oldest === undefined ? { limit } : { before: oldest, limit });
      this.#hasOlder = page.more;
      this.#merge(page.messages, true);
    } catch (error) {
      this.#change(() => (this.#error = error as RoomlogError));
      throw error;
    }
    return this.#hasOlder;
  }

  #merge(messages: Message<T>[], isOlder = false): void {
    this.#change(() => {
      this.#connect();
      const known = new Set(this.#confirmed.map((message) => message.id));
      for (const message of messages) {
        this.#failed.delete(message.key);
        if (!known.has(message.id)) this.#confirmed = insert(this.#confirmed, { ...message, state: "sent" } as unknown as ShownMessage<T>);
      }
      if (!isOlder && this.#confirmed.length > KEPT) {
        this.#confirmed = this.#confirmed.slice(-KEPT);
        this.#hasOlder = true;
      }
    });
  }

  #publication(publication: Publication<DataOf<T>>): void {
    this.#change(() => {
      if (publication.state === "failed") this.#failed.set(publication.key, publication);
      // Confirmed before it arrived through the room: shown as sent until it does.
      else if (publication.state === "sent" && !this.#confirmed.some(({ key }) => key === publication.key)) {
        this.#failed.set(publication.key, publication);
      } else this.#failed.delete(publication.key);
    });
  }

  /** Shows a change: immediately while the room is live, else together with others, so that a backlog takes few steps. */
  #change(how?: () => unknown): void {
    how?.();
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
    const keys = new Set(this.#confirmed.map(({ key }) => key));
    const unconfirmed = [...this.#failed.values(), ...this.#pending]
      .filter(({ key, state }) => !keys.has(key) && state !== "cancelled")
      .sort((a, b) => a.entry.n - b.entry.n);
    return {
      messages: [...this.#confirmed, ...unconfirmed.map((publication) => this.#onItsWay(publication))],
      state: this.#isRefused || this.#client.state === "closed" ? "error" : (this.#room?.state ?? "idle"),
      hasOlder: this.#hasOlder,
      gaps: this.#gaps,
      typing: this.#typing?.users ?? [],
      error: this.#client.state === "closed" ? this.#client.error : this.#error,
    };
  }

  #onItsWay(publication: Publication<DataOf<T>>): ShownMessage<T> {
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

/** Inserts a message in order, nearly always at the end. */
function insert<T>(messages: ShownMessage<T>[], message: ShownMessage<T>): ShownMessage<T>[] {
  let at = messages.length;
  while (at > 0 && compareIds(messages[at - 1]!.id!, message.id!) > 0) at--;
  return [...messages.slice(0, at), message, ...messages.slice(at)];
}
