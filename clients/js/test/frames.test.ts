// The golden frames, which the server is tested with, too: this client's encoding of them, and the frames of the real server.
import { readFileSync, readdirSync } from "node:fs";
import { resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { finalCode } from "../src/closes.js";
import { codecOf, framesOf } from "../src/codec.js";
import { RoomlogError, isTemporary } from "../src/errors.js";
import type { ClientFrame, ServerFrame } from "../src/protocol.js";
import { Server, token } from "./harness/server.js";
import { until } from "./harness/until.js";

interface Golden {
  name: string;
  direction: "client" | "server";
  json: string;
  msgpack: string;
  binary?: true;
}

const folder = resolve(import.meta.dirname, "../../../tests/fixtures/protocol");
const goldens = readdirSync(folder)
  .filter((file) => file.endsWith(".json"))
  .map((file) => JSON.parse(readFileSync(`${folder}/${file}`, "utf8")) as Golden);
const of = (direction: Golden["direction"]): Golden[] => goldens.filter((golden) => golden.direction === direction);

const json = codecOf("json");
const msgpack = codecOf("msgpack");
const bytesOf = (hex: string): ArrayBuffer => new Uint8Array(Buffer.from(hex, "hex")).buffer;
const hexOf = (bytes: string | Uint8Array): string => Buffer.from(bytes as Uint8Array).toString("hex");

/** Returns a value as it arrives over JSON. */
const asJson = (value: unknown): unknown =>
  JSON.parse(JSON.stringify(value, (_, item: unknown) => (item instanceof Uint8Array ? Buffer.from(item).toString("base64") : item)));

interface Codes {
  errors: { code: string; temporary: boolean }[];
  closes: { number: number; code: string; final: boolean }[];
}

const codes = JSON.parse(readFileSync(resolve(import.meta.dirname, "../../../tests/fixtures/codes.json"), "utf8")) as Codes;

describe("the table of codes", () => {
  it.each(codes.errors)("error $code is temporary: $temporary", ({ code, temporary }) => {
    expect(isTemporary(new RoomlogError(code, "as in the table"))).toBe(temporary);
  });

  it.each(codes.closes)("close $number is final: $final", ({ number, code, final }) => {
    expect(finalCode(number)).toBe(final ? code : undefined);
  });
});

describe("golden frames", () => {
  it.each(of("client"))("$name is encoded byte for byte", ({ json: text, msgpack: hex, binary }) => {
    const frame = msgpack.decode(bytesOf(hex));
    expect(hexOf(msgpack.encode(frame))).toBe(hex);
    expect(asJson(frame)).toEqual(json.decode(text));
    if (!binary) expect(json.encode(frame)).toBe(text);
  });

  it.each(of("server"))("$name is decoded without loss", ({ json: text, msgpack: hex }) => {
    const fromJson = framesOf(json.decode(text));
    const fromMsgpack = framesOf(msgpack.decode(bytesOf(hex)));
    expect(asJson(fromMsgpack)).toEqual(fromJson);
    // The order of fields, too.
    expect(JSON.stringify(asJson(msgpack.decode(bytesOf(hex))))).toBe(text);
  });
});

/** Returns a frame's form: its fields in order, with the types of their values, except for `data`. */
const formOf = (frame: object): string =>
  Object.entries(frame)
    .map(([name, value]) => `${name}: ${name === "op" ? value : name === "data" ? "any" : Array.isArray(value) ? "array" : typeof value}`)
    .join(", ");

/** A connection that records the bytes. */
class Wire {
  readonly received: { bytes: Buffer; frames: ServerFrame[] }[] = [];
  closed = false;

  private constructor(
    readonly socket: WebSocket,
    readonly codec: typeof json,
  ) {}

  static async open(server: Server, encoding: "json" | "msgpack", headers: Record<string, string> = {}): Promise<Wire> {
    const url = `${server.url.replace("http", "ws")}/v1/ws`;
    const socket = new WebSocket(url, `roomlog.v1.${encoding}`, { headers });
    const wire = new Wire(socket, codecOf(encoding));
    socket.on("message", (bytes: Buffer) => {
      const payload = encoding === "json" ? bytes.toString() : new Uint8Array(bytes).buffer;
      wire.received.push({ bytes, frames: framesOf(wire.codec.decode(payload)) });
    });
    socket.on("close", () => (wire.closed = true));
    await until("the socket is open", () => socket.readyState === WebSocket.OPEN);
    return wire;
  }

  get frames(): ServerFrame[] {
    return this.received.flatMap(({ frames }) => frames);
  }

  /** Sends any frame, even one that no client would send. */
  send(frame: object): void {
    this.socket.send(this.codec.encode(frame));
  }

  /** Sends a golden frame byte for byte, unless fields must be changed for a live server. */
  sendGolden(golden: Golden, changed?: Record<string, unknown>): void {
    if (changed) this.send({ ...(json.decode(golden.json) as ClientFrame), ...changed });
    else this.socket.send(this.codec.encoding === "json" ? golden.json : Buffer.from(golden.msgpack, "hex"));
  }

  async answer(ref: number): Promise<ServerFrame> {
    return until(`the answer to ${ref}`, () => this.frames.find((frame) => "ref" in frame && frame.ref === ref));
  }

  /** Waits until everything that was sent before is answered. */
  async settled(ref: number): Promise<void> {
    this.send({ op: "ping", ref });
    await this.answer(ref);
  }
}

describe("the real server", () => {
  let server: Server;
  beforeAll(async () => void (server = await Server.start()));
  afterAll(() => server.end());

  const named = (name: string): Golden => goldens.find((golden) => golden.name === name)!;

  it.each(["json", "msgpack"] as const)("accepts every golden client frame, and sends only frames of golden forms (%s)", async (encoding) => {
    const seen: Wire[] = [];
    const open = async (headers?: Record<string, string>): Promise<Wire> => {
      const wire = await Wire.open(server, encoding, headers);
      seen.push(wire);
      return wire;
    };
    const taken = new Set<string>();
    const take = (name: string): Golden => (taken.add(name), named(name));

    const inHeader = await open({ authorization: `Bearer ${token("bob")}` });
    inHeader.sendGolden(take("client-connect-token-in-header"));
    expect(await inHeader.answer(1)).toMatchObject({ op: "ok", user: "bob" });

    const wire = await open();
    wire.sendGolden(take("client-connect"), { token: token("ann") });
    expect(await wire.answer(1)).toMatchObject({ op: "ok", user: "ann", ping: 25 });
    wire.sendGolden(take("client-auth"), { token: token("ann") });
    expect(await wire.answer(8)).toMatchObject({ op: "ok" });

    // The others are sent byte for byte. Their refs repeat, so the answers are counted.
    let asked = wire.frames.filter((frame) => "ref" in frame).length;
    const sendAndSettle = async (golden: Golden): Promise<void> => {
      wire.sendGolden(golden);
      asked += [json.decode(golden.json) as ClientFrame | ClientFrame[]].flat().filter(({ ref }) => ref !== undefined).length;
      await wire.settled(1000 + asked++);
    };
    // There must be a message to acknowledge.
    await sendAndSettle(named("client-publish"));
    for (const golden of of("client").filter(({ name }) => !taken.has(name))) {
      // Acknowledging and leaving need a subscription.
      if (/ack|unsubscribe/.test(golden.name)) await sendAndSettle(named("client-subscribe-durable"));
      await sendAndSettle(golden);
    }
    const errors = wire.frames.filter((frame) => frame.op === "error");
    expect(errors, "all are taken").toEqual([]);
    expect(wire.frames.filter((frame) => "ref" in frame)).toHaveLength(asked);

    // These make the server send the other kinds of frames.
    inHeader.send({ op: "subscribe", room: "chat.general", since: "1999999999999-99", ref: 20 });
    inHeader.send({ op: "ack", room: "chat.general", id: "1-1" });
    inHeader.send({ op: "subscribe", room: "chat.general", since: "0", ref: 21 });
    await inHeader.settled(22);
    wire.send({ op: "signal", room: "chat.general", type: "typing", data: true, ref: 2001 });
    wire.send({ op: "publish", room: "chat.general", key: "0b9d9b2e-6a52-4f0e-9d3a-6d3c1f0c7a11", data: 1, ref: 2002 });
    wire.send({ op: "subscribe", room: "chat.general", durable: "phone", ref: 2003 });
    await wire.settled(2004);
    await until("the signal came", () => inHeader.frames.some(({ op }) => op === "signal"));
    const newer = await open();
    newer.send({ op: "connect", token: token("ann"), ref: 1 });
    newer.send({ op: "subscribe", room: "chat.general", durable: "phone", ref: 2 });
    await until("the durable subscription was taken over", () => wire.frames.some(({ op }) => op === "unsubscribed"));
    newer.send({ op: "dance", ref: 3 });
    await newer.settled(4);
    const stranger = await open();
    stranger.send({ op: "connect", token: "nobody's", ref: 1 });
    await until("the stranger is disconnected", () => stranger.closed);

    const forms = new Set(of("server").flatMap(({ json: text }) => framesOf(json.decode(text)).map(formOf)));
    const live = new Set<string>();
    for (const { bytes, frames } of seen.flatMap(({ received }) => received)) {
      for (const frame of frames) {
        live.add(formOf(frame));
        expect(forms, JSON.stringify(frame)).toContain(formOf(frame));
      }
      // The shortest form of each value, as this client writes it, too.
      if (encoding === "msgpack") expect(hexOf(msgpack.encode(frames.length === 1 && bytes[0]! >> 4 === 8 ? frames[0] : frames))).toBe(hexOf(bytes));
    }
    const ops = new Set([...live].map((form) => form.split(",")[0]));
    expect([...ops].sort()).toEqual(
      ["error", "gap", "goodbye", "live", "message", "ok", "pong", "signal", "unsubscribed"].map((op) => `op: ${op}`),
    );
  });
});
