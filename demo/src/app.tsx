// The whole page: the signed-in user, the open room and the open side panel.
import { useEffect, useState, useSyncExternalStore } from "react";
import { isRoomName } from "@roomlog/client";
import { RoomlogProvider } from "@roomlog/client/react";
import { Chat } from "./chat.tsx";
import { Drawer } from "./drawer.tsx";
import { Login } from "./login.tsx";
import { Rooms } from "./rooms.tsx";
import { recall, remember, start } from "./session.ts";
import type { Identity, Session } from "./session.ts";

export function App() {
  const [session, setSession] = useState<Session | undefined>();
  const [identity, setIdentity] = useState<Identity | undefined>(recall);
  const [problem, setProblem] = useState<string>();

  useEffect(() => {
    if (!identity) return;
    remember(identity);
    const started = start(identity);
    started.client.on("error", (error) => {
      // The state of the connection shows temporary errors. Only a closed client needs a new sign-in.
      if (started.client.state !== "closed") return;
      setProblem(error.message);
      setIdentity(undefined);
    });
    setSession(started);
    return () => {
      started.client.close();
      setSession(undefined);
    };
  }, [identity]);

  if (!identity) {
    return <Login problem={problem} onDone={(identity) => (setProblem(undefined), setIdentity(identity))} />;
  }
  const signOut = (): void => (remember(undefined), setIdentity(undefined));
  return session && <RoomlogProvider client={session.client}><Workspace session={session} onSignOut={signOut} /></RoomlogProvider>;
}

/** The list of rooms, the open room and the protocol drawer. */
function Workspace({ session, onSignOut }: { session: Session; onSignOut: () => void }) {
  const { joined, frames, user } = session;
  const rooms = useSyncExternalStore(joined.subscribe, joined.all);
  const [open, setOpen] = useState(() => roomInUrl() ?? rooms[0]?.room);
  /** The panel that covers the room on a narrow screen. The list of rooms is always visible on a wide one. */
  const [panel, setPanel] = useState<"rooms" | "frames" | undefined>();

  const show = (room: string): void => {
    joined.join(room);
    setOpen(room);
    setPanel((panel) => (panel === "rooms" ? undefined : panel));
  };
  useEffect(() => {
    if (open !== undefined) joined.join(open);
    history.replaceState(null, "", open === undefined ? location.pathname : `#${open}`);
    document.title = open === undefined ? "Roomlog" : `${open} · Roomlog`;
  }, [joined, open]);
  useEffect(() => {
    const changed = (): void => {
      const room = roomInUrl();
      if (room !== undefined) setOpen(room);
    };
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  const leaveRoom = (room: string): void => {
    joined.leave(room);
    if (room === open) setOpen(joined.all()[0]?.room);
  };
  const toggle = (which: "rooms" | "frames"): void => setPanel((panel) => (panel === which ? undefined : which));

  return (
    <div className="workspace" data-panel={panel} onKeyDown={(event) => event.key === "Escape" && setPanel(undefined)}>
      <Rooms rooms={rooms} open={open} user={user} onOpen={show} onLeaveRoom={leaveRoom} onSignOut={onSignOut} />
      <main>
        {/* All joined rooms stay mounted, but hidden: they keep their scroll position, draft and failed messages. */}
        {rooms.map(({ room }) => (
          <Chat
            key={room}
            room={room}
            me={user}
            joined={joined}
            isOpen={room === open}
            isDrawerOpen={panel === "frames"}
            onRooms={() => toggle("rooms")}
            onDrawer={() => toggle("frames")}
            onLeave={() => leaveRoom(room)}
          />
        ))}
        {open === undefined && <p className="empty">Join a room to start chatting.<br />The first message creates the room.</p>}
        <button type="button" className="backdrop" tabIndex={-1} aria-label="Close" onClick={() => setPanel(undefined)} />
      </main>
      {panel === "frames" && <Drawer frames={frames} onClose={() => setPanel(undefined)} />}
    </div>
  );
}

/** The room that the URL names, as in `/#chat.general`. */
function roomInUrl(): string | undefined {
  const room = decodeURIComponent(location.hash.slice(1));
  return isRoomName(room) ? room : undefined;
}

