// The wire protocol, version 1, as types: requests with their answers, and pushes. Each new frame is a line of `Requests` or
// `Pushes`.
import type { AnySignals, Content, Typed } from "./content.js";
import type { Data } from "./data.js";
import { timeOf } from "./ids.js";

/** The fields of every message of a room, as the server sends them. */
interface MessageFields {
  /** The room that it is in. */
  room: string;
  /** Its id, `<ms>-<seq>`: its time in Unix milliseconds and its number in the room. */
  id: string;
  /** The UUID that its sender gave it. */
  key: string;
  /** The user who published it. */
  from: string;
}

/** A message of a room as the server sends it: with its `type`, `message` unless the sender chose another, and its content, `data`. */
export type StoredMessage<T = Data> = MessageFields & Content<T>;

/** A message of a room, with its `time`: when the server stored it, by the server's clock. */
export type Message<T = Data> = StoredMessage<T> & { time: Date };

/** Adds to a message what follows from its fields. */
export const messageOf = <T>(stored: StoredMessage<T>): Message<T> => ({ ...stored, time: timeOf(stored.id) });

/** Messages that are no longer available. */
export interface Gap {
  room: string;
  /** The last id before them. */
  after: string;
  /** The id at which delivery continues. If that message does not exist yet, the smallest id that it can have. */
  next: string;
  /** `trimmed`: retention removed them, or they were deleted. `rewound`: the server lost writes that it had confirmed. */
  reason: "trimmed" | "rewound" | (string & {});
}

/** A message to the users who are present. It is not stored, and delivered at most once. */
export type Signal<S extends object = AnySignals> = { room: string; from: string } & Typed<S>;

/** A message was deleted from the log. */
export interface Deleted {
  room: string;
  /** The message's id. */
  id: string;
  /** The user who deleted it. */
  by: string;
}

/** Which part of the history: the messages before or after an id, or the newest. */
export interface HistoryQuery {
  before?: string;
  after?: string;
  /** 1 to 1000; 100 if it is missing. */
  limit?: number;
}

/** A part of a room's history. */
export interface HistoryPage<T = Data> extends Omit<HistoryAnswer<T>, "messages"> {
  /** In ascending order. */
  messages: Message<T>[];
}

/** The answer to `history`. */
export interface HistoryAnswer<T = Data> {
  messages: StoredMessage<T>[];
  /** Whether there are more in the requested direction. */
  more: boolean;
  /** The newest id of the room. */
  head: string;
  /** The first place in the page where messages are missing. */
  gap?: Omit<Gap, "room">;
}

/** Where a subscription starts. At most one of `since` and `last`. */
export interface Start {
  room: string;
  since?: string | undefined;
  last?: number | undefined;
  durable?: string | undefined;
}

/** The answer to `connect`. */
export interface Connected {
  session: string;
  user: string;
  /** Seconds between the server's pings, and its bound for one message. Over HTTP there is neither. */
  ping?: number;
  max_message?: number;
  /** In Unix seconds. */
  expires: number | null;
}

/** The answer to `subscribe`: delivery starts after `position`. */
export interface Subscribed {
  room: string;
  position: string;
  head: string;
  created?: boolean;
}

/** Every request, with its fields and the fields of its answer. */
export interface Requests {
  connect: [fields: { token: string }, answer: Connected];
  auth: [fields: { token: string }, answer: Pick<Connected, "expires">];
  subscribe: [fields: Start, answer: Subscribed];
  unsubscribe: [fields: { room: string; forget?: boolean; durable?: string }, answer: object];
  publish: [fields: { room: string; key: string; type: string; data: Data }, answer: { id: string; duplicate?: boolean }];
  ack: [fields: { room: string; id: string }, answer: object];
  history: [fields: { room: string } & HistoryQuery, answer: HistoryAnswer];
  signal: [fields: { room: string; type: string; data: Data; to?: string }, answer: object];
  ping: [fields: object, answer: object];
}

export type Op = keyof Requests;
export type Fields<K extends Op> = Requests[K][0];
export type Answer<K extends Op> = Requests[K][1];

/** A frame of this client: a request, with a `ref` if an answer is awaited. */
export type ClientFrame<K extends Op = Op> = { [P in K]: { op: P; ref?: number } & Fields<P> }[K];

/** Every kind of frame that the server sends for a room without being asked. */
export interface Pushes {
  message: StoredMessage;
  gap: Gap;
  /** The backlog up to `id` has been delivered. */
  live: { room: string; id: string };
  unsubscribed: { room: string; code: string; message: string };
  /** With `sys`, it comes from the server itself, and its type begins with `$`. */
  signal: Signal & { sys?: boolean };
}

export type MessageFrame = { op: "message" } & StoredMessage;
export type GapFrame = { op: "gap" } & Gap;

export type Push = { [P in keyof Pushes]: { op: P } & Pushes[P] }[keyof Pushes];

export type Ok = { [P in Op]: { op: "ok"; ref: number } & Answer<P> }[Op];

export type ServerFrame =
  | Ok
  | { op: "error"; ref?: number; code: string; message: string; retry_after_ms?: number }
  | { op: "goodbye"; code: string; message: string; retry_after_ms?: number }
  | { op: "pong"; ref?: number }
  | Push;
