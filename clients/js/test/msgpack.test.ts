// MessagePack, compared with an independent implementation in both directions.
import { Decoder, Encoder } from "@msgpack/msgpack";
import { describe, expect, it } from "vitest";
import { decode, encode } from "../src/msgpack.js";
import { Random } from "./harness/random.js";

const reference = { encoder: new Encoder({ ignoreUndefined: true }), decoder: new Decoder() };

const bufferOf = (bytes: Iterable<number>): ArrayBuffer => Uint8Array.from(bytes).buffer;

/** Returns a random value, often of a size at which the form changes. */
function value(random: Random, depth = 0): unknown {
  const near = (size: number): number => Math.max(0, size + random.below(5) - 2);
  const bound = 2 ** random.pick([0, 5, 7, 8, 15, 16, 31, 32, 40, 52] as const);
  const kind = random.weighted({ null: 1, boolean: 1, integer: 4, float: 2, text: 3, bytes: 2, array: depth < 3 ? 3 : 0, map: depth < 3 ? 3 : 0 });
  switch (kind) {
    case "null":
      return null;
    case "boolean":
      return random.chance(0.5);
    case "integer":
      // Negative zero is not an integer.
      return (random.chance(0.5) ? 1 : -1) * near(bound) || 0;
    case "float":
      return random.pick([random.next(), -random.next() * 1e300, 2 ** 53 + 2, Infinity, -Infinity, NaN, 5e-324]);
    case "text":
      return random.pick(["a", "ü", "世", "👋", "\ufeff", "\0"] as const).repeat(near(random.pick([0, 8, 31, 32, 255, 256, depth ? 1 : 65_536] as const)));
    case "bytes":
      return new Uint8Array(near(random.pick([0, 255, depth ? 1 : 65_536] as const))).map(() => random.below(256));
    case "array":
      return Array.from({ length: near(random.pick([0, 3, 16] as const)) }, () => value(random, depth + 1));
    case "map":
      return Object.fromEntries(Array.from({ length: near(random.pick([0, 3, 16] as const)) }, (_, i) => [`${random.below(9)}ö${i}`, value(random, depth + 1)]));
  }
}

describe("MessagePack", () => {
  it.each(Array.from({ length: 10 }, (_, seed) => seed))("has the bytes and values of another implementation (seed %i)", (seed) => {
    const random = new Random(seed);
    for (let n = 0; n < 100; n++) {
      const original = value(random);
      const bytes = encode(original);
      // Not `toEqual`, which takes long for a megabyte.
      expect(Buffer.compare(bytes, reference.encoder.encode(original)), JSON.stringify(original)?.slice(0, 200)).toBe(0);
      expect(decode(bytes.buffer)).toEqual(original);
    }
  });

  it("has arrays, maps and texts of any length", () => {
    for (const original of ["x".repeat(70_000), Array(70_000).fill(1), Object.fromEntries(Array.from({ length: 70_000 }, (_, i) => [`${i}`, i]))]) {
      const bytes = encode(original);
      expect(Buffer.compare(bytes, reference.encoder.encode(original))).toBe(0);
      expect(decode(bytes.buffer)).toEqual(original);
    }
  });

  it.each([[2 ** 53 - 1], [-(2 ** 53) + 1], [-0], [2 ** 64], [-(2 ** 63)]])("has the number %d", (number) => {
    expect([...encode(number)]).toEqual([...reference.encoder.encode(number)]);
  });

  it.each([
    ["cfffffffffffffffff"], ["cf0020000000000001"], ["d38000000000000000"], ["d3ffdfffffffffffff"], ["d3ffffffffffffffff"],
    ["ca3f000000"], ["d180ff"], ["d2800000ff"], ["d080"], ["dc0001c0"], ["dd00000001c0"], ["de0001a161c0"], ["df00000001a161c0"],
    ["d90161"], ["da000161"], ["db0000000161"], ["c5000101"], ["c60000000101"],
  ])("reads %s, even if it is not the shortest form", (hex) => {
    const bytes = Buffer.from(hex, "hex");
    expect(decode(bufferOf(bytes))).toEqual(reference.decoder.decode(bufferOf(bytes)));
  });

  it("leaves out keys without a value, and writes none for a missing item", () => {
    expect(decode(encode({ a: undefined, b: [undefined, 1] }).buffer)).toEqual({ b: [null, 1] });
  });

  it("reads a key __proto__ as data", () => {
    const bytes = Buffer.concat([Buffer.from([0x82]), ...["__proto__", { polluted: true }, "text", "hi"].map((part) => encode(part))]);
    const read = decode(bufferOf(bytes)) as { polluted?: boolean };
    expect(read.polluted).toBeUndefined();
    expect(read).toEqual({ "[__proto__]": { polluted: true }, text: "hi" });
  });

  it.each([
    ["an extension type", "d40100"], ["a reserved tag", "c1"], ["nothing", ""], ["a text that is cut off", "a36162"], ["binary data that is cut off", "c40301"],
    ["a number that is cut off", "cd01"], ["an array that is cut off", "ddffffffff01"], ["a map that is cut off", "81a161"], ["a key that is not text", "810102"], ["more than one value", "0101"],
  ])("refuses %s", (_, hex) => {
    expect(() => decode(bufferOf(Buffer.from(hex, "hex")))).toThrow();
  });

  it.each([["a function", () => 1], ["a bigint", 1n], ["a symbol", Symbol("no")]])("does not write %s", (_, original) => {
    expect(() => encode({ original })).toThrow("cannot be encoded");
  });
});
