// Types of what a room's messages and signals contain: the same for all, or one for each of their types.
import type { Data } from "./data.js";

declare const BY_TYPE: unique symbol;

/**
 * Content that depends on the type of a message, such as `ByType<{ message: { text: string }; poll: { question: string } }>`.
 * After a check such as `message.type === "poll"`, the compiler knows the type of `message.data`.
 */
export interface ByType<Contents extends object> {
  readonly [BY_TYPE]: Contents;
}

/** Signals of any type and content. */
export type AnySignals = Record<string, Data>;

type IsAny<T> = 0 extends 1 & T ? true : false;

/** A union of type and content, for each of the types. */
export type Typed<Contents> = { [K in keyof Contents & string]: { type: K; data: Contents[K] } }[keyof Contents & string];

/** The type and content of a message, for the `T` of a room. */
export type Content<T> =
  IsAny<T> extends true ? { type: string; data: T } : [T] extends [ByType<infer Contents>] ? Typed<Contents> : { type: string; data: T };

/** The types that a message can have, for the `T` of a room. */
export type TypeOf<T> = IsAny<T> extends true ? string : [T] extends [ByType<infer Contents>] ? keyof Contents & string : string;

/** The content of a message of the type `K`, for the `T` of a room. */
export type DataOf<T, K extends string = string> =
  IsAny<T> extends true
    ? T
    : [T] extends [ByType<infer Contents>]
      ? Contents[string extends K ? keyof Contents : K & keyof Contents]
      : T;
