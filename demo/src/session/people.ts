// The people whom this user has seen write, in each room. Their names are kept for the next visit.

/** The number of names that are kept. */
const LIMIT = 500;

export class People {
  #all: string[];
  readonly #rooms = new Map<string, string[]>();
  readonly #listeners = new Set<() => void>();
  readonly #storageKey: string;

  constructor(user: string) {
    this.#storageKey = `roomlog people ${user}`;
    this.#all = JSON.parse(localStorage.getItem(this.#storageKey) ?? "[]") as string[];
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  /** Everyone, those who wrote last first. */
  readonly all = (): string[] => this.#all;

  /** Those who wrote in a room, those who wrote last first. */
  in(room: string): string[] {
    return this.#rooms.get(room) ?? NOBODY;
  }

  /** Takes the authors of a room's messages, the newest last. */
  note(room: string, authors: Iterable<string>): void {
    const names = [...new Set([...authors].reverse())];
    if (names.join("\n") === this.in(room).join("\n")) return;
    this.#rooms.set(room, names);
    this.#all = [...new Set([...names, ...this.#all])].slice(0, LIMIT);
    localStorage.setItem(this.#storageKey, JSON.stringify(this.#all));
    for (const listener of this.#listeners) listener();
  }
}

/** One array, so that the same answer is the same value. */
const NOBODY: string[] = [];
