// Follows a room by a stream of Server-Sent Events, read with `fetch`: an EventSource cannot send the token.
import type { Push, ServerFrame, StoredMessage } from "../protocol.js";
import type { Follower, Following } from "./following.js";
import { pathOf } from "./requests.js";

/** Time for the comment that the server sends at once. A network that holds it back longer holds messages back, too. */
const FIRST_WITHIN_MS = 5_000;

/** Longest silence: the server sends a comment every 15 s. */
const SILENCE_MS = 25_000;

export async function stream(follower: Follower, following: Following): Promise<void> {
  const { requests, session } = follower;
  const { room, position, held, control: { signal } } = following;
  const blocked = (message: string): void => requests.end({ message, blocked: true });
  let silence = setTimeout(() => blocked("the network holds event streams back, since nothing arrived on one in time"), FIRST_WITHIN_MS);
  try {
    const query = new URLSearchParams({ since: position, signals: "true", session, ...held });
    const init = { headers: { accept: "text/event-stream" }, abort: signal };
    const response = await requests.fetch(`${pathOf(room)}/events?${query}`, init, (response) => response);
    const reader = response.body?.getReader?.();
    if (!reader) return blocked("this platform cannot read a response while it arrives, as event streams need");
    signal.addEventListener("abort", () => void reader.cancel().catch(() => {}));
    const parse = parser(room, position);
    for (;;) {
      const { done, value } = await reader.read();
      if (signal.aborted) return;
      if (done) return requests.end({ message: "the server ended the event stream" });
      clearTimeout(silence);
      silence = setTimeout(() => blocked("nothing arrived on the event stream for too long"), SILENCE_MS);
      requests.heard();
      follower.emit(...parse(value));
    }
  } finally {
    clearTimeout(silence);
  }
}

/** Returns a function that turns the stream's bytes into frames. */
export function parser(room: string, position: string): (bytes: Uint8Array) => ServerFrame[] {
  const decoder = new TextDecoder();
  let rest = "";
  let event = { id: "", data: "" };
  return (bytes) => {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split(/\r?\n/);
    rest = lines.pop()!;
    const frames: ServerFrame[] = [];
    for (const line of lines) {
      if (line === ": live") {
        frames.push({ op: "live", room, id: position });
      } else if (line !== "") {
        const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line)!;
        if (field === "id") event.id = value!;
        else if (field === "data") event.data += (event.data && "\n") + value!;
      } else if (event.data) {
        const { id, data } = event;
        event = { id: "", data: "" };
        const value: unknown = JSON.parse(data);
        if (id) {
          position = id;
          frames.push({ op: "message", ...(value as StoredMessage) });
        } else {
          // Any other event is a push as a WebSocket carries it: `gap`, `signal`, `unsubscribed`.
          frames.push(value as Push);
        }
      }
    }
    return frames;
  };
}
