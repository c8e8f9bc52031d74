// The state of a room as a page shows it: messages in order, unconfirmed ones, and users who type. Behind `useRoom`, without React.
import type { Roomlog } from "./client.js";
import type { RoomlogError } from "./errors.js";
import type { PublishOptions } from "./outbox.js";
import { compareIds } from "./ids.js";
import type { Gap, Message } from "./protocol.js";
import type { Publication, PublicationState } from "./publication.js";
import type { Room } from "./room/room.js";
import type { RoomOptions, RoomState } from "./room/types.js";
import { Typing } from "./typing.js";

/** A message as a page shows it: of the room, or unconfirmed. Its `key` stays the same. */
export interface ShownMessage<T> extends Omit<Message<T>, "id"> {
  /** Missing while the message is unconfirmed. */
  id?: string;
  state: PublicationState;
  /** Why it failed. */
  error?: RoomlogError;
  /** Withdraws the message while it waits to be sent. Returns whether that was in time. */
  cancel?: () => boolean;
}

/** A room's state at one moment. */
export interface RoomSnapshot<T> {
  /** In order, unconfirmed ones last. */
  messages: ShownMessage<T>[];
  /** The room's state; `live` when the backlog is there. */
  state: RoomState;
  /** Whether older messages can be loaded. */
  hasOlder: boolean;
  /** Places where messages are missing for good. */
  gaps: Gap[];
  /** The users who type now. */
  typing: string[];
  /** The last error. */
  error: RoomlogError | undefined;
}

/** Limit of messages to keep. Beyond it the oldest are dropped; they can be loaded again. */
const KEPT = 2000;

export class RoomView<T> {
  #room: Room<T> | undefined;
  #confirmed: ShownMessage<T>[] = [];
  readonly #failed = new Map<string, Publication<T>>();
  #hasOlder = true;
  #gaps: Gap[] = [];
  #typing: Typing | undefined;
  #error: RoomlogError | undefined;
  #loading: Promise<boolean> | undefined;
  #telling: ReturnType<typeof setTimeout> | undefined;
  readonly #listeners = new Set<() => void>();
  #shown: RoomSnapshot<T>;

  readonly #client: Roomlog;
  readonly #name: string;
  readonly #options: { [K in keyof RoomOptions]: RoomOptions[K] | undefined };

  constructor(client: Roomlog, name: string, options: { [K in keyof RoomOptions]: RoomOptions[K] | undefined }) {
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
    const { since, last = 50, durable, autoAck } = this.#options;
    const start = since !== undefined ? { since } : { last };
    const options = { ...start, ...(durable !== undefined && { durable }), ...(autoAck !== undefined && { autoAck }) };
    const room = (this.#room = this.#client.room<T>(this.#name, options));
    const typing = (this.#typing = new Typing(room));
    const offs = [
      room.on("message", (message) => this.#merge([message])),
      room.on("gap", (gap) => this.#change(() => (this.#gaps = [...this.#gaps, gap]))),
      room.on("live", () => void this.#fill(last)),
      room.on("state", () => this.#change()),
      room.on("publication", (publication) => this.#publication(publication)),
      room.on("error", (error) => this.#change(() => (this.#error = error))),
      room.on("unsubscribed", () => this.#change()),
      typing.on("change", () => this.#change()),
    ];
    this.#change();
    // The room may have been live already.
    if (room.state === "live") void this.#fill(last);
    return () => {
      typing.close();
      for (const off of offs) off();
    };
  };

  readonly publish = (data: T, options?: PublishOptions): Publication<T> => {
    return this.#here.publish(data, options);
  };

  readonly loadOlder = (limit = 50): Promise<boolean> => {
    this.#loading ??= this.#older(limit).finally(() => (this.#loading = undefined));
    return this.#loading;
  };

  readonly setTyping = (typing: boolean): void => {
    this.#typing?.set(typing);
  };

  readonly dismiss = (key: string): void => {
    this.#change(() => this.#failed.delete(key));
    this.#here.pending.find((publication) => publication.key === key)?.cancel();
  };

  get #here(): Room<T> {
    return (this.#room ??= this.#client.room<T>(this.#name));
  }

  /** Loads older messages if few are shown: after a reload, the room continues after those that were handled before. */
  async #fill(last: number): Promise<void> {
    if (this.#confirmed.length >= last || !this.#hasOlder) return;
    await this.loadOlder(last - this.#confirmed.length || 1).catch(() => {});
  }

  async #older(limit: number): Promise<boolean> {
    const oldest = this.#confirmed[0]?.id;
    try {
      const page = await this.#here.history(oldest === undefined ? { limit } : { before: oldest, limit });
      this.#hasOlder = page.more;
      this.#merge(page.messages, true);
    } catch (error) {
      this.#change(() => (this.#error = error as RoomlogError));
      throw error;
    }
    return this.#hasOlder;
  }

  #merge(messages: Message<T>[], older = false): void {
    this.#change(() => {
      const known = new Set(this.#confirmed.map((message) => message.id));
      for (const message of messages) {
        this.#failed.delete(message.key);
        if (!known.has(message.id)) this.#confirmed = insert(this.#confirmed, { ...message, state: "sent" });
      }
      if (!older && this.#confirmed.length > KEPT) {
        this.#confirmed = this.#confirmed.slice(-KEPT);
        this.#hasOlder = true;
      }
    });
  }

  #publication(publication: Publication<T>): void {
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
    const under = [...this.#failed.values(), ...(this.#room?.pending ?? [])]
      .filter(({ key, state }) => !keys.has(key) && state !== "cancelled")
      .sort((a, b) => a.entry.n - b.entry.n);
    return {
      messages: [...this.#confirmed, ...under.map((publication) => this.#onItsWay(publication))],
      state: this.#room?.state ?? "idle",
      hasOlder: this.#hasOlder,
      gaps: this.#gaps,
      typing: this.#typing?.users ?? [],
      error: this.#error,
    };
  }

  #onItsWay(publication: Publication<T>): ShownMessage<T> {
    const { key, room, type, data, state, id, error } = publication;
    const from = this.#client.user ?? "";
    const shown: ShownMessage<T> = { key, room, type, data, from, state, ...(id !== undefined && { id }), ...(error && { error }) };
    return state === "sending" ? { ...shown, cancel: () => publication.cancel() } : shown;
  }
}

/** Inserts a message in order, nearly always at the end. */
function insert<T>(messages: ShownMessage<T>[], message: ShownMessage<T>): ShownMessage<T>[] {
  let at = messages.length;
  while (at > 0 && compareIds(messages[at - 1]!.id!, message.id!) > 0) at--;
  return [...messages.slice(0, at), message, ...messages.slice(at)];
}
