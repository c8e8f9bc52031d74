// The picture of a room: the other person of a direct conversation, or a sign.
import { inboxOf, partnerIn } from "../session/direct.ts";
import { Avatar } from "../ui/avatar.tsx";
import { Icon } from "../ui/icon.tsx";

export function RoomIcon({ room, me }: { room: string; me: string }) {
  const partner = partnerIn(room, me);
  return partner === undefined ? <Icon name={room === inboxOf(me) ? "inbox" : "room"} /> : <Avatar name={partner} />;
}
