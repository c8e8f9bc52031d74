// Which rooms somebody has joined, how far each has been read, and how far it goes. Ids are dense, so the difference of two is a count.
import { compareIds } from "@roomlog/client";
import { seqOf } from "./timeline.ts";

export interface Place {
  room: string;
  /** The last id that was read; missing if the room is new here. */
  seen?: string;
  /** The newest id that is known. */
  newest?: string;
}

const FIRST_ROOM = "chat.general";

export class Places {
  #all: Place[];
  readonly #listeners = new Set<() => void>();
  readonly #keptAs: string;

  constructor(user: string) {
    this.#keptAs = `roomlog rooms ${user}`;
    this.#all = JSON.parse(localStorage.getItem(this.#keptAs) ?? "null") as Place[] | null ?? [{ room: FIRST_ROOM }];
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  readonly all = (): Place[] => this.#all;

  seen(room: string): string | undefined {
    return this.#all.find((place) => place.room === room)?.seen;
  }

  join(room: string): void {
    if (!this.#all.some((place) => place.room === room)) this.#change([...this.#all, { room }]);
  }

  leave(room: string): void {
    this.#change(this.#all.filter((place) => place.room !== room));
  }

  /** Everything up to this id was read. */
  see(room: string, id: string): void {
    const seen = this.seen(room);
    if (seen === undefined || compareIds(id, seen) > 0) this.#update(room, { seen: id });
  }

  /** The room goes up to this id. */
  reach(room: string, newest: string): void {
    this.#update(room, { newest });
  }

  #update(room: string, what: Partial<Place>): void {
    this.#change(this.#all.map((place) => (place.room === room ? { ...place, ...what } : place)));
  }

  #change(all: Place[]): void {
    this.#all = all;
    localStorage.setItem(this.#keptAs, JSON.stringify(all.map(({ room, seen }) => ({ room, seen }))));
    for (const listener of this.#listeners) listener();
  }
}

export function unreadIn({ seen, newest }: Place): number {
  return seen === undefined || newest === undefined ? 0 : Math.max(0, seqOf(newest) - seqOf(seen));
}
