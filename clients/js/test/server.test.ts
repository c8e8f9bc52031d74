// The entry point for servers: tokens of each algorithm, which the real server verifies, and its REST API.
import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Roomlog } from "../src/node.js";
import { RoomlogApi, RoomlogError, signToken } from "../src/server.js";
import type { SigningKey } from "../src/server.js";
import { Proxy } from "./harness/proxy.js";
import { SECRET, Server } from "./harness/server.js";
import { until } from "./harness/until.js";

const ALL = { "*": ["read", "write", "manage"] } satisfies Parameters<typeof signToken>[0]["rooms"];

describe("a signed token", () => {
  const pairs = {
    RS256: generateKeyPairSync("rsa", { modulusLength: 2048 }),
    ES256: generateKeyPairSync("ec", { namedCurve: "P-256" }),
    EdDSA: generateKeyPairSync("ed25519"),
  };
  const dir = mkdtempSync(join(tmpdir(), "roomlog-js-keys-"));
  let server: Server;
  beforeAll(async () => {
    const keys = Object.entries(pairs).map(([alg, { publicKey }]) => ({ ...publicKey.export({ format: "jwk" }), alg, kid: alg.toLowerCase(), use: "sig" }));
    writeFileSync(join(dir, "keys.json"), JSON.stringify({ keys }));
    server = await Server.start({ AUTH__JWKS_FILE: join(dir, "keys.json"), AUTH__ALGORITHMS: "HS256,RS256,ES256,EdDSA", AUTH__AUDIENCE: "chat" });
  });
  afterAll(async () => {
    await server?.end();
    rmSync(dir, { recursive: true });
  });

  const pem = (algorithm: keyof typeof pairs): string => pairs[algorithm].privateKey.export({ format: "pem", type: "pkcs8" }).toString();
  const keys: [string, SigningKey][] = [
    ["HS256", { secret: SECRET }],
    ["HS256, of bytes", { secret: new TextEncoder().encode(SECRET) }],
    ["RS256", { privateKey: pem("RS256"), algorithm: "RS256", keyId: "rs256" }],
    ["ES256", { privateKey: pem("ES256"), algorithm: "ES256", keyId: "es256" }],
    ["EdDSA", { privateKey: pem("EdDSA"), algorithm: "EdDSA", keyId: "eddsa" }],
  ];

  it.each(keys)("is accepted by the server (%s)", async (_, key) => {
    const token = await signToken({ ...key, user: "ann", rooms: { "chat.*": ["read", "write"] }, audience: "chat" });
    const client = new Roomlog(server.url, { token });
    expect(await client.room("chat.signed").publish("hi")).toMatch(/-\d+$/);
    expect(client.user).toBe("ann");
    await expect(client.room("other").publish("hi")).rejects.toMatchObject({ code: "forbidden" });
    client.close();
  });

  it("expires after an hour, or as chosen, and has the id by which it can be revoked", async () => {
    const claims = async (more: object): Promise<{ exp?: number; jti?: string }> =>
      JSON.parse(atob((await signToken({ secret: SECRET, user: "ann", ...more })).split(".")[1]!));
    const now = Date.now() / 1000;
    expect((await claims({})).exp! - now).toBeCloseTo(3600, -1);
    const { exp, jti } = await claims({ expiresIn: 60, id: "t1" });
    expect(exp! - now).toBeCloseTo(60, -1);
    expect(jti).toBe("t1");
  });

  it.each([
    ["a short secret", { secret: "short" }, /at least 32/],
    ["a key of another format", { privateKey: "-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----", algorithm: "RS256" }, /openssl pkcs8/],
    ["a key of another algorithm", { privateKey: pem("RS256"), algorithm: "ES256" }, /not a key for ES256/],
    ["a permission that does not exist", { secret: SECRET, rooms: { "*": ["wrte"] } }, /"wrte" is not a permission/],
    ["no user", { secret: SECRET, user: "" }, /`user`/],
  ])("is refused with a reason where it has %s", async (_, options, reason) => {
    await expect(signToken({ user: "ann", ...options } as never)).rejects.toThrow(reason);
  });
});

describe("the REST API", () => {
  let server: Server;
  let api: RoomlogApi;
  beforeAll(async () => {
    server = await Server.start();
    api = new RoomlogApi(server.url, { token: () => signToken({ secret: SECRET, user: "backend", rooms: ALL }) });
  });
  afterAll(() => server?.end());

  it("publishes and reads messages, once for each key", async () => {
    const key = "0b9d9b2e-6a52-4f0e-9d3a-6d3c1f0c7a11";
    const first = await api.publish("api.one", { text: "hi", image: new Uint8Array([1, 2, 3]) }, { key, type: "note" });
    expect(first).toEqual({ id: expect.stringMatching(/-1$/), key, duplicate: false });
    expect(await api.publish("api.one", "other", { key })).toEqual({ ...first, duplicate: true });
    for (const n of [2, 3, 4]) await api.publish("api.one", n);
    const { messages } = await api.history("api.one");
    expect(messages.map(({ data }) => data)).toEqual([{ text: "hi", image: new Uint8Array([1, 2, 3]) }, 2, 3, 4]);
    expect(messages[0]).toMatchObject({ room: "api.one", id: first.id, key, from: "backend", type: "note", time: expect.any(Date) });
    const page = await api.history("api.one", { limit: 2 });
    expect(page).toMatchObject({ messages: [{ data: 3 }, { data: 4 }], more: true, head: messages[3]!.id });
    expect((await api.history("api.one", { before: messages[2]!.id })).messages).toEqual(messages.slice(0, 2));
    expect((await api.history("api.one", { after: messages[2]!.id })).messages).toEqual(messages.slice(3));
    expect((await api.history("api.one", { fromTime: messages[0]!.time, limit: 1 })).messages).toEqual([messages[0]]);
    await expect(api.publish("api.one", new Date() as never)).rejects.toMatchObject({ code: "bad_request" });
  });

  it("publishes batches of any size, and reports each message", async () => {
    const messages = Array.from({ length: 1500 }, (_, n) => ({ room: n === 1200 ? "not a room" : "api.batch", data: n }));
    const items = await api.publishBatch(messages);
    expect(items).toHaveLength(1500);
    const failed = items.flatMap((item, n) => ("error" in item ? [[n, item.error]] : []));
    expect(failed).toEqual([[1200, expect.any(RoomlogError)]]);
    expect(failed[0]![1]).toMatchObject({ code: "bad_request" });
    expect((await server.history("api.batch")).map(({ data }) => data)).toEqual(messages.filter(({ room }) => room === "api.batch").map(({ data }) => data));
  });

  it("deletes messages and rooms", async () => {
    const ids: string[] = [];
    for (const n of [1, 2, 3]) ids.push((await api.publish("api.deleted", n)).id);
    await api.deleteMessage("api.deleted", ids[1]!);
    expect((await api.history("api.deleted")).messages.map(({ id }) => id)).toEqual([ids[0], ids[2]]);
    await expect(api.deleteMessage("api.deleted", ids[1]!)).rejects.toMatchObject({ code: "not_found" });
    await api.deleteRoom("api.deleted");
    expect((await api.history("api.deleted")).messages).toEqual([]);
  });

  it("lists rooms and subscriptions, over all pages", async () => {
    const names = Array.from({ length: 30 }, (_, n) => `listed.${n}`);
    await api.publishBatch(names.map((room) => ({ room, data: 1 })));
    const rooms: string[] = [];
    for await (const room of api.rooms({ match: "listed.*" })) rooms.push(room);
    expect(new Set(rooms)).toEqual(new Set(names));
    const durables = Array.from({ length: 1030 }, (_, n) => `device-${n}`);
    const take = async (durable: string, n: number): Promise<void> => {
      // One user may not have as many.
      const headers = { authorization: `Bearer ${await signToken({ secret: SECRET, user: `ann${n % 2}`, rooms: ALL })}`, "content-type": "application/json" };
      const body = JSON.stringify({ durable, since: "0" });
      expect((await fetch(`${server.url}/v1/rooms/listed.1/subscriptions`, { method: "POST", headers, body })).status).toBe(200);
    };
    for (let at = 0; at < durables.length; at += 20) await Promise.all(durables.slice(at, at + 20).map(take));
    const found = new Map<string, unknown>();
    for await (const subscription of api.subscriptions("listed.1")) found.set(subscription.name, subscription);
    expect([...found.keys()].sort()).toEqual([...durables].sort());
    expect(found.get("device-7")).toEqual({ user: "ann1", name: "device-7", position: expect.any(String), lag: 1, connected: false });
  });

  it("revokes a token by its id, and all tokens of a user", async () => {
    for (const [user, revocation] of [["eve", { id: "leaked" }], ["mallory", { user: "mallory" }]] as const) {
      const client = new Roomlog(server.url, { token: await signToken({ secret: SECRET, user, rooms: ALL, id: user === "eve" ? "leaked" : "own" }) });
      client.connect();
      await until("it is open", () => client.state === "open");
      await api.revoke(revocation);
      await until("it is closed", () => client.state === "closed");
      expect(client.error).toMatchObject({ code: "token_revoked" });
    }
  });

  it("explains refusals, with the protocol's codes", async () => {
    const reader = new RoomlogApi(server.url, { token: await signToken({ secret: SECRET, user: "ann", rooms: { "api.*": ["read"] } }) });
    await expect(reader.publish("api.one", 1)).rejects.toMatchObject({ name: "RoomlogError", code: "forbidden", message: expect.stringContaining("write") });
    await expect(reader.history("a b")).rejects.toMatchObject({ code: "bad_request" });
    const expired = new RoomlogApi(server.url, { token: await signToken({ secret: SECRET, user: "ann", rooms: ALL, expiresIn: -60 }) });
    await expect(expired.publish("api.one", 1)).rejects.toMatchObject({ code: "token_expired", message: expect.stringContaining("pass a function as `token`") });
    let asked = 0;
    const renewed = new RoomlogApi(server.url, { token: () => signToken({ secret: SECRET, user: "ann", rooms: ALL, expiresIn: asked++ === 0 ? -60 : 60 }) });
    await renewed.publish("api.one", 1);
    expect(asked).toBe(2);
    expect(() => new RoomlogApi("chat.example", { token: "" })).toThrow("not the address of a server");
  });

  it("retries while the server is away, and stores a message once", async () => {
    const proxy = await Proxy.to(server.port);
    const through = new RoomlogApi(proxy.url.replace("ws", "http").replace("/v1/ws", ""), {
      token: () => signToken({ secret: SECRET, user: "backend", rooms: ALL }),
    });
    const name = "api.retried";
    for (let n = 0; n < 20; n++) {
      const publishing = through.publish(name, n);
      // Before it is sent, on its way, or on the way back.
      await new Promise((resolve) => setTimeout(resolve, n % 5));
      proxy.cut();
      await publishing;
    }
    await server.killNode();
    const publishing = through.publish(name, 20);
    await server.startNode();
    const { id } = await publishing;
    expect((await server.history(name)).map(({ data }) => data)).toEqual(Array.from({ length: 21 }, (_, n) => n));
    const deleting = through.deleteMessage(name, id);
    proxy.cut();
    await deleting;
    proxy.goOffline();
    const impatient = new RoomlogApi(`http://127.0.0.1:${proxy.port}`, { token: "", timeout: 300 });
    await expect(impatient.history(name)).rejects.toMatchObject({ code: "disconnected" });
    proxy.close();
  });
});
