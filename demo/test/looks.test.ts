// Appearance and accessibility: screenshots and axe, in light and dark, wide and narrow.
import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import type { Browser, BrowserContextOptions } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { startChromium } from "../../clients/js/test/harness/chromium.ts";
import { Server } from "../../clients/js/test/harness/server.ts";
import { until } from "../../clients/js/test/harness/until.ts";
import { Person, endAll } from "./harness/person.ts";

const repository = resolve(import.meta.dirname, "../..");
const folder = resolve(repository, process.env["CARGO_TARGET_DIR"] ?? "target", "demo-screenshots");
const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

let browser: Browser;
let server: Server;
const tokens = new Map<string, string>();

async function say(user: string, text: string, room: string): Promise<void> {
  if (!tokens.has(user)) tokens.set(user, await server.devToken(user));
  const headers = { authorization: `Bearer ${tokens.get(user)}`, "content-type": "application/json" };
  const response = await fetch(`${server.url}/v1/rooms/${room}/messages`, { method: "POST", headers, body: JSON.stringify({ data: { text } }) });
  expect(response.ok).toBe(true);
}

beforeAll(async () => {
  mkdirSync(folder, { recursive: true });
  [browser, server] = await Promise.all([startChromium(), Server.startForDevelopment()]);
});
afterEach(async () => expect(await endAll()).toEqual([]));
afterAll(async () => {
  await browser?.close();
  await server?.end();
});

const LOOKS: [string, BrowserContextOptions][] = [
  ["desktop", { viewport: { width: 1280, height: 800 }, colorScheme: "light" }],
  ["desktop-dark", { viewport: { width: 1280, height: 800 }, colorScheme: "dark" }],
  ["phone", { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true, colorScheme: "light" }],
  ["phone-dark", { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true, colorScheme: "dark" }],
];

describe.each(LOOKS)("%s", (name, options) => {
  it("passes axe, and gets screenshots", async () => {
    const isPhone = name.startsWith("phone");
    const violations: string[] = [];
    const look = async (person: Person, what: string): Promise<void> => {
      await person.page.screenshot({ path: `${folder}/${name}-${what}.png` });
      const found = await person.page.evaluate(async () => {
        const { axe } = globalThis as unknown as { axe: { run(): Promise<{ violations: { id: string; nodes: { html: string; failureSummary: string }[] }[] }> } };
        return (await axe.run()).violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join("; ")}`);
      });
      violations.push(...found.map((violation) => `${what}: ${violation}`));
    };
    const room = `talk.${name}`;
    const ann = await Person.arrive(browser, server, options);
    // The page's policy forbids adding a script later.
    await ann.page.addInitScript({ path: axe });
    await ann.visit(room);
    await ann.page.locator("[name=user]").waitFor();
    await look(ann, "login");

    await say("mira", "Morning! The new build is on both nodes.", room);
    await say("mira", "I killed the first one twice to be sure.", room);
    await say("jonas", "And?", room);
    await ann.signIn("ann");
    for (const other of ["design", "releases", "@ann"]) {
      if (isPhone) await ann.at(".only-narrow").click();
      await ann.page.fill("[name=room]", other);
      await ann.page.press("[name=room]", "Enter");
      await ann.isLive();
      await say("jonas", `Something for ${other}`, other);
      await ann.shows(`Something for ${other}`);
    }
    if (isPhone) await ann.at(".only-narrow").click();
    await ann.page.locator(".room", { hasText: room }).click();
    await ann.write("My phone was in the tunnel the whole time, and everything was there when it came out.");
    await until("it is sent", async () => (await ann.at(".message[data-mine][data-state=sent]").count()) === 1);

    ann.network.goOffline();
    await ann.at(".banner").waitFor();
    await say("mira", "Nothing lost. Same messages, same order, on all four clients.", room);
    await say("jonas", "Then I'll let the release go out at noon.\nI'll write the notes before lunch.", room);
    await say("jonas", "Ann, can you look at them?", room);
    for (const text of ["1", "2"]) await say("mira", text, "releases");
    await ann.write("Sure, send them over when they are ready");
    await look(ann, "offline");
    await ann.comeBack();
    await ann.at(".new").waitFor();
    await until("all is sent", async () => (await ann.at(".message[data-state=sending]").count()) === 0);
    await say("mira", "Perfect.", room);
    await ann.shows("Perfect.");
    const mira = await Person.in(browser, server, "mira", room);
    await mira.at("textarea").pressSequentially("on");
    await until("somebody is typing", async () => (await ann.at(".typing").textContent()) !== "");
    await look(ann, "room");

    if (isPhone) {
      await ann.at(".only-narrow").click();
      await look(ann, "rooms");
      await ann.page.mouse.click(380, 400);
    }
    await ann.page.locator(".chat:not([hidden]) header [aria-pressed]").click();
    // A new frame may arrive and move the list before the click. The content of a frame is rendered a moment after it opens, and a
    // second click would close it.
    await until("a frame is open", async () => {
      if ((await ann.page.locator(".frames [open]").count()) === 0) await ann.page.locator(".frames [data-op=message] summary").last().click();
      return (await ann.page.locator(".frames [open] pre").count()) > 0;
    });
    await look(ann, "protocol");
    expect(violations).toEqual([]);
  });
});
