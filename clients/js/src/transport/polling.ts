// Follows a room by long polling: the server holds an empty answer back until a message comes.
import type { Follower, Following } from "./following.js";
import { framesOfPage } from "../room/pages.js";

/** Seconds that the server may hold an answer back. Proxies commonly end silent requests after a little longer. */
const HOLD = 25;

/** The same where rooms take turns. */
const CROWDED_HOLD = 1;

export async function poll(follower: Follower, following: Following): Promise<void> {
  const { requests } = follower;
  const { room, control: { signal } } = following;
  while (!signal.aborted) {
    const page = await requests.turn(() => {
      const wait = !following.live ? 0 : follower.isCrowded ? CROWDED_HOLD : HOLD;
      const query = `after=${following.position}&limit=1000&wait=${wait}`;
      return requests.page(room, query, { abort: signal, within: (wait + 15) * 1000 });
    });
    if (signal.aborted) return;
    const [frames, position, complete] = framesOfPage(room, following.position, page);
    following.position = position;
    follower.emit(...frames);
    if (!complete || following.live) continue;
    following.live = true;
    follower.emit({ op: "live", room, id: position });
  }
}
