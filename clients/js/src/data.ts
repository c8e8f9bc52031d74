// The content of messages. It is checked and copied on publishing: data that cannot be sent is refused at once, with the path to
// it, and later changes by the application do not change the message.
import { RoomlogError } from "./errors.js";

/** The content of a message: any JSON value, and with MessagePack binary data. */
export type Data = null | boolean | number | string | Uint8Array | Data[] | { [key: string]: Data };

/** The server's limit. */
const MAX_DEPTH = 32;

const refuse = (path: string, why: string): never => {
  throw new RoomlogError("bad_request", `${path} cannot be sent: ${why}`);
};

/** Copies plain data. `binary`: whether the encoding has binary values. */
export function snapshot(value: unknown, binary: boolean, path = "data", depth = 0): Data {
  switch (typeof value) {
    case "boolean":
      return value;
    case "string":
      return wellFormed(value);
    case "number":
      return Number.isFinite(value) ? value : refuse(path, `${value} is not a finite number`);
    case "object":
      break;
    default:
      return refuse(path, `it is of type ${typeof value}`);
  }
  if (value === null) return null;
  if (value instanceof Uint8Array) {
    return binary ? value.slice() : refuse(path, "binary data needs a client with the encoding `msgpack`");
  }
  if (depth === MAX_DEPTH) return refuse(path, `it is nested more than ${MAX_DEPTH} levels deep`);
  if (Array.isArray(value)) {
    return Array.from(value, (item, index) => snapshot(item ?? null, binary, `${path}[${index}]`, depth + 1));
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  // Objects of another window or context have another `Object.prototype`, whose own prototype is null as well.
  if (prototype !== null && Object.getPrototypeOf(prototype) !== null) {
    const name = value.constructor?.name || "a class";
    return refuse(path, `an instance of ${name} is not plain data` + (value instanceof Date ? "; send the result of `toISOString()`" : ""));
  }
  const copy: { [key: string]: Data } = {};
  for (const [key, item] of Object.entries(value)) {
    // As JSON.stringify does.
    if (item === undefined) continue;
    if (key === "__proto__") return refuse(path, "`__proto__` is not allowed as a key");
    copy[wellFormed(key)] = snapshot(item, binary, `${path}.${key}`, depth + 1);
  }
  return copy;
}

/** Replaces halves of surrogate pairs: they are not valid UTF-8, and would cost the connection. */
const wellFormed = (text: string): string => text.replace(/\p{Surrogate}/gu, "\uFFFD");
