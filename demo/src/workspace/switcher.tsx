// Finds rooms and people by a part of their names (Ctrl+K), and joins rooms that are not in the list.
import { useId, useLayoutEffect, useRef, useState } from "react";
import type { KeyboardEvent } from "react";
import { isRoomName } from "@roomlog/client";
import { directRoom, inboxOf, partnerIn, titleOf } from "../session/direct.ts";
import { unreadIn } from "../session/joined-rooms.ts";
import type { JoinedRoom } from "../session/joined-rooms.ts";
import type { People } from "../session/people.ts";
import { Avatar } from "../ui/avatar.tsx";
import { RoomIcon } from "./room-icon.tsx";

interface Props {
  rooms: JoinedRoom[];
  /** The open room, where there is no need to go. */
  open: string | undefined;
  people: People;
  me: string;
  onOpen: (room: string) => void;
  onMessage: (person: string) => void;
  onClose: () => void;
}

interface Found {
  key: string;
  title: string;
  room?: string;
  hint: string;
  run: () => void;
}

/** The number of rows, so that all are visible. */
const SHOWN = 12;

export function Switcher({ rooms, open, people, me, onOpen, onMessage, onClose }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  const [text, setText] = useState("");
  const [selected, setSelected] = useState(0);
  useLayoutEffect(() => {
    const element = dialog.current!;
    element.showModal();
    return () => element.close();
  }, []);

  const found = search();
  const at = Math.min(selected, found.length - 1);

  function search(): Found[] {
    const wanted = text.trim().toLocaleLowerCase();
    const matches = (name: string): boolean => name.toLocaleLowerCase().includes(wanted);
    const known = rooms.filter(({ room }) => room !== open && (matches(titleOf(room, me)) || room === text.trim())).map((joined): Found => {
      const { room } = joined;
      const unread = unreadIn(joined);
      return { key: room, room, title: titleOf(room, me), hint: unread > 0 ? `${unread} unread` : "", run: () => onOpen(room) };
    });
    const others = people.all().filter((name) => {
      const room = directRoom(me, name);
      return room !== undefined && matches(name) && !rooms.some((joined) => joined.room === room);
    });
    const more = others.map((name): Found => ({ key: `person ${name}`, title: name, hint: "Message", run: () => onMessage(name) }));
    return [...known, ...more].slice(0, SHOWN - 2).concat(created(text.trim()));
  }

  /** What can be opened by its whole name, known or not. */
  function created(name: string): Found[] {
    const all: Found[] = [];
    if (isRoomName(name) && (!name.startsWith("@") || name === inboxOf(me)) && !rooms.some(({ room }) => room === name)) {
      all.push({ key: "join", room: name, title: name, hint: "Join this room", run: () => onOpen(name) });
    }
    if (directRoom(me, name) !== undefined && !people.all().includes(name) && !rooms.some(({ room }) => partnerIn(room, me) === name)) {
      all.push({ key: "message", title: name, hint: "Message this person", run: () => onMessage(name) });
    }
    return all;
  }

  const choose = (found: Found | undefined): void => {
    if (!found) return;
    // First, so that the composer of the room can take the focus.
    dialog.current!.close();
    found.run();
  };
  const key = (event: KeyboardEvent): void => {
    if (event.nativeEvent.isComposing) return;
    const count = found.length;
    const to = { ArrowDown: (at + 1) % count, ArrowUp: (at + count - 1) % count }[event.key];
    if (to !== undefined && count > 0) setSelected(to);
    else if (event.key === "Enter") choose(found[at]);
    else return;
    event.preventDefault();
  };

  return (
    <dialog ref={dialog} className="switcher" aria-label="Find a room or a person" onClose={onClose} onPointerDown={(event) => event.target === dialog.current && dialog.current.close()}>
      <input
        role="combobox"
        aria-label="Name of a room or a person"
        aria-expanded={found.length > 0}
        aria-controls={`${id}list`}
        aria-activedescendant={found.length > 0 ? `${id}${at}` : undefined}
        aria-autocomplete="list"
        placeholder="Find or join a room, or message a person"
        autoComplete="off"
        autoCapitalize="off"
        spellCheck={false}
        maxLength={128}
        value={text}
        onKeyDown={key}
        onChange={(event) => (setText(event.target.value), setSelected(0))}
      />
      <ul role="listbox" id={`${id}list`} aria-label="Found" hidden={found.length === 0}>
        {found.map((one, i) => (
          <li key={one.key} role="option" id={`${id}${i}`} aria-selected={i === at} onPointerMove={() => setSelected(i)} onClick={() => choose(one)}>
            {one.room === undefined ? <Avatar name={one.title} /> : <RoomIcon room={one.room} me={me} />}
            <span className="name">{one.title}</span>
            <span className="hint">{one.hint}</span>
          </li>
        ))}
      </ul>
      {found.length === 0 && (
        <p className="hint" role="status">
          {text.trim() === "" ? "Type the name of a room or a person." : "Nothing has this name. A room's name has letters, digits and . _ : @ - and no spaces."}
        </p>
      )}
    </dialog>
  );
}
