// A row between messages: a day, the line above missed messages, a gap, or the start of the room.
import { dayName } from "../ui/time.ts";
import type { Row } from "./timeline.ts";

export function Note({ row }: { row: Exclude<Row, { kind: "message" }> }) {
  switch (row.kind) {
    case "day":
      return <p className="day"><span>{dayName(row.at)}</span></p>;
    case "new":
      return <p className="new"><span>{row.count} new{row.above > 0 && `, ${row.above} further up`}</span></p>;
    case "gap":
      return <p className="gap" data-loss={row.isLoss || undefined}>{row.text}</p>;
    case "start":
      return <p className="note">{row.text}</p>;
  }
}
