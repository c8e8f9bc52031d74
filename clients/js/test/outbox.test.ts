// Publishing: without waiting, in order and exactly once, whatever fails in between.
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Roomlog } from "../src/node.js";
import type { OutboxEntry, Publication, RoomlogOptions } from "../src/node.js";
import { FAST } from "./harness/device.js";
import { Proxy } from "./harness/proxy.js";
import { Relay } from "./harness/relay.js";
import { Server, token } from "./harness/server.js";
import { Disk, Life } from "./harness/stores.js";
import { until } from "./harness/until.js";

let server: Server;
beforeAll(async () => void (server = await Server.start({ RETENTION__DEDUPLICATION_WINDOW: "1s" })));
afterAll(() => server.end());

const open: { close(): void }[] = [];
afterEach(() => open.splice(0).forEach((one) => one.close()));

function connect(url = server.url, options: Partial<RoomlogOptions> = {}): Roomlog {
  const client = new Roomlog(url, { token: () => token("ann"), timing: FAST, encoding: "json", ...options });
  open.push(client);
  return client;
}

async function proxied(): Promise<Proxy> {
  const proxy = await Proxy.to(server.port);
  open.push(proxy);
  return proxy;
}

async function relayed(): Promise<Relay> {
  const relay = await Relay.to(server.url);
  open.push(relay);
  return relay;
}

let count = 0;
const fresh = (): string => `outbox.${++count}`;
const logOf = async (room: string): Promise<unknown[]> => (await server.history(room)).map(({ data }) => data);

describe("publishing", () => {
  it("returns a publication at once, and its id when it is stored", async () => {
    const room = connect().room<{ text: string }>(fresh());
    const states: string[] = [];
    room.on("publication", ({ state }) => states.push(state));
    const publication = room.publish({ text: "hi" });
    expect(publication).toMatchObject({ state: "sending", room: room.name, type: "message", data: { text: "hi" } });
    expect(publication.key).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(room.pending).toEqual([publication]);
    const id = await publication;
    expect(publication).toMatchObject({ state: "sent", id });
    const settled: string[] = [];
    const promise: Promise<string> = publication;
    expect(await promise.finally(() => settled.push("finally"))).toBe(id);
    expect(await promise.catch(() => settled.push("catch"))).toBe(id);
    expect(settled).toEqual(["finally"]);
    expect(states).toEqual(["sending", "sent"]);
    expect(room.pending).toEqual([]);
  });

  it("queues messages in order without a connection, and lets them be cancelled", async () => {
    const proxy = await proxied();
    proxy.goOffline();
    const room = connect(proxy.url).room<number>(fresh());
    const publications = [1, 2, 3, 4].map((n) => room.publish(n));
    expect(publications[1]!.cancel()).toBe(true);
    expect(publications[1]!.cancel()).toBe(false);
    expect(publications[1]!.state).toBe("cancelled");
    await expect(publications[1]!).rejects.toMatchObject({ code: "cancelled" });
    proxy.goOnline();
    await Promise.all([0, 2, 3].map((i) => publications[i]));
    expect(publications[0]!.cancel()).toBe(false);
    expect(await logOf(room.name)).toEqual([1, 3, 4]);
  });

  it("keeps the order when one of several messages is refused temporarily", async () => {
    const relay = await relayed();
    const room = connect(relay.url).room<number>(fresh());
    let refused = 0;
    relay.fromServer = (frame) => {
      // As if Redis had not confirmed the message.
      if (frame.op !== "ok" || !("id" in frame) || refused++ > 0) return frame;
      return { op: "error", ref: frame.ref, code: "unavailable", message: "again", retry_after_ms: 50 };
    };
    await Promise.all([1, 2, 3].map((n) => room.publish(n)));
    expect(await logOf(room.name)).toEqual([1, 2, 3]);
  });

  it("fails with outbox_full when too many messages wait", async () => {
    const proxy = await proxied();
    proxy.goOffline();
    const room = connect(proxy.url, { outbox: { limit: 2 } }).room<number>(fresh());
    room.publish(1);
    room.publish(2);
    const third = room.publish(3);
    expect(third).toMatchObject({ state: "failed", error: { code: "outbox_full" } });
    await expect(third).rejects.toThrow("2 messages are waiting to be confirmed, and the outbox takes no more");
    proxy.goOnline();
    await until("the outbox is empty", () => room.pending.length === 0);
    await room.publish(4);
    expect(await logOf(room.name)).toEqual([1, 2, 4]);
  });

  it("refuses data that cannot be sent, and names the part", async () => {
    const room = connect().room<unknown>(fresh());
    const cases: [unknown, string][] = [
      [{ at: new Date() }, "data.at cannot be sent: an instance of Date is not plain data; send the result of `toISOString()`"],
      [{ list: [1, NaN] }, "data.list[1] cannot be sent: NaN is not a finite number"],
      [() => 1, "data cannot be sent: it is of type function"],
      [{ big: 1n }, "data.big cannot be sent: it is of type bigint"],
      [new Map(), "data cannot be sent: an instance of Map is not plain data"],
      [JSON.parse('{"__proto__":1}'), "data cannot be sent: `__proto__` is not allowed as a key"],
      [new Uint8Array(1), "data cannot be sent: binary data needs a client with the encoding `msgpack`"],
    ];
    let deep: unknown = 1;
    for (let i = 0; i < 33; i++) deep = [deep];
    cases.push([deep, `data${"[0]".repeat(32)} cannot be sent: it is nested more than 32 levels deep`]);
    for (const [data, message] of cases) {
      await expect(room.publish(data)).rejects.toMatchObject({ name: "RoomlogError", code: "bad_request", message });
    }
    await expect(room.publish("x".repeat(70_000))).rejects.toMatchObject({ code: "too_large" });
    await expect(room.publish("x".repeat(2_000_000))).rejects.toMatchObject({ code: "too_large" });
    // Half a surrogate pair is replaced, and a missing value left out. None of this broke the connection.
    const text = "half \ud83d";
    await room.publish({ text, nothing: undefined });
    expect(await logOf(room.name)).toEqual([{ text: "half \ufffd" }]);
  });

  it("copies the data, so that later changes are not sent", async () => {
    const room = connect().room<{ n: number }>(fresh());
    const data = { n: 1 };
    const publication = room.publish(data);
    data.n = 2;
    await publication;
    expect(await logOf(room.name)).toEqual([{ n: 1 }]);
  });

  it("reports a store that fails, and publishes without it", async () => {
    const broken = { load: () => [], put: () => Promise.reject(new Error("disk full")), delete: () => {} };
    const client = connect(server.url, { outbox: { store: broken } });
    const codes: string[] = [];
    client.on("error", ({ code, message }) => codes.push(`${code}: ${message}`));
    await client.room(fresh()).publish(1);
    expect(new Set(codes)).toEqual(new Set(["application: the store of the outbox failed, and the client continues without it: disk full"]));
  });
});

/** Waits until the server has forgotten the keys that it knows now. */
async function forgotten(): Promise<void> {
  const headers = { authorization: `Bearer ${token("ann")}`, "content-type": "application/json" };
  const body = JSON.stringify({ data: 1, key: crypto.randomUUID() });
  // A known key is answered with the first id.
  const publish = async (): Promise<string> => {
    const response = await fetch(`${server.url}/v1/rooms/forgotten/messages`, { method: "POST", headers, body });
    return ((await response.json()) as { id: string }).id;
  };
  const first = await publish();
  await until("a known key is stored again", async () => (await publish()) !== first);
}

describe("after an absence longer than the server remembers keys, a message is stored once", () => {
  /** Publishes a message that is stored, and loses every frame that would confirm it. */
  async function unanswered(follow: boolean): Promise<{ relay: Relay; client: Roomlog; publication: Publication<string>; disk: Disk; life: Life; got: string[] }> {
    const relay = await relayed();
    const [disk, got] = [new Disk(), [] as string[]];
    const life = new Life(disk);
    const client = connect(relay.url, { positions: life.positions, outbox: { store: life.outbox } });
    const room = client.room<string>(fresh());
    if (follow) {
      room.on("message", ({ data }) => got.push(data));
      await until("it follows", () => room.state === "live");
    }
    relay.fromServer = (frame) => (frame.op === "message" || (frame.op === "ok" && "id" in frame) ? undefined : frame);
    const publication = room.publish("once");
    await until("it is stored", async () => (await server.history(room.name)).length === 1);
    return { relay, client, publication, disk, life, got };
  }

  it("when the client was away", async () => {
    const { relay, publication, got } = await unanswered(true);
    relay.silent = true;
    relay.cut();
    await forgotten();
    relay.silent = false;
    relay.fromServer = (frame) => frame;
    relay.cut();
    const [stored] = await server.history(publication.room);
    expect(await publication).toBe(stored!.id);
    await until("the message arrived through the room", () => got.length === 1);
    expect(await logOf(publication.room)).toEqual(["once"]);
    expect(relay.sent.filter(({ op }) => op === "publish")).toHaveLength(1);
  });

  it("when a handler awaits it while more messages than fit wait for the handler", async () => {
    const relay = await relayed();
    const room = connect(relay.url).room<unknown>(fresh());
    let publication: Publication<unknown> | undefined;
    const got: unknown[] = [];
    room.on("message", async ({ data }) => {
      await publication;
      got.push(data);
    });
    await until("it follows", () => room.state === "live");
    relay.silent = true;
    publication = room.publish("mine");
    await until("it was sent", () => relay.sent.some(({ op }) => op === "publish"));
    relay.cut();
    const other = connect().room<unknown>(room.name);
    for (const start of [0, 500, 1000]) await Promise.all(Array.from({ length: 500 }, (_, n) => other.publish(start + n)));
    relay.silent = false;
    await until("all came", () => got.length === 1501);
    expect(got).toEqual([...Array(1500).keys(), "mine"]);
    expect((await logOf(room.name)).filter((data) => data === "mine")).toHaveLength(1);
  });

  it("when the client was closed and opened again, with its stores", async () => {
    const { relay, client, publication, disk, life } = await unanswered(true);
    life.dead = true;
    relay.cut();
    client.close();
    await forgotten();
    const again = new Life(disk);
    const next = connect(server.url, { positions: again.positions, outbox: { store: again.outbox } });
    const got: string[] = [];
    next.room<string>(publication.room).on("message", ({ data }) => got.push(data));
    await until("it came, and nothing waits", () => got.length === 1 && disk.entries.size === 0);
    expect(await logOf(publication.room)).toEqual(["once"]);
  });

  it("when another device has moved the durable subscription past it", async () => {
    const relay = await relayed();
    const name = fresh();
    const room = connect(relay.url).room<string>(name, { durable: "phone", autoAck: true });
    room.on("message", () => {});
    await until("it follows", () => room.state === "live");
    relay.fromServer = (frame) => (frame.op === "message" || (frame.op === "ok" && "id" in frame) ? undefined : frame);
    const publication = room.publish("once");
    await until("it is stored", async () => (await server.history(name)).length === 1);
    relay.silent = true;
    relay.cut();
    const other = connect().room<string>(name, { durable: "phone", autoAck: true });
    const got: string[] = [];
    other.on("message", ({ data }) => got.push(data));
    await until("the other device has it", () => got.length === 1);
    await other.publish("after");
    await until("and has acknowledged all", () => got.length === 2);
    await forgotten();
    relay.silent = false;
    relay.fromServer = (frame) => frame;
    relay.cut();
    const [stored] = await server.history(name);
    expect(await publication).toBe(stored!.id);
    expect(await logOf(name)).toEqual(["once", "after"]);
  });
});

describe("a store of waiting messages", () => {
  it("restores them after a reload, before newer ones, to be cancelled or sent", async () => {
    const proxy = await proxied();
    proxy.goOffline();
    const disk = new Disk();
    const first = new Life(disk);
    const before = connect(proxy.url, { outbox: { store: first.outbox } });
    const name = fresh();
    for (const n of [1, 2]) before.room<number>(name).publish(n);
    await until("they are stored", () => disk.entries.size === 2);
    first.dead = true;
    before.close();
    const client = connect(proxy.url, { outbox: { store: new Life(disk).outbox } });
    const room = client.room<number>(name);
    room.publish(3);
    await until("they are back", () => room.pending.length === 3);
    expect(room.pending.map(({ data }) => data)).toEqual([1, 2, 3]);
    expect(room.pending[0]!.cancel()).toBe(true);
    proxy.goOnline();
    await until("nothing waits", () => disk.entries.size === 0 && room.pending.length === 0);
    expect(await logOf(name)).toEqual([2, 3]);
  });

  it("records each message as attempted before it is sent", async () => {
    const relay = await relayed();
    const puts: [OutboxEntry, sent: boolean][] = [];
    const sent = (): boolean => relay.sent.some(({ op }) => op === "publish");
    const store = { load: () => [], put: (entry: OutboxEntry) => void puts.push([entry, sent()]), delete: () => {} };
    const client = connect(relay.url, { outbox: { store } });
    const room = client.room<string>(fresh());
    await room.history();
    await room.publish("hi");
    expect(puts).toMatchObject([[{ attempted: true, data: "hi" }, false]]);
  });
});
