// A server of this checkout, for the document of its HTTP API and for tests. ROOMLOG_BIN names the program.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { ROOT } from "./pages.mjs";

const PROGRAM = process.env.ROOMLOG_BIN ?? join(resolve(ROOT, process.env.CARGO_TARGET_DIR ?? "target"), "debug/roomlog");

/** Waits until a condition holds, and returns its value. */
export async function until(what, condition, seconds = 60) {
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

/** Starts a program that ends with the test. `output` collects what it writes; `end` stops it. */
export function start(program, args, options = {}) {
  const child = spawn(program, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill);
  const running = { child, output: "" };
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (bytes) => (running.output += bytes));
  child.once("error", (error) => (running.output += error.message));
  const exited = new Promise((resolve) => child.once("close", resolve));
  running.end = async () => {
    process.off("exit", kill);
    child.kill("SIGTERM");
    await exited;
  };
  return running;
}

/** Starts a server with a Redis of its own; its `url` answers when this returns. */
export async function startServer(env = {}, ...flags) {
  if (!existsSync(PROGRAM)) throw new Error(`${PROGRAM} does not exist: run \`cargo build\`, or set ROOMLOG_BIN`);
  const data = mkdtempSync(join(tmpdir(), "roomlog-docs-"));
  const port = env.ROOMLOG_SERVER__LISTEN?.split(":")[1] ?? (await freePort());
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
  return { url, port: Number(port), data, end };
}

/** Returns the OpenAPI document of the server. */
export async function openApi() {
  const server = await startServer({}, "--dev");
  const document = await (await fetch(`${server.url}/openapi.json`)).json();
  await server.end();
  return document;
}
