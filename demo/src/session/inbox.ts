// The user's inbox, the room `@<user>`. A message of type `direct` tells of a new conversation with its sender, which appears in the list
// of rooms. Any other message makes the inbox itself appear there.
import { useEffect } from "react";
import { compareIds, isRoomName } from "@roomlog/client";
import { useRoomlog } from "@roomlog/client/react";
import { seqOf } from "../chat/timeline.ts";
import { DIRECT, directRoom, inboxOf } from "./direct.ts";
import type { JoinedRooms } from "./joined-rooms.ts";

/** The position before the first message of a room. */
const BEGINNING = "0-0";

export function useInbox(user: string, joined: JoinedRooms): void {
  const client = useRoomlog();
  useEffect(() => {
    // A name that no room can have has no inbox.
    if (!isRoomName(inboxOf(user))) return;
    const storageKey = `roomlog inbox ${user}`;
    const inbox = client.room(inboxOf(user), { last: 50 });
    return inbox.on("message", ({ id, from, type }) => {
      if (compareIds(id, localStorage.getItem(storageKey) ?? BEGINNING) <= 0) return;
      localStorage.setItem(storageKey, id);
      if (type !== DIRECT) return joined.join(inbox.name, BEGINNING);
      const room = directRoom(user, from);
      if (room !== undefined) joined.join(room, BEGINNING);
      // The conversation is news, its announcement is not, unless others wait before it.
      const seen = joined.seen(inbox.name);
      if (seen !== undefined && seqOf(id) === seqOf(seen) + 1) joined.markSeen(inbox.name, id);
    });
  }, [client, user, joined]);
}
