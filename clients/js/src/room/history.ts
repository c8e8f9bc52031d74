// Reading a part of a room's history.
import type { Connection } from "../connection.js";
import { RoomlogError } from "../errors.js";
import { messageOf } from "../protocol.js";
import type { HistoryPage, HistoryQuery } from "../protocol.js";

/** Reads a page as soon as there is a connection. An interrupted read is repeated, since reading changes nothing. */
export async function readHistory(connection: Connection, room: string, query: HistoryQuery): Promise<HistoryPage> {
  for (;;) {
    await connection.opened();
    try {
      const { messages, more, head, gap } = await connection.request("history", { room, ...query });
      return { messages: messages.map(messageOf), more, head, ...(gap && { gap }) };
    } catch (error) {
      if (!(error instanceof RoomlogError && error.code === "disconnected")) throw error;
    }
  }
}
