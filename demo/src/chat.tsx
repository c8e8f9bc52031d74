// One room: its header, messages and composer.
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import type { KeyboardEvent } from "react";
import type { RoomlogError } from "@roomlog/client";
import { useConnection, useRoom, useRoomlog } from "@roomlog/client/react";
import { Composer } from "./composer.tsx";
import { Log } from "./log.tsx";
import { MessageRow } from "./message.tsx";
import { useMissed, useVisible } from "./missed.ts";
import { dayName, Icon } from "./components.tsx";
import type { JoinedRooms } from "./joined-rooms.ts";
import { seqOf, timeline } from "./timeline.ts";
import type { Row, Shown } from "./timeline.ts";

interface Props {
  room: string;
  me: string;
  joined: JoinedRooms;
  isOpen: boolean;
  isDrawerOpen: boolean;
  onRooms: () => void;
  onDrawer: () => void;
  onLeave: () => void;
}

const START = { last: 50 };

/** The position before the first message. */
const BEGINNING = "0-0";

export function Chat({ room, me, joined, isOpen, isDrawerOpen, onRooms, onDrawer, onLeave }: Props) {
  const client = useRoomlog();
  const { state: connection } = useConnection();
  const { messages, state, hasOlder, loadOlder, publish, typing, setTyping, gaps, dismiss, error, resume } = useRoom<unknown>(room, START);
  const [cancelled, setCancelled] = useState<Shown[]>([]);
  const [isAtEnd, setAtEnd] = useState(true);
  const [jump, setJump] = useState(0);
  const isVisible = useVisible();
  const loading = useRef(false);

  const newest = messages.findLast(({ state, id }) => state === "sent" && id !== undefined)?.id;
  const isWatched = isOpen && isVisible;
  const [missed, clearMissed] = useMissed({ state, isWatched, newest: newest ?? BEGINNING, seen: () => joined.seen(room) });
  useEffect(() => {
    if (newest !== undefined) joined.setNewest(room, newest);
    if (state === "live" && isWatched && isAtEnd) joined.markSeen(room, newest ?? BEGINNING);
  }, [joined, room, newest, state, isWatched, isAtEnd]);
  const ended = state === "ended" || state === "error" ? error : undefined;

  const send = (text: string): void => {
    publish({ text });
    clearMissed();
    setJump((jump) => jump + 1);
  };
  const discard = useCallback((message: Shown) => {
    setCancelled((all) => all.filter(({ key }) => key !== message.key));
    dismiss(message.key);
  }, [dismiss]);
  const retry = useCallback((message: Shown) => {
    discard(message);
    publish(message.data, { type: message.type, key: message.key });
  }, [discard, publish]);
  const cancel = useCallback((message: Shown) => {
    if (message.cancel?.()) setCancelled((all) => [...all, { ...message, state: "cancelled" }]);
  }, []);
  const loadMore = (): void => {
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
    // A message that was just cancelled may still be among the others for a moment.
    const known = new Set(cancelled.map(({ key }) => key));
    const all = [...messages.filter(({ key }) => !known.has(key)), ...cancelled];
    // Before the first connection, the client does not know the sender of the user's own messages.
    const shown = all.map((message) => (message.id === undefined ? { ...message, from: me } : message));
    return timeline(shown, { gaps, missed, me, hasOlder: hasOlder || state === "catching_up" && messages.length === 0 });
  }, [messages, cancelled, gaps, missed, me, hasOlder, state]);
  const isOffline = connection !== "open";
  const others = typing.filter((user) => user !== me);
  const below = newest === undefined || isAtEnd ? 0 : seqOf(newest) - seqOf(joined.seen(room) ?? newest);

  return (
    <section className="chat" aria-label={room} hidden={!isOpen} onKeyDown={escape}>
      <header>
        <button type="button" className="quiet only-narrow" aria-label="Rooms" onClick={onRooms}><Icon name="menu" /></button>
        <div>
          <h1>{room}</h1>
          <p>{isOffline && state === "catching_up" && newest !== undefined ? "Not connected" : describe(newest, state)}</p>
        </div>
        <button type="button" className="quiet" aria-pressed={isDrawerOpen} title="Show the protocol frames" onClick={onDrawer}>
          <Icon name="frames" /> <span>Protocol</span>
        </button>
      </header>
      {connection === "waiting" || (connection === "connecting" && state === "catching_up" && newest !== undefined) ? (
        <p className="banner" role="status">
          <span><strong>{navigator.onLine ? "Can't reach the server." : "You're offline."}</strong> Your messages will be sent when you reconnect.</span>
          <button type="button" className="link" onClick={() => client.wake()}>Reconnect now</button>
        </p>
      ) : null}
      {ended && (
        <p className="banner" role="alert">
          <span><strong>{explain(ended)}</strong> {ended.code !== "deleted" && sentence(ended.message)}</span>
          <button type="button" className="link" onClick={resume}>Try again</button>
          <button type="button" className="link" onClick={onLeave}>Leave room</button>
        </p>
      )}
      <Log room={room} isOpen={isOpen} isBusy={state === "idle" || state === "catching_up"} jump={jump} onNearStart={loadMore} onEnd={setAtEnd}>
        {hasOlder && messages.length > 0 && <li className="note">Loading older messages…</li>}
        {rows.map((row) => row.kind === "message" ? (
          <MessageRow
            key={row.key}
            message={row.message}
            isMine={row.message.from === me}
            first={row.first}
            last={row.last}
            isOffline={isOffline}
            onRetry={retry}
            onCancel={cancel}
            onDiscard={discard}
          />
        ) : <Note key={row.key} row={row} />)}
      </Log>
      <div className="foot">
        {!isAtEnd && (
          <button type="button" className="to-end" onClick={() => setJump((jump) => jump + 1)}>
            <Icon name="down" /> {below > 0 ? `${below} new` : "Jump to latest"}
          </button>
        )}
        <p className="typing" aria-live="polite">{others.length > 0 && `${names(others)} typing…`}</p>
        <Composer room={room} isOpen={isOpen} onSend={send} onTyping={setTyping} />
      </div>
    </section>
  );
}

/** A row between messages. */
function Note({ row }: { row: Exclude<Row, { kind: "message" }> }) {
  switch (row.kind) {
    case "day":
      return <li className="day"><span>{dayName(row.at)}</span></li>;
    case "new":
      return <li className="new"><span>{row.count} new{row.above > 0 && `, ${row.above} further up`}</span></li>;
    case "gap":
      return <li className="gap">{row.text}</li>;
    case "start":
      return <li className="note">{row.text}</li>;
  }
}

function describe(newest: string | undefined, state: string): string {
  if (state === "catching_up") return "Catching up…";
  if (state === "ended") return "Disconnected from this room";
  if (newest === undefined) return "No messages yet";
  const count = seqOf(newest);
  return count === 1 ? "1 message so far" : `${count.toLocaleString("en")} messages so far`;
}

function explain({ code }: RoomlogError): string {
  if (code === "forbidden") return "You don't have access to this room.";
  return code === "deleted" ? "This room was deleted." : "You were disconnected from this room.";
}

/** The server's texts are clauses, without a capital letter and a full stop. */
const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

function names(users: string[]): string {
  if (users.length === 1) return `${users[0]} is`;
  return users.length > 3 ? "Several people are" : `${users.slice(0, -1).join(", ")} and ${users.at(-1)} are`;
}
