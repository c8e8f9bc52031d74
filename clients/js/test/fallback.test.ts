// Networks that let no WebSockets through, or no streams either: the same, over what they do let through.
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Roomlog } from "../src/node.js";
import { FAST } from "./harness/device.js";
import { Proxy } from "./harness/proxy.js";
import type { Hindrances } from "./harness/proxy.js";
import { Server, token } from "./harness/server.js";
import { until } from "./harness/until.js";

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

describe.each([
  ["sse", { refuseUpgrades: true }],
  ["polling", { refuseUpgrades: true, holdStreams: true }],
] as const)("%s", (transport, hindrances) => {
  it("is chosen by itself, and loses nothing", async () => {
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

  it("goes on where a durable subscription stands, and tells the server later what it acknowledged", async () => {
    const name = `durable.${transport}`;
    const direct = new Roomlog(server.url, { token: () => token("ann"), timing: FAST });
    open.push(direct);
    const there = direct.room<number>(name, { durable: "phone" });
    const seen: string[] = [];
    there.on("message", ({ id }) => seen.push(id));
    await until("it is there", () => there.state === "live");
    for (const n of [1, 2, 3]) await there.publish(n);
    await until("all came", () => seen.length === 3);
    there.ack(seen[0]!);
    there.close();
    const { client, proxy } = await connect(hindrances);
    const room = client.room<number>(name, { durable: "phone", autoAck: true });
    const got: number[] = [];
    room.on("message", ({ data }) => got.push(data));
    await until("the rest came", () => got.length === 2);
    expect(got).toEqual([2, 3]);
    proxy.hindrances = {};
    client.wake();
    proxy.cut();
    await until("a WebSocket is used again", () => client.transport === "websocket" && room.state === "live");
    const headers = { authorization: `Bearer ${token("ann")}` };
    await until("the server has the position", async () => {
      const response = await fetch(`${server.url}/v1/rooms/${name}/subscriptions`, { headers });
      const [subscription] = (await response.json()) as { position: string }[];
      return subscription?.position === seen[2];
    });
  });
});

it("a server that is away is not taken for a network that blocks", async () => {
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
