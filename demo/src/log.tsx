// The messages of a room. At the end it stays at the end; anywhere else, what one reads does not move, whatever comes above or below.
import { useEffect, useLayoutEffect, useRef } from "react";
import type { ReactNode } from "react";

interface Props {
  room: string;
  isOpen: boolean;
  isBusy: boolean;
  /** Changes when the log shall go to its end. */
  jump: number;
  /** Near the beginning of what is there. */
  onNearStart: () => void;
  onEnd: (isAtEnd: boolean) => void;
  children: ReactNode;
}

/** So near to the end counts as the end. */
const SLACK_PX = 48;

/** Older messages are asked for before one is at the first. */
const AHEAD_PX = 600;

interface Anchor {
  isAtEnd: boolean;
  /** Where the box was scrolled to. */
  scrollTop: number;
  /** The row at the upper edge, and how far it is from there. */
  row?: { key: string; offset: number };
}

export function Log({ room, isOpen, isBusy, jump, onNearStart, onEnd, children }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const anchor = useRef<Anchor>({ isAtEnd: true, scrollTop: 0 });
  const wasOpen = useRef(false);

  const settle = (): void => {
    const element = box.current!;
    if (element.clientHeight === 0) return;
    const { isAtEnd, scrollTop, row } = anchor.current;
    // Scrolled by hand, and not told yet. Of a box that was hidden, where it stands says nothing.
    const moved = wasOpen.current ? element.scrollTop - scrollTop : 0;
    const found = row && element.querySelector<HTMLElement>(`[data-key="${CSS.escape(row.key)}"]`);
    if (isAtEnd && moved >= 0) element.scrollTop = element.scrollHeight;
    else if (found) element.scrollTop = found.offsetTop - row.offset + moved;
  };
  const look = (): void => {
    const element = box.current!;
    if (element.clientHeight === 0) return;
    const isAtEnd = element.scrollHeight - element.scrollTop - element.clientHeight < SLACK_PX;
    const row = isAtEnd ? undefined : upperRow(element);
    if (isAtEnd !== anchor.current.isAtEnd) onEnd(isAtEnd);
    anchor.current = { isAtEnd, scrollTop: element.scrollTop, ...(row && { row }) };
    if (element.scrollTop < AHEAD_PX) onNearStart();
  };

  // After each change of what is shown, and of the space for it.
  useLayoutEffect(() => {
    if (isOpen) {
      settle();
      look();
    }
    wasOpen.current = isOpen;
  });
  useLayoutEffect(() => {
    const element = box.current!;
    element.scrollTop = element.scrollHeight;
    look();
  }, [jump]);
  useEffect(() => {
    const observer = new ResizeObserver(() => {
      settle();
      look();
    });
    observer.observe(box.current!);
    return () => observer.disconnect();
  }, []);

  return (
    <div className="log" ref={box} role="log" aria-live="polite" aria-label={`Messages in ${room}`} aria-busy={isBusy} tabIndex={0} onScroll={look}>
      <ol>{children}</ol>
    </div>
  );
}

/** The first message that can be seen. Rows are in order, so that half of them can be left out at each step. */
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
