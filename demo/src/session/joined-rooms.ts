// The rooms that a user has joined, with the last read and the newest id of each. Ids are dense, so the difference of two is a count.
import { compareIds } from "@roomlog/client";
import { seqOf, timeOf } from "../chat/timeline.ts";

export interface JoinedRoom {
  room: string;
  /** The last id that was read; missing for a room that was just joined. */
  seen?: string;
  /** The newest known id. */
  newest?: string;
}

const FIRST_ROOM = "chat.general";

export class JoinedRooms {
  #all: JoinedRoom[];
  readonly #listeners = new Set<() => void>();
  readonly #storageKey: string;

  constructor(user: string) {
    this.#storageKey = `roomlog rooms ${user}`;
    this.#all = JSON.parse(localStorage.getItem(this.#storageKey) ?? "null") as JoinedRoom[] | null ?? [{ room: FIRST_ROOM }];
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  /** The rooms, the one with the newest message first. */
  readonly all = (): JoinedRoom[] => this.#all;

  seen(room: string): string | undefined {
    return this.#all.find((joined) => joined.room === room)?.seen;
  }

  /** Adds a room. With `seen`, what comes after it is unread. */
  join(room: string, seen?: string): void {
    if (!this.#all.some((joined) => joined.room === room)) this.#change([...this.#all, { room, ...(seen !== undefined && { seen }) }]);
  }

  leave(room: string): void {
    this.#change(this.#all.filter((joined) => joined.room !== room));
  }

  /** Marks everything up to `id` as read. */
  markSeen(room: string, id: string): void {
    const seen = this.seen(room);
    if (seen === undefined || compareIds(id, seen) > 0) this.#update(room, { seen: id });
  }

  setNewest(room: string, newest: string): void {
    this.#update(room, { newest });
  }

  #update(room: string, changes: Partial<JoinedRoom>): void {
    this.#change(this.#all.map((joined) => (joined.room === room ? { ...joined, ...changes } : joined)));
  }

  #change(all: JoinedRoom[]): void {
    const age = ({ newest }: JoinedRoom): number => (newest === undefined ? 0 : timeOf(newest));
    this.#all = all.sort((a, b) => age(b) - age(a));
    localStorage.setItem(this.#storageKey, JSON.stringify(all));
    for (const listener of this.#listeners) listener();
  }
}

export function unreadIn({ seen, newest }: JoinedRoom): number {
  return seen === undefined || newest === undefined ? 0 : Math.max(0, seqOf(newest) - seqOf(seen));
}
