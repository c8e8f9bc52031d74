// The configuration that the pages show for proxies and services, read by the real programs.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { Roomlog } from "@roomlog/client";
import { endAll, freePort, PROGRAM, SECRET, start, startRedis, startServer, tokenOf, until } from "../server.mjs";
import { pages } from "../pages.mjs";
import { blocks, file, folder } from "./blocks.mjs";

after(endAll);

/** Two nodes behind a proxy act as one server, also while one of them stops. */
async function checkProxy(startProxy) {
  const redis = await startRedis();
  const env = { ROOMLOG_REDIS__URL: redis.url, ROOMLOG_AUTH__HS256_SECRET: SECRET };
  const nodes = [await startServer(env), await startServer(env)];
  const proxy = await startProxy(nodes);
  try {
    await until("the proxy passes requests on", async () => (await fetch(`${proxy.url}/readyz`).catch(() => undefined))?.ok);
    assert.equal((await fetch(`${proxy.url}/metrics`)).status, 404);

    // A page of the proxy's own address may connect: the proxy keeps the header `Host`.
    const headers = { authorization: `Bearer ${tokenOf("ann")}`, origin: proxy.url };
    const events = await fetch(`${proxy.url}/v1/rooms/room/events`, { headers, signal: AbortSignal.timeout(30_000) });
    assert.equal(events.status, 200);

    const clients = ["ann", "bob", "eve"].map((user) => new Roomlog(proxy.url, { token: () => tokenOf(user) }));
    const read = clients.map((client) => {
      const got = [];
      client.room("room").on("message", ({ data }) => got.push(data));
      return got;
    });
    await Promise.all(clients.map((client) => new Promise((resolve) => client.room("room").on("live", resolve))));

    await clients[0].room("room").publish("first");
    for await (const chunk of events.body) if (Buffer.from(chunk).includes("data: ")) break;

    const sent = Array.from({ length: 30 }, (_, n) => n);
    for (const n of sent) {
      if (n === 10) nodes[0].child.kill("SIGTERM");
      await clients[n % 3].room("room").publish(n);
    }
    await until("everything has arrived", () => read.every((got) => got.length === sent.length + 1));
    for (const got of read) assert.deepEqual(got, ["first", ...sent]);
    await Promise.all(clients.map((client) => client.close()));
  } catch (error) {
    error.message += `\n${proxy.output}`;
    throw error;
  } finally {
    await proxy.end();
    for (const node of nodes) await node.end();
    await redis.end();
  }
}

test("Caddy in front of two nodes", async () => {
  await checkProxy(async (nodes) => {
    const port = await freePort();
    const config = file("deploy/proxies.md", "Caddyfile", {
      "chat.example.com": `http://127.0.0.1:${port}`,
      "10.0.0.1:8080": `127.0.0.1:${nodes[0].port}`,
      "10.0.0.2:8080": `127.0.0.1:${nodes[1].port}`,
    });
    const home = folder({ Caddyfile: `{\n\tadmin off\n}\n${config}` });
    const env = { ...process.env, XDG_DATA_HOME: home, XDG_CONFIG_HOME: home };
    const caddy = start("caddy", ["run", "--config", join(home, "Caddyfile"), "--adapter", "caddyfile"], { env });
    return Object.assign(caddy, { url: `http://127.0.0.1:${port}` });
  });
});

test("nginx in front of two nodes", async () => {
  await checkProxy(async (nodes) => {
    const port = await freePort();
    const config = file("operations/nginx.md", "roomlog.conf", {
      "listen 8443": `listen 127.0.0.1:${port}`,
      "127.0.0.1:8081": `127.0.0.1:${nodes[0].port}`,
      "127.0.0.1:8082": `127.0.0.1:${nodes[1].port}`,
    });
    const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((kind) => `${kind}_temp_path ${kind};`).join(" ");
    const home = folder({ "nginx.conf": `daemon off; pid nginx.pid; error_log stderr; events {} http { access_log off; ${temporary}\n${config}}` });
    const nginx = start("nginx", ["-p", home, "-c", join(home, "nginx.conf")]);
    return Object.assign(nginx, { url: `http://127.0.0.1:${port}` });
  });
});

test("every configuration of Roomlog that a page shows is valid", () => {
  const shown = pages().flatMap(({ path }) => blocks(path).filter(({ language }) => language === "toml").map(({ text }) => ({ path, text })));
  assert(shown.length >= 4);
  for (const { path, text } of shown) {
    const home = folder({ "roomlog.toml": text });
    const effective = execFileSync(PROGRAM, ["config", "--effective", "--config", join(home, "roomlog.toml")], { encoding: "utf8" });
    assert.match(effective, /^\[server\]/m, path);
    rmSync(home, { recursive: true });
  }
});
