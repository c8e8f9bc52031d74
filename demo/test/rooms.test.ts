// Finding the way: the list of rooms, the switcher, direct messages, and the browser's history.
import type { Browser } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { startChromium } from "../../clients/js/test/harness/chromium.ts";
import { Server } from "../../clients/js/test/harness/server.ts";
import { until } from "../../clients/js/test/harness/until.ts";
import { Person, endAll } from "./harness/person.ts";
import { say } from "./harness/say.ts";

let browser: Browser;
let server: Server;
beforeAll(async () => {
  [browser, server] = await Promise.all([startChromium(), Server.startForDevelopment()]);
});
afterEach(async () => expect(await endAll()).toEqual([]));
afterAll(async () => {
  await browser?.close();
  await server?.end();
});

const PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };

const titleIs = (person: Person, title: string): Promise<unknown> => until(`the title is ${title}`, async () => (await person.page.title()) === title);

describe("the list of rooms", () => {
  it("counts unread messages, and shows the rooms with the newest ones first", async () => {
    const ann = await Person.in(browser, server, "ann", "first");
    const { page } = ann;
    const order = (): Promise<string[]> => page.locator(".room .name").allTextContents();
    await ann.join("second");
    await titleIs(ann, "second · Roomlog");
    await say(server, "bob", "second", { text: "here" });
    await until("the room with news is first", async () => (await order())[0] === "second");
    await say(server, "bob", "first", { text: "a" });
    await say(server, "bob", "first", { text: "b" });
    const first = page.locator(".room", { hasText: "first" });
    const shows = (text: string): Promise<unknown> => until(`it shows ${text}`, async () => (await first.locator(".unread").textContent({ timeout: 10_000 })) === text);
    await shows("2 unread");
    await until("it is first", async () => (await order())[0] === "first");
    await titleIs(ann, "(2) second · Roomlog");
    const icon = (): Promise<string | null> => page.locator("link[rel=icon]").getAttribute("href");
    expect(decodeURIComponent((await icon())!)).toContain(">2</text>");
    expect(await first.evaluate((room) => getComputedStyle(room).fontWeight)).toBe("700");

    await page.locator(".room[aria-current]").focus();
    await page.keyboard.press("ArrowUp");
    await page.keyboard.press("Enter");
    await ann.shows("b");
    await titleIs(ann, "first · Roomlog");
    expect(await icon()).toMatch(/\.svg$/);
    await page.locator(".room", { hasText: "second" }).click();
    await say(server, "bob", "first", { text: "c" });
    await shows("1 unread");
    await first.click();
    await first.locator(".unread").waitFor({ state: "detached" });
    expect(await ann.at(".new").textContent()).toBe("1 new");
  });

  it("is searched with Ctrl+K", async () => {
    const ann = await Person.in(browser, server, "ann", "garden");
    await ann.join("kitchen");
    const found = ann.page.locator(".switcher [role=option] .name");
    await ann.page.keyboard.press("Control+k");
    await ann.page.keyboard.type("gar");
    expect(await found.allTextContents()).toEqual(["garden", "gar", "gar"]);
    await ann.page.keyboard.press("Enter");
    await titleIs(ann, "garden · Roomlog");
    await ann.page.keyboard.press("Control+k");
    await ann.page.keyboard.type("no such room");
    expect(await found.count()).toBe(0);
    await ann.page.keyboard.press("Escape");
    await ann.page.locator(".switcher").waitFor({ state: "detached" });
  });
});

describe("a direct message", () => {
  it("is two clicks away, and appears in the other person's list", async () => {
    const bob = await Person.in(browser, server, "bob", "lobby");
    const ann = await Person.in(browser, server, "ann", "lobby");
    await bob.write("hello");
    await ann.shows("hello");
    await ann.at(".author").filter({ hasText: "bob" }).first().click();
    await ann.page.getByRole("menuitem", { name: "Message bob" }).click();
    await titleIs(ann, "bob · Roomlog");
    await ann.isLive();
    expect(await bob.page.locator(".room").count(), "nothing has been written yet").toBe(2);
    await ann.write("just between us");
    const room = bob.page.locator(".room", { hasText: "ann" });
    await room.getByText("1 unread").waitFor();
    await room.click();
    await bob.shows("just between us");
    await bob.write("sure");
    await ann.shows("sure");
    expect(await ann.page.evaluate(() => location.hash)).toBe("#dm:ann:bob");
    // Bob leaves the conversation, and a new visit does not bring it back.
    await room.press("Delete");
    await room.waitFor({ state: "detached" });
    await bob.page.reload();
    await bob.isLive();
    expect(await room.count()).toBe(0);
  });
});

describe("Back", () => {
  it("goes to the room before, and Forward to the next one", async () => {
    const ann = await Person.in(browser, server, "carl", "one");
    await ann.join("two");
    await ann.page.goBack();
    await titleIs(ann, "one · Roomlog");
    await ann.page.goForward();
    await titleIs(ann, "two · Roomlog");
  });

  it("closes a sheet on a phone", async () => {
    const ann = await Person.in(browser, server, "carl", "one", PHONE);
    const workspace = ann.page.locator(".workspace");
    const panelIs = (panel: string | null): Promise<unknown> => until(`the panel is ${panel}`, async () => (await workspace.getAttribute("data-panel")) === panel);
    for (const [button, panel] of [["Rooms", "rooms"], ["People", "people"], ["Protocol", "frames"]]) {
      await ann.at(`header [aria-label=${button}]`).click();
      await panelIs(panel!);
      await ann.page.goBack();
      await panelIs(null);
    }
    // A room that is chosen in a sheet takes the place of the sheet.
    await ann.at("header [aria-label=Rooms]").click();
    await ann.page.locator(".room", { hasText: "chat.general" }).click();
    await titleIs(ann, "chat.general · Roomlog");
    await panelIs(null);
    await ann.page.goBack();
    await titleIs(ann, "one · Roomlog");
    // Its own button does the same as Back.
    await ann.at("header [aria-label=People]").click();
    await panelIs("people");
    await ann.page.locator(".panel [aria-label=Close]").click();
    await panelIs(null);
    await ann.page.goForward();
    await panelIs("people");
  });

  it("does not close the column beside the room on a wide screen", async () => {
    const ann = await Person.in(browser, server, "carl", "one", { viewport: { width: 1500, height: 900 } });
    await ann.join("two");
    await ann.page.locator(".people").waitFor();
    await ann.page.goBack();
    await titleIs(ann, "one · Roomlog");
    expect(await ann.page.locator(".people").count()).toBe(1);
  });
});

describe("the keyboard", () => {
  it("writes several lines, and closes panels", async () => {
    const ann = await Person.in(browser, server, "carl", "typing");
    await ann.at("textarea").fill("line 1");
    await ann.at("textarea").press("Shift+Enter");
    await ann.at("textarea").pressSequentially("line 2");
    await ann.at("textarea").press("Enter");
    await ann.shows("line 1\nline 2");
    await ann.at("header [aria-label=Protocol]").click();
    await ann.page.locator(".drawer").waitFor();
    await ann.page.keyboard.press("Escape");
    await ann.page.locator(".drawer").waitFor({ state: "detached" });
  });
});
