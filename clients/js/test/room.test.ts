// Reading a room: from its start on, in order and exactly once, with a report of missing messages.
import { encode } from "@msgpack/msgpack";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Roomlog, RoomlogError, isRoomName } from "../src/node.js";
import type { Gap, Message, Room, RoomlogOptions } from "../src/node.js";
import type { ServerFrame } from "../src/protocol.js";
import { Typing } from "../src/typing.js";
import { FAST } from "./harness/device.js";
import { Relay } from "./harness/relay.js";
import { Server, token } from "./harness/server.js";
import { Disk, Life } from "./harness/stores.js";
import { until } from "./harness/until.js";

let server: Server;
beforeAll(async () => void (server = await Server.start()));
afterAll(() => server.end());

const open: { close(): void }[] = [];
afterEach(() => open.splice(0).forEach((one) => one.close()));

function connect(user = "ann", options: Partial<RoomlogOptions> = {}, url = server.url): Roomlog {
  const client = new Roomlog(url, { token: () => token(user), timing: FAST, ...options });
  open.push(client);
  return client;
}

async function relayed(): Promise<Relay> {
  const relay = await Relay.to(server.url);
  open.push(relay);
  return relay;
}

const follow = <T = unknown>(room: Room<T>): Message<T>[] => {
  const got: Message<T>[] = [];
  room.on("message", (message) => void got.push(message));
  return got;
};

let count = 0;
const fresh = (): string => `room.${++count}`;

describe("a room", () => {
  it("begins with the newest messages, continues live, and delivers the sender's key", async () => {
    const name = fresh();
    const ann = connect().room<number>(name);
    for (const n of [1, 2, 3]) await ann.publish(n);
    const room = connect("bob").room<number>(name, { last: 2 });
    const got = follow(room);
    const live: string[] = [];
    room.on("live", ({ id }) => live.push(`${got.length} ${id}`));
    await until("it is live", () => room.state === "live");
    const publication = ann.publish(4, { type: "number" });
    await until("the next one came", () => got.length === 3);
    expect(got.map(({ data }) => data)).toEqual([2, 3, 4]);
    expect(got[2]).toEqual({ room: name, id: await publication, key: publication.key, from: "ann", type: "number", data: 4, time: expect.any(Date) });
    expect(Math.abs(got[2]!.time.getTime() - Date.now())).toBeLessThan(60_000);
    expect(live).toEqual([`2 ${got[1]!.id}`]);
  });

  it("delivers binary data over MessagePack", async () => {
    const room = connect().room<{ bytes: Uint8Array }>(fresh(), { since: "0" });
    const got = follow(room);
    await room.publish({ bytes: new Uint8Array([137, 80, 78, 71]) });
    await until("it came", () => got.length === 1);
    expect([...got[0]!.data.bytes]).toEqual([137, 80, 78, 71]);
  });

  it("waits for each handler, and reports one that throws", async () => {
    const room = connect().room<number>(fresh(), { since: "0" });
    const log: string[] = [];
    const errors: RoomlogError[] = [];
    let release!: () => void;
    room.on("error", (error) => errors.push(error));
    room.on("message", async ({ data }) => {
      log.push(`begin ${data}`);
      if (data === 1) await new Promise<void>((resolve) => (release = resolve));
      log.push(`end ${data}`);
      if (data === 2) throw new Error("no");
    });
    for (const n of [1, 2, 3]) await room.publish(n);
    expect(log).toEqual(["begin 1"]);
    release();
    await until("all are handled", () => log.length === 6);
    expect(log).toEqual(["begin 1", "end 1", "begin 2", "end 2", "begin 3", "end 3"]);
    expect(errors).toHaveLength(1);
    expect(errors[0]).toMatchObject({ code: "handler", cause: new Error("no") });
  });

  it("reports a hole without a gap frame, and fetches the missing messages", async () => {
    const relay = await relayed();
    const room = connect("ann", { encoding: "json" }, relay.url).room<number>(fresh(), { since: "0" });
    const got = follow(room);
    const errors: RoomlogError[] = [];
    room.on("error", (error) => errors.push(error));
    await until("it is live", () => room.state === "live");
    let lost = false;
    relay.fromServer = (frame) => {
      if (frame.op !== "message" || frame.data !== 2 || lost) return frame;
      lost = true;
      return undefined;
    };
    const writer = connect("bob").room<number>(room.name);
    for (const n of [1, 2, 3, 4]) await writer.publish(n);
    await until("all came", () => got.length === 4);
    expect(got.map(({ data }) => data)).toEqual([1, 2, 3, 4]);
    expect(errors.map(({ code }) => code)).toEqual(["hole"]);
  });

  it("reports deleted messages as a gap, in order with the messages", async () => {
    const name = fresh();
    const writer = connect().room<number>(name);
    const ids: string[] = [];
    for (const n of [1, 2, 3, 4]) ids.push(await writer.publish(n));
    const operator = token("ops", { rooms: { "*": ["manage"] } });
    for (const id of [ids[1], ids[2]]) {
      await fetch(`${server.url}/v1/rooms/${name}/messages/${id}`, { method: "DELETE", headers: { authorization: `Bearer ${operator}` } });
    }
    for (const transports of [["websocket"], ["sse"], ["polling"]] as const) {
      const room = connect("bob", { transports: [...transports] }).room<number>(name, { since: ids[0]! });
      const got: (number | Gap)[] = [];
      room.on("message", ({ data }) => got.push(data));
      room.on("gap", (gap) => got.push(gap));
      await until("it came", () => got.length === 2);
      expect(got, transports[0]).toEqual([{ room: name, after: ids[0], next: ids[3], reason: "trimmed" }, 4]);
    }
  });

  it("delivers a message with a key __proto__ without harm", async () => {
    const name = fresh();
    const data = new Map<string, unknown>([["__proto__", { polluted: true }], ["text", "hi"]]);
    const entries = [...data].map(([key, value]) => Buffer.concat([encode(key), encode(value)]));
    const body = Buffer.concat([Buffer.from([0x81]), encode("data"), Buffer.from([0x82]), ...entries]);
    const headers = { authorization: `Bearer ${token("eve")}`, "content-type": "application/msgpack" };
    expect((await fetch(`${server.url}/v1/rooms/${name}/messages`, { method: "POST", headers, body })).status).toBe(201);
    const got = follow(connect().room<{ text: string; polluted?: boolean }>(name, { since: "0" }));
    await until("it came", () => got.length === 1);
    expect(got[0]!.data.text).toBe("hi");
    expect(got[0]!.data.polluted).toBeUndefined();
  });

  it("unsubscribes while a handler is slow, and continues from the log", async () => {
    const relay = await relayed();
    const room = connect("ann", { encoding: "json" }, relay.url).room<number>(fresh(), { since: "0" });
    let release!: () => void;
    const gate = new Promise<void>((resolve) => (release = resolve));
    const got: number[] = [];
    room.on("message", async ({ data }) => {
      await gate;
      got.push(data);
    });
    const headers = { authorization: `Bearer ${token("bob")}`, "content-type": "application/json" };
    for (let n = 0; n < 3000; n += 1000) {
      const body = JSON.stringify(Array.from({ length: 1000 }, (_, i) => ({ room: room.name, data: n + i })));
      await fetch(`${server.url}/v1/messages`, { method: "POST", headers, body });
    }
    await until("the room is unsubscribed", () => relay.sent.some(({ op }) => op === "unsubscribe"));
    release();
    await until("all came", () => got.length >= 3000);
    expect(got).toEqual(Array.from({ length: 3000 }, (_, i) => i));
  });

  it("continues after a reload with the first message that was not handled", async () => {
    const name = fresh();
    const disk = new Disk();
    const writer = connect().room<number>(name);
    const first = new Life(disk);
    const before = connect("bob", { positions: first.positions });
    const seen = follow(before.room<number>(name));
    await until("it follows", () => before.room(name).position);
    // Even if nothing was handled yet, the reload must not begin with new messages only.
    before.close();
    await writer.publish(1);
    const second = connect("bob", { positions: new Life(disk).positions });
    const got = follow(second.room<number>(name));
    await until("it came", () => got.length === 1);
    second.close();
    await writer.publish(2);
    const third = follow(connect("bob", { positions: new Life(disk).positions }).room<number>(name));
    await until("the next one came", () => third.length === 1);
    expect([seen, got, third].map((all) => all.map(({ data }) => data))).toEqual([[], [1], [2]]);
  });

  it("delivers messages of the time between when it is left and followed again", async () => {
    const client = connect();
    const room = client.room<number>(fresh(), { since: "0" });
    const got: number[] = [];
    const off = room.on("message", ({ data }) => got.push(data));
    await room.publish(1);
    await until("it came", () => got.length === 1);
    off();
    await until("it is left", () => room.state === "idle");
    await room.publish(2);
    room.on("message", ({ data }) => got.push(data));
    await until("the message of the time between arrived", () => got.length === 2);
    expect(got).toEqual([1, 2]);
    expect(client.room(room.name, { since: "0" })).toBe(room);
  });

  it.each(["", "a b", ".hidden", "x".repeat(129), "ünder"])("cannot have the name %j", (name) => {
    expect(isRoomName(name)).toBe(false);
    expect(() => connect().room(name)).toThrow("is not a valid room name");
  });

  it.each(["a", "@ann", "chat.general:2_x-y@z", "9".repeat(128)])("can have the name %j", (name) => {
    expect(isRoomName(name)).toBe(true);
    expect(connect().room(name).name).toBe(name);
  });

  it("reports `forbidden` when the token does not grant it", async () => {
    const client = connect("eve", { token: () => token("eve", { rooms: { "other.*": ["read"] } }) });
    const room = client.room("secret");
    const ended: string[] = [];
    room.on("unsubscribed", ({ code }) => ended.push(code));
    room.on("message", () => {});
    await until("it ended", () => room.state === "ended");
    expect(ended).toEqual(["forbidden"]);
    await expect(room.history()).rejects.toMatchObject({ name: "RoomlogError", code: "forbidden" });
    await expect(room.publish(1)).rejects.toMatchObject({ code: "forbidden" });
    await expect(async () => {
      for await (const _ of room.messages()) break;
    }).rejects.toThrow(RoomlogError);
  });

  it.each([["websocket"], ["sse"]] as const)("reports a message that is deleted, at once and not as a signal (%s)", async (transport) => {
    const room = connect("ann", { transports: [transport] }).room<number>(fresh(), { since: "0" });
    const [got, reported, signals] = [follow(room), [] as unknown[], [] as unknown[]];
    room.on("deleted", (deleted) => reported.push(deleted));
    room.on("signal", (signal) => signals.push(signal));
    const id = await room.publish(1);
    await until("it came", () => got.length === 1 && room.state === "live");
    const operator = token("ops", { rooms: { "*": ["manage"] } });
    const headers = { authorization: `Bearer ${operator}` };
    expect((await fetch(`${server.url}/v1/rooms/${room.name}/messages/${id}`, { method: "DELETE", headers })).status).toBe(204);
    await until("it is reported", () => reported.length > 0);
    expect(reported).toEqual([{ room: room.name, id, by: "ops" }]);
    expect(signals).toEqual([]);
  });

  it("delivers signals to the other users who are present", async () => {
    const [ann, bob] = [connect("ann").room(fresh()), connect("bob")];
    const there = bob.room(ann.name);
    const got: unknown[] = [];
    there.on("message", () => {});
    there.on("signal", (signal) => got.push(signal));
    await until("the other user is live", () => there.state === "live");
    await ann.history();
    ann.signal("typing", true);
    await until("it came", () => got.length === 1);
    expect(got).toEqual([{ room: ann.name, from: "ann", type: "typing", data: true }]);
  });
});

describe("a feature on the pushes of a room", () => {
  it("receives a push that the core does not know, in order with the messages", async () => {
    const relay = await relayed();
    const room = connect("ann", { encoding: "json" }, relay.url).room<number>(fresh(), { since: "0" });
    const got: unknown[] = [];
    room.on("message", () => {});
    room.on("push", (push) => got.push(push.op === "message" ? push.data : push));
    await until("it is live", () => room.state === "live");
    const presence = { op: "presence", room: room.name, users: ["bob"] };
    // As a newer server would send it.
    relay.fromServer = (frame) => (frame.op === "message" && frame.data === 2 ? [presence as unknown as ServerFrame, frame] : [frame]);
    for (const n of [1, 2]) await room.publish(n);
    await until("all came", () => got.length >= 4);
    expect(got.slice(-3)).toEqual([1, presence, 2]);
    expect(room.state).toBe("live");
  });

  it("lists a user as typing until they stop, fall silent or send the message", async () => {
    const name = fresh();
    const [ann, bob] = [connect("ann").room<number>(name), connect("bob").room<number>(name)];
    for (const room of [ann, bob]) room.on("message", () => {});
    await until("both are there", () => ann.state === "live" && bob.state === "live");
    const [hers, his] = [new Typing(ann), new Typing(bob)];
    const changes: string[][] = [];
    hers.on("change", (users) => changes.push(users));
    const signals: unknown[] = [];
    ann.on("signal", ({ data }) => signals.push(data));
    const shows = (...users: string[]) => until(`she sees ${users.join()}`, () => hers.users.join() === users.join());
    his.set(false);
    his.set(true);
    his.set(true);
    await shows("bob");
    his.set(false);
    await shows();
    his.set(true);
    await shows("bob");
    await bob.publish(1);
    await shows();
    his.set(true);
    await shows("bob");
    // By five seconds of silence.
    await shows();
    his.set(true);
    await shows("bob");
    hers.close();
    expect(hers.users).toEqual([]);
    expect(signals).toEqual([true, false, true, true, true]);
    expect(changes.map((users) => users.length)).toEqual([1, 0, 1, 0, 1, 0, 1, 0]);
  });
});

describe("history and iteration", () => {
  it.each([["websocket"], ["polling"]] as const)("reads pages over %s", async (transport) => {
    const room = connect("ann", { transports: [transport] }).room<number>(fresh());
    const ids: string[] = [];
    for (const n of [1, 2, 3, 4]) ids.push(await room.publish(n));
    const newest = await room.history({ limit: 2 });
    expect(newest).toMatchObject({ more: true, head: ids[3] });
    expect(newest.messages.map(({ data }) => data)).toEqual([3, 4]);
    const older = await room.history({ before: newest.messages[0]!.id, limit: 50 });
    expect(older.messages.map(({ data }) => data)).toEqual([1, 2]);
    expect((await room.history({ after: ids[1]! })).messages.map(({ data }) => data)).toEqual([3, 4]);
  });

  it("iterates over the history, then over new messages", async () => {
    const name = fresh();
    const writer = connect("bob").room<number>(name);
    for (const n of [1, 2, 3]) await writer.publish(n);
    const got: number[] = [];
    let publishing: Promise<string> | undefined;
    for await (const { data } of connect().room<number>(name).messages({ since: "0" })) {
      got.push(data);
      if (data === 3) publishing = writer.publish(4).then(() => writer.publish(5));
      if (data === 5) break;
    }
    await publishing;
    expect(got).toEqual([1, 2, 3, 4, 5]);
  });

  it("counts a message as handled when the next one is asked for", async () => {
    const room = connect().room<number>(fresh(), { since: "0" });
    for (const n of [1, 2, 3]) await room.publish(n);
    const got: number[] = [];
    for await (const { data } of room.messages()) if (got.push(data) === 2) break;
    for await (const { data } of room.messages()) if (got.push(data) === 4) break;
    expect(got).toEqual([1, 2, 2, 3]);
  });

  it("ends when the room is closed", async () => {
    const room = connect().room<number>(fresh());
    const iterating = (async () => {
      for await (const _ of room.messages());
    })();
    await until("it follows", () => room.state === "live");
    room.close();
    await iterating;
    expect(() => room.on("message", () => {})).toThrow("closed");
  });
});

describe("a durable subscription", () => {
  it("continues after the acknowledged messages on another device", async () => {
    const name = fresh();
    const phone = connect("bob");
    const first = phone.room<number>(name, { durable: "phone" });
    const got = follow(first);
    await until("it follows", () => first.state === "live");
    const writer = connect().room<number>(name);
    for (const n of [1, 2, 3]) await writer.publish(n);
    await until("all came", () => got.length === 3);
    first.ack(got[1]!);
    phone.close();
    const tablet = follow(connect("bob").room<number>(name, { durable: "phone" }));
    await until("the rest came", () => tablet.length === 1);
    expect(tablet[0]!.data).toBe(3);
  });

  it("is held by the newest connection, and can be taken back", async () => {
    const name = fresh();
    const [old, now] = [connect("bob"), connect("bob")].map((client) => client.room<number>(name, { durable: "phone", autoAck: true })) as [Room<number>, Room<number>];
    const gotOld = follow(old);
    await until("the first one follows", () => old.state === "live");
    const gotNow = follow(now);
    await until("it is notified of the second", () => old.state === "ended" && now.state === "live");
    const writer = connect().room<number>(name);
    await writer.publish(1);
    await until("it came", () => gotNow.length === 1);
    const told: string[] = [];
    now.on("unsubscribed", ({ code }) => told.push(code));
    old.resume();
    await until("it is taken back", () => told.length === 1);
    await writer.publish(2);
    await until("it came there", () => gotOld.some(({ data }) => data === 2));
    expect(told).toEqual(["replaced"]);
    expect(gotNow.map(({ data }) => data)).toEqual([1]);
  });

  it("is required for an acknowledgement", () => {
    expect(() => connect().room(fresh()).ack("1-1")).toThrow(expect.objectContaining({ code: "not_durable" }));
  });
});
