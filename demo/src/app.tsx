// The page as a whole: who chats, which room is open, and what is shown beside it.
import { useEffect, useState, useSyncExternalStore } from "react";
import { RoomlogProvider } from "@roomlog/client/react";
import { Chat } from "./chat.tsx";
import { Drawer } from "./drawer.tsx";
import { Login } from "./login.tsx";
import { Rooms } from "./rooms.tsx";
import { begin, recall, remember } from "./session.ts";
import type { Identity, Session } from "./session.ts";

export function App() {
  const [session, setSession] = useState<Session | undefined>();
  const [identity, setIdentity] = useState<Identity | undefined>(recall);
  const [problem, setProblem] = useState<string>();

  useEffect(() => {
    if (!identity) return;
    remember(identity);
    const begun = begin(identity);
    begun.client.on("error", (error) => {
      // Whatever passes by itself shows in the connection's state; this does not.
      if (begun.client.state !== "closed") return;
      setProblem(error.message);
      setIdentity(undefined);
    });
    setSession(begun);
    return () => {
      begun.client.close();
      setSession(undefined);
    };
  }, [identity]);

  if (!identity) {
    return <Login problem={problem} onDone={(identity) => (setProblem(undefined), setIdentity(identity))} />;
  }
  const leave = (): void => (remember(undefined), setIdentity(undefined));
  return session && <RoomlogProvider client={session.client}><Desk session={session} onLeave={leave} /></RoomlogProvider>;
}

/** The rooms, the one that is open, and the drawer. */
function Desk({ session, onLeave }: { session: Session; onLeave: () => void }) {
  const { places, client, frames, user } = session;
  const joined = useSyncExternalStore(places.subscribe, places.all);
  const [open, setOpen] = useState(() => roomOfAddress() ?? joined[0]?.room);
  const [beside, setBeside] = useState<"rooms" | "frames" | undefined>();

  const show = (room: string): void => {
    places.join(room);
    setOpen(room);
    setBeside((beside) => (beside === "rooms" ? undefined : beside));
  };
  useEffect(() => {
    if (open !== undefined) places.join(open);
    history.replaceState(null, "", open === undefined ? location.pathname : `#${open}`);
    document.title = open === undefined ? "Roomlog" : `${open} · Roomlog`;
  }, [places, open]);
  useEffect(() => {
    const changed = (): void => {
      const room = roomOfAddress();
      if (room !== undefined) setOpen(room);
    };
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  const leaveRoom = (room: string): void => {
    places.leave(room);
    client.room(room).close();
    if (room === open) setOpen(places.all()[0]?.room);
  };
  const toggle = (which: "rooms" | "frames"): void => setBeside((beside) => (beside === which ? undefined : which));

  return (
    <div className="desk" data-beside={beside} onKeyDown={(event) => event.key === "Escape" && setBeside(undefined)}>
      <Rooms places={joined} open={open} user={user} onOpen={show} onLeaveRoom={leaveRoom} onLeave={onLeave} />
      <main>
        {/* Those that are joined stay, hidden: with what was scrolled, written and refused there. */}
        {joined.map(({ room }) => (
          <Chat
            key={room}
            room={room}
            me={user}
            places={places}
            isOpen={room === open}
            isDrawerOpen={beside === "frames"}
            onRooms={() => toggle("rooms")}
            onDrawer={() => toggle("frames")}
            onLeave={() => leaveRoom(room)}
          />
        ))}
        {open === undefined && <p className="empty">Add a room, and write into it.<br />A room is there once something is in it.</p>}
        <button type="button" className="veil" tabIndex={-1} aria-label="Close" onClick={() => setBeside(undefined)} />
      </main>
      {beside === "frames" && <Drawer frames={frames} onClose={() => setBeside(undefined)} />}
    </div>
  );
}

/** `/#chat.general` opens that room. */
function roomOfAddress(): string | undefined {
  const room = decodeURIComponent(location.hash.slice(1));
  return isRoomName(room) ? room : undefined;
}

const isRoomName = (name: string): boolean => /^[A-Za-z0-9@][A-Za-z0-9._:@-]{0,127}$/.test(name);
