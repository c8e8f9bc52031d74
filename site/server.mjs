// A server of this checkout, for the document of its HTTP API and for tests. ROOMLOG_BIN names the program.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { ROOT } from "./pages.mjs";

export const PROGRAM = process.env.ROOMLOG_BIN ?? join(resolve(ROOT, process.env.CARGO_TARGET_DIR ?? "target"), "debug/roomlog");

/** The secret of servers for tests. */
export const SECRET = "a secret for tests, of at least 32 bytes";

/** Returns a token for a user who may read and write in all rooms. */
export function tokenOf(user) {
  const env = { ...process.env, ROOMLOG_AUTH__HS256_SECRET: SECRET };
  return execFileSync(PROGRAM, ["token", "--user", user, "--room", "*=read,write"], { env, encoding: "utf8" }).trim();
}

/** Waits until a condition holds, and returns its value. */
export async function until(what, condition, seconds = 30) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`timed out: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export async function freePort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => probe.once("listening", resolve));
  const { port } = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

/** The programs that run. */
const children = new Set();

/** Kills all programs, such as those of a test that failed. */
export const endAll = () => children.forEach((child) => child.kill("SIGKILL"));
process.once("exit", endAll);
// The test runner ends files that take too long.
process.once("SIGTERM", () => process.exit(1));

/** Starts a program. `output` collects what it writes; `end` stops it. */
export function start(program, args, options = {}) {
  const child = spawn(program, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
  children.add(child);
  const running = { child, output: "" };
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (bytes) => (running.output += bytes));
  child.once("error", (error) => (running.output += error.message));
  const exited = new Promise((resolve) => child.once("close", resolve));
  exited.then(() => children.delete(child));
  running.end = async () => {
    child.kill("SIGTERM");
    await exited;
  };
  return running;
}

/** Starts a server with a Redis of its own; its `url` answers when this returns. */
export async function startServer(env = {}, ...flags) {
  if (!existsSync(PROGRAM)) throw new Error(`${PROGRAM} does not exist: run \`cargo build\`, or set ROOMLOG_BIN`);
  const data = mkdtempSync(join(tmpdir(), "roomlog-docs-"));
  const port = await freePort();
  const server = start(PROGRAM, ["serve", "--listen", `127.0.0.1:${port}`, ...flags], { env: { ...process.env, ROOMLOG_EMBEDDED__DATA_DIR: data, ...env } });
  const url = `http://127.0.0.1:${port}`;
  await until("the server is ready", async () => {
    if (server.child.exitCode !== null) throw new Error(`the server ended:\n${server.output}`);
    return (await fetch(`${url}/readyz`).catch(() => undefined))?.ok;
  });
  const end = async () => {
    await server.end();
    rmSync(data, { recursive: true, force: true });
  };
  return { child: server.child, url, port, end };
}

/** Starts a Redis for several servers. */
export async function startRedis() {
  const folder = mkdtempSync(join(tmpdir(), "roomlog-redis-"));
  const socket = join(folder, "redis.sock");
  const program = process.env.PATH.split(":").flatMap((path) => ["redis-server", "valkey-server"].map((name) => join(path, name))).find(existsSync);
  if (!program) throw new Error("there is no Redis: run scripts/install-deps.sh redis");
  const redis = start(program, ["--port", "0", "--unixsocket", socket, "--dir", folder, "--save", ""]);
  await until("Redis is ready", () => existsSync(socket));
  const end = async () => {
    await redis.end();
    rmSync(folder, { recursive: true, force: true });
  };
  return { url: `redis+unix://${socket}`, end };
}

/** Returns the OpenAPI document of the server. */
export async function openApi() {
  const server = await startServer({}, "--dev");
  const document = await (await fetch(`${server.url}/openapi.json`)).json();
  await server.end();
  return document;
}
