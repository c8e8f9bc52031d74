// What is wrong with the connection, or with this room, and what can be done about it.
import { useEffect, useState } from "react";
import type { ReactNode } from "react";
import type { Unsubscribed } from "@roomlog/client";
import { useRoomlog } from "@roomlog/client/react";

/** The connection is down. It counts the seconds until the next attempt. */
export function OfflineBanner() {
  const client = useRoomlog();
  return (
    <Banner role="status">
      <span><strong>{navigator.onLine ? "Can't reach the server." : "You're offline."}</strong> Your messages will be sent when you reconnect.</span>
      <button type="button" className="link" onClick={() => client.wake()}>Try now</button>
    </Banner>
  );
}

/** The server ended the subscription to a room. */
export function EndedBanner({ room, onLeave }: { room: string; onLeave: () => void }) {
  const client = useRoomlog();
  const [ended, setEnded] = useState<Unsubscribed>();
  useEffect(() => {
    const subscribed = client.room(room);
    const offs = [subscribed.on("unsubscribed", setEnded), subscribed.on("started", () => setEnded(undefined))];
    return () => offs.forEach((off) => off());
  }, [client, room]);
  return ended && (
    <Banner role="alert">
      <span><strong>{explain(ended)}</strong> {ended.code !== "deleted" && sentence(ended.message)}</span>
      <button type="button" className="link" onClick={() => client.room(room).resume()}>Try again</button>
      <button type="button" className="link" onClick={onLeave}>Leave room</button>
    </Banner>
  );
}

/** Something that the user asked for failed. */
export function FailureBanner({ text, onClose }: { text: string; onClose: () => void }) {
  return (
    <Banner role="alert">
      <span>{text}</span>
      <button type="button" className="link" onClick={onClose}>Dismiss</button>
    </Banner>
  );
}

const Banner = ({ role, children }: { role: "status" | "alert"; children: ReactNode }) => <div className="banner" role={role}>{children}</div>;

function explain({ code }: Unsubscribed): string {
  if (code === "forbidden") return "You don't have access to this room.";
  return code === "deleted" ? "This room was deleted." : "You were disconnected from this room.";
}

/** The server's texts are clauses, without a capital letter and a full stop. */
export const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
