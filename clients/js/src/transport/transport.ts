// What a connection asks of a transport: frames in, frames out. A WebSocket carries them as they are; over HTTP
// each is turned into a request, so that all above this line is the same whatever the network lets through.
import type { Codec } from "../codec.js";
import type { ClientFrame, ServerFrame } from "../protocol.js";

export type TransportKind = "websocket" | "sse" | "polling";

/** Why a transport ended. */
export interface Closed {
  /** The WebSocket close code, or over HTTP the one that the same cause has there. */
  code?: number;
  message?: string;
  /** The network carries requests, but not this transport. */
  blocked?: boolean;
}

export interface TransportEvents {
  /** Frames may be sent now. */
  opened(): void;
  /** Something came from the server: it lives. */
  heard(): void;
  frames(frames: ServerFrame[]): void;
  /** Once, and the last of all events. Not after `close`. */
  closed(closed: Closed): void;
}

export interface Transport {
  /** Largest message in bytes; beyond it, `send` throws `too_large`. */
  limit: number;
  send(frame: ClientFrame): void;
  close(): void;
}

/** What transports are made with. */
export interface Environment {
  /** Address of the WebSocket. */
  socketUrl: string;
  /** Address before `/v1/…`. */
  httpUrl: string;
  codec: Codec;
  fetch: typeof fetch;
  WebSocket: typeof WebSocket | undefined;
}
