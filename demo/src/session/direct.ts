// Direct messages: a room for two people, named after both, so that either of them finds it. A server that gives each user a token of
// their own grants `dm:<name>:*` and `dm:*:<name>`.
import { isRoomName } from "@roomlog/client";

/** The type of the message that tells a person, in their inbox, of a new conversation with its sender. */
export const DIRECT = "direct";

export const inboxOf = (user: string): string => `@${user}`;

/** The room of two people, or `undefined` if there can be none: their names do not fit, or one of them can have no inbox. */
export function directRoom(me: string, other: string): string | undefined {
  const room = ["dm", ...[me, other].map(escape).sort()].join(":");
  return me !== other && other !== "" && [room, inboxOf(me), inboxOf(other)].every(isRoomName) ? room : undefined;
}

/** The other person, if this is the room of a direct conversation of `me`. */
export function partnerIn(room: string, me: string): string | undefined {
  const [prefix, a, b, ...rest] = room.split(":");
  if (prefix !== "dm" || a === undefined || b === undefined || rest.length > 0) return undefined;
  const names = [unescape(a), unescape(b)];
  const other = names[0] === me ? names[1] : names[0];
  // Any other spelling of the name would be another room.
  return other !== undefined && directRoom(me, other) === room ? other : undefined;
}

/** The name of a room as its users see it. */
export function titleOf(room: string, me: string): string {
  return partnerIn(room, me) ?? (room === inboxOf(me) ? "Inbox" : room);
}

/** A colon separates the names, so it cannot be a part of one. */
const escape = (name: string): string => name.replaceAll("_", "__").replaceAll(":", "_.");
const unescape = (name: string): string => name.replace(/_[_.]/g, (pair) => (pair === "__" ? "_" : ":"));
