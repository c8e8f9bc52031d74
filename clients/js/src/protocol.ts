// The wire protocol, version 1: frames as types.
import type { Data } from "./data.js";

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
