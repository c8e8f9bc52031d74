// The rows of the log: messages, days, the mark above missed messages, and gaps. No DOM, no state.
import { compareIds } from "@roomlog/client";
import type { Gap } from "@roomlog/client";
import type { ShownMessage } from "@roomlog/client/react";

export type Shown = ShownMessage<unknown>;

export type Row =
  | { kind: "message"; key: string; message: Shown; first: boolean; last: boolean }
  | { kind: "day"; key: string; at: number }
  | { kind: "new"; key: string; count: number; above: number }
  | { kind: "gap"; key: string; text: string; isLoss: boolean }
  | { kind: "start"; key: string; text: string };

/** The messages that arrived while the user was not looking. Without `upTo`, more are still arriving. */
export interface Missed {
  after: string;
  upTo?: string;
}

/** Consecutive messages of one sender within this time form a group. */
const GROUP_MS = 5 * 60_000;

export const timeOf = (id: string): number => Number(id.split("-")[0]);
export const seqOf = (id: string): number => Number(id.split("-")[1]);

const messages = (count: number): string => (count === 1 ? "1 message" : `${count.toLocaleString("en")} messages`);

export function timeline(shown: Shown[], { gaps, missed, me, hasOlder }: { gaps: Gap[]; missed: Missed | undefined; me: string; hasOlder: boolean }): Row[] {
  const rows: Row[] = [];
  const unseen = countNew(shown, missed, me);
  let marked = unseen.count === 0;
  let before: Shown | undefined;
  let shownGaps = 0;
  const showGap = (gap: Gap): void => {
    rows.push({ kind: "gap", key: `gap ${gap.after} ${gap.next}`, text: describe(gap), isLoss: gap.reason === "rewound" });
  };
  // The day of the last message: its name is costly to compute, and thousands of messages share it.
  let today = dayOf(0);
  const inOrder = [...gaps].sort((a, b) => compareIds(a.next, b.next));

  const oldest = shown.find(({ id }) => id !== undefined)?.id;
  if (!hasOlder) rows.push({ kind: "start", key: "start", text: beginning(oldest) });
  for (const message of shown) {
    const { id } = message;
    const at = id === undefined ? Date.now() : timeOf(id);
    const had = rows.length;
    if (id !== undefined) {
      const shownBefore = shownGaps;
      while (shownGaps < inOrder.length && compareIds(inOrder[shownGaps]!.next, id) <= 0) {
        const gap = inOrder[shownGaps++]!;
        if (before) showGap(gap);
      }
      const after = before?.id;
      if (shownBefore === shownGaps && after !== undefined && seqOf(id) > seqOf(after) + 1) showGap({ room: message.room, after, next: id, reason: "trimmed" });
    } else {
      while (shownGaps < inOrder.length) showGap(inOrder[shownGaps++]!);
    }
    if (at < today.from || at >= today.to) {
      today = dayOf(at);
      rows.push({ kind: "day", key: `day ${today.from}`, at });
    }
    if (!marked && (id === undefined || compareIds(id, missed!.after) > 0) && message.from !== me) {
      marked = true;
      rows.push({ kind: "new", key: `new ${missed!.after}`, ...unseen });
    }
    const isFirst = rows.length > had || !before || !isSameGroup(before, message);
    const previous = rows.at(-1);
    if (!isFirst && previous?.kind === "message") previous.last = false;
    rows.push({ kind: "message", key: message.key, message, first: isFirst, last: true });
    before = message;
  }
  while (shownGaps < inOrder.length) showGap(inOrder[shownGaps++]!);
  return rows;
}

/** The local day of a time, which may have 23 or 25 hours. */
function dayOf(at: number): { from: number; to: number } {
  const from = new Date(at).setHours(0, 0, 0, 0);
  const next = new Date(from);
  return { from, to: next.setDate(next.getDate() + 1) };
}

/** What the row at an index belongs to: the author and time of its message, or of the next one. */
export function whereIs(rows: Row[], index: number): { from: string; at: number; isContinued: boolean } | undefined {
  for (let i = index; i < rows.length; i++) {
    const row = rows[i]!;
    if (row.kind !== "message") continue;
    const { from, id } = row.message;
    return { from, at: id === undefined ? Date.now() : timeOf(id), isContinued: i === index && !row.first };
  }
  return undefined;
}

/** Counts the missed messages: those of others that are loaded, plus all that are further up and not loaded yet (`above`). */
function countNew(shown: Shown[], missed: Missed | undefined, me: string): { count: number; above: number } {
  if (!missed) return { count: 0, above: 0 };
  const { after, upTo } = missed;
  const isNew = ({ id, from }: Shown): boolean =>
    id !== undefined && from !== me && compareIds(id, after) > 0 && (upTo === undefined || compareIds(id, upTo) <= 0);
  const count = shown.filter(isNew).length;
  const oldest = shown[0]?.id;
  const above = count === 0 || oldest === undefined ? 0 : Math.max(0, seqOf(oldest) - seqOf(after) - 1);
  return { count: count + above, above };
}

function isSameGroup(a: Shown, b: Shown): boolean {
  if (a.from !== b.from || a.type !== b.type) return false;
  return a.id === undefined || b.id === undefined || timeOf(b.id) - timeOf(a.id) < GROUP_MS;
}

function describe({ after, next, reason }: Gap): string {
  if (reason === "rewound") {
    const lost = seqOf(after) - seqOf(next) + 1;
    return `The server lost recent data. ${lost > 0 ? messages(lost) : "Messages"} before this point may be missing.`;
  }
  const count = seqOf(next) - seqOf(after) - 1;
  return `${count > 0 ? messages(count) : "Messages"} ${count === 1 ? "was deleted or has" : "were deleted or have"} expired.`;
}

function beginning(oldest: string | undefined): string {
  const gone = oldest === undefined ? 0 : seqOf(oldest) - 1;
  if (gone > 0) return `${messages(gone)} before this ${gone === 1 ? "is" : "are"} no longer available.`;
  return oldest === undefined ? "No messages yet. Say hello!" : "This is the beginning of the room.";
}
