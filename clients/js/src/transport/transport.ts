// The transport of a connection: frames in, frames out. A WebSocket carries them as they are; over HTTP each becomes a request, so
// that the rest of the client is the same whatever the network allows.
import type { Codec } from "../codec.js";
import type { ClientFrame, ServerFrame } from "../protocol.js";

export type TransportKind = "websocket" | "sse" | "polling";

/** Why a transport ended. */
export interface Closed {
  /** The WebSocket close code, or over HTTP the one of the same cause. */
  code?: number;
  message?: string;
  /** Whether the network carries requests, but not this transport. */
  blocked?: boolean;
}

export interface TransportEvents {
  /** Frames may be sent now. */
  opened(): void;
  /** The server gave a sign of life. */
  heard(): void;
  frames(frames: ServerFrame[]): void;
  /** Once, as the last of all events. After `close`, there are no events. */
  closed(closed: Closed): void;
}

export interface Transport {
  /** Limit of a request in bytes; above it, `send` throws `too_large`. */
  limit: number;
  send(frame: ClientFrame): void;
  close(): void;
}

/** The environment of transports. */
export interface Environment {
  /** Address of the WebSocket. */
  socketUrl: string;
  /** Address before `/v1/…`. */
  httpUrl: string;
  codec: Codec;
  fetch: typeof fetch;
  /** Returns the WebSocket class. Missing where there is none. */
  loadWebSocket: (() => typeof WebSocket | Promise<typeof WebSocket>) | undefined;
}
