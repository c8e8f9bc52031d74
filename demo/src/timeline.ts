// What the log shows, as rows: messages, the days between them, what was missed while away, and what is gone. No DOM, no state.
import { compareIds } from "@roomlog/client";
import type { Gap } from "@roomlog/client";
import type { ShownMessage } from "@roomlog/client/react";

export type Shown = ShownMessage<unknown>;

export type Row =
  | { kind: "message"; key: string; message: Shown; first: boolean; last: boolean }
  | { kind: "day"; key: string; at: number }
  | { kind: "new"; key: string; count: number; above: number }
  | { kind: "gap"; key: string; text: string }
  | { kind: "start"; key: string; text: string };

/** What came while nobody looked: after one id, up to another; without that, it is still coming. */
export interface Missed {
  after: string;
  upTo?: string;
}

/** Messages of one sender that follow each other within this time stand together. */
const TOGETHER_MS = 5 * 60_000;

export const timeOf = (id: string): number => Number(id.split("-")[0]);
export const seqOf = (id: string): number => Number(id.split("-")[1]);

const messages = (count: number): string => (count === 1 ? "1 message" : `${count.toLocaleString("en")} messages`);

export function timeline(shown: Shown[], { gaps, missed, me, hasOlder }: { gaps: Gap[]; missed: Missed | undefined; me: string; hasOlder: boolean }): Row[] {
  const rows: Row[] = [];
  const news = countNew(shown, missed, me);
  let marked = news.count === 0;
  let before: Shown | undefined;
  let told = 0;
  const tell = (gap: Gap): void => void rows.push({ kind: "gap", key: `gap ${gap.after} ${gap.next}`, text: describe(gap) });
  const inOrder = [...gaps].sort((a, b) => compareIds(a.next, b.next));

  const oldest = shown.find(({ id }) => id !== undefined)?.id;
  if (!hasOlder) rows.push({ kind: "start", key: "start", text: beginning(oldest) });
  for (const message of shown) {
    const { id } = message;
    const at = id === undefined ? Date.now() : timeOf(id);
    const had = rows.length;
    if (id !== undefined) {
      const known = told;
      while (told < inOrder.length && compareIds(inOrder[told]!.next, id) <= 0) {
        const gap = inOrder[told++]!;
        if (before) tell(gap);
      }
      const after = before?.id;
      if (known === told && after !== undefined && seqOf(id) > seqOf(after) + 1) tell({ room: message.room, after, next: id, reason: "trimmed" });
    } else {
      while (told < inOrder.length) tell(inOrder[told++]!);
    }
    const day = new Date(at).toDateString();
    if (!before || new Date(before.id === undefined ? at : timeOf(before.id)).toDateString() !== day) rows.push({ kind: "day", key: `day ${day}`, at });
    if (!marked && (id === undefined || compareIds(id, missed!.after) > 0) && message.from !== me) {
      marked = true;
      rows.push({ kind: "new", key: `new ${missed!.after}`, ...news });
    }
    const isFirst = rows.length > had || !before || !together(before, message);
    const previous = rows.at(-1);
    if (!isFirst && previous?.kind === "message") previous.last = false;
    rows.push({ kind: "message", key: message.key, message, first: isFirst, last: true });
    before = message;
  }
  while (told < inOrder.length) tell(inOrder[told++]!);
  return rows;
}

/** How many came from others in the meantime, and how many messages of that time are further up than what is loaded. */
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

function together(a: Shown, b: Shown): boolean {
  if (a.from !== b.from || a.type !== b.type) return false;
  return a.id === undefined || b.id === undefined || timeOf(b.id) - timeOf(a.id) < TOGETHER_MS;
}

function describe({ after, next, reason }: Gap): string {
  if (reason === "rewound") {
    const lost = seqOf(after) - seqOf(next) + 1;
    return `The server's storage went back in time: ${lost > 0 ? messages(lost) : "what came last"} before this point may be lost.`;
  }
  const count = seqOf(next) - seqOf(after) - 1;
  return `${count > 0 ? messages(count) : "Messages"} ${count === 1 ? "is" : "are"} no longer here: too old for this room, or deleted.`;
}

function beginning(oldest: string | undefined): string {
  const gone = oldest === undefined ? 0 : seqOf(oldest) - 1;
  if (gone > 0) return `${messages(gone)} before this ${gone === 1 ? "is" : "are"} no longer kept.`;
  return oldest === undefined ? "Nobody has written here yet." : "This is where the room begins.";
}
