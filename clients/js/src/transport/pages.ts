// Subscriptions over pages of a room's history: where they start, and their frames.
import { before, compareIds, parseId } from "../ids.js";
import type { HistoryPage, Message, ServerFrame, Start } from "../protocol.js";
import type { HttpRequests } from "./requests.js";

/** Returns the start of a subscription, as the server would answer it. */
export async function startOf(requests: HttpRequests, { room, since, last }: Start): Promise<{ position: string; head: string }> {
  if (since === "0") {
    const { messages: [first], head } = await requests.page(room, "limit=1");
    return { position: first ? before(first.id) : head, head };
  }
  if (since && since !== "$") return { position: since, head: since };
  // The newest `last` messages, which may take several pages.
  let bound = "order=desc";
  let oldest: Message | undefined;
  let head: string | undefined;
  for (let wanted = last || 0; ; ) {
    const page = await requests.page(room, `${bound}&limit=${wanted || 1}`);
    head ??= page.head;
    if (bound === "order=desc") page.messages.reverse();
    if (wanted === 0) break;
    oldest = page.messages[0] ?? oldest;
    wanted -= page.messages.length;
    if (!page.more || wanted <= 0) break;
    bound = `before=${oldest!.id}`;
  }
  return { position: oldest ? before(oldest.id) : head, head };
}

/** Returns a page as frames, up to the first hole that the page does not explain. */
export function framesOfPage(room: string, position: string, page: HistoryPage): [ServerFrame[], string, complete: boolean] {
  const frames: ServerFrame[] = [];
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
