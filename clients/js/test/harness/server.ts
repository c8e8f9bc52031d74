// A real server on a Redis of its own. Both can be killed and started again on the same data, and Redis can be made to hang.
import { spawn } from "node:child_process";
import type { ChildProcess, SpawnOptions } from "node:child_process";
import { createHmac } from "node:crypto";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { until } from "./until.js";

export const SECRET = "a secret for tests, of at least 32 bytes";

/** Returns the path of the program under test: `ROOMLOG_BIN`, or the one that the checkout has built. */
export function program(): string {
  const repository = resolve(import.meta.dirname, "../../../..");
  const target = resolve(repository, process.env["CARGO_TARGET_DIR"] ?? "target");
  const path = process.env["ROOMLOG_BIN"] ?? join(target, "debug/roomlog");
  if (!existsSync(path)) throw new Error(`${path} is not there: run \`cargo build\`, or set ROOMLOG_BIN`);
  return path;
}

export interface TokenOptions {
  /** Seconds; an hour by default. */
  ttl?: number;
  rooms?: Record<string, string[]>;
  jti?: string;
}

/** Signs a token for a user, as an application's own server would. */
export function token(user: string, { ttl = 3600, rooms = { "*": ["read", "write"] }, jti }: TokenOptions = {}): string {
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const now = Math.floor(Date.now() / 1000);
  const body = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: user, iat: now, exp: now + ttl, rooms, jti })}`;
  return `${body}.${createHmac("sha256", SECRET).update(body).digest("base64url")}`;
}

/** The processes that must not outlive the tests. */
const children = new Set<ChildProcess>();
process.once("exit", () => children.forEach((child) => child.kill("SIGKILL")));

function start(program: string, words: string[], options: SpawnOptions): ChildProcess {
  const child = spawn(program, words, options);
  children.add(child);
  child.once("exit", () => children.delete(child));
  return child;
}

export class Server {
  private node: ChildProcess | undefined;
  private redis: ChildProcess | undefined;
  private words = "";

  private constructor(
    readonly port: number,
    private readonly dir: string,
    private readonly settings: Record<string, string>,
    private readonly flags: string[],
  ) {}

  /**
   * @param settings - such as `{ RETENTION__DEDUPLICATION_WINDOW: "1s" }`
   * @param flags - further arguments of `serve`
   */
  static async start(settings: Record<string, string> = {}, ...flags: string[]): Promise<Server> {
    const server = new Server(await freePort(), mkdtempSync(join(tmpdir(), "roomlog-js-")), settings, flags);
    await server.startRedis();
    await server.startNode();
    return server;
  }

  /** Starts a server that issues tokens to anybody. */
  static startForDevelopment(settings: Record<string, string> = {}): Promise<Server> {
    return Server.start({ AUTH__HS256_SECRET: "", ...settings }, "--dev");
  }

  /** Fetches a token of such a server. */
  async devToken(user: string): Promise<string> {
    const response = await fetch(`${this.url}/dev/token?user=${user}`);
    return ((await response.json()) as { token: string }).token;
  }

  /** Makes the next start of such a server use another secret. */
  changeKeys(): void {
    rmSync(join(this.dir, "dev-secret"));
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** The server's output, for a test that fails. */
  get log(): string {
    return this.words;
  }

  async startNode(): Promise<void> {
    const env: NodeJS.ProcessEnv = {
      ...process.env,
      ROOMLOG_AUTH__HS256_SECRET: SECRET,
      ROOMLOG_EMBEDDED__DATA_DIR: this.dir,
      ROOMLOG_REDIS__DURABILITY: "disk",
      ROOMLOG_REDIS__COMMAND_TIMEOUT: "500ms",
      ROOMLOG_SERVER__ALLOWED_ORIGINS: "*",
      ROOMLOG_LOG__LEVEL: "warn",
    };
    for (const [key, value] of Object.entries(this.settings)) env[`ROOMLOG_${key}`] = value;
    const url = `redis+unix://${this.dir}/redis.sock`;
    this.node = start(program(), ["serve", "--listen", `127.0.0.1:${this.port}`, "--redis-url", url, ...this.flags], { env });
    for (const stream of [this.node.stdout!, this.node.stderr!]) stream.on("data", (bytes: Buffer) => (this.words += String(bytes)));
    await until("the server is ready", async () => {
      if (this.node!.exitCode !== null) throw new Error(`the server ended:\n${this.words}`);
      return (await fetch(`${this.url}/readyz`).catch(() => undefined))?.ok;
    });
  }

  /** Kills the server. Resolves when the port is free. */
  killNode(): Promise<void> {
    return end(this.node, "SIGKILL");
  }

  terminateNode(): Promise<void> {
    return end(this.node, "SIGTERM");
  }

  async startRedis(): Promise<void> {
    const socket = join(this.dir, "redis.sock");
    rmSync(socket, { force: true });
    const options = { port: 0, unixsocket: socket, dir: this.dir, appendonly: "yes", appendfsync: "always", save: "", loglevel: "warning" };
    const words = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
    this.redis = start("redis-server", words, { stdio: "ignore" });
    await until("Redis answers", () => answers(socket));
  }

  killRedis(): Promise<void> {
    return end(this.redis, "SIGKILL");
  }

  /** Makes Redis hang: connections stay open, and nothing is answered. */
  stopRedis(): void {
    this.redis!.kill("SIGSTOP");
  }

  continueRedis(): void {
    this.redis!.kill("SIGCONT");
  }

  async end(): Promise<void> {
    await this.killNode();
    await this.killRedis();
    rmSync(this.dir, { recursive: true, force: true });
  }

  /** Returns the position of a durable subscription, or undefined if the server cannot be asked now. */
  async position(room: string, user: string, name: string): Promise<string | undefined> {
    const headers = { authorization: `Bearer ${token("checker")}` };
    const response = await fetch(`${this.url}/v1/rooms/${room}/subscriptions`, { headers }).catch(() => undefined);
    const all = response?.ok ? ((await response.json()) as { user: string; name: string; position: string }[]) : [];
    return all.find((one) => one.user === user && one.name === name)?.position;
  }

  /** Reads the whole log of a room, without the client under test. */
  async history(room: string): Promise<{ id: string; key: string; data: unknown }[]> {
    const all: { id: string; key: string; data: unknown }[] = [];
    const headers = { authorization: `Bearer ${token("checker")}` };
    for (let more = true; more; ) {
      const url = `${this.url}/v1/rooms/${room}/messages?after=${all.at(-1)?.id ?? "0"}&limit=1000`;
      // The node, or its Redis, may be restarting.
      const response = await until("the history can be read", async () => {
        const response = await fetch(url, { headers }).catch(() => undefined);
        if (!response || response.status === 503) return undefined;
        return response.ok ? response : Promise.reject(new Error(await response.text()));
      });
      const page = (await response.json()) as { messages: typeof all; more: boolean };
      all.push(...page.messages);
      more = page.more;
    }
    return all;
  }
}

/** Tells whether Redis answers at a socket, and has loaded its data. */
function answers(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = connect(socket, () => connection.write("PING\r\n"));
    connection.on("data", (bytes) => (resolve(String(bytes).startsWith("+PONG")), connection.destroy()));
    connection.on("error", () => resolve(false));
  });
}

async function end(child: ChildProcess | undefined, signal: NodeJS.Signals): Promise<void> {
  if (!child || child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill(signal);
  await ended;
}

export async function freePort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => probe.once("listening", resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}
