// Several readers of one room in one client: each has the messages from its own start on, over one subscription.
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Roomlog } from "../src/node.js";
import type { Message, Room, RoomOptions, RoomlogOptions } from "../src/node.js";
import { FAST } from "./harness/device.js";
import { Relay } from "./harness/relay.js";
import { Server, token } from "./harness/server.js";
import { Disk, Life } from "./harness/stores.js";
import { until } from "./harness/until.js";

let server: Server;
let relay: Relay;
beforeAll(async () => {
  server = await Server.start();
  relay = await Relay.to(server.url);
});
afterAll(async () => {
  relay.close();
  await server.end();
});

const open: { close(): void }[] = [];
afterEach(() => {
  open.splice(0).forEach((one) => one.close());
  relay.fromServer = (frame) => frame;
});

function connect(user = "ann", options: Partial<RoomlogOptions> = {}): Roomlog {
  const client = new Roomlog(relay.url, { token: () => token(user), timing: FAST, encoding: "json", ...options });
  open.push(client);
  return client;
}

const follow = (room: Room<number>): number[] => {
  const got: number[] = [];
  room.on("message", ({ data }) => void got.push(data));
  return got;
};

let count = 0;
/** Publishes 1 to `n` in a new room, and returns its name and a way to publish more. */
async function filled(n: number): Promise<{ name: string; publish(from: number, to: number): Promise<void> }> {
  const name = `readers.${++count}`;
  const writer = connect("writer").room<number>(name);
  const publish = async (from: number, to: number): Promise<void> => {
    for (let at = from; at <= to; at++) await writer.publish(at);
  };
  await publish(1, n);
  return { name, publish };
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);
const subscribes = (name: string): number => relay.sent.filter((frame) => frame.op === "subscribe" && frame.room === name).length;

describe("two readers of a room", () => {
  it.each(["the sidebar", "the pane"])("with different starts work, %s first", async (which) => {
    const { name, publish } = await filled(10);
    const client = connect();
    const [sidebar, pane] = [client.room<number>(name), client.room<number>(name, { last: 3 })];
    const inOrder = which === "the sidebar" ? [sidebar, pane] : [pane, sidebar];
    const got = new Map(inOrder.map((room) => [room, follow(room)]));
    await until("both are live", () => sidebar.state === "live" && pane.state === "live");
    await publish(11, 12);
    await until("all came", () => [...got.values()].every((all) => all.at(-1) === 12));
    expect(got.get(sidebar)).toEqual([11, 12]);
    expect(got.get(pane)).toEqual(range(8, 12));
    expect(subscribes(name)).toBe(1);
  });

  it.each([
    ["only new ones", {}, []],
    ["the newest", { last: 4 }, range(7, 10)],
    ["no old ones", { last: 0 }, []],
    ["more than there are", { last: 1000 }, range(1, 10)],
    ["all", { since: "0" }, range(1, 10)],
  ] as [string, RoomOptions, number[]][])("may begin at any time, with %s", async (_, start, before) => {
    const { name, publish } = await filled(10);
    const client = connect();
    const first = client.room<number>(name, { last: 2 });
    const gotFirst = follow(first);
    await until("the first is live", () => first.state === "live");
    const late = client.room<number>(name, start);
    const got = follow(late);
    await until("the late one is live", () => late.state === "live");
    await publish(11, 13);
    await until("all came", () => got.at(-1) === 13 && gotFirst.at(-1) === 13);
    expect(got).toEqual([...before, 11, 12, 13]);
    expect(gotFirst).toEqual(range(9, 13));
    expect(subscribes(name)).toBe(1);
  });

  it("each continue where they were after the connection was lost", async () => {
    const { name, publish } = await filled(5);
    const client = connect();
    const [a, b] = [client.room<number>(name), client.room<number>(name, { since: "0" })];
    const [gotA, gotB] = [follow(a), follow(b)];
    await until("both are live", () => a.state === "live" && b.state === "live");
    relay.cut();
    await publish(6, 9);
    await until("all came", () => gotA.at(-1) === 9 && gotB.at(-1) === 9);
    expect([gotA, gotB]).toEqual([range(6, 9), range(1, 9)]);
  });

  it("each continue where they were after a reload", async () => {
    const { name, publish } = await filled(3);
    const disk = new Disk();
    const life = new Life(disk);
    const before = connect("bob", { positions: life.positions });
    let release!: () => void;
    const slow: number[] = [];
    before.room<number>(name, { last: 3 }).on("message", async ({ data }) => {
      slow.push(data);
      if (data === 2) await new Promise<void>((resolve) => (release = resolve));
    });
    const fast = follow(before.room<number>(name));
    await until("both have begun", () => slow.length === 2 && before.room(name).state === "live");
    await publish(4, 5);
    await until("the fast one has them", () => fast.length === 2);
    life.dead = true;
    before.close();
    release();
    const after = connect("bob", { positions: new Life(disk).positions });
    const [slowAgain, fastAgain] = [follow(after.room<number>(name, { last: 3 })), follow(after.room<number>(name))];
    await publish(6, 6);
    await until("all came", () => slowAgain.at(-1) === 6 && fastAgain.at(-1) === 6);
    expect([slowAgain, fastAgain]).toEqual([range(2, 6), [6]]);
  });

  it("do not wait for each other", async () => {
    const { name, publish } = await filled(1);
    const client = connect();
    const fast = follow(client.room<number>(name));
    const slow: number[] = [];
    let release!: () => void;
    const gate = new Promise<void>((resolve) => (release = resolve));
    client.room<number>(name, { since: "0" }).on("message", async ({ data }) => {
      await gate;
      slow.push(data);
    });
    await until("both follow", () => client.room(name).state === "live");
    const headers = { authorization: `Bearer ${token("bob")}`, "content-type": "application/json" };
    for (let n = 2; n < 3002; n += 1000) {
      const body = JSON.stringify(range(n, n + 999).map((data) => ({ room: name, data })));
      await fetch(`${server.url}/v1/messages`, { method: "POST", headers, body });
    }
    await until("the fast one has all", () => fast.length === 3000);
    expect(slow).toEqual([]);
    release();
    await until("the slow one has all", () => slow.length === 3001);
    await publish(3002, 3002);
    await until("it is live again", () => slow.at(-1) === 3002);
    expect(slow).toEqual(range(1, 3002));
    expect(fast).toEqual(range(2, 3002));
    expect(relay.sent.some((frame) => frame.op === "unsubscribe" && frame.room === name)).toBe(false);
  });

  it("get a gap each, where messages were deleted", async () => {
    const { name, publish } = await filled(6);
    const ids = (await server.history(name)).map(({ id }) => id);
    const operator = token("ops", { rooms: { "*": ["manage"] } });
    for (const id of ids.slice(2, 4)) {
      await fetch(`${server.url}/v1/rooms/${name}/messages/${id}`, { method: "DELETE", headers: { authorization: `Bearer ${operator}` } });
    }
    const client = connect();
    const rooms = [client.room<number>(name, { last: 1 }), client.room<number>(name, { since: ids[0]! }), client.room<number>(name, { since: "0" })];
    const got: (number | string)[][] = [];
    for (const room of rooms) {
      const own: (number | string)[] = [];
      got.push(own);
      room.on("message", ({ data }) => void own.push(data));
      room.on("gap", ({ after, next }) => void own.push(`${ids.indexOf(after) + 1}..${ids.indexOf(next) + 1}`));
      await until("it is live", () => room.state === "live");
    }
    await publish(7, 7);
    await until("all came", () => got.every((own) => own.at(-1) === 7));
    expect(got).toEqual([[6, 7], [2, "2..5", 5, 6, 7], [1, 2, "2..5", 5, 6, 7]]);
  });

  it.each(["first", "second"])("are told where the log was rewound, if it concerns them (%s)", async (when) => {
    const { name, publish } = await filled(2);
    const client = connect();
    // As after a failure of Redis that lost the newest messages.
    const beyond = "1999999999999-99";
    const [lost, sound] = [client.room<number>(name, { since: beyond }), client.room<number>(name, { since: "0" })];
    const got = new Map<Room<number>, (number | string)[]>([[lost, []], [sound, []]]);
    for (const room of when === "first" ? [lost, sound] : [sound, lost]) {
      room.on("message", ({ data }) => void got.get(room)!.push(data));
      room.on("gap", ({ after, reason }) => void got.get(room)!.push(`${reason} after ${after}`));
      await until("it is live", () => room.state === "live");
    }
    await publish(3, 4);
    await until("all came", () => [...got.values()].every((all) => all.at(-1) === 4));
    expect(got.get(lost)).toEqual([`rewound after ${beyond}`, 3, 4]);
    expect(got.get(sound)).toEqual([1, 2, 3, 4]);
  });

  it("end one after the other, and the last one ends the subscription", async () => {
    const { name, publish } = await filled(1);
    const client = connect();
    const [a, b] = [client.room<number>(name), client.room<number>(name, { last: 1 })];
    const got: Message<number>[] = [];
    const offs = [a.on("message", () => {}), b.on("message", (message) => void got.push(message))];
    await until("both are live", () => a.state === "live" && b.state === "live");
    offs[0]!();
    await until("one is idle", () => a.state === "idle");
    await publish(2, 2);
    await until("the other one goes on", () => got.length === 2);
    expect(relay.sent.some((frame) => frame.op === "unsubscribe" && frame.room === name)).toBe(false);
    b.close();
    await until("it is unsubscribed", () => relay.sent.some((frame) => frame.op === "unsubscribe" && frame.room === name));
  });
});

describe("a durable reader beside an ordinary one", () => {
  it.each(["first", "second"])("keeps its position on the server, when it is %s", async (when) => {
    const { name, publish } = await filled(4);
    const phone = { durable: "phone", since: "0" };
    const client = connect("bob");
    const [durable, plain] = [client.room<number>(name, phone), client.room<number>(name, { last: 2 })];
    const got = new Map<Room<number>, number[]>();
    for (const room of when === "first" ? [durable, plain] : [plain, durable]) {
      got.set(room, follow(room));
      await until("it is live", () => room.state === "live");
    }
    await publish(5, 6);
    await until("all came", () => [...got.values()].every((all) => all.at(-1) === 6));
    expect(got.get(durable)).toEqual(range(1, 6));
    expect(got.get(plain)).toEqual(range(3, 6));
    durable.ack((await server.history(name))[4]!.id);
    await until("the server has the position", async () => (await server.position(name, "bob", "phone"))?.endsWith("-5"));
    durable.close();
    await publish(7, 7);
    await until("the ordinary one goes on", () => got.get(plain)!.at(-1) === 7);
    const again = follow(connect("bob").room<number>(name, { durable: "phone" }));
    await until("the rest came", () => again.length === 2);
    expect(again).toEqual([6, 7]);
    expect(got.get(plain)).toEqual(range(3, 7));
  });

  it("acknowledges everything, also after its handlers were so slow that it read the log on its own", async () => {
    const { name } = await filled(1);
    const client = connect("bob");
    const plain = client.room<number>(name);
    const durable = client.room<number>(name, { durable: "phone", since: "0", autoAck: true });
    const fast = follow(plain);
    const slow: number[] = [];
    let release!: () => void;
    const gate = new Promise<void>((resolve) => (release = resolve));
    durable.on("message", async ({ data }) => {
      await gate;
      slow.push(data);
    });
    await until("both follow", () => plain.state === "live" && durable.position !== undefined);
    const headers = { authorization: `Bearer ${token("ann")}`, "content-type": "application/json" };
    const body = (from: number): string => JSON.stringify(range(from, from + 749).map((data) => ({ room: name, data })));
    for (const from of [2, 752]) await fetch(`${server.url}/v1/messages`, { method: "POST", headers, body: body(from) });
    await until("the fast one has all", () => fast.length === 1500);
    release();
    await until("the slow one has all", () => slow.length === 1501);
    const newest = (await server.history(name)).at(-1)!.id;
    await until("the server has the last acknowledgement", async () => (await server.position(name, "bob", "phone")) === newest);
    expect(slow).toEqual(range(1, 1501));
  });

  it("ends alone when another device takes the subscription", async () => {
    const { name, publish } = await filled(1);
    const client = connect("bob");
    const [durable, plain] = [client.room<number>(name, { durable: "phone" }), client.room<number>(name)];
    const codes: string[] = [];
    durable.on("unsubscribed", ({ code }) => codes.push(code));
    follow(durable);
    const got = follow(plain);
    await until("both are live", () => durable.state === "live" && plain.state === "live");
    const other = connect("bob").room<number>(name, { durable: "phone" });
    follow(other);
    await until("it is replaced", () => durable.state === "ended");
    await until("the ordinary one is live again", () => plain.state === "live");
    await publish(2, 3);
    await until("the ordinary one goes on", () => got.length === 2);
    expect([codes, got]).toEqual([["replaced"], [2, 3]]);
  });

  it("cannot have another name than the first one: it ends with the reason", async () => {
    const { name } = await filled(1);
    const client = connect("bob");
    const [phone, tablet] = ["phone", "tablet"].map((durable) => client.room<number>(name, { durable })) as [Room<number>, Room<number>];
    follow(phone);
    const reasons: string[] = [];
    tablet.on("unsubscribed", ({ code, message }) => reasons.push(`${code}: ${message}`));
    follow(tablet);
    expect(tablet.state).toBe("ended");
    expect(reasons).toEqual([expect.stringMatching(/^bad_request: .*"phone"/)]);
    await until("the first one is live", () => phone.state === "live");
    phone.close();
    tablet.resume();
    await until("the second one is live", () => tablet.state === "live");
  });

  it("that the server refuses does not end the ordinary one", async () => {
    const { name, publish } = await filled(1);
    const client = connect("bob");
    const [durable, plain] = [client.room<number>(name, { durable: "not a name" }), client.room<number>(name)];
    follow(durable);
    const got = follow(plain);
    await until("it is refused, and the other is live", () => durable.state === "ended" && plain.state === "live");
    await publish(2, 2);
    await until("the message came", () => got.length === 1);
  });
});
