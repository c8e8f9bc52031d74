// One message. Text is text: nothing that somebody sends becomes an element.
import { memo } from "react";
import { clock, Icon } from "./parts.tsx";
import { timeOf } from "./timeline.ts";
import type { Shown } from "./timeline.ts";

interface Props {
  message: Shown;
  isMine: boolean;
  /** The first, and the last, of some that one sender wrote in a row. */
  first: boolean;
  last: boolean;
  isOffline: boolean;
  onAgain: (message: Shown) => void;
  onCancel: (message: Shown) => void;
  onDismiss: (message: Shown) => void;
}

export const MessageRow = memo(function MessageRow({ message, isMine, first, last, isOffline, onAgain, onCancel, onDismiss }: Props) {
  const { id, key, from, type, state } = message;
  const { text, isPlain } = textOf(message.data);
  return (
    <li className="message" data-key={key} data-id={id} data-mine={isMine || undefined} data-state={state} data-first={first || undefined}>
      {first && (
        <p className="from">
          {isMine ? <span className="hidden">{from}</span> : from}
          {type !== "message" && <span className="type"> {type}</span>}
        </p>
      )}
      <p className="bubble" data-plain={isPlain || undefined}>{text}</p>
      {state === "sent" && (last || id === undefined) && (
        <p className="meta">
          {id !== undefined && <time dateTime={new Date(timeOf(id)).toISOString()} title={id}>{clock(timeOf(id))}</time>}
          {isMine && <span className="state"><Icon name="sent" /><span className="hidden">sent</span></span>}
        </p>
      )}
      {state === "sending" && (
        <p className="meta">
          <span className="state"><Icon name="sending" /> {isOffline ? "Waiting for the connection" : "Sending…"}</span>
          {isOffline && message.cancel && <button type="button" className="link" onClick={() => onCancel(message)}>Cancel</button>}
        </p>
      )}
      {state === "failed" && (
        <p className="meta">
          <span className="state">Not sent: {message.error?.message ?? "refused"}</span>
          <button type="button" className="link" onClick={() => onAgain(message)}>Try again</button>
          <button type="button" className="link" onClick={() => onDismiss(message)}>Discard</button>
        </p>
      )}
      {state === "cancelled" && (
        <p className="meta">
          <span className="state">Cancelled, it was never sent</span>
          <button type="button" className="link" onClick={() => onAgain(message)}>Send after all</button>
          <button type="button" className="link" onClick={() => onDismiss(message)}>Discard</button>
        </p>
      )}
    </li>
  );
});

/** What others send may be anything: shown as it is if it is a text, as JSON if not. */
function textOf(data: unknown): { text: string; isPlain: boolean } {
  const text = typeof data === "object" && data !== null && Object.keys(data).length === 1 ? (data as { text?: unknown }).text : data;
  return typeof text === "string" ? { text, isPlain: true } : { text: JSON.stringify(data, null, 1), isPlain: false };
}
