// The rows of a room, of which only those near the visible part are in the document. Scrolled to the end, the log stays at the end.
// Anywhere else, the visible rows do not move when others are added above or below.
import { memo, useImperativeHandle, useLayoutEffect, useMemo, useRef, useState } from "react";
import type { KeyboardEvent, ReactElement, Ref } from "react";
import { Virtualizer } from "virtua";
import type { VirtualizerHandle } from "virtua";
import type { Row } from "./timeline.ts";
import { Where } from "./where.tsx";

export interface LogHandle {
  toEnd(): void;
  toRow(index: number): void;
}

interface Props {
  ref: Ref<LogHandle>;
  label: string;
  rows: Row[];
  isBusy: boolean;
  isAtEnd: boolean;
  /** Called when the first loaded message is near. */
  onNearStart: () => void;
  onEnd: (isAtEnd: boolean) => void;
  /** The element of a row. `canFocus` is true for the one message that Tab reaches; arrow keys move to the others. */
  children: (row: Row, canFocus: boolean) => ReactElement;
}

/** A scroll position this near to the end counts as the end. */
const SLACK_PX = 48;

/** Older messages are loaded this far ahead. */
const AHEAD_PX = 3000;

/** The height of the bar at the upper edge, as in the style sheet. */
const BAR_PX = 36;

export const Log = memo(function Log({ ref, label, rows, isBusy, isAtEnd: isFollowed, onNearStart, onEnd, children }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const list = useRef<VirtualizerHandle>(null);
  const isAtEnd = useRef(true);
  /** The last known scroll position. */
  const lastTop = useRef(0);
  const shown = useRef(rows);
  const [top, setTop] = useState<number>();
  /** The key of the message that arrow keys have reached. */
  const [focused, setFocused] = useState<string>();

  const focusable = focusedIndex(rows, focused);

  // Not by `scrollToIndex`, which would go on for a while and pull back a reader who scrolls up. `follow` goes on if rows turn out higher.
  const scrollToEnd = (): void => {
    box.current!.scrollTop = box.current!.scrollHeight;
    lastTop.current = box.current!.scrollTop;
  };
  const toEnd = (): void => {
    isAtEnd.current = true;
    onEnd(true);
    scrollToEnd();
  };
  useImperativeHandle(ref, () => ({
    toEnd,
    toRow: (index) => {
      isAtEnd.current = false;
      list.current!.scrollToIndex(index, { align: "center" });
    },
  }));

  const look = (): void => {
    const { scrollTop, scrollHeight, clientHeight } = box.current!;
    const was = isAtEnd.current;
    isAtEnd.current = scrollHeight - scrollTop - clientHeight < SLACK_PX;
    if (isAtEnd.current !== was) onEnd(isAtEnd.current);
    lastTop.current = scrollTop;
    setTop(scrollTop > BAR_PX ? list.current!.findItemIndex(scrollTop + BAR_PX) : undefined);
    if (scrollTop < AHEAD_PX) onNearStart();
  };
  /** New rows, or others that become higher, and a composer that does, must not push the end out of sight. */
  const follow = (): void => {
    // The reader may have scrolled up without an event yet.
    if (box.current!.scrollTop < lastTop.current - 1) look();
    else if (isAtEnd.current) scrollToEnd();
  };
  useLayoutEffect(() => {
    const isShifted = isShift(shown.current, rows);
    shown.current = rows;
    if (!isShifted) follow();
    // A first page that does not fill the log gives no event of scrolling.
    if (box.current!.scrollTop < AHEAD_PX) onNearStart();
  }, [rows, onNearStart]);

  const key = (event: KeyboardEvent): void => {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (step === undefined || !(event.target as HTMLElement).matches(".message")) return;
    let to = focusable + step;
    while (rows[to] && rows[to]!.kind !== "message") to += step;
    const row = rows[to];
    if (!row) return;
    event.preventDefault();
    setFocused(row.key);
    list.current!.scrollToIndex(to, { align: "nearest" });
    requestAnimationFrame(() => box.current!.querySelector<HTMLElement>(`[data-key="${CSS.escape(row.key)}"]`)?.focus({ preventScroll: true }));
  };

  const items = useMemo(
    () => (
      <Virtualizer
        ref={list}
        scrollRef={box}
        data={rows}
        shift={isShift(shown.current, rows)}
        as="ol"
        item="li"
        bufferSize={600}
        keepMounted={focusable < 0 ? [] : [focusable]}
        onScroll={look}
        onResize={follow}
      >
        {(row, index) => <div className="row" key={row.key}>{children(row, index === focusable)}</div>}
      </Virtualizer>
    ),
    // The handlers see the same rows.
    [rows, focusable, children, onNearStart, onEnd],
  );
  return (
    <div className="log-frame">
      <Where rows={rows} top={top} />
      {/* Rows that scrolling brings into the document are no news. */}
      <div className="log" ref={box} role="log" aria-live={isFollowed ? "polite" : "off"} aria-label={label} aria-busy={isBusy} onKeyDown={key}>
        <div className="above" />
        {items}
      </div>
    </div>
  );
});

/** Tells whether rows were added, or removed, at the start alone: then the list keeps its distance from the end. */
const isShift = (before: Row[], rows: Row[]): boolean => rows.length !== before.length && rows.at(-1)?.key === before.at(-1)?.key;

/** The index of the message that Tab reaches: the last one, unless arrow keys have moved away from it. */
function focusedIndex(rows: Row[], key: string | undefined): number {
  const index = key === undefined ? -1 : rows.findLastIndex((row) => row.key === key);
  return index >= 0 ? index : rows.findLastIndex(({ kind }) => kind === "message");
}
