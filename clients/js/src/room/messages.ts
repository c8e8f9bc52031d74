// A room's messages as an asynchronous iterator.
import type { Off } from "../emitter.js";
import { RoomlogError } from "../errors.js";
import { compareIds } from "../ids.js";
import type { HistoryPage, HistoryQuery, Message } from "../protocol.js";
import type { RoomState, Unsubscribed } from "./types.js";

/** Thrown by a handler that will not finish, since the next message was not asked for. */
export const ABANDONED: unique symbol = Symbol("abandoned");

/** The room, as the iterator uses it. */
export interface Readable<T> {
  on(event: "message", listener: (message: Message<T>) => unknown): Off;
  on(event: "started", listener: () => unknown): Off;
  on(event: "state", listener: (state: RoomState) => unknown): Off;
  on(event: "unsubscribed", listener: (unsubscribed: Unsubscribed) => unknown): Off;
  readonly position: string | undefined;
  resume(): void;
  history(query: HistoryQuery): Promise<HistoryPage<T>>;
}

export async function* messagesOf<T>(room: Readable<T>, since: string | undefined): AsyncGenerator<Message<T>, void, undefined> {
  /** The delivered message, and the two ways to finish it. There is at most one, since the room waits. */
  let brought: { message: Message<T>; done: () => void; abandon: () => void } | undefined;
  let ended: RoomlogError | true | undefined;
  let wake = (): void => {};
  const change = (): Promise<void> => new Promise((resolve) => (wake = resolve));
  const offs = [
    room.on("message", (message) => {
      return new Promise<void>((done, reject) => {
        brought = { message, done, abandon: () => reject(ABANDONED) };
        wake();
      });
    }),
    room.on("started", () => wake()),
    room.on("unsubscribed", ({ code, message }) => ((ended = new RoomlogError(code, message)), wake())),
    // While there is a handler, only `close` makes it idle.
    room.on("state", (state) => state === "idle" && ((ended ??= true), wake())),
  ];
  // A room that the server ended is followed again, and is refused again if nothing has changed.
  room.resume();
  try {
    let cursor = since;
    if (since !== undefined) {
      // The room brings the messages after its position. Once that is known, the history reaches at least up to there.
      while (room.position === undefined && !ended) await change();
      for (let more = !ended; more; ) {
        const page = await room.history({ after: cursor!, limit: 1000 });
        for (const message of page.messages) {
          yield message;
          cursor = message.id;
        }
        more = page.more;
      }
    }
    for (;;) {
      if (!brought) {
        if (ended === true) return;
        if (ended) throw ended;
        await change();
        continue;
      }
      const { message, done } = brought;
      if (cursor === undefined || cursor === "0" || compareIds(message.id, cursor) > 0) yield message;
      brought = undefined;
      done();
    }
  } finally {
    for (const off of offs) off();
    brought?.abandon();
  }
}
