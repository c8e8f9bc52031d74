// Appearance and accessibility: screenshots and axe, in light and dark, wide and narrow, and with text from right to left.
import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import type { Browser, BrowserContextOptions } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { startChromium } from "../../clients/js/test/harness/chromium.ts";
import { Server } from "../../clients/js/test/harness/server.ts";
import { until } from "../../clients/js/test/harness/until.ts";
import { Person, endAll } from "./harness/person.ts";
import { say } from "./harness/say.ts";

const repository = resolve(import.meta.dirname, "../..");
const folder = resolve(repository, process.env["CARGO_TARGET_DIR"] ?? "target", "demo-screenshots");
const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

let browser: Browser;
let server: Server;
beforeAll(async () => {
  mkdirSync(folder, { recursive: true });
  [browser, server] = await Promise.all([startChromium(), Server.startForDevelopment()]);
});
afterEach(async () => expect(await endAll()).toEqual([]));
afterAll(async () => {
  await browser?.close();
  await server?.end();
});

interface Axe {
  run(): Promise<{ violations: { id: string; nodes: { html: string; failureSummary: string }[] }[] }>;
}

/** Takes a screenshot of each state, and collects what axe finds in it. */
class Looks {
  readonly violations: string[] = [];

  constructor(readonly person: Person, readonly name: string) {}

  async at(state: string): Promise<void> {
    const { page } = this.person;
    await page.screenshot({ path: `${folder}/${this.name}-${state}.png` });
    const found = await page.evaluate(async () => {
      const { axe } = globalThis as unknown as { axe: Axe };
      return (await axe.run()).violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join("; ")}`);
    });
    this.violations.push(...found.map((violation) => `${state}: ${violation}`));
  }
}

async function arrive(name: string, options: BrowserContextOptions): Promise<Looks> {
  const person = await Person.arrive(browser, server, options);
  // The page's policy forbids adding a script later.
  await person.page.addInitScript({ path: axe });
  return new Looks(person, name);
}

const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true };

const LOOKS: [string, BrowserContextOptions][] = [
  ["desktop", { viewport: { width: 1280, height: 800 }, colorScheme: "light" }],
  ["desktop-dark", { viewport: { width: 1280, height: 800 }, colorScheme: "dark" }],
  ["wide", { viewport: { width: 1600, height: 900 }, colorScheme: "light" }],
  ["phone", { ...PHONE, colorScheme: "light" }],
  ["phone-dark", { ...PHONE, colorScheme: "dark" }],
];

const STACK = "`GET /readyz` answered 503 for two seconds, then:\n```\nINFO caught up rooms=1841 took=312ms\nINFO ready\n```\nThat is **within** the budget.";

describe.each(LOOKS)("%s", (name, options) => {
  it("passes axe, and gets screenshots", async () => {
    const isPhone = name.startsWith("phone");
    const room = `talk.${name}`;
    const looks = await arrive(name, options);
    const ann = looks.person;
    await ann.visit(room);
    await ann.page.locator("[name=user]").waitFor();
    await looks.at("login");

    const others = (text: string, from: string, where = room): Promise<unknown> => say(server, from, where, { text });
    await others("Morning! The new build is on both nodes. Notes are at https://example.com/releases/1.4", "Mira Lindt");
    await others("I killed the first one twice to be sure.", "Mira Lindt");
    await others("And?", "jonas");
    await others(STACK, "Mira Lindt");
    await others("🎉🎉", "jonas");
    await ann.signIn("ann");
    for (const other of ["design", "releases", "@ann"]) {
      await ann.join(other);
      await others(`Something for ${other}`, "jonas", other);
      await ann.shows(`Something for ${other}`);
    }
    const toRoom = async (): Promise<void> => {
      if (isPhone) await ann.at(".only-narrow").click();
      await ann.page.locator(".room", { hasText: room }).click();
    };
    await toRoom();
    await ann.write("> I killed the first one twice to be sure.\n\nMy phone was in the tunnel the whole time, and everything was there when it came out.");
    await until("it is sent", async () => (await ann.at(".message[data-mine][data-state=sent]").count()) === 1);

    ann.network.goOffline();
    await ann.at(".banner").waitFor();
    await others("Nothing lost. Same messages, same order, on all four clients.", "Mira Lindt");
    await others("Then I'll let the release go out at noon.\nI'll write the notes before lunch.", "jonas");
    await others("Ann, can you look at them?", "jonas");
    for (const text of ["1", "2"]) await others(text, "Mira Lindt", "releases");
    await say(server, "jonas", "@ann", null, "direct");
    await others("Are you around at noon?", "jonas", "dm:ann:jonas");
    await ann.write("Sure, send them over when they are ready");
    await looks.at("offline");
    await ann.comeBack();
    await ann.at(".new").waitFor();
    await until("all is sent", async () => (await ann.at(".message[data-state=sending]").count()) === 0);
    await others("Perfect.", "Mira Lindt");
    await ann.shows("Perfect.");
    const mira = await Person.in(browser, server, "Mira Lindt", room);
    await mira.at("textarea").pressSequentially("on");
    await until("somebody is typing", async () => (await ann.at(".typing").textContent()) !== "");
    await ann.page.locator(".room", { hasText: "jonas" }).locator(".unread").waitFor({ state: "attached" });
    await looks.at("room");

    const menu = await ann.openMenu("Perfect.");
    await looks.at("menu");
    await ann.page.keyboard.press("Escape");
    await menu.waitFor({ state: "detached" });
    await ann.page.keyboard.press("Control+k");
    await looks.at("switcher");
    await ann.page.keyboard.press("Escape");
    await ann.page.locator(".switcher").waitFor({ state: "detached" });

    if (isPhone) {
      await ann.at(".only-narrow").click();
      await looks.at("rooms");
      await ann.page.goBack();
      await ann.at("[aria-label=People]").click();
      await looks.at("people");
      await ann.page.goBack();
    }
    await ann.at("header [aria-label=Protocol]").click();
    // A new frame may arrive and move the list before the click. The content of a frame is rendered a moment after it opens, and a
    // second click would close it.
    await until("a frame is open", async () => {
      if ((await ann.page.locator(".frames [open]").count()) === 0) await ann.page.locator(".frames [data-op=message] summary").last().click();
      return (await ann.page.locator(".frames [open] pre").count()) > 0;
    });
    await looks.at("protocol");
    expect(looks.violations).toEqual([]);
  });
});

it("the first page of a development server passes axe, and gets a screenshot", async () => {
  const looks = await arrive("first", { viewport: { width: 1280, height: 800 } });
  const { page } = looks.person;
  await page.goto(`http://127.0.0.1:${looks.person.network.port}/`);
  await looks.person.signIn("newcomer");
  await until("the tour is shown", async () => (await looks.person.at(".message").count()) >= 3);
  expect(await page.title()).toBe("chat.general · Roomlog");
  await looks.at("room");
  expect(looks.violations).toEqual([]);
});

it("text from right to left passes axe, and gets a screenshot", async () => {
  const looks = await arrive("rtl", { viewport: { width: 1280, height: 800 } });
  const ann = looks.person;
  const room = "talk.rtl";
  await say(server, "ليلى", room, { text: "صباح الخير! النسخة الجديدة **جاهزة** على الخادمين." });
  await say(server, "ליאור", room, { text: "> צהריים טובים\n\nהכול עבר בלי תקלות, ראו https://example.com/a" });
  await say(server, "mira", room, { text: "Great, then I'll announce it." });
  await say(server, "ليلى", room, { text: "شكراً 👏" });
  await ann.visit(room);
  await ann.signIn("ann");
  await ann.shows("شكراً 👏");
  const directions = await ann.at(".text p").evaluateAll((all) => all.map((one) => getComputedStyle(one).direction));
  expect(directions).toEqual(["rtl", "rtl", "rtl", "ltr", "rtl"]);
  await looks.at("room");
  expect(looks.violations).toEqual([]);
});
