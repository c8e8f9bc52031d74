// The state of the connection, in two words.
import { useConnection } from "@roomlog/client/react";
import type { ConnectionState } from "@roomlog/client";

const LABELS: Record<ConnectionState, string> = {
  idle: "Not connected",
  connecting: "Connecting…",
  open: "Connected",
  waiting: "Offline",
  closed: "Disconnected",
};

export function ConnectionStatus() {
  const { state } = useConnection();
  return <span className="connection" data-state={state} role="status">{LABELS[state]}</span>;
}
