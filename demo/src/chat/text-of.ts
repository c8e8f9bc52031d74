// What a message says, as text. Messages may have any data: text is shown as it is, anything else as JSON.
import { DIRECT } from "../session/direct.ts";
import type { Shown } from "./timeline.ts";

/** `isPlain` if this is text that a person wrote, which may be Markdown. */
export function textOf({ type, data, from }: Shown): { text: string; isPlain: boolean } {
  if (type === DIRECT) return { text: `${from} started a conversation with you.`, isPlain: true };
  const text = typeof data === "object" && data !== null && Object.keys(data).length === 1 ? (data as { text?: unknown }).text : data;
  return typeof text === "string" ? { text, isPlain: true } : { text: JSON.stringify(data, null, 1), isPlain: false };
}

/** The text as a quotation in Markdown, with an empty line below to write in. */
export const quote = (message: Shown): string => `${textOf(message).text.replace(/^/gm, "> ")}\n\n`;
