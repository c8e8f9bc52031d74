// The confirmed messages that a view shows: in order, each once, without a hole between them that no gap explains.
import type { CachedRoom } from "./cache.js";
import type { Content } from "./content.js";
import type { Data } from "./data.js";
import type { RoomlogError } from "./errors.js";
import { before, compareIds, parseId, timeOf } from "./ids.js";
import type { Gap, HistoryPage, Message } from "./protocol.js";
import type { PublicationState } from "./publication.js";

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

/** Limit of messages to keep, besides older ones that were loaded. Beyond it the oldest are dropped; they can be loaded again. */
const KEPT = 2000;

export class MessageList<T> {
  messages: ShownMessage<T>[] = [];
  gaps: Gap[] = [];
  /** Whether there may be older messages. */
  hasOlder = true;
  /** Whether messages are shown that may have been deleted while there was no connection. */
  isUnchecked = false;
  /** Where delivery began, while the messages before may not reach up to there. */
  #began: string | undefined;
  #limit = KEPT;

  get oldest(): string | undefined {
    return this.messages[0]?.id;
  }

  has(key: string): boolean {
    return this.messages.some((message) => message.key === key);
  }

  /** Delivery began after `position`. */
  began(position: string): void {
    if (this.messages.length === 0) return;
    this.#began = position;
    this.isUnchecked = true;
  }

  add(messages: Message<T>[]): void {
    this.connect();
    for (const message of messages) this.messages = insert(this.messages, shown(message));
    if (this.messages.length > this.#limit) {
      this.messages = this.messages.slice(-this.#limit);
      this.hasOlder = true;
    }
  }

  /** Adds a page of messages before the oldest. */
  addOlder({ messages, more }: HistoryPage<T>): void {
    const { oldest } = this;
    this.messages = [...messages.filter(({ id }) => oldest === undefined || compareIds(id, oldest) < 0).map(shown), ...this.messages];
    this.#limit = Math.max(this.#limit, this.messages.length + KEPT);
    this.hasOlder = more;
  }

  addGaps(gaps: Gap[]): void {
    for (const gap of gaps) if (!this.gaps.some(({ next }) => next === gap.next)) this.gaps = [...this.gaps, gap];
  }

  delete(id: string): void {
    this.messages = this.messages.filter((message) => message.id !== id);
  }

  clear(): void {
    this.messages = [];
    this.gaps = [];
    this.hasOlder = false;
  }

  /** Drops the messages of before if others are missing between them and those that are delivered now: they can be loaded again. */
  connect(): void {
    const began = this.#began;
    this.#began = undefined;
    const newest = began && this.messages.findLast(({ id }) => compareIds(id!, began) <= 0)?.id;
    if (!newest || parseId(newest)[1] >= parseId(began)[1]) return;
    // A gap explains it.
    if (this.gaps.some(({ after, next }) => compareIds(after, newest) <= 0 && compareIds(before(next), began) >= 0)) return;
    this.messages = this.messages.filter(({ id }) => compareIds(id!, began) > 0);
    this.gaps = this.gaps.filter(({ next }) => compareIds(next, began) > 0);
    this.hasOlder = true;
  }

  /** Drops the messages that are missing in the newest page of the history, since they were deleted. */
  check({ messages, more, head }: HistoryPage<T>): void {
    const ids = new Set(messages.map(({ id }) => id));
    const isOutside = (id: string): boolean => compareIds(id, head) > 0 || (more && compareIds(id, messages[0]!.id) < 0);
    this.messages = this.messages.filter(({ id }) => ids.has(id!) || isOutside(id!));
  }

  /** Returns what to show when the page is opened again. */
  cached(): CachedRoom {
    const messages = this.messages.map(({ room, id, key, from, type, data }) => ({ room, id: id!, key, from, type, data: data as Data }));
    return { messages, gaps: this.gaps };
  }

  /** Shows cached messages, before those that have come already. `position` is where delivery began, if it has. */
  restore({ messages, gaps }: CachedRoom, position: string | undefined): void {
    const { oldest } = this;
    const older = messages.filter(({ id }) => oldest === undefined || compareIds(id, oldest) < 0);
    if (older.length === 0) return;
    this.messages = [...older.map((message) => shown({ ...message, time: timeOf(message.id) } as unknown as Message<T>)), ...this.messages];
    this.addGaps(gaps);
    const began = oldest === undefined ? position : before(oldest);
    if (began !== undefined) this.began(began);
  }
}

const shown = <T>(message: Message<T>): ShownMessage<T> => ({ ...message, state: "sent" }) as unknown as ShownMessage<T>;

/** Inserts a message in order, nearly always at the end, unless it is there. */
function insert<T>(messages: ShownMessage<T>[], message: ShownMessage<T>): ShownMessage<T>[] {
  let at = messages.length;
  while (at > 0 && compareIds(messages[at - 1]!.id!, message.id!) > 0) at--;
  if (messages[at - 1]?.id === message.id) return messages;
  return [...messages.slice(0, at), message, ...messages.slice(at)];
}
