// The rooms that a user has joined, with the last read and the newest id of each. Ids are dense, so the difference of two is a count.
import { compareIds } from "@roomlog/client";
import { seqOf } from "./timeline.ts";

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

  readonly all = (): JoinedRoom[] => this.#all;

  seen(room: string): string | undefined {
    return this.#all.find((joined) => joined.room === room)?.seen;
  }

  join(room: string): void {
    if (!this.#all.some((joined) => joined.room === room)) this.#change([...this.#all, { room }]);
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
    this.#all = all;
    localStorage.setItem(this.#storageKey, JSON.stringify(all.map(({ room, seen }) => ({ room, seen }))));
    for (const listener of this.#listeners) listener();
  }
}

export function unreadIn({ seen, newest }: JoinedRoom): number {
  return seen === undefined || newest === undefined ? 0 : Math.max(0, seqOf(newest) - seqOf(seen));
}
