// What a message may hold. Checked and copied when it is published: what cannot be stored fails at once and by name, and
// what the application changes afterwards does not change the message.
import { RoomlogError } from "./errors.js";

/** The content of a message: what JSON has, and with MessagePack binary data. */
export type Data = null | boolean | number | string | Uint8Array | Data[] | { [key: string]: Data };

/** The server's bound. */
const MAX_DEPTH = 32;

const refuse = (path: string, why: string): never => {
  throw new RoomlogError("bad_request", `${path}: ${why}`);
};

/** Copies plain data. `binary` says whether the encoding has binary values. */
export function snapshot(value: unknown, binary: boolean, path = "data", depth = 0): Data {
  switch (typeof value) {
    case "boolean":
      return value;
    case "string":
      return wellFormed(value);
    case "number":
      return Number.isFinite(value) ? value : refuse(path, `${value} is not a number that can be sent`);
    case "object":
      break;
    default:
      return refuse(path, `a value of type ${typeof value} cannot be sent`);
  }
  if (value === null) return null;
  if (value instanceof Uint8Array) {
    return binary ? value.slice() : refuse(path, "binary data needs the encoding `msgpack`");
  }
  if (depth === MAX_DEPTH) return refuse(path, `nested deeper than ${MAX_DEPTH}`);
  if (Array.isArray(value)) {
    return Array.from(value, (item, index) => snapshot(item ?? null, binary, `${path}[${index}]`, depth + 1));
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  // Objects of another window or context have another `Object.prototype`, whose own prototype is null as well.
  if (prototype !== null && Object.getPrototypeOf(prototype) !== null) {
    const name = value.constructor?.name || "a class";
    return refuse(path, `${name} is not plain data` + (value instanceof Date ? "; send `toISOString()` of it" : ""));
  }
  const copy: { [key: string]: Data } = {};
  for (const [key, item] of Object.entries(value)) {
    // As JSON.stringify does.
    if (item === undefined) continue;
    if (key === "__proto__") return refuse(path, "a key `__proto__` cannot be sent");
    copy[wellFormed(key)] = snapshot(item, binary, `${path}.${key}`, depth + 1);
  }
  return copy;
}

/** Half a surrogate pair is no UTF-8, and would cost the connection. */
const wellFormed = (text: string): string => text.replace(/\p{Surrogate}/gu, "\uFFFD");
