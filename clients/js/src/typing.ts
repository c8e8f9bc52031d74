// The users who type in a room, by its signals: the entry point `@roomlog/client/typing`.
import { Emitter } from "./emitter.js";
import type { Off } from "./emitter.js";
import type { Room } from "./room/room.js";
import { Timers } from "./timers.js";

/** Pause between the signals of a user who types. */
const SIGNAL_EVERY_MS = 2000;

/** Silence after which a user no longer counts as typing. */
const TYPING_FOR_MS = 5000;

/** The events of `Typing`. */
export interface TypingEvents {
  /** The users who type, after a change. */
  change: string[];
}

/** The users who type in a room. The others are known while the room is followed. */
export class Typing extends Emitter<TypingEvents> {
  readonly #room: Room<any, any>;
  readonly #users = new Set<string>();
  readonly #timers = new Timers<string>();
  readonly #offs: Off[];
  /** When this user's typing was last signalled; 0 if it has ended since. */
  #signalledAt = 0;

  constructor(room: Room<any, any>) {
    super();
    this.#room = room;
    this.#offs = [
      room.on("push", (push) => {
        // The sender of a message no longer types it.
        if (push.op === "message") this.#ended(push.from);
        if (push.op !== "signal" || push.type !== "typing") return;
        if (push.data) this.#began(push.from);
        else this.#ended(push.from);
      }),
      room.on("publication", ({ state }) => {
        // The message tells the others that the typing has ended.
        if (state === "sending") this.#signalledAt = 0;
      }),
    ];
  }

  /** The other users who type now. */
  get users(): string[] {
    return [...this.#users];
  }

  /** Tells the others that this user types, or no longer does. Call it with every key press: it sends only as often as needed. */
  set(typing: boolean): void {
    const now = Date.now();
    if (typing ? now - this.#signalledAt < SIGNAL_EVERY_MS : this.#signalledAt === 0) return;
    this.#signalledAt = typing ? now : 0;
    this.#room.signal("typing", typing);
  }

  /** Stops listening. No user counts as typing any more. */
  close(): void {
    for (const off of this.#offs) off();
    for (const user of this.users) this.#ended(user);
  }

  #began(user: string): void {
    this.#timers.set(user, TYPING_FOR_MS, () => this.#ended(user));
    if (this.#users.has(user)) return;
    this.#users.add(user);
    this.emit("change", this.users);
  }

  #ended(user: string): void {
    if (!this.#users.delete(user)) return;
    this.#timers.clear(user);
    this.emit("change", this.users);
  }
}
