// The signed-in page: the list of rooms, the open room, and the panel beside it.
import { useCallback, useEffect, useState, useSyncExternalStore } from "react";
import type { KeyboardEvent } from "react";
import { Chat } from "../chat/chat.tsx";
import { directRoom, titleOf } from "../session/direct.ts";
import { useInbox } from "../session/inbox.ts";
import { unreadIn } from "../session/joined-rooms.ts";
import type { Session } from "../session/session.ts";
import { MenuProvider } from "../ui/menu.tsx";
import { Drawer } from "./drawer.tsx";
import { PeoplePanel } from "./people-panel.tsx";
import { Rooms } from "./rooms.tsx";
import { Switcher } from "./switcher.tsx";
import { useBadge } from "./use-badge.ts";
import { useRoute } from "./use-route.ts";

export function Workspace({ session, onSignOut }: { session: Session; onSignOut: () => void }) {
  const { joined, people, frames, user } = session;
  const rooms = useSyncExternalStore(joined.subscribe, joined.all);
  const [first] = useState(rooms[0]?.room);
  const { route, open, toggle, closePanel } = useRoute(first);
  const [isSwitching, setSwitching] = useState(false);
  const { room, panel } = route;

  useInbox(user, joined);
  useEffect(() => {
    if (room !== undefined) joined.join(room);
  }, [joined, room]);
  useBadge(room === undefined ? undefined : titleOf(room, user), rooms.reduce((sum, joined) => sum + unreadIn(joined), 0));
  useEffect(() => {
    const shortcut = (event: globalThis.KeyboardEvent): void => {
      if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey) || event.shiftKey || event.altKey) return;
      event.preventDefault();
      setSwitching((isSwitching) => !isSwitching);
    };
    addEventListener("keydown", shortcut);
    return () => removeEventListener("keydown", shortcut);
  }, []);

  const leave = (left: string): void => {
    joined.leave(left);
    if (left === room) open(joined.all()[0]?.room);
  };
  const message = useCallback((person: string) => {
    const direct = directRoom(user, person);
    if (direct !== undefined) open(direct);
  }, [user, open]);
  const escape = (event: KeyboardEvent): void => {
    if (event.key === "Escape" && panel !== undefined) closePanel();
  };

  return (
    <MenuProvider>
      <div className="workspace" data-panel={panel} onKeyDown={escape}>
        <Rooms rooms={rooms} open={room} user={user} onOpen={open} onLeave={leave} onFind={() => setSwitching(true)} onSignOut={onSignOut} />
        <main>
          {/* All joined rooms stay mounted: they keep their scroll position, draft and failed messages. In a fixed order, since moving an
              element makes it lose its scroll position. */}
          {rooms.map(({ room }) => room).sort().map((name) => (
            <Chat
              key={name}
              room={name}
              session={session}
              isOpen={name === room}
              target={name === room ? route.message : undefined}
              panel={panel}
              onPanel={toggle}
              onMessage={message}
              onLeave={() => leave(name)}
            />
          ))}
          {room === undefined && (
            <div className="empty">
              <p>Join a room to start chatting.<br />The first message creates the room.</p>
              <button type="button" className="primary" onClick={() => setSwitching(true)}>Find a room</button>
            </div>
          )}
          <button type="button" className="backdrop" tabIndex={-1} aria-label="Close" onClick={closePanel} />
        </main>
        {panel === "frames" && <Drawer frames={frames} onClose={closePanel} />}
        {panel === "people" && room !== undefined && <PeoplePanel room={room} me={user} people={people} onMessage={message} onClose={closePanel} />}
        {isSwitching && <Switcher rooms={rooms} open={room} people={people} me={user} onOpen={open} onMessage={message} onClose={() => setSwitching(false)} />}
      </div>
    </MenuProvider>
  );
}
