// What following a room over HTTP takes, be it by a stream or by polling.
import type { ServerFrame } from "../protocol.js";
import type { HttpRequests } from "./requests.js";

/** A room that is followed. */
export interface Following {
  room: string;
  /** The id after which delivery continues. */
  position: string;
  live: boolean;
  /** Its durable subscription, as the server gave it to this client. */
  held?: { durable: string; holder: string };
  /** The newest id that is acknowledged and that the server does not have yet. */
  acked?: string | undefined;
  /** Whether a request with an acknowledgement is under way. */
  acking?: boolean;
  /** Ends it. */
  readonly control: AbortController;
}

/** The transport, as its ways to follow a room use it. */
export interface Follower {
  readonly requests: HttpRequests;
  /** Names this client: its own signals do not come back to streams of the same name. */
  readonly session: string;
  /** Whether more rooms are followed than requests may be held open, so that they take turns. */
  readonly isCrowded: boolean;
  emit(...frames: ServerFrame[]): void;
}
