// What came while nobody looked: the connection was lost, another room was open, or the page was closed.
import { useEffect, useRef, useState } from "react";
import type { RoomState } from "@roomlog/client";
import type { Missed } from "./timeline.ts";

interface Look {
  state: RoomState;
  /** Whether the room is before somebody's eyes. */
  isWatched: boolean;
  newest: string;
  /** The last id that was read. */
  seen: () => string | undefined;
}

/** The line in the log, and how to take it away. */
export function useMissed({ state, isWatched, newest, seen }: Look): [Missed | undefined, () => void] {
  const begin = (): Missed | undefined => {
    const after = seen();
    return after === undefined ? undefined : { after };
  };
  const [missed, setMissed] = useState(begin);
  const was = useRef({ isLive: false, isWatched });

  useEffect(() => {
    const isLive = state === "live";
    const before = was.current;
    was.current = { isLive, isWatched };
    // Before this is noted as seen.
    const fresh = begin();
    const unfinished = (missed: Missed | undefined): Missed | undefined => (missed && !missed.upTo ? missed : fresh);
    if (before.isLive && !isLive) setMissed(unfinished);
    if (isLive && isWatched && !(before.isLive && before.isWatched)) {
      setMissed((missed) => {
        const now = unfinished(missed);
        return now && { ...now, upTo: newest };
      });
    }
  });
  return [missed, () => setMissed(undefined)];
}

/** Whether the page is shown. */
export function useVisible(): boolean {
  const [isVisible, setVisible] = useState(document.visibilityState === "visible");
  useEffect(() => {
    const changed = (): void => setVisible(document.visibilityState === "visible");
    document.addEventListener("visibilitychange", changed);
    return () => document.removeEventListener("visibilitychange", changed);
  }, []);
  return isVisible;
}
