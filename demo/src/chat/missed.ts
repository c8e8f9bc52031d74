// The messages that arrived while the user was not looking: offline, in another room, or with the page closed.
import { useEffect, useRef, useState } from "react";
import type { UseRoom } from "@roomlog/client/react";
import type { Missed } from "./timeline.ts";

interface View {
  state: UseRoom<unknown>["state"];
  /** Whether the room is open in a visible page. */
  isWatched: boolean;
  newest: string;
  /** The last id that was read. */
  seen: () => string | undefined;
}

/** Returns the missed range, which the log marks with a line, and a function that removes the mark. */
export function useMissed({ state, isWatched, newest, seen }: View): [Missed | undefined, () => void] {
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
    // Read before the caller marks the newest message as seen.
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

/** Whether the page is visible. */
export function useVisible(): boolean {
  const [isVisible, setVisible] = useState(document.visibilityState === "visible");
  useEffect(() => {
    const changed = (): void => setVisible(document.visibilityState === "visible");
    document.addEventListener("visibilitychange", changed);
    return () => document.removeEventListener("visibilitychange", changed);
  }, []);
  return isVisible;
}
