// The bar at the upper edge of the log: the day of the topmost message, and its author if the name is further up.
import { Avatar } from "../ui/avatar.tsx";
import { dayName } from "../ui/time.ts";
import { whereIs } from "./timeline.ts";
import type { Row } from "./timeline.ts";

/** @param top - The index of the topmost visible row; missing at the start of the log. */
export function Where({ rows, top }: { rows: Row[]; top: number | undefined }) {
  // The row of the day itself is still in sight.
  const isShownBelow = top !== undefined && ["start", "day"].includes(rows[top]?.kind ?? "start");
  const where = top === undefined || isShownBelow ? undefined : whereIs(rows, top);
  if (!where) return undefined;
  return (
    // Screen readers have the same in the rows themselves.
    <div className="where" aria-hidden="true">
      <span className="author">{where.isContinued && <><Avatar name={where.from} /> {where.from}</>}</span>
      <span className="on">{dayName(where.at)}</span>
    </div>
  );
}
