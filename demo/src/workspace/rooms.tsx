// The joined rooms with their unread counts, and the signed-in user. Arrow keys move through the list.
import { useRef } from "react";
import type { KeyboardEvent } from "react";
import { partnerIn, titleOf } from "../session/direct.ts";
import { unreadIn } from "../session/joined-rooms.ts";
import type { JoinedRoom } from "../session/joined-rooms.ts";
import { Avatar } from "../ui/avatar.tsx";
import { Icon, Logo } from "../ui/icon.tsx";
import { ConnectionStatus } from "./connection-status.tsx";
import { RoomIcon } from "./room-icon.tsx";

interface Props {
  /** Those with the newest messages first. */
  rooms: JoinedRoom[];
  open: string | undefined;
  user: string;
  onOpen: (room: string) => void;
  onLeave: (room: string) => void;
  onFind: () => void;
  onSignOut: () => void;
}

export function Rooms({ rooms, open, user, onOpen, onLeave, onFind, onSignOut }: Props) {
  const lists = useRef<HTMLDivElement>(null);
  const direct = rooms.filter(({ room }) => partnerIn(room, user) !== undefined);
  const others = rooms.filter((joined) => !direct.includes(joined));

  const move = (event: KeyboardEvent): void => {
    const buttons = [...lists.current!.querySelectorAll<HTMLButtonElement>(".room")];
    const at = buttons.findIndex((button) => button === document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (at >= 0 && event.key === "Delete") return onLeave(buttons[at]!.dataset["room"]!);
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    buttons[to]?.focus();
  };
  const list = (label: string, rooms: JoinedRoom[]) => rooms.length > 0 && (
    <>
      <h2 id={`list ${label}`}>{label}</h2>
      <ul aria-labelledby={`list ${label}`}>
        {rooms.map((joined) => (
          <RoomItem key={joined.room} joined={joined} me={user} isOpen={joined.room === open} isFirst={open === undefined} onOpen={onOpen} onLeave={onLeave} />
        ))}
      </ul>
    </>
  );

  return (
    <nav className="rooms" aria-label="Rooms">
      <header>
        <Logo />
        <strong>Roomlog</strong>
      </header>
      <button type="button" className="find" aria-keyshortcuts="Control+K" onClick={onFind}>
        <Icon name="search" /> <span>Find or join</span> <kbd>Ctrl K</kbd>
      </button>
      <div className="lists" ref={lists} onKeyDown={move}>
        {list("Rooms", others)}
        {list("Direct messages", direct)}
      </div>
      <footer>
        <Avatar name={user} />
        <div>
          <span className="user">{user}</span>
          <ConnectionStatus />
        </div>
        <button type="button" className="quiet" onClick={onSignOut}>Sign out</button>
      </footer>
    </nav>
  );
}

interface ItemProps {
  joined: JoinedRoom;
  me: string;
  isOpen: boolean;
  isFirst: boolean;
  onOpen: (room: string) => void;
  onLeave: (room: string) => void;
}

function RoomItem({ joined, me, isOpen, isFirst, onOpen, onLeave }: ItemProps) {
  const { room } = joined;
  const title = titleOf(room, me);
  const unread = unreadIn(joined);
  return (
    <li>
      <button
        type="button"
        className="room"
        data-room={room}
        data-unread={unread > 0 || undefined}
        aria-current={isOpen ? "page" : undefined}
        tabIndex={isOpen || isFirst ? 0 : -1}
        onClick={() => onOpen(room)}
      >
        <RoomIcon room={room} me={me} />
        <span className="name">{title}</span>
        {unread > 0 && <span className="unread">{unread > 99 ? "99+" : unread}<span className="hidden"> unread</span></span>}
      </button>
      <button type="button" className="leave" tabIndex={-1} aria-label={`Leave ${title}`} title="Leave (Delete)" onClick={() => onLeave(room)}>
        <Icon name="close" />
      </button>
    </li>
  );
}
