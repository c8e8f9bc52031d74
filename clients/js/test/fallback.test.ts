// Networks that block WebSockets, or streams as well: the client works the same over a transport that they allow.
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Roomlog } from "../src/node.js";
import type { Signal } from "../src/node.js";
import { FAST } from "./harness/device.js";
import { Proxy } from "./harness/proxy.js";
import type { Hindrances } from "./harness/proxy.js";
import { Server, token } from "./harness/server.js";
import { pause, until } from "./harness/until.js";

let server: Server;
beforeAll(async () => void (server = await Server.start()));
afterAll(() => server.end());

const open: { close(): void }[] = [];
afterEach(() => open.splice(0).forEach((one) => one.close()));

async function connect(hindrances: Hindrances): Promise<{ client: Roomlog; proxy: Proxy }> {
  const proxy = await Proxy.to(server.port, hindrances);
  const client = new Roomlog(proxy.url, { token: () => token("ann"), timing: FAST });
  open.push(client, proxy);
  return { client, proxy };
}

/** A client whose network blocks nothing. */
function direct(user: string): Roomlog {
  const client = new Roomlog(server.url, { token: () => token(user), timing: FAST });
  open.push(client);
  return client;
}

describe.each([
  ["sse", { refuseUpgrades: true }],
  ["polling", { refuseUpgrades: true, holdStreams: true }],
] as const)("%s", (transport, hindrances) => {
  it("is chosen automatically, and loses no message over cuts and restarts", async () => {
    const { client, proxy } = await connect(hindrances);
    const room = client.room<number>(`fallback.${transport}`, { since: "0" });
    const [got, live]: [number[], string[]] = [[], []];
    room.on("message", ({ data }) => got.push(data));
    room.on("live", ({ id }) => live.push(id));
    const first = room.publish(1);
    await until("it is live", () => room.state === "live");
    expect(client.transport).toBe(transport);
    expect(await first).toBe((await server.history(room.name))[0]!.id);
    for (let n = 2; n < 30; n++) {
      void room.publish(n);
      if (n % 9 === 0) proxy.cut(n % 2 === 0);
      if (n === 20) {
        await server.killNode();
        await server.startNode();
      }
    }
    await until("all came", () => got.length === 29);
    expect(got).toEqual(Array.from({ length: 29 }, (_, i) => i + 1));
    expect(client.transport).toBe(transport);
    const page = await room.history({ limit: 2 });
    expect(page.messages.map(({ data }) => data)).toEqual([28, 29]);
  });

  it("follows more rooms than a browser has connections", async () => {
    const { client } = await connect(hindrances);
    const got = new Map<string, number[]>();
    const rooms = Array.from({ length: 9 }, (_, i) => client.room<number>(`crowd.${transport}.${i}`, { last: 5 }));
    for (const room of rooms) {
      got.set(room.name, []);
      room.on("message", ({ data }) => got.get(room.name)!.push(data));
    }
    await until("all are live", () => rooms.every(({ state }) => state === "live"));
    await Promise.all(rooms.flatMap((room) => [room.publish(1), room.publish(2)]));
    await until("all came", () => rooms.every(({ name }) => got.get(name)!.length === 2));
    expect([...got.values()]).toEqual(rooms.map(() => [1, 2]));
  });

  // Rules: sub-12, http-6.
  it("moves a durable subscription by acknowledging, and reports a takeover", async () => {
    const name = `durable.${transport}`;
    const there = direct("ann").room<number>(name, { durable: "phone" });
    const seen: string[] = [];
    there.on("message", ({ id }) => seen.push(id));
    await until("the other client is live", () => there.state === "live");
    for (const n of [1, 2, 3]) await there.publish(n);
    await until("all came", () => seen.length === 3);
    there.ack(seen[0]!);
    const position = () => server.position(name, "ann", "phone");
    await until("the server has the first", async () => (await position()) === seen[0]);

    const { client, proxy } = await connect(hindrances);
    const room = client.room<number>(name, { durable: "phone", autoAck: true });
    const [got, live, ended]: [number[], string[], string[]] = [[], [], []];
    room.on("message", ({ data }) => got.push(data));
    room.on("live", ({ id }) => live.push(id));
    room.on("unsubscribed", ({ code }) => ended.push(code));
    await until("the rest came", () => got.length === 2);
    expect(got).toEqual([2, 3]);
    expect(client.transport).toBe(transport);
    await until("the previous holder is notified", () => there.state === "ended");
    await until("the server has the position", async () => (await position()) === seen[2]);
    proxy.cut();
    await until("it is connected again", () => live.length === 2);

    // Taken back by a client that does not acknowledge.
    there.resume();
    await until("the other client is live again", () => there.state === "live");
    // A poll does not report the takeover; the next acknowledgement does.
    const id = await there.publish(4);
    await until("the takeover is reported", () => room.state === "ended");
    expect(ended).toEqual(["replaced"]);
    await until("the message arrived there", () => seen.length === 4);
    expect(await position()).toBe(seen[2]);
    room.resume();
    await until("the other client is notified", () => there.state === "ended");
    await until("the position has moved", async () => (await position()) === id);
    expect(ended).toEqual(["replaced"]);
  });

  it("sends an acknowledgement that was made right before the client is closed", async () => {
    const { client } = await connect(hindrances);
    const room = client.room<number>(`closing.${transport}`, { durable: "phone" });
    const got: string[] = [];
    room.on("message", ({ id }) => got.push(id));
    await until("it is live", () => room.state === "live");
    const ids = await Promise.all([1, 2, 3].map((n) => room.publish(n)));
    await until("all came", () => got.length === 3);
    room.ack(ids[1]!);
    client.close();
    await until("the server has it", async () => (await server.position(room.name, "ann", "phone")) === ids[1]);
  });

  // Rules: sub-12, http-10.
  it(transport === "sse" ? "carries signals in both directions" : "sends signals, and receives none", async () => {
    const name = `signals.${transport}`;
    const there = direct("bob").room<number>(name);
    const { client } = await connect(hindrances);
    const room = client.room<number>(name);
    const [mine, theirs, got]: [Signal[], Signal[], number[]] = [[], [], []];
    there.on("message", () => {});
    room.on("message", ({ data }) => got.push(data));
    there.on("signal", (signal) => theirs.push(signal));
    room.on("signal", (signal) => mine.push(signal));
    await until("both are there", () => room.state === "live" && there.state === "live");
    expect(client.transport).toBe(transport);
    room.signal("typing", true);
    await until("it comes", () => theirs.length === 1);
    expect(theirs).toEqual([{ room: name, from: "ann", type: "typing", data: true }]);
    there.signal("offer", [1], { to: "ann" });
    // A signal that was sent before the message has arrived when the message does.
    await there.publish(1);
    await until("the message came", () => got.length === 1);
    expect(mine).toEqual(transport === "sse" ? [{ room: name, from: "bob", type: "offer", data: [1] }] : []);
  });
});

it("a durable room that is left and followed again at once keeps its subscription", async () => {
  let [asked, answered] = [0, 0];
  const slowAtFirst: typeof fetch = async (address, init) => {
    const takes = String(address).endsWith("/subscriptions");
    if (takes && asked++ === 0) await pause(300);
    const response = await fetch(address, init);
    if (takes) answered++;
    return response;
  };
  const client = new Roomlog(server.url, { token: () => token("ann"), timing: FAST, transports: ["sse"], fetch: slowAtFirst });
  open.push(client);
  client.connect();
  await until("it is connected", () => client.state === "open");
  const room = client.room<number>("again", { durable: "phone", autoAck: true });
  const [got, ended]: [number[], string[]] = [[], []];
  room.on("unsubscribed", ({ code }) => ended.push(code));
  const off = room.on("message", () => {});
  await until("it asks", () => asked === 1);
  off();
  await until("it is left", () => room.state === "idle");
  room.on("message", ({ data }) => got.push(data));
  await until("it is live", () => room.state === "live" && answered === 2);
  const id = await room.publish(1);
  await until("the server has the position", async () => (await server.position("again", "ann", "phone")) === id);
  expect([got, ended]).toEqual([[1], []]);
});

it("an unreachable server does not cause a fallback to another transport", async () => {
  const { client, proxy } = await connect({});
  const room = client.room<number>("away");
  await room.publish(1);
  proxy.goOffline();
  const states: string[] = [];
  client.on("state", (state) => states.push(state));
  await until("it has tried many times", () => states.filter((state) => state === "connecting").length > 6);
  await server.killNode();
  proxy.goOnline();
  await server.startNode();
  await room.publish(2);
  expect(client.transport).toBe("websocket");
});
