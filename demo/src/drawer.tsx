// The protocol, live: each frame as it goes over the wire, what it means, and how long the server took.
import { useLayoutEffect, useRef, useState, useSyncExternalStore } from "react";
import type { ReactNode } from "react";
import { useConnection, useRoomlog } from "@roomlog/client/react";
import type { Frames, ShownFrame } from "./frames.ts";
import { Icon } from "./parts.tsx";

/** What each frame is for, by `op`, as it goes out and as it comes in. */
const SENT: Record<string, string> = {
  connect: "The first frame on a connection: the token says who this is, and what they may do.",
  auth: "A fresh token, before the old one ends. The connection stays.",
  subscribe: "Follow a room. `since` is the last id that this page has, so nothing is missed and nothing comes twice; `last` asks for the newest so many.",
  unsubscribe: "Let go of a room.",
  publish: "Store a message. The page made the `key`: sent again with it, after a lost answer, the message is still stored once.",
  history: "Read a part of the log, here what lies before the oldest message that is shown.",
  signal: "For those present, and not stored: somebody types.",
  ack: "All up to this id was handled: the position of a durable subscription moves.",
  ping: "Is anybody there? After some silence the page asks, since browsers do not show it the server's own pings.",
};
const RECEIVED: Record<string, string> = {
  ok: "The answer to the request with the same `ref`. To `publish` it means: the message is in Redis, under this id.",
  error: "The request with this `ref` was refused. `code` says why, and is part of the protocol.",
  message: "A message, in the order of the log. Its id is `<ms>-<seq>`: the time, and its number in the room. Numbers have no holes, so a missing one shows.",
  live: "All that was there has been delivered. What comes from here on is new.",
  gap: "Messages between `after` and `next` are gone for good, and `reason` says why. There is never a silent hole.",
  signal: "Somebody present tells something that is not stored.",
  unsubscribed: "The server ended this subscription, and says why.",
  goodbye: "The server is about to close the connection: why, and when to come back.",
  pong: "Yes.",
};

export function Drawer({ frames, onClose }: { frames: Frames; onClose: () => void }) {
  const client = useRoomlog();
  const connection = useConnection();
  const shown = useSyncExternalStore(frames.subscribe, frames.all);
  const list = useRef<HTMLOListElement>(null);
  const isAtEnd = useRef(true);
  useLayoutEffect(() => {
    // Whoever reads a frame is not moved.
    if (isAtEnd.current && !list.current!.querySelector("[open]")) list.current!.scrollTop = list.current!.scrollHeight;
  }, [shown]);
  const latest = shown.findLast(({ took }) => took !== undefined);

  return (
    <aside className="drawer" aria-label="The protocol, live">
      <header>
        <h2>Protocol</h2>
        <button type="button" className="quiet" onClick={() => frames.clear()}>Clear</button>
        <button type="button" className="quiet" aria-label="Close" onClick={onClose}><Icon name="close" /></button>
      </header>
      <dl>
        <div><dt>Transport</dt><dd>{client.transport}, {connection}</dd></div>
        <div><dt>Last answer</dt><dd>{latest ? `${milliseconds(latest.took!)} for ${latest.of}` : "none yet"}</dd></div>
      </dl>
      <p className="hint">
        {client.transport === "websocket"
          ? "Every frame between this page and the server. Open one to see all of it, and what it is for."
          : "WebSockets are blocked here, so the page uses requests instead. The browser's own tools show those."}
      </p>
      <ol
        ref={list}
        className="frames"
        tabIndex={0}
        aria-label="Frames"
        onScroll={({ currentTarget: box }) => (isAtEnd.current = box.scrollHeight - box.scrollTop - box.clientHeight < 40)}
      >
        {shown.map((frame) => <Frame key={frame.n} frame={frame} />)}
      </ol>
    </aside>
  );
}

function Frame({ frame }: { frame: ShownFrame }) {
  const [isOpen, setOpen] = useState(false);
  const item = useRef<HTMLLIElement>(null);
  useLayoutEffect(() => {
    if (isOpen) item.current!.scrollIntoView({ block: "nearest" });
  }, [isOpen]);
  const { sent, at, op, json, took, of } = frame;
  return (
    <li ref={item} data-sent={sent || undefined} data-op={op}>
      <details onToggle={(event) => setOpen(event.currentTarget.open)}>
        <summary>
          <span className="way"><span aria-hidden="true">{sent ? "↑" : "↓"}</span><span className="hidden">{sent ? "sent" : "received"}</span></span>
          <span className="op">{op}</span>
          <span className="gist">{gist(json)}</span>
          <span className="took">{took !== undefined && milliseconds(took)}</span>
        </summary>
        {isOpen && (
          <>
            <p>{withCode((sent ? SENT : RECEIVED)[op] ?? "New to this page.")}{of !== undefined && ` This answers ${of}.`}</p>
            <pre>{JSON.stringify(json, null, 2)}</pre>
            <p className="at">{new Date(at).toISOString().slice(11, 23)} UTC</p>
          </>
        )}
      </details>
    </li>
  );
}

/** What stands between backticks is code. */
const withCode = (text: string): ReactNode[] => text.split("`").map((part, i) => (i % 2 === 1 ? <code key={i}>{part}</code> : part));

/** What tells this frame from others of its kind. */
function gist(json: Record<string, unknown>): string {
  const parts = ["ref", "id", "room", "since", "last", "before", "position", "user", "after", "code", "type", "key"].flatMap((name) => {
    const value = json[name];
    return typeof value === "string" || typeof value === "number" ? [`${name} ${value}`] : [];
  });
  return parts.join("  ");
}

const milliseconds = (ms: number): string => `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
