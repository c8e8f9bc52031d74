// The programs of the pages for those who come from another server. That of Socket.IO and that of Roomlog must print the same.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { after, test } from "node:test";
import { endAll, freePort, SECRET, start, startServer, tokenOf, until } from "../server.mjs";
import { folder, program } from "./blocks.mjs";

const HERE = import.meta.dirname;
const DEFAULT = "http://127.0.0.1:8080";

after(endAll);

const startRoomlog = () => startServer({ ROOMLOG_AUTH__HS256_SECRET: SECRET });

/** Runs a program of a page. Its imports are those of the site, so it is passed on standard input from here. */
function run(text) {
  const home = folder({ "program.mjs": text });
  return start(process.execPath, ["--import", `data:text/javascript,${encodeURIComponent(RESOLVE)}`, join(home, "program.mjs")]);
}

/** Lets programs in any folder import the packages of the site. */
const RESOLVE = `
  import { register } from "node:module";
  register("data:text/javascript," + encodeURIComponent(\`
    export const resolve = (name, context, next) => next(name, /^[.\\\\/]|:/.test(name) ? context : { ...context, parentURL: "file://${HERE}/" });
  \`));
`;

/** A function \`token\`, which pages leave to the reader's own backend. */
const tokenFunction = (user) => `const token = async () => ${JSON.stringify(tokenOf(user))};\n`;

const shows = (running, ...lines) =>
  until(`it prints ${lines}`, () => {
    const printed = running.output.split("\n");
    if (running.child.exitCode) throw new Error(running.output);
    return lines.every((line) => printed.includes(line));
  });

const CONVERSATION = ["ann: hello", "bob: hello", "bob is typing", "shop: Your order is on its way"];

test("a chat with Roomlog", async () => {
  const server = await startRoomlog();
  const page = "coming-from/socketio.md";
  const text = program(page, "roomlog", { [DEFAULT]: server.url });
  const ann = run(tokenFunction("ann") + text);
  await shows(ann, "ann: hello");
  const bob = run(tokenFunction("bob") + text);
  const backend = `const token = ${JSON.stringify(tokenOf("shop"))};\n` + program(page, "roomlog-backend", { [DEFAULT]: server.url });
  await shows(ann, "bob: hello");
  run(backend);
  await shows(ann, ...CONVERSATION);
  await ann.end();
  await bob.end();
  await server.end();
});

test("the same chat with Socket.IO", async () => {
  const page = "coming-from/socketio.md";
  const port = String(await freePort());
  const io = run("const verify = (token) => token;\n" + program(page, "server", { 3000: port, ", 1000)": ", 5000)" }));
  const client = (user) => `const token = ${JSON.stringify(user)};\n` + program(page, "client", { 3000: port });
  const ann = run(client("ann"));
  await shows(ann, "ann: hello");
  const bob = run(client("bob"));
  await shows(ann, ...CONVERSATION);
  await ann.end();
  await bob.end();
  await io.end();
});

for (const page of ["coming-from/centrifugo.md", "coming-from/pusher.md"]) {
  test(`the code for Roomlog in ${page}`, async () => {
    const server = await startRoomlog();
    const before = `${tokenFunction("ann")}const loadMessages = () => undefined;\n`;
    const ann = run(before + program(page, "roomlog", { [DEFAULT]: server.url }) + '\nconsole.log("read", messages.length);\n');
    await shows(ann, "ann: hello", "read 1");
    const env = { ...process.env, ROOMLOG_TOKEN: tokenOf("shop") };
    execFileSync("sh", ["-ec", program(page, "roomlog-shell", { [DEFAULT]: server.url })], { env, stdio: "ignore" });
    await shows(ann, "shop: from the backend");
    await ann.end();
    await server.end();
  });
}
