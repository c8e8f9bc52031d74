// One room: its head, what is in it, and where one writes.
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import type { KeyboardEvent } from "react";
import type { Unsubscribed } from "@roomlog/client";
import { useConnection, useRoom, useRoomlog } from "@roomlog/client/react";
import { Composer } from "./composer.tsx";
import { Log } from "./log.tsx";
import { MessageRow } from "./message.tsx";
import { useMissed, useVisible } from "./missed.ts";
import { dayName, Icon } from "./parts.tsx";
import type { Places } from "./places.ts";
import { seqOf, timeline } from "./timeline.ts";
import type { Row, Shown } from "./timeline.ts";

interface Props {
  room: string;
  me: string;
  places: Places;
  isOpen: boolean;
  isDrawerOpen: boolean;
  onRooms: () => void;
  onDrawer: () => void;
  onLeave: () => void;
}

const START = { last: 50 };

/** Before the first message. */
const BEGINNING = "0-0";

export function Chat({ room, me, places, isOpen, isDrawerOpen, onRooms, onDrawer, onLeave }: Props) {
  const client = useRoomlog();
  const connection = useConnection();
  const { messages, state, hasOlder, loadOlder, publish, typing, setTyping, gaps, dismiss } = useRoom<unknown>(room, START);
  const [cancelled, setCancelled] = useState<Shown[]>([]);
  const [ended, setEnded] = useState<Unsubscribed>();
  const [isAtEnd, setAtEnd] = useState(true);
  const [jump, setJump] = useState(0);
  const isVisible = useVisible();
  const loading = useRef(false);

  const newest = messages.findLast(({ state, id }) => state === "sent" && id !== undefined)?.id;
  const isWatched = isOpen && isVisible;
  const [missed, clearMissed] = useMissed({ state, isWatched, newest: newest ?? BEGINNING, seen: () => places.seen(room) });
  useEffect(() => {
    if (newest !== undefined) places.reach(room, newest);
    if (state === "live" && isWatched && isAtEnd) places.see(room, newest ?? BEGINNING);
  }, [places, room, newest, state, isWatched, isAtEnd]);
  useEffect(() => {
    const here = client.room(room);
    const offs = [here.on("unsubscribed", setEnded), here.on("started", () => setEnded(undefined))];
    return () => offs.forEach((off) => off());
  }, [client, room]);

  const send = (text: string): void => {
    publish({ text });
    clearMissed();
    setJump((jump) => jump + 1);
  };
  const drop = useCallback((message: Shown) => {
    setCancelled((all) => all.filter(({ key }) => key !== message.key));
    dismiss(message.key);
  }, [dismiss]);
  const again = useCallback((message: Shown) => {
    drop(message);
    publish(message.data, { type: message.type, key: message.key });
  }, [drop, publish]);
  const cancel = useCallback((message: Shown) => {
    if (message.cancel?.()) setCancelled((all) => [...all, { ...message, state: "cancelled" }]);
  }, []);
  const older = (): void => {
    if (!hasOlder || loading.current || state !== "live") return;
    loading.current = true;
    loadOlder().catch(() => {}).finally(() => (loading.current = false));
  };
  const escape = (event: KeyboardEvent): void => {
    if (event.key !== "Escape" || isDrawerOpen) return;
    clearMissed();
    setJump((jump) => jump + 1);
  };

  const rows = useMemo(() => {
    // One that was just cancelled may be among the others for a moment yet.
    const known = new Set(cancelled.map(({ key }) => key));
    const all = [...messages.filter(({ key }) => !known.has(key)), ...cancelled];
    // Who writes before the first connection has no name there yet.
    const shown = all.map((message) => (message.id === undefined ? { ...message, from: me } : message));
    return timeline(shown, { gaps, missed, me, hasOlder: hasOlder || state === "catching_up" && messages.length === 0 });
  }, [messages, cancelled, gaps, missed, me, hasOlder, state]);
  const isOffline = connection !== "open";
  const others = typing.filter((user) => user !== me);
  const below = newest === undefined || isAtEnd ? 0 : seqOf(newest) - seqOf(places.seen(room) ?? newest);

  return (
    <section className="chat" aria-label={room} hidden={!isOpen} onKeyDown={escape}>
      <header>
        <button type="button" className="quiet only-narrow" aria-label="Rooms" onClick={onRooms}><Icon name="menu" /></button>
        <div>
          <h1>{room}</h1>
          <p>{isOffline && state === "catching_up" && newest !== undefined ? "Not connected" : describe(newest, state)}</p>
        </div>
        <button type="button" className="quiet" aria-pressed={isDrawerOpen} title="The protocol, live" onClick={onDrawer}>
          <Icon name="frames" /> <span>Protocol</span>
        </button>
      </header>
      {connection === "waiting" || (connection === "connecting" && state === "catching_up" && newest !== undefined) ? (
        <p className="banner" role="status">
          <span><strong>{navigator.onLine ? "The server is out of reach." : "You are offline."}</strong> What you write is kept, and sent when it is back.</span>
          <button type="button" className="link" onClick={() => client.wake()}>Try now</button>
        </p>
      ) : null}
      {ended && (
        <p className="banner" role="alert">
          <span><strong>This room has ended for you:</strong> {ended.message}</span>
          <button type="button" className="link" onClick={() => client.room(room).resume()}>Try again</button>
          <button type="button" className="link" onClick={onLeave}>Leave it</button>
        </p>
      )}
      <Log room={room} isOpen={isOpen} isBusy={state === "idle" || state === "catching_up"} jump={jump} onNearStart={older} onEnd={setAtEnd}>
        {hasOlder && messages.length > 0 && <li className="note">Loading what came before…</li>}
        {rows.map((row) => row.kind === "message" ? (
          <MessageRow
            key={row.key}
            message={row.message}
            isMine={row.message.from === me}
            first={row.first}
            last={row.last}
            isOffline={isOffline}
            onAgain={again}
            onCancel={cancel}
            onDismiss={drop}
          />
        ) : <Note key={row.key} row={row} />)}
      </Log>
      <div className="foot">
        {!isAtEnd && (
          <button type="button" className="to-end" onClick={() => setJump((jump) => jump + 1)}>
            <Icon name="down" /> {below > 0 ? `${below} new` : "Newest"}
          </button>
        )}
        <p className="typing" aria-live="polite">{others.length > 0 && `${listed(others)} typing…`}</p>
        <Composer room={room} isOpen={isOpen} onSend={send} onTyping={setTyping} />
      </div>
    </section>
  );
}

/** What stands between messages. */
function Note({ row }: { row: Exclude<Row, { kind: "message" }> }) {
  switch (row.kind) {
    case "day":
      return <li className="day"><span>{dayName(row.at)}</span></li>;
    case "new":
      return <li className="new"><span>{row.count} new{row.above > 0 && `, ${row.above} of them further up`}</span></li>;
    case "gap":
      return <li className="gap">{row.text}</li>;
    case "start":
      return <li className="note">{row.text}</li>;
  }
}

function describe(newest: string | undefined, state: string): string {
  if (state === "catching_up") return "Catching up…";
  if (state === "ended") return "Not followed";
  if (newest === undefined) return "Empty";
  const count = seqOf(newest);
  return count === 1 ? "1 message so far" : `${count.toLocaleString("en")} messages so far`;
}

function listed(users: string[]): string {
  if (users.length === 1) return `${users[0]} is`;
  return users.length > 3 ? "Several people are" : `${users.slice(0, -1).join(", ")} and ${users.at(-1)} are`;
}
