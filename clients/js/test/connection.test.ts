// Connecting, staying connected, and tokens.
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { WebSocket } from "ws";
import { Roomlog } from "../src/node.js";
import type { RoomlogError, RoomlogOptions } from "../src/node.js";
import { FAST } from "./harness/device.js";
import { Proxy } from "./harness/proxy.js";
import { Relay } from "./harness/relay.js";
import { Server, token } from "./harness/server.js";
import { until } from "./harness/until.js";

let server: Server;
beforeAll(async () => void (server = await Server.start()));
afterAll(() => server.end());

const open: { close(): void }[] = [];
afterEach(() => open.splice(0).forEach((one) => one.close()));

interface Observed {
  client: Roomlog;
  states: string[];
  errors: RoomlogError[];
}

function connect(url: string, options: Partial<RoomlogOptions> = {}): Observed {
  const client = new Roomlog(url, { token: () => token("ann"), timing: FAST, ...options });
  const observed: Observed = { client, states: [], errors: [] };
  client.on("state", (state) => observed.states.push(state));
  client.on("error", (error) => observed.errors.push(error));
  client.connect();
  open.push(client);
  return observed;
}

async function relayed(): Promise<Relay> {
  const relay = await Relay.to(server.url);
  open.push(relay);
  return relay;
}

describe("a connection", () => {
  it("reconnects after it was lost, and reports each state", async () => {
    const proxy = await Proxy.to(server.port);
    open.push(proxy);
    const { client, states } = connect(proxy.url);
    expect(client.state).toBe("connecting");
    await until("it is open", () => client.state === "open");
    expect(client.user).toBe("ann");
    proxy.cut();
    await until("it is open again", () => states.filter((state) => state === "open").length === 2);
    expect(states).toEqual(["connecting", "open", "waiting", "connecting", "open"]);
  });

  it("makes growing random pauses between attempts", async () => {
    const proxy = await Proxy.to(server.port);
    open.push(proxy);
    proxy.goOffline();
    const attempts: number[] = [];
    const { client } = connect(proxy.url, { transports: ["websocket"], timing: { ...FAST, backoffMin: 20, backoffMax: 400 } });
    client.on("state", (state) => state === "connecting" && attempts.push(performance.now()));
    await until("it has tried many times", () => attempts.length >= 14);
    const pauses = attempts.slice(1).map((at, i) => at - attempts[i]!);
    const sum = (all: number[]): number => all.reduce((a, b) => a + b, 0);
    // Ranges of 20, 40, 80, 160, against nine of 400.
    expect(sum(pauses.slice(-9)) / 9).toBeGreaterThan(sum(pauses.slice(0, 4)) / 4);
    expect(new Set(pauses.map(Math.round)).size).toBeGreaterThan(3);
  });

  // Rules: close-1012.
  it("reconnects to a restarting server at the time that the server asked for", async () => {
    const relay = await relayed();
    let asked: number | undefined;
    relay.fromServer = (frame) => {
      if (frame.op !== "goodbye") return frame;
      asked = performance.now();
      return { ...frame, retry_after_ms: 800 };
    };
    const { client, states } = connect(relay.url, { encoding: "json" });
    await until("it is open", () => client.state === "open");
    let back: number | undefined;
    client.on("state", (state) => state === "connecting" && (back ??= performance.now()));
    await server.terminateNode();
    await server.startNode();
    await until("it is open again", () => client.state === "open");
    expect(states.slice(0, 3)).toEqual(["connecting", "open", "waiting"]);
    expect(back! - asked!).toBeGreaterThanOrEqual(790);
  });

  it("stays closed when a handler closes the client as the connection is lost", async () => {
    const proxy = await Proxy.to(server.port);
    open.push(proxy);
    const { client, states } = connect(proxy.url);
    const room = client.room("closing");
    room.on("message", () => {});
    await until("it is live", () => room.state === "live");
    room.on("state", () => client.close());
    proxy.cut();
    await until("it is closed", () => states.includes("closed"));
    expect(states).toEqual(["connecting", "open", "closed"]);
    expect(client.state).toBe("closed");
  });

  it("detects a dead connection by its silence", async () => {
    const relay = await relayed();
    relay.fromServer = (frame) => ("session" in frame ? { ...frame, ping: 1 } : frame);
    const { client, states } = connect(relay.url, { encoding: "json", timing: { ...FAST, connect: 1000 } });
    await until("it is open", () => client.state === "open");
    relay.silent = true;
    await until("it was given up", () => relay.connections > 1);
    relay.silent = false;
    await until("it is open again", () => states.filter((state) => state === "open").length === 2);
  });

  it("checks the connection when the device wakes up, and replaces it only if it is dead", async () => {
    const relay = await relayed();
    const { client } = connect(relay.url, { encoding: "json" });
    await until("it is open", () => client.state === "open");
    client.wake();
    await until("it probed", () => relay.sent.some(({ op }) => op === "ping"));
    await client.room("wake").history();
    expect(relay.connections).toBe(1);
    relay.silent = true;
    client.wake();
    await until("it connects anew", () => relay.connections === 2);
    relay.silent = false;
    await until("it is open", () => client.state === "open");
  });

  it("tells the time of the next attempt, and connects before that on request", async () => {
    const proxy = await Proxy.to(server.port);
    open.push(proxy);
    proxy.goOffline();
    const timing = { ...FAST, backoffMin: 1e9, backoffMax: 1e9, backoffMaxVisible: 5000 };
    const { client } = connect(proxy.url, { transports: ["websocket"], timing });
    expect([client.retryAt, client.error]).toEqual([undefined, undefined]);
    await until("it waits", () => client.state === "waiting");
    expect(client.retryAt!.getTime()).toBeGreaterThan(Date.now());
    expect(client.error).toMatchObject({ code: "disconnected" });
    proxy.goOnline();
    client.wake();
    expect(client.retryAt).toBeUndefined();
    await until("it is open", () => client.state === "open");
    expect(client.error).toBeUndefined();
  });

  it.each([["visible", 5000], ["hidden", 20_000]] as const)("while the page is %s, it pauses for at most %i ms", async (visibilityState, limit) => {
    const proxy = await Proxy.to(server.port);
    open.push(proxy);
    proxy.goOffline();
    vi.stubGlobal("document", { visibilityState, addEventListener: () => {}, removeEventListener: () => {} });
    vi.spyOn(Math, "random").mockReturnValue(0.999);
    try {
      // A first pause that is beyond both limits.
      const client = new Roomlog(proxy.url, { token: () => token("ann"), transports: ["websocket"], timing: { backoffMin: 1e9 } });
      open.push(client);
      client.connect();
      await until("it waits", () => client.state === "waiting");
      const left = client.retryAt!.getTime() - Date.now();
      expect(left).toBeLessThanOrEqual(limit);
      expect(left).toBeGreaterThan(limit * 0.9);
    } finally {
      vi.unstubAllGlobals();
      vi.restoreAllMocks();
    }
  });

  it.each([["websocket"], ["sse"], ["polling"]] as const)("says why the server refuses a page of a foreign origin (%s)", async (transport) => {
    const server = await Server.start({ SERVER__ALLOWED_ORIGINS: "https://chat.example" });
    const origin = "https://other.example";
    // As a browser would name the page's origin.
    class Socket extends WebSocket {
      constructor(url: string, protocols: string) {
        super(url, protocols, { origin });
      }
    }
    const doFetch: typeof fetch = (url, init) => fetch(url, { ...init, headers: { ...init?.headers, origin } });
    const { client, errors } = connect(server.url, { WebSocket: Socket, fetch: doFetch, transports: transport === "websocket" ? ["websocket", "sse"] : [transport] });
    await until("it has failed", () => errors.length > 0);
    expect(client.error).toMatchObject({ code: "forbidden", message: expect.stringContaining(`--allow-origin ${origin}`) });
    expect(["waiting", "connecting"]).toContain(client.state);
    client.close();
    await server.end();
  });

  it("reconnects without a pause when the device comes online", async () => {
    const proxy = await Proxy.to(server.port);
    open.push(proxy);
    proxy.goOffline();
    const { client, states } = connect(proxy.url, { transports: ["websocket"], timing: { ...FAST, backoffMin: 1e9, backoffMax: 1e9 } });
    await until("it waits", () => client.state === "waiting");
    proxy.goOnline();
    client.wake();
    await until("it is open", () => client.state === "open");
    expect(states).toEqual(["connecting", "waiting", "connecting", "open"]);
  });
});

describe("a token", () => {
  it("is fetched once for requests that wait at the same time", async () => {
    let asked = 0;
    const { client } = connect(server.url, { token: () => (asked++, token("ann")) });
    await Promise.all([client.room("a").publish(1), client.room("b").publish(2), client.room("c").history()]);
    expect(asked).toBe(1);
  });

  it("is renewed before it expires, on the same connection", async () => {
    let asked = 0;
    const { client, states, errors } = connect(server.url, { token: () => (asked++, token("ann", { ttl: 4 })) });
    await until("it was renewed twice", () => asked >= 3);
    await client.room("renewed").publish("still here");
    expect(states).toEqual(["connecting", "open"]);
    expect(errors).toEqual([]);
  });

  it("that cannot be renewed is fetched again with pauses, and the connection stays open", async () => {
    const asked: number[] = [];
    const { client, errors } = connect(server.url, {
      token: () => {
        asked.push(performance.now());
        if (asked.length > 1) throw new Error("the token server is down");
        return token("ann", { ttl: 8 });
      },
    });
    await until("it was asked again twice", () => asked.length === 3);
    expect(client.state).toBe("open");
    expect(asked[2]! - asked[1]!).toBeGreaterThan(900);
    expect(errors[0]).toMatchObject({ name: "RoomlogError", code: "application", message: "the token function failed: the token server is down" });
  });

  // Rules: close-4001.
  it("that the server refuses as expired is replaced", async () => {
    let asked = 0;
    const { client, errors } = connect(server.url, { token: () => token("ann", asked++ === 0 ? { ttl: -60 } : {}) });
    await until("it is open", () => client.state === "open");
    expect(asked).toBe(2);
    expect(errors.map(({ code }) => code)).toEqual(["token_expired"]);
  });

  // Rules: code-4, close-4501.
  it.each([["websocket"], ["sse"], ["polling"]] as const)("that is refused closes the client for good (%s)", async (transport) => {
    const proxy = await Proxy.to(server.port);
    open.push(proxy);
    const { client, errors } = connect(proxy.url, { token: "nonsense", transports: [transport] });
    const publication = client.room("refused").publish("waits");
    await expect(client.room("refused").history()).rejects.toMatchObject({ code: "unauthenticated" });
    await expect(publication).rejects.toMatchObject({ code: "unauthenticated" });
    expect(client.state).toBe("closed");
    expect(errors.map(({ code }) => code)).toEqual(["unauthenticated"]);
    expect(client.error).toBe(errors[0]);
    const { length } = proxy.requests;
    client.wake();
    expect(client.state).toBe("closed");
    expect(proxy.requests).toHaveLength(length);
  });

  it("is replaced after the server's keys have changed", async () => {
    const server = await Server.startForDevelopment();
    const { client, errors } = connect(server.url, { token: () => server.devToken("ann") });
    await until("it is open", () => client.state === "open");
    await server.killNode();
    server.changeKeys();
    const waits = client.room("keys").publish("across");
    await server.startNode();
    expect(await waits).toMatch(/-1$/);
    expect(errors.map(({ code }) => code)).toEqual(["unauthenticated"]);
    client.close();
    await server.end();
  });

  it.each([["websocket"], ["sse"], ["polling"]] as const)("that is refused is refused with the server's reason (%s)", async (transport) => {
    const foreign = token("ann").replace(/[^.]+$/, "c2lnbmVkIHdpdGggYW5vdGhlciBzZWNyZXQ");
    const { client } = connect(server.url, { token: foreign, transports: [transport] });
    client.room("refused").on("message", () => {});
    await until("it is closed", () => client.state === "closed");
    expect(client.error).toMatchObject({ code: "unauthenticated" });
    expect(client.error!.message).toMatch(/sign/);
    expect(client.error!.message).not.toMatch(/4501/);
  });

  it.each([["websocket"], ["sse"], ["polling"]] as const)("that is a fixed text and has expired closes the client for good (%s)", async (transport) => {
    const expired = Math.floor(Date.now() / 1000) - 60;
    const { client, errors } = connect(server.url, { token: token("ann", { ttl: -60 }), transports: [transport] });
    client.room("expired").on("message", () => {});
    await until("it is closed", () => client.state === "closed");
    const [error] = errors;
    expect(errors).toEqual([error]);
    expect(error).toMatchObject({ code: "token_expired", message: expect.stringContaining("pass a function as `token` so that the client can get a new one") });
    const [, when] = /^the token expired at (\S+); /.exec(error!.message)!;
    expect(Math.abs(Date.parse(when!) / 1000 - expired)).toBeLessThanOrEqual(1);
  });

  // Rules: close-4502.
  it("that is revoked closes the client for good", async () => {
    const { client, errors } = connect(server.url, { token: token("eve", { jti: "leaked" }) });
    await until("it is open", () => client.state === "open");
    const operator = token("ops", { rooms: { "*": ["manage"] } });
    await fetch(`${server.url}/v1/revocations`, {
      method: "POST",
      headers: { authorization: `Bearer ${operator}`, "content-type": "application/json" },
      body: JSON.stringify({ jti: "leaked" }),
    });
    await until("it is closed", () => client.state === "closed");
    expect(errors).toEqual([client.error]);
    expect(client.error).toMatchObject({ code: "token_revoked" });
    expect(client.error!.message).not.toMatch(/450/);
  });
});
