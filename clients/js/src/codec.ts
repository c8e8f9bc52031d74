// The two encodings: frames to bytes, and bytes to frames.
import { RoomlogError } from "./errors.js";
import { decode, encode } from "./msgpack.js";
import type { ServerFrame } from "./protocol.js";

/** `json`, or the smaller and faster `msgpack`, which also has binary data. */
export type Encoding = "json" | "msgpack";

/** Turns values into bytes of the wire, and back. */
export interface Codec {
  readonly encoding: Encoding;
  readonly contentType: string;
  encode(value: unknown): string | Uint8Array<ArrayBuffer>;
  decode(bytes: string | ArrayBuffer): unknown;
}

const json: Codec = {
  encoding: "json",
  contentType: "application/json",
  encode: (value) => JSON.stringify(value),
  decode: (bytes) => JSON.parse(typeof bytes === "string" ? bytes : new TextDecoder().decode(bytes)),
};

const msgpack: Codec = {
  encoding: "msgpack",
  contentType: "application/msgpack",
  encode,
  decode: (bytes) => {
    if (typeof bytes === "string") throw new Error("the server sent text on a MessagePack connection");
    return decode(bytes);
  },
};

export const codecOf = (encoding: Encoding): Codec => (encoding === "json" ? json : msgpack);

/** Returns the frames of one WebSocket message. They are trusted from here on: the server keeps to the protocol. */
export function framesOf(decoded: unknown): ServerFrame[] {
  const frames: unknown[] = Array.isArray(decoded) ? decoded : [decoded];
  for (const frame of frames) {
    if (typeof (frame as ServerFrame | null)?.op !== "string") {
      throw new RoomlogError("bad_frame", "the server sent something that is not a frame");
    }
  }
  return frames as ServerFrame[];
}
