// The messages of a room. Scrolled to the end, the log stays at the end. Anywhere else, the visible messages do not move when others
// are added above or below.
import { useEffect, useLayoutEffect, useRef } from "react";
import type { ReactNode } from "react";

interface Props {
  room: string;
  isOpen: boolean;
  isBusy: boolean;
  /** Scrolls to the end whenever it changes. */
  jump: number;
  /** Called when the first loaded message is near. */
  onNearStart: () => void;
  onEnd: (isAtEnd: boolean) => void;
  children: ReactNode;
}

/** A scroll position this near to the end counts as the end. */
const SLACK_PX = 48;

/** Older messages are loaded this far ahead. */
const AHEAD_PX = 600;

interface Anchor {
  isAtEnd: boolean;
  /** The scroll position of the box. */
  scrollTop: number;
  /** The row at the upper edge, and its distance from the edge. */
  row?: { key: string; offset: number };
}

export function Log({ room, isOpen, isBusy, jump, onNearStart, onEnd, children }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const anchor = useRef<Anchor>({ isAtEnd: true, scrollTop: 0 });
  const wasOpen = useRef(false);

  const restore = (): void => {
    const element = box.current!;
    if (element.clientHeight === 0) return;
    const { isAtEnd, scrollTop, row } = anchor.current;
    // The user may have scrolled without a scroll event yet. The scroll position of a hidden box means nothing.
    const moved = wasOpen.current ? element.scrollTop - scrollTop : 0;
    const found = row && element.querySelector<HTMLElement>(`[data-key="${CSS.escape(row.key)}"]`);
    if (isAtEnd && moved >= 0) element.scrollTop = element.scrollHeight;
    else if (found) element.scrollTop = found.offsetTop - row.offset + moved;
  };
  const measure = (): void => {
    const element = box.current!;
    if (element.clientHeight === 0) return;
    const isAtEnd = element.scrollHeight - element.scrollTop - element.clientHeight < SLACK_PX;
    const row = isAtEnd ? undefined : upperRow(element);
    if (isAtEnd !== anchor.current.isAtEnd) onEnd(isAtEnd);
    anchor.current = { isAtEnd, scrollTop: element.scrollTop, ...(row && { row }) };
    if (element.scrollTop < AHEAD_PX) onNearStart();
  };

  // Runs after every render, since rows or their heights may have changed.
  useLayoutEffect(() => {
    if (isOpen) {
      restore();
      measure();
    }
    wasOpen.current = isOpen;
  });
  useLayoutEffect(() => {
    const element = box.current!;
    element.scrollTop = element.scrollHeight;
    measure();
  }, [jump]);
  useEffect(() => {
    const observer = new ResizeObserver(() => {
      restore();
      measure();
    });
    observer.observe(box.current!);
    return () => observer.disconnect();
  }, []);

  return (
    <div className="log" ref={box} role="log" aria-live="polite" aria-label={`Messages in ${room}`} aria-busy={isBusy} tabIndex={0} onScroll={measure}>
      <ol>{children}</ol>
    </div>
  );
}

/** The first visible message, by binary search: rows are in order. */
function upperRow(box: HTMLElement): Anchor["row"] {
  const rows = box.querySelectorAll<HTMLElement>("[data-key]");
  let [low, high] = [0, rows.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    const row = rows[middle]!;
    if (row.offsetTop + row.offsetHeight > box.scrollTop) high = middle;
    else low = middle + 1;
  }
  const row = rows[low];
  return row && { key: row.dataset["key"]!, offset: row.offsetTop - box.scrollTop };
}
