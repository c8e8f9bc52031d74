// The wire protocol, version 1: frames as types, message ids, and both encodings.
import { Decoder, Encoder } from "@msgpack/msgpack";
import type { Data } from "./data.js";
import { RoomlogError } from "./errors.js";

/** `json`, or the smaller and faster `msgpack`, which also has binary data. */
export type Encoding = "json" | "msgpack";

/** A message of a room. */
export interface Message<T = Data> {
  /** The room that it is in. */
  room: string;
  /** Its id, `<ms>-<seq>`: its time in Unix milliseconds and its number in the room. */
  id: string;
  /** The UUID that its sender gave it. */
  key: string;
  /** The user who published it. */
  from: string;
  /** Its type, `message` unless the sender chose another. */
  type: string;
  /** Its content. */
  data: T;
}

/** Messages that are not to be had any more. */
export interface Gap {
  room: string;
  /** The last id before them. */
  after: string;
  /** Where it goes on; if that message is not there yet, the smallest id that it can have. */
  next: string;
  /** `trimmed`: retention took them, or they were deleted. `rewound`: the server lost writes that it had confirmed. */
  reason: "trimmed" | "rewound" | (string & {});
}

/** What somebody present tells the others, which is not stored: at most once. */
export interface Signal<T = Data> {
  room: string;
  from: string;
  type: string;
  data: T;
}

/** A part of a room's history. */
export interface HistoryPage<T = Data> {
  /** In ascending order. */
  messages: Message<T>[];
  /** Whether there are more in the direction that was asked for. */
  more: boolean;
  /** The newest id of the room. */
  head: string;
  /** The first place in the page where messages are missing. */
  gap?: Omit<Gap, "room">;
}

export type ClientFrame = { op: string; ref?: number; [field: string]: unknown };

export type Ok = { op: "ok"; ref: number; [field: string]: unknown };

export type ServerFrame =
  | Ok
  | { op: "error"; ref?: number; code: string; message: string; retry_after_ms?: number }
  | ({ op: "message" } & Message)
  | { op: "live"; room: string; id: string }
  | ({ op: "gap" } & Gap)
  | ({ op: "signal" } & Signal)
  | { op: "unsubscribed"; room: string; code: string; message: string }
  | { op: "goodbye"; code: string; message: string; retry_after_ms?: number }
  | { op: "pong"; ref?: number };

/** An id's two numbers. */
export function parseId(id: string): [ms: number, seq: number] {
  const dash = id.indexOf("-");
  return [Number(id.slice(0, dash)), Number(id.slice(dash + 1))];
}

/** Negative if `a` comes before `b`. */
export function compareIds(a: string, b: string): number {
  const [ams, aseq] = parseId(a);
  const [bms, bseq] = parseId(b);
  return ams - bms || aseq - bseq;
}

/** The position right before a message. */
export function before(id: string): string {
  const [ms, seq] = parseId(id);
  return `${ms}-${seq - 1}`;
}

/** Whether `id` comes right after `position`, with nothing between. */
export const follows = (position: string, id: string): boolean =>
  compareIds(id, position) > 0 && parseId(id)[1] === parseId(position)[1] + 1;

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

/** A random UUID, also where pages are not served over TLS and `randomUUID` is missing. */
export function uuid(): string {
  const { crypto } = globalThis;
  if (crypto?.randomUUID) return crypto.randomUUID();
  const bytes = new Uint8Array(16);
  if (crypto?.getRandomValues) crypto.getRandomValues(bytes);
  else bytes.forEach((_, i) => (bytes[i] = Math.random() * 256));
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
