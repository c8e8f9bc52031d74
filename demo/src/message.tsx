// One message. Its content is always rendered as text, never as HTML.
import { memo } from "react";
import { clock, Icon } from "./components.tsx";
import { timeOf } from "./timeline.ts";
import type { Shown } from "./timeline.ts";

interface Props {
  message: Shown;
  isMine: boolean;
  /** Whether this is the first, or the last, of consecutive messages of one sender. */
  first: boolean;
  last: boolean;
  isOffline: boolean;
  onRetry: (message: Shown) => void;
  onCancel: (message: Shown) => void;
  onDiscard: (message: Shown) => void;
}

export const MessageRow = memo(function MessageRow({ message, isMine, first, last, isOffline, onRetry, onCancel, onDiscard }: Props) {
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
          <span className="state"><Icon name="sending" /> {isOffline ? "Waiting for connection" : "Sending…"}</span>
          {isOffline && message.cancel && <button type="button" className="link" onClick={() => onCancel(message)}>Cancel</button>}
        </p>
      )}
      {state === "failed" && (
        <p className="meta">
          <span className="state">Not sent: {message.error?.message ?? "the server refused it"}</span>
          <button type="button" className="link" onClick={() => onRetry(message)}>Try again</button>
          <button type="button" className="link" onClick={() => onDiscard(message)}>Discard</button>
        </p>
      )}
      {state === "cancelled" && (
        <p className="meta">
          <span className="state">Cancelled before it was sent</span>
          <button type="button" className="link" onClick={() => onRetry(message)}>Send anyway</button>
          <button type="button" className="link" onClick={() => onDiscard(message)}>Discard</button>
        </p>
      )}
    </li>
  );
});

/** Messages may have any data. Text is shown as it is, anything else as JSON. */
function textOf(data: unknown): { text: string; isPlain: boolean } {
  const text = typeof data === "object" && data !== null && Object.keys(data).length === 1 ? (data as { text?: unknown }).text : data;
  return typeof text === "string" ? { text, isPlain: true } : { text: JSON.stringify(data, null, 1), isPlain: false };
}
