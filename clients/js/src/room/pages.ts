// Reading a room by pages of its history: where a start lies in the log, and the frames that a page stands for.
import { before, compareIds, parseId } from "../ids.js";
import type { GapFrame, HistoryAnswer, HistoryQuery, MessageFrame } from "../protocol.js";

/** Reads a page of the history. */
export type ReadPage = (query: HistoryQuery) => Promise<HistoryAnswer>;

/** Returns the position of a start, as the server would answer it to `subscribe`, and the newest id. */
export async function startOf(read: ReadPage, start: { since?: string | undefined; last?: number | undefined }): Promise<{ position: string; head: string }> {
  const { since, last } = start;
  if (since === "0") {
    const { messages: [first], head } = await read({ after: "0", limit: 1 });
    return { position: first ? before(first.id) : head, head };
  }
  if (since && since !== "$") return { position: since, head: since };
  // The newest `last` messages, which may take several pages.
  let page = await read({ limit: last || 1 });
  const { head } = page;
  let oldest: string | undefined;
  for (let wanted = last || 0; wanted > 0 && page.messages.length > 0; ) {
    oldest = page.messages[0]!.id;
    wanted -= page.messages.length;
    if (!page.more || wanted <= 0) break;
    page = await read({ before: oldest, limit: wanted });
  }
  return { position: oldest ? before(oldest) : head, head };
}

/** Returns a page as frames, up to the first hole that the page does not explain. */
export function framesOfPage(room: string, position: string, page: HistoryAnswer): [(GapFrame | MessageFrame)[], string, complete: boolean] {
  const frames: (GapFrame | MessageFrame)[] = [];
  let { gap } = page;
  const tellGap = (): void => {
    if (!gap || compareIds(gap.after, position) !== 0) return;
    frames.push({ op: "gap", room, ...gap });
    position = before(gap.next);
    gap = undefined;
  };
  for (const message of page.messages) {
    tellGap();
    if (parseId(message.id)[1] !== parseId(position)[1] + 1) return [frames, position, false];
    frames.push({ op: "message", ...message });
    position = message.id;
  }
  tellGap();
  return [frames, position, !page.more];
}
