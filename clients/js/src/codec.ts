// The two encodings: frames to bytes, and bytes to frames.
import { Decoder, Encoder } from "@msgpack/msgpack";
import { RoomlogError } from "./errors.js";
import type { ServerFrame } from "./protocol.js";

/** `json`, or the smaller and faster `msgpack`, which also has binary data. */
export type Encoding = "json" | "msgpack";

/** Turns values into what goes on the wire, and back. */
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

function msgpack(): Codec {
  const encoder = new Encoder({ ignoreUndefined: true });
  const decoder = new Decoder({
    // The decoder refuses a key `__proto__`, so anybody could send a message that ends all who read it. Renamed, it is data.
    keyDecoder: {
      canBeCached: (length) => length === 9,
      decode(bytes, offset, length) {
        const key = String.fromCharCode(...bytes.subarray(offset, offset + length));
        if (key === "__proto__") return "[__proto__]";
        return /^[\0-\x7f]*$/.test(key) ? key : new TextDecoder().decode(bytes.subarray(offset, offset + length));
      },
    },
  });
  return {
    encoding: "msgpack",
    contentType: "application/msgpack",
    encode: (value) => encoder.encode(value),
    decode: (bytes) => {
      if (typeof bytes === "string") throw new Error("text on a MessagePack connection");
      return decoder.decode(new Uint8Array(bytes));
    },
  };
}

export const codecOf = (encoding: Encoding): Codec => (encoding === "json" ? json : msgpack());

/** The frames of one WebSocket message. */
export function framesOf(decoded: unknown): ServerFrame[] {
  const frames: unknown[] = Array.isArray(decoded) ? decoded : [decoded];
  for (const frame of frames) {
    if (typeof (frame as ServerFrame | null)?.op !== "string") {
      throw new RoomlogError("bad_frame", "the server sent what is not a frame");
    }
  }
  return frames as ServerFrame[];
}
