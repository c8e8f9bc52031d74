// Shows the message that a link names: loads the messages down to it, scrolls to it, and marks it.
import { useEffect, useState } from "react";
import type { RefObject } from "react";
import { compareIds } from "@roomlog/client";
import type { UseRoom } from "@roomlog/client/react";
import type { LogHandle } from "./log.tsx";
import { seqOf } from "./timeline.ts";
import type { Row } from "./timeline.ts";

interface Options extends Pick<UseRoom<unknown>, "messages" | "hasOlder" | "loadOlder"> {
  /** The id in the URL. */
  target: string | undefined;
  rows: Row[];
  log: RefObject<LogHandle | null>;
  isLive: boolean;
}

/** The limit of the server for one page of the history. */
const PAGE_LIMIT = 1000;

/** Returns the id of the message to mark. */
export function useTarget({ target, rows, messages, hasOlder, loadOlder, log, isLive }: Options): string | undefined {
  const [marked, setMarked] = useState<string>();
  /** The pages that were loaded: the next one can be asked for only when the one before is done. */
  const [loaded, setLoaded] = useState(0);
  useEffect(() => {
    if (target === undefined || target === marked || !isLive) return;
    const oldest = messages[0]?.id;
    if (oldest !== undefined && compareIds(oldest, target) > 0 && hasOlder) {
      // Ids are dense, so the distance is a number of messages.
      loadOlder(Math.min(PAGE_LIMIT, Math.max(1, seqOf(oldest) - seqOf(target)) + 20)).then(() => setLoaded((loaded) => loaded + 1), () => {});
      return;
    }
    // If it is gone, the next one shows where it was.
    const index = rows.findIndex((row) => row.kind === "message" && row.message.id !== undefined && compareIds(row.message.id, target) >= 0);
    if (index < 0) return;
    setMarked(target);
    log.current!.toRow(index);
  }, [target, marked, isLive, rows, messages, hasOlder, loadOlder, log, loaded]);
  return target === undefined ? undefined : marked;
}
