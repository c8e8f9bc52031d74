// A room's messages as an asynchronous iterator.
import { RoomlogError } from "./errors.js";
import { compareIds } from "./ids.js";
import type { Message } from "./protocol.js";
import type { Room } from "./room.js";

/** With this a handler says that it will not finish: nobody asked for the next message. */
export const ABANDONED: unique symbol = Symbol("abandoned");

export async function* messagesOf<T>(room: Room<T>, since: string | undefined): AsyncGenerator<Message<T>, void, undefined> {
  /** What the room brought, and what to call when it is handled. There is one at most: the room waits. */
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
    // Nobody but `close` makes it idle while there is a handler.
    room.on("state", (state) => state === "idle" && ((ended ??= true), wake())),
  ];
  // One that the server ended is asked for again, and says the same if nothing has changed.
  room.resume();
  try {
    let cursor = since;
    if (since !== undefined) {
      // The room brings what comes after its position. Once that is known, the history reaches at least up to there.
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
