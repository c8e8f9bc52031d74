// The joined rooms with their unread counts, and the signed-in user. Arrow keys move through the list.
import { useRef } from "react";
import type { FormEvent, KeyboardEvent } from "react";
import { ConnectionStatus, Icon, Logo } from "./components.tsx";
import { unreadIn } from "./joined-rooms.ts";
import type { JoinedRoom } from "./joined-rooms.ts";

interface Props {
  rooms: JoinedRoom[];
  open: string | undefined;
  user: string;
  onOpen: (room: string) => void;
  onLeaveRoom: (room: string) => void;
  onSignOut: () => void;
}

export function Rooms({ rooms, open, user, onOpen, onLeaveRoom, onSignOut }: Props) {
  const list = useRef<HTMLUListElement>(null);

  const join = (event: FormEvent<HTMLFormElement>): void => {
    event.preventDefault();
    onOpen(String(new FormData(event.currentTarget).get("room")));
    event.currentTarget.reset();
  };
  const move = (event: KeyboardEvent): void => {
    const buttons = [...list.current!.querySelectorAll<HTMLButtonElement>(".room")];
    const at = buttons.findIndex((button) => button === document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (at >= 0 && event.key === "Delete") return onLeaveRoom(rooms[at]!.room);
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    buttons[to]?.focus();
  };

  return (
    <nav className="rooms" aria-label="Rooms">
      <header>
        <Logo />
        <strong>Roomlog</strong>
      </header>
      <ul ref={list} onKeyDown={move}>
        {rooms.map((joined) => {
          const { room } = joined;
          const isOpen = room === open;
          const unread = unreadIn(joined);
          return (
            <li key={room}>
              <button
                type="button"
                className="room"
                aria-current={isOpen ? "page" : undefined}
                tabIndex={isOpen || open === undefined ? 0 : -1}
                onClick={() => onOpen(room)}
              >
                <span className="name">{room}</span>
                {unread > 0 && <span className="unread">{unread > 99 ? "99+" : unread}<span className="hidden"> unread</span></span>}
              </button>
              <button type="button" className="leave" tabIndex={-1} aria-label={`Leave ${room}`} title="Leave room (Delete)" onClick={() => onLeaveRoom(room)}>
                <Icon name="close" />
              </button>
            </li>
          );
        })}
      </ul>
      <form onSubmit={join}>
        <input
          name="room"
          required
          maxLength={128}
          pattern="[A-Za-z0-9@][A-Za-z0-9._:@\-]*"
          title="Letters, digits and . _ : @ -, starting with a letter, a digit or @"
          placeholder="Join a room"
          aria-label="Name of the room to join"
          autoComplete="off"
          autoCapitalize="off"
          spellCheck={false}
        />
        <button aria-label="Join"><Icon name="add" /></button>
      </form>
      <footer>
        <div>
          <span className="user">{user}</span>
          <ConnectionStatus />
        </div>
        <button type="button" className="quiet" onClick={onSignOut}>Sign out</button>
      </footer>
    </nav>
  );
}
