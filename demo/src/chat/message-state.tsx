// How far one's own message is on its way, and what can be done about it.
import { Icon } from "../ui/icon.tsx";
import type { Shown } from "./timeline.ts";

export interface StateActions {
  onRetry: (message: Shown) => void;
  onCancel: (message: Shown) => void;
  onDiscard: (message: Shown) => void;
}

interface Props {
  message: Shown;
  isMine: boolean;
  last: boolean;
  isOffline: boolean;
  actions: StateActions;
}

export function MessageState({ message, isMine, last, isOffline, actions: { onRetry, onCancel, onDiscard } }: Props) {
  switch (message.state) {
    case "sent":
      return isMine && last && <p className="meta sent"><span className="state" title="Sent"><Icon name="sent" /><span className="hidden">Sent</span></span></p>;
    case "sending":
      return (
        <p className="meta">
          <span className="state"><Icon name="sending" /> {isOffline ? "Waiting for connection" : "Sending…"}</span>
          {isOffline && message.cancel && <button type="button" className="link" onClick={() => onCancel(message)}>Cancel</button>}
        </p>
      );
    case "failed":
      return (
        <p className="meta">
          <span className="state">Not sent: {message.error?.message ?? "the server refused it"}</span>
          <button type="button" className="link" onClick={() => onRetry(message)}>Try again</button>
          <button type="button" className="link" onClick={() => onDiscard(message)}>Discard</button>
        </p>
      );
    case "cancelled":
      return (
        <p className="meta">
          <span className="state">Cancelled before it was sent</span>
          <button type="button" className="link" onClick={() => onRetry(message)}>Send anyway</button>
          <button type="button" className="link" onClick={() => onDiscard(message)}>Discard</button>
        </p>
      );
  }
}
