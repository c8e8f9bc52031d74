// The protocol in action: each frame on the wire, an explanation, and the time that the server took to answer.
import { useLayoutEffect, useRef, useState, useSyncExternalStore } from "react";
import type { ReactNode } from "react";
import { useConnection, useRoomlog } from "@roomlog/client/react";
import type { Frames, ShownFrame } from "../session/frames.ts";
import { Icon } from "../ui/icon.tsx";

/** Explains each frame by its `op`; one table for each direction. */
const SENT: Record<string, string> = {
  connect: "The first frame on a connection. The token says who the user is and what they may do.",
  auth: "A new token before the old one expires. The connection stays open.",
  subscribe: "Subscribe to a room. `since` is the last id that this page has, so nothing is missed or repeated; `last` asks for that many of the newest messages.",
  unsubscribe: "Stop following a room.",
  publish: "Store a message. The page chose the `key`: if the answer is lost and the page sends the message again, it is still stored only once.",
  history: "Read a part of the log: here, the messages before the oldest one on the page.",
  signal: "A signal to the users who are present, here about typing. It is not stored.",
  ack: "Everything up to this id has been handled. The position of the durable subscription moves there.",
  ping: "A check that the server is still there, after some silence. Browsers do not show the server's own pings to the page.",
};
const RECEIVED: Record<string, string> = {
  ok: "The answer to the request with the same `ref`. After `publish`, it means that Redis has stored the message under this id.",
  error: "The request with this `ref` failed. `code` gives the reason and is part of the protocol.",
  message: "A message, in the order of the log. Its id is `<ms>-<seq>`: the time and its number in the room. The numbers have no holes, so a missing message is noticed.",
  live: "The backlog has been delivered. Messages from here on are new.",
  gap: "Messages between `after` and `next` are no longer available, and `reason` says why. No message goes missing silently.",
  signal: "A signal from another user. It is not stored.",
  unsubscribed: "The server ended this subscription; `code` gives the reason.",
  goodbye: "The server is about to close the connection. The frame gives the reason and when to reconnect.",
  pong: "The answer to `ping`.",
};

export function Drawer({ frames, onClose }: { frames: Frames; onClose: () => void }) {
  const client = useRoomlog();
  const { state: connection } = useConnection();
  const shown = useSyncExternalStore(frames.subscribe, frames.all);
  const list = useRef<HTMLOListElement>(null);
  const isAtEnd = useRef(true);
  useLayoutEffect(() => {
    // An open frame is being read, so the list must not scroll.
    if (isAtEnd.current && !list.current!.querySelector("[open]")) list.current!.scrollTop = list.current!.scrollHeight;
  }, [shown]);
  const latest = shown.findLast(({ took }) => took !== undefined);

  return (
    <aside className="panel drawer" aria-label="Protocol">
      <header>
        <h2>Protocol</h2>
        <button type="button" className="quiet" onClick={() => frames.clear()}>Clear</button>
        <button type="button" className="quiet" aria-label="Close" onClick={onClose}><Icon name="close" /></button>
      </header>
      <dl>
        <div><dt>Transport</dt><dd>{client.transport}, {connection}</dd></div>
        <div><dt>Last answer</dt><dd>{latest ? `${milliseconds(latest.took!)} for ${latest.of}` : "None yet"}</dd></div>
      </dl>
      <p className="hint">
        {client.transport === "websocket"
          ? "All frames between this page and the server. Click one for its content and an explanation."
          : "This network blocks WebSockets, so the page uses HTTP requests. Your browser's developer tools show them."}
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
          <span className="direction"><span aria-hidden="true">{sent ? "↑" : "↓"}</span><span className="hidden">{sent ? "sent" : "received"}</span></span>
          <span className="op">{op}</span>
          <span className="summary">{summarize(json)}</span>
          <span className="took">{took !== undefined && milliseconds(took)}</span>
        </summary>
        {isOpen && (
          <>
            <p>{withCode((sent ? SENT : RECEIVED)[op] ?? "This page does not know this frame.")}{of !== undefined && ` This answers ${of}.`}</p>
            <pre>{JSON.stringify(json, null, 2)}</pre>
            <p className="at">{new Date(at).toISOString().slice(11, 23)} UTC</p>
          </>
        )}
      </details>
    </li>
  );
}

/** Renders text between backticks as code. */
const withCode = (text: string): ReactNode[] => text.split("`").map((part, i) => (i % 2 === 1 ? <code key={i}>{part}</code> : part));

/** The fields that distinguish this frame from others with the same `op`. */
function summarize(json: Record<string, unknown>): string {
  const parts = ["ref", "id", "room", "since", "last", "before", "position", "user", "after", "code", "type", "key"].flatMap((name) => {
    const value = json[name];
    return typeof value === "string" || typeof value === "number" ? [`${name} ${value}`] : [];
  });
  return parts.join("  ");
}

const milliseconds = (ms: number): string => `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
