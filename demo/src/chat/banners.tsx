// What is wrong with the connection, or with this room, and what can be done about it.
import type { ReactNode } from "react";
import type { RoomlogError } from "@roomlog/client";
import type { Connection } from "@roomlog/client/react";
import { sentence } from "../ui/sentence.ts";

/** There is no connection. Counts the seconds until the next attempt. */
export function OfflineBanner({ error, retryIn, retry }: Connection) {
  const hasReason = error !== undefined && error.code !== "disconnected";
  return (
    <div className="banner">
      <span role="status">
        <strong>{!navigator.onLine ? "You're offline." : hasReason ? sentence(error.message) : "Can't reach the server."}</strong> Your messages will be sent when you reconnect.
      </span>
      {/* Not in the status, since nobody wants to hear every second of it. */}
      <span className="retry">{retryIn === undefined ? "Reconnecting…" : `Reconnecting in ${retryIn} s`}</span>
      <button type="button" className="link" onClick={retry}>Try now</button>
    </div>
  );
}

/** The server ended the subscription to a room, or refused it. */
export function EndedBanner({ error, onResume, onLeave }: { error: RoomlogError; onResume: () => void; onLeave: () => void }) {
  return (
    <Alert>
      <span><strong>{explain(error)}</strong> {error.code !== "deleted" && sentence(error.message)}</span>
      <button type="button" className="link" onClick={onResume}>Try again</button>
      <button type="button" className="link" onClick={onLeave}>Leave room</button>
    </Alert>
  );
}

/** Something that the user asked for failed. */
export function FailureBanner({ text, onClose }: { text: string; onClose: () => void }) {
  return (
    <Alert>
      <span>{text}</span>
      <button type="button" className="link" onClick={onClose}>Dismiss</button>
    </Alert>
  );
}

const Alert = ({ children }: { children: ReactNode }) => <div className="banner" role="alert">{children}</div>;

function explain({ code }: RoomlogError): string {
  if (code === "forbidden") return "You don't have access to this room.";
  return code === "deleted" ? "This room was deleted." : "You were disconnected from this room.";
}
