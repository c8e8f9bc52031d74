// The package as it is published: its contents, its size, its module formats, and its types.
import { execFile, spawnSync } from "node:child_process";
import { mkdtempSync, mkdirSync, rmSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Server, token } from "./harness/server.js";

const root = resolve(import.meta.dirname, "..");
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };

/** An application that has the package installed, as npm would from its tarball, with React and without `ws`. */
const application = mkdtempSync(join(tmpdir(), "roomlog-js-app-"));
const installed = join(application, "node_modules/@roomlog/client");
const tarball = join(application, `roomlog-client-${version}.tgz`);
beforeAll(() => {
  run("npm", "pack", root, "--ignore-scripts", "--silent", "--pack-destination", application);
  mkdirSync(installed, { recursive: true });
  run("tar", "-xzf", tarball, "--strip-components=1", "-C", installed);
  for (const name of ["react", "@types/react", "csstype"]) {
    mkdirSync(join(application, "node_modules", name, ".."), { recursive: true });
    symlinkSync(join(root, "node_modules", name), join(application, "node_modules", name));
  }
});
afterAll(() => rmSync(application, { recursive: true }));

const write = (file: string, text: string): string => (writeFileSync(join(application, file), text), file);
/** Runs a program there, and returns its output. If it fails, the error contains the output. */
function run(program: string, ...words: string[]): string {
  const { status, stdout, stderr } = spawnSync(program, words, { cwd: application, encoding: "utf8" });
  if (status !== 0) throw new Error(`${program} ${words.join(" ")}\n${stdout}${stderr}`);
  return stdout;
}

/** The same, beside this process, which has a server to look after. */
const runAside = (program: string, ...words: string[]): Promise<string> =>
  new Promise((resolve, reject) =>
    execFile(program, words, { cwd: application, timeout: 30_000 }, (error, stdout, stderr) => (error ? reject(new Error(`${stdout}${stderr}${error.message}`)) : resolve(stdout))),
  );

describe("the package", () => {
  it("has its licenses, its README, and nothing but what is built", () => {
    const files = run("tar", "-tzf", tarball).trim().split("\n").map((file) => file.replace("package/", ""));
    expect(files.filter((file) => !file.startsWith("dist/")).sort()).toEqual(["LICENSE-APACHE", "LICENSE-MIT", "README.md", "package.json"]);
    const described = JSON.parse(readFileSync(join(installed, "package.json"), "utf8")) as Record<string, unknown>;
    for (const field of ["repository", "homepage", "bugs", "keywords", "license"]) expect(described[field], field).toBeTruthy();
    expect(described["dependencies"], "browsers need none").toBeUndefined();
  });

  it("has no fault that publint knows", async () => {
    const bytes = readFileSync(tarball);
    const { messages, pkg } = await publint({ pack: { tarball: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) as ArrayBuffer } });
    expect(messages.map((message) => formatMessage(message, pkg))).toEqual([]);
  });

  it("has types that all ways of resolving them find", () => {
    // Without `node10`, which knows no entry points.
    run(join(root, "node_modules/.bin/attw"), tarball, "--profile", "node16", "--no-emoji");
  });

  it("connects with the WebSocket of Node.js, and says what to do where there is none", async () => {
    const server = await Server.start();
    write("connect.mjs", `
      import { Roomlog } from "@roomlog/client";
      const client = new Roomlog("${server.url}", { token: "${token("ann")}", transports: ["websocket"] });
      client.on("error", ({ message }) => (console.log(message), client.close()));
      client.room("package").publish("hi").then((id) => (console.log(id.replace(/.*-/, "sent ")), client.close()), () => {});`);
    const ofNode = globalThis.WebSocket ? [] : ["--experimental-websocket", "--no-warnings"];
    try {
      expect(await runAside("node", ...ofNode, "connect.mjs")).toBe("sent 1\n");
      const without = [...(globalThis.WebSocket ? ["--no-experimental-websocket"] : []), "connect.mjs"];
      expect(await runAside("node", ...without)).toMatch(/install the package `ws`/);
    } finally {
      await server.end();
    }
  });

  it("loads less than 15 KB gzipped at the start, and 4 KB where WebSockets are blocked", async () => {
    write("app.js", `import { Roomlog } from "@roomlog/client"; globalThis.client = new Roomlog("wss://chat.example", { token: "" });`);
    const { metafile, outputFiles } = await build({
      entryPoints: [join(application, "app.js")],
      bundle: true,
      minify: true,
      splitting: true,
      format: "esm",
      conditions: ["browser"],
      outdir: application,
      write: false,
      metafile: true,
      absWorkingDir: application,
    });
    const sizes = new Map(outputFiles.map(({ path, contents }) => [path.slice(application.length + 1), gzipSync(contents, { level: 9 }).length]));
    // The files that a page loads at its start, apart from those that it loads where WebSockets are blocked.
    const atStart = new Set<string>();
    const visit = (file: string): void => {
      if (atStart.has(file)) return;
      atStart.add(file);
      for (const { path, kind } of metafile.outputs[file]!.imports) if (kind === "import-statement") visit(path);
    };
    visit("app.js");
    const size = [...atStart].reduce((sum, file) => sum + sizes.get(file)!, 0);
    const rest = [...sizes].reduce((sum, [file, bytes]) => sum + (atStart.has(file) ? 0 : bytes), 0);
    console.log(`${size} bytes at the start, ${rest} more where WebSockets are blocked`);
    expect(size).toBeLessThan(15_000);
    expect(rest).toBeLessThan(4_000);
  });

  it("loads as an ES module and as CommonJS, without dependencies in browsers", () => {
    const use = `
      const client = new Roomlog("ws://127.0.0.1:1", { token: "", positions: memoryPositions() });
      client.close();
      console.log(client.state, new RoomlogError("closed", "") instanceof Error, typeof useRoom, typeof Typing, typeof indexedDbCache, typeof signToken);`;
    write("app.mjs", `import { Roomlog, RoomlogError, memoryPositions } from "@roomlog/client"; import { useRoom } from "@roomlog/client/react"; import { Typing } from "@roomlog/client/typing"; import { indexedDbCache } from "@roomlog/client/cache"; import { signToken } from "@roomlog/client/server"; ${use}`);
    write("app.cjs", `const { Roomlog, RoomlogError, memoryPositions } = require("@roomlog/client"); const { useRoom } = require("@roomlog/client/react"); const { Typing } = require("@roomlog/client/typing"); const { indexedDbCache } = require("@roomlog/client/cache"); const { signToken } = require("@roomlog/client/server"); ${use}`);
    for (const file of ["app.mjs", "app.cjs"]) expect(run("node", file)).toBe("closed true function function function function\n");
    // Bundlers for browsers find nothing of Node.js.
    for (const format of ["esm", "cjs"]) {
      const text = readFileSync(join(installed, `dist/${format}/index.js`), "utf8");
      const imports = [...text.matchAll(/(?:from |import |require\()"([^".]+)"/g)].map(([, name]) => name);
      expect([...new Set(imports)]).toEqual([]);
    }
  });

  it("has types for ES modules and CommonJS", () => {
    const sample = `
      import { Roomlog, RoomlogError, indexedDbOutbox, webPositions } from "@roomlog/client";
      import type { ByType, Message, Publication } from "@roomlog/client";
      import { useConnection, useRoom } from "@roomlog/client/react";
      import { Typing } from "@roomlog/client/typing";
      import { indexedDbCache } from "@roomlog/client/cache";
      import { RoomlogApi, signToken } from "@roomlog/client/server";

      interface Chat { text: string; image?: Uint8Array }

      export async function use(): Promise<string> {
        const client = new Roomlog("wss://chat.example/v1/ws", {
          token: async () => "token",
          encoding: "json",
          positions: webPositions(localStorage, "ann:"),
          cache: indexedDbCache("ann", { perRoom: 100 }),
          outbox: { store: indexedDbOutbox("ann"), limit: 10 },
        });
        const room = client.room<Chat>("chat.general", { durable: "phone", last: 50 });
        const typing = new Typing(room);
        typing.on("change", (users: string[]) => console.log(users, typing.users));
        typing.set(true);
        const off: () => void = room.on("message", async (message: Message<Chat>) => room.ack(message));
        room.on("gap", ({ after, next, reason }) => console.log(after, next, reason));
        const publication: Publication<Chat> = room.publish({ text: "hi" });
        const state: "sending" | "sent" | "failed" | "cancelled" = publication.state;
        const error: RoomlogError | undefined = publication.error;
        for await (const { data } of room.messages({ since: "0" })) console.log(data.text, state, error?.retryAfterMs);
        // @ts-expect-error: not the type of the room's content
        room.publish({ txt: "hi" });
        // @ts-expect-error: no such event
        room.on("massage", () => {});
        // @ts-expect-error: internal
        room.on("push", () => {});
        const page = await room.history({ before: "1-1", limit: 50 });
        const text: string = page.messages[0]!.data.text;
        off();
        return text + (await publication);
      }

      export async function onServer(): Promise<string> {
        const key = { secret: "a secret of at least thirty-two bytes" };
        const token: string = await signToken({ ...key, user: "ann", rooms: { "chat.*": ["read", "write"] }, expiresIn: 60 });
        // @ts-expect-error: no such permission
        await signToken({ ...key, user: "ann", rooms: { "chat.*": ["delete"] } });
        // @ts-expect-error: a private key needs its algorithm
        await signToken({ privateKey: "", user: "ann" });
        const api = new RoomlogApi("https://chat.example", { token });
        const { id, duplicate } = await api.publish("chat.general", { text: "hi" });
        for (const item of await api.publishBatch([{ room: "chat.general", data: 1 }])) console.log("error" in item ? item.error.retryAfterMs : item.id);
        for await (const { user, lag } of api.subscriptions("chat.general")) console.log(user, lag, duplicate);
        return (await api.history<Chat>("chat.general", { fromTime: new Date() })).messages.map(({ data }) => data.text).join() + id;
      }

      type Contents = ByType<{ message: Chat; poll: { question: string; options: string[] } }>;
      type Signals = { typing: boolean; cursor: { x: number; y: number } };

      export async function narrow(client: Roomlog): Promise<string> {
        const room = client.room<Contents, Signals>("chat.general");
        const describe = (message: Message<Contents>): string => (message.type === "poll" ? message.data.question : message.data.text);
        room.on("message", (message) => {
          const at: number = message.time.getTime();
          console.log(at, describe(message));
          // @ts-expect-error: only a poll has a question
          console.log(message.data.question);
        });
        room.on("signal", (signal) => {
          if (signal.type === "cursor") console.log(signal.data.x);
          // @ts-expect-error: no such type of signal
          if (signal.type === "cursors") console.log(signal);
        });
        room.on("deleted", ({ id, by }) => console.log(id, by));
        room.signal("cursor", { x: 1, y: 2 });
        // @ts-expect-error: the content of another signal
        room.signal("cursor", true);
        const id: string = await room.publish({ question: "?", options: [] }, { type: "poll" }).finally(() => {});
        // @ts-expect-error: the content of a poll, without its type
        await room.publish({ question: "?", options: [] });
        // @ts-expect-error: no such type of message
        await room.publish({ text: "hi" }, { type: "pol" });
        for await (const message of room.messages()) return describe(message);
        return (await room.history()).messages.map(describe).join() + id;
      }

      export function Narrow(): string {
        const { messages, publish } = useRoom<Contents>("chat.general");
        const { retryIn, retry } = useConnection();
        if (retryIn !== undefined && retryIn > 1) retry();
        return publish({ text: "" }).key + messages.map((message) => (message.type === "poll" ? message.data.question : message.data.text)).join();
      }

      export function Component(): string {
        const { messages, publish, loadOlder, typing, setTyping } = useRoom<Chat>("chat.general");
        void loadOlder().then((more: boolean) => more);
        setTyping(typing.length === 0);
        return publish({ text: "" }).key + messages.map(({ data }) => data.text).join();
      }
    `;
    write("sample.mts", sample);
    write("sample.cts", sample);
    const tsc = join(root, "node_modules/typescript/bin/tsc");
    for (const resolution of ["nodenext", "bundler"]) {
      const options = ["--noEmit", "--strict", "--lib", "es2022,dom", "--module", resolution === "bundler" ? "esnext" : "nodenext"];
      const files = resolution === "bundler" ? ["sample.mts"] : ["sample.mts", "sample.cts"];
      // Without --skipLibCheck, so that the package's declarations are checked, too.
      run("node", tsc, ...options, "--moduleResolution", resolution, "--types", "", ...files);
    }
  });
});
