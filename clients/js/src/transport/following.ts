// The types that following a room over HTTP shares, be it by a stream or by polling.
import type { ServerFrame } from "../protocol.js";
import type { HttpRequests } from "./requests.js";

/** A followed room. */
export interface Following {
  room: string;
  /** The id after which delivery continues. */
  position: string;
  live: boolean;
  /** Its durable subscription, as the server gave it to this client. */
  held?: { durable: string; holder: string };
  /** The newest acknowledged id that is not sent yet. */
  acked?: string | undefined;
  /** Whether an acknowledgement is being sent. */
  acking?: boolean;
  /** Aborted when the room is no longer followed. */
  readonly control: AbortController;
}

/** The transport, as streams and polling use it. */
export interface Follower {
  readonly requests: HttpRequests;
  /** Names this client, so that its own signals do not come back to its streams. */
  readonly session: string;
  /** Whether there are more followed rooms than requests that may be held open, so that they take turns. */
  readonly isCrowded: boolean;
  emit(...frames: ServerFrame[]): void;
}
