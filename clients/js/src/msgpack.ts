// MessagePack for the protocol: plain values and binary data in their shortest form, without extension types. A general library
// would be a third of a page's bytes.
import type { Data } from "./data.js";

// Created when they are first needed: not every platform has them.
let encoder: TextEncoder | undefined;
let decoder: TextDecoder | undefined;

/** Encodes a value. Keys whose value is `undefined` are left out, as JSON.stringify does. */
export function encode(value: unknown): Uint8Array<ArrayBuffer> {
  let bytes = new Uint8Array(256);
  let end = 0;

  /** Makes room for more bytes, and returns their offset. */
  const extend = (size: number): number => {
    const start = end;
    end += size;
    if (end > bytes.length) {
      const longer = new Uint8Array(end * 2);
      longer.set(bytes);
      bytes = longer;
    }
    return start;
  };
  /** Writes a tag, and an integer of `size` bytes. Negative integers become two's complement, since stores into bytes wrap. */
  const tagged = (tag: number, size = 0, integer = 0): void => {
    const start = extend(1 + size);
    bytes[start] = tag;
    for (let at = start + size; at > start; integer = Math.floor(integer / 256)) bytes[at--] = integer;
  };
  /** Writes a length or an unsigned integer: within the tag if it is below `fixed`, else after the first tag whose size holds it. */
  const sized = (number: number, fixedTag: number, fixed: number, tag: number, size: number): void => {
    if (number < fixed) return tagged(fixedTag + number);
    for (; number >= 256 ** size; size *= 2) tag++;
    tagged(tag, size, number);
  };
  const signed = (number: number): void => {
    if (number >= -32) return tagged(256 + number);
    let [tag, size] = [0xd0, 1];
    for (; number < -(256 ** size) / 2; size *= 2) tag++;
    tagged(tag, size, number);
  };
  const append = (part: Uint8Array): void => {
    const start = extend(part.length);
    bytes.set(part, start);
  };
  const write = (value: unknown): void => {
    if (value === null || value === undefined) {
      tagged(0xc0);
    } else if (typeof value === "boolean") {
      tagged(value ? 0xc3 : 0xc2);
    } else if (Number.isSafeInteger(value)) {
      const integer = value as number;
      if (integer < 0) signed(integer);
      else sized(integer, 0, 128, 0xcc, 1);
    } else if (typeof value === "number") {
      tagged(0xcb);
      const start = extend(8);
      new DataView(bytes.buffer).setFloat64(start, value);
    } else if (typeof value === "string") {
      const text = (encoder ??= new TextEncoder()).encode(value);
      sized(text.length, 0xa0, 32, 0xd9, 1);
      append(text);
    } else if (value instanceof Uint8Array) {
      sized(value.length, 0, 0, 0xc4, 1);
      append(value);
    } else if (Array.isArray(value)) {
      sized(value.length, 0x90, 16, 0xdc, 2);
      for (const item of value) write(item);
    } else if (typeof value === "object") {
      const entries = Object.entries(value).filter(([, item]) => item !== undefined);
      sized(entries.length, 0x80, 16, 0xde, 2);
      for (const item of entries.flat()) write(item);
    } else {
      throw new Error(`a value of type ${typeof value} cannot be encoded`);
    }
  };

  write(value);
  return bytes.slice(0, end);
}

/** Decodes one value. Throws unless the bytes are exactly that. */
export function decode(buffer: ArrayBuffer): Data {
  const view = new DataView(buffer);
  let end = 0;

  const take = (size: number): number => (end += size) - size;
  const bytes = (length: number): Uint8Array => new Uint8Array(buffer, take(length), length);
  const text = (length: number): string => (decoder ??= new TextDecoder("utf-8", { ignoreBOM: true })).decode(bytes(length));
  /** Reads an unsigned integer of 1, 2 or 4 bytes. */
  const unsigned = (size: number): number =>
    size === 1 ? view.getUint8(take(1)) : size === 2 ? view.getUint16(take(2)) : view.getUint32(take(4));
  const array = (length: number): Data[] => Array.from({ length }, read);
  const map = (length: number): Data => {
    const entries: { [key: string]: Data } = {};
    for (; length > 0; length--) {
      const key = read();
      if (typeof key !== "string") throw new Error("a key of a map is not text");
      // Assigned as it is, it would replace the object's prototype. Renamed, it is data.
      entries[key === "__proto__" ? "[__proto__]" : key] = read();
    }
    return entries;
  };
  function read(): Data {
    const tag = unsigned(1);
    if (tag < 0x80) return tag;
    if (tag < 0x90) return map(tag - 0x80);
    if (tag < 0xa0) return array(tag - 0x90);
    if (tag < 0xc0) return text(tag - 0xa0);
    if (tag >= 0xe0) return tag - 256;
    switch (tag) {
      case 0xc0:
        return null;
      case 0xc2:
      case 0xc3:
        return tag === 0xc3;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return bytes(unsigned(2 ** (tag - 0xc4)));
      case 0xca:
        return view.getFloat32(take(4));
      case 0xcb:
        return view.getFloat64(take(8));
      case 0xcc:
      case 0xcd:
      case 0xce:
        return unsigned(2 ** (tag - 0xcc));
      case 0xcf:
        return unsigned(4) * 2 ** 32 + unsigned(4);
      case 0xd0:
        return view.getInt8(take(1));
      case 0xd1:
        return view.getInt16(take(2));
      case 0xd2:
        return view.getInt32(take(4));
      case 0xd3:
        return view.getInt32(take(4)) * 2 ** 32 + unsigned(4);
      case 0xd9:
      case 0xda:
      case 0xdb:
        return text(unsigned(2 ** (tag - 0xd9)));
      case 0xdc:
      case 0xdd:
        return array(unsigned(2 ** (tag - 0xdb)));
      case 0xde:
      case 0xdf:
        return map(unsigned(2 ** (tag - 0xdd)));
      default:
        throw new Error(`0x${tag.toString(16)} is not a type of the protocol`);
    }
  }

  const value = read();
  if (end < buffer.byteLength) throw new Error("there are more bytes after the value");
  return value;
}
