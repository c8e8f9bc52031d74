// Small components that several others share.
import { useConnection } from "@roomlog/client/react";
import type { ConnectionState } from "@roomlog/client";

/** Three lines of a log. */
export function Logo() {
  return (
    <svg className="logo" viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="8" />
      <path d="M9 10h14M9 16h14M9 22h8" />
    </svg>
  );
}

const ICONS = {
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6L6 18",
  send: "M5 12h13M12 5l7 7-7 7",
  down: "M12 5v14M6 13l6 6 6-6",
  up: "M12 19V5M6 11l6-6 6 6",
  add: "M12 5v14M5 12h14",
  frames: "M4 8h13l-3-3M20 16H7l3 3",
  sending: "M12 7v5l3 2M12 3.5a8.5 8.5 0 1 0 0 17a8.5 8.5 0 1 0 0-17",
  sent: "M5 12.5l4.5 4.5L19 7.5",
} as const;

export function Icon({ name }: { name: keyof typeof ICONS }) {
  return (
    <svg className="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={ICONS[name]} />
    </svg>
  );
}

const LABELS: Record<ConnectionState, string> = {
  idle: "Not connected",
  connecting: "Connecting…",
  open: "Connected",
  waiting: "Offline",
  closed: "Disconnected",
};

/** The state of the connection. */
export function ConnectionStatus() {
  const { state } = useConnection();
  return <span className="connection" data-state={state} role="status">{LABELS[state]}</span>;
}

const time = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat([], { weekday: "long", day: "numeric", month: "long" });

export const clock = (at: number): string => time.format(at);

export function dayName(at: number): string {
  const days = Math.round((new Date().setHours(0, 0, 0, 0) - new Date(at).setHours(0, 0, 0, 0)) / 86_400_000);
  return days === 0 ? "Today" : days === 1 ? "Yesterday" : day.format(at);
}
