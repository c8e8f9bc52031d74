// The rooms of a client, by name. All objects of a room share its subscription, and each has the messages from its own start on.
import { RoomlogError } from "../errors.js";
import type { Reader } from "../outbox.js";
import type { Push } from "../protocol.js";
import type { Publication } from "../publication.js";
import { memoryPositions } from "../stores.js";
import { isRoomName } from "./names.js";
import { readerName } from "./reader.js";
import { Room } from "./room.js";
import { Subscription } from "./subscription.js";
import type { RoomContext, RoomOptions } from "./types.js";

/** The objects of one room. The application decides on the types of their contents. */
interface Shared {
  subscription: Subscription;
  /** By the names of their readers. */
  named: Map<string, Room<any, any>>;
  /** All, those without a name of their own included. */
  all: Set<Room<any, any>>;
}

export class Rooms {
  readonly #shared = new Map<string, Shared>();
  readonly #context: RoomContext;
  readonly #failed: (error: RoomlogError) => void;

  constructor(context: RoomContext, failed: (error: RoomlogError) => void) {
    this.#context = context;
    this.#failed = failed;
  }

  /** Returns the object for a room and a start, which is the same until it is closed. */
  open(name: string, options: RoomOptions): Room<any, any> {
    const shared = this.#sharedOf(name);
    const reader = readerName(name, options);
    const known = shared.named.get(reader);
    if (!known) {
      const room = this.#add(shared, name, options, this.#context, () => shared.named.delete(reader));
      shared.named.set(reader, room);
      return room;
    }
    // A durable subscription may be opened by its name alone, before or after it is with all its options.
    if (known.state === "idle" && known.position === undefined) known.options = { ...known.options, ...options };
    return known;
  }

  /** Returns a new object, whose position is not stored. */
  openAnother(name: string, options: RoomOptions): Room<any, any> {
    return this.#add(this.#sharedOf(name), name, options, { ...this.#context, positions: memoryPositions() });
  }

  /** A room as the outbox sees it. */
  reader(name: string): Reader | undefined {
    return this.#shared.get(name)?.subscription;
  }

  up(): void {
    for (const { subscription } of this.#shared.values()) subscription.begin();
  }

  down(): void {
    for (const { subscription, all } of this.#shared.values()) {
      subscription.stop();
      for (const room of all) room.down();
    }
  }

  push(push: Push): void {
    const shared = this.#shared.get(push.room);
    shared?.subscription.push(push);
    for (const room of shared?.all ?? []) room.emit("push", push);
  }

  published(publication: Publication<any>): void {
    for (const room of this.#shared.get(publication.room)?.all ?? []) room.emit("publication", publication);
  }

  close(): void {
    for (const { all } of this.#shared.values()) for (const room of all) room.close();
  }

  #sharedOf(name: string): Shared {
    if (!isRoomName(name)) {
      const rule = "use 1 to 128 of A-Z a-z 0-9 . _ : @ - and begin with a letter, a digit or @";
      throw new RoomlogError("bad_request", `${JSON.stringify(name)} is not a valid room name: ${rule}`);
    }
    let shared = this.#shared.get(name);
    if (!shared) this.#shared.set(name, (shared = { subscription: new Subscription(name, this.#context), named: new Map(), all: new Set() }));
    return shared;
  }

  #add(shared: Shared, name: string, options: RoomOptions, context: RoomContext, closed?: () => void): Room<any, any> {
    const room: Room<any, any> = new Room(name, { ...options }, context, shared.subscription, () => {
      closed?.();
      shared.all.delete(room);
      if (shared.all.size === 0) this.#shared.delete(name);
    });
    room.on("error", this.#failed);
    shared.all.add(room);
    return room;
  }
}
