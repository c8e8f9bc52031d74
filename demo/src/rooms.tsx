// The rooms that were joined, how much is unread there, and who one is. Arrow keys move through them.
import { useRef } from "react";
import type { FormEvent, KeyboardEvent } from "react";
import { Connection, Icon, Mark } from "./parts.tsx";
import { unreadIn } from "./places.ts";
import type { Place } from "./places.ts";

interface Props {
  places: Place[];
  open: string | undefined;
  user: string;
  onOpen: (room: string) => void;
  onLeaveRoom: (room: string) => void;
  onLeave: () => void;
}

export function Rooms({ places, open, user, onOpen, onLeaveRoom, onLeave }: Props) {
  const list = useRef<HTMLUListElement>(null);

  const add = (event: FormEvent<HTMLFormElement>): void => {
    event.preventDefault();
    onOpen(String(new FormData(event.currentTarget).get("room")));
    event.currentTarget.reset();
  };
  const move = (event: KeyboardEvent): void => {
    const buttons = [...list.current!.querySelectorAll<HTMLButtonElement>(".room")];
    const at = buttons.findIndex((button) => button === document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (at >= 0 && event.key === "Delete") return onLeaveRoom(places[at]!.room);
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    buttons[to]?.focus();
  };

  return (
    <nav className="rooms" aria-label="Rooms">
      <header>
        <Mark />
        <strong>Roomlog</strong>
      </header>
      <ul ref={list} onKeyDown={move}>
        {places.map((place) => {
          const isOpen = place.room === open;
          const unread = unreadIn(place);
          return (
            <li key={place.room}>
              <button
                type="button"
                className="room"
                aria-current={isOpen ? "page" : undefined}
                tabIndex={isOpen || open === undefined ? 0 : -1}
                onClick={() => onOpen(place.room)}
              >
                <span className="name">{place.room}</span>
                {unread > 0 && <span className="unread">{unread > 99 ? "99+" : unread}<span className="hidden"> unread</span></span>}
              </button>
              <button type="button" className="leave" tabIndex={-1} aria-label={`Leave ${place.room}`} title="Leave (Delete)" onClick={() => onLeaveRoom(place.room)}>
                <Icon name="close" />
              </button>
            </li>
          );
        })}
      </ul>
      <form onSubmit={add}>
        <input
          name="room"
          required
          maxLength={128}
          pattern="[A-Za-z0-9@][A-Za-z0-9._:@\-]*"
          title="Letters, digits and . _ : @ -, beginning with a letter, a digit or @"
          placeholder="Add a room"
          aria-label="Name of a room to add"
          autoComplete="off"
          autoCapitalize="off"
          spellCheck={false}
        />
        <button aria-label="Add the room"><Icon name="add" /></button>
      </form>
      <footer>
        <div>
          <span className="user">{user}</span>
          <Connection />
        </div>
        <button type="button" className="quiet" onClick={onLeave}>Leave</button>
      </footer>
    </nav>
  );
}
