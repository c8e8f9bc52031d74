// The people of a room: those who wrote the messages that are loaded.
import { useSyncExternalStore } from "react";
import type { People } from "../session/people.ts";
import { Avatar } from "../ui/avatar.tsx";
import { Icon } from "../ui/icon.tsx";
import { below, useMenu } from "../ui/menu.tsx";
import { personMenu } from "./person-menu.ts";

interface Props {
  room: string;
  me: string;
  people: People;
  onMessage: (person: string) => void;
  onClose: () => void;
}

export function PeoplePanel({ room, me, people, onMessage, onClose }: Props) {
  const openMenu = useMenu();
  const names = useSyncExternalStore(people.subscribe, () => people.in(room));
  return (
    <aside className="panel people" aria-label="People">
      <header>
        <h2>People</h2>
        <button type="button" className="quiet" aria-label="Close" onClick={onClose}><Icon name="close" /></button>
      </header>
      {names.length === 0 ? <p className="hint">Nobody has written here yet.</p> : (
        <ul>
          {names.map((name) => (
            <li key={name}>
              <button
                type="button"
                aria-haspopup="menu"
                onClick={({ currentTarget }) => openMenu(personMenu(name, me, below(currentTarget), onMessage))}
              >
                <Avatar name={name} /> <span className="name">{name}</span> {name === me && <span className="hint">you</span>}
              </button>
            </li>
          ))}
        </ul>
      )}
    </aside>
  );
}
