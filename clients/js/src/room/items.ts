// The items that a reader's handlers take, one after another.
import type { Outbox } from "../outbox.js";
import { messageOf } from "../protocol.js";
import type { Gap, GapFrame, Message, MessageFrame } from "../protocol.js";

/** An item of the log. `noted` resolves when a message of this client is out of the store of the outbox. */
export type LogItem = { kind: "message"; message: Message; noted: Promise<void> | undefined } | { kind: "gap"; gap: Gap };

/** An item for the handlers. `moved`: another device has handled the messages up to `to`. */
export type Item = LogItem | { kind: "live"; id: string } | { kind: "moved"; to: string };

/** Returns a frame of the log as an item. Even if no handler gets it, a message is proof to the outbox that it is stored. */
export function itemOf(frame: MessageFrame | GapFrame, outbox: Outbox): LogItem {
  if (frame.op === "gap") {
    const { op: _, ...gap } = frame;
    return { kind: "gap", gap };
  }
  const { op: _, ...stored } = frame;
  return { kind: "message", message: messageOf(stored), noted: outbox.seen(stored.key, stored.id) };
}
