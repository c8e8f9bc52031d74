// What can be done with a message: reading, its menu, and deletion.
import type { Browser } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { startChromium } from "../../clients/js/test/harness/chromium.ts";
import { Server, token } from "../../clients/js/test/harness/server.ts";
import { until } from "../../clients/js/test/harness/until.ts";
import { Person, endAll } from "./harness/person.ts";
import { say } from "./harness/say.ts";

let browser: Browser;
let server: Server;
beforeAll(async () => {
  [browser, server] = await Promise.all([startChromium(), Server.startForDevelopment()]);
});
/** Servers of single tests; they are stopped even if the test fails. */
const others: Server[] = [];
afterEach(async () => {
  const complaints = await endAll();
  for (const other of others.splice(0)) await other.end();
  expect(complaints, "errors in the browser's console, including violations of the page's policy").toEqual([]);
});
afterAll(async () => {
  await browser?.close();
  await server?.end();
});

const CLIPBOARD = { permissions: ["clipboard-read", "clipboard-write"] };

describe("a message", () => {
  it("never becomes HTML", async () => {
    const nasty = `<img src=x onerror="globalThis.hacked=1"><script>globalThis.hacked=1</script><b>bold</b> javascript:alert(1) [a](javascript:alert(1)) ![b](data:text/html,x)`;
    await say(server, "bob", "html", { text: nasty });
    await say(server, "bob", "html", nasty);
    await say(server, "bob", "html", { html: nasty }, "note");
    const ann = await Person.in(browser, server, "ann", "html");
    await until("all are there", async () => (await ann.at(".message").count()) === 3);
    expect((await ann.texts()).slice(0, 2)).toEqual([nasty, nasty]);
    await ann.write(nasty);
    await until("ann's own message is sent", async () => (await ann.at(".message[data-mine][data-state=sent]").count()) === 1);
    await ann.at("header [aria-label=Protocol]").click();
    for (const summary of await ann.page.locator(".frames summary").all()) await summary.click();
    expect(await ann.page.locator("[role=log] :is(img, script, b, a), .drawer :is(img, script, b, a)").count()).toBe(0);
    expect(await ann.page.evaluate(() => "hacked" in globalThis)).toBe(false);
  });

  it("shows Markdown, and opens links in a page of their own", async () => {
    const ann = await Person.in(browser, server, "ann", "markdown");
    await ann.write("> you said\n\nSee https://example.com/a_b, **bold**, *italic*, ~~gone~~ and `a < b`.\n```\nlet x = 1;\n```");
    const text = ann.at(".text");
    for (const [tag, content] of [["blockquote", "you said"], ["strong", "bold"], ["em", "italic"], ["del", "gone"], ["p code", "a < b"], ["pre code", "let x = 1;"]]) {
      expect(await text.locator(tag!).textContent(), tag).toBe(content);
    }
    const link = text.locator("a");
    expect(await link.getAttribute("href")).toBe("https://example.com/a_b");
    expect([await link.getAttribute("target"), await link.getAttribute("rel")]).toEqual(["_blank", "noopener noreferrer nofollow"]);
  });

  it("is folded if it is long, and large if it is an emoji alone", async () => {
    await say(server, "bob", "long-text", { text: Array.from({ length: 60 }, (_, i) => `line ${i}`).join("\n") });
    await say(server, "bob", "long-text", { text: "👍🏽 👩‍👩‍👧" });
    const ann = await Person.in(browser, server, "ann", "long-text");
    const long = ann.at(".message").filter({ hasText: "line 1" });
    await long.waitFor();
    const height = async (): Promise<number> => (await long.boundingBox())!.height;
    expect(await height()).toBeLessThan(400);
    await long.getByText("Show more").click();
    await until("it is unfolded", async () => (await height()) > 1000);
    await long.getByText("Show less").click();
    await until("it is folded", async () => (await height()) < 400);
    expect(await ann.at("[data-emoji]").allTextContents()).toEqual(["👍🏽 👩‍👩‍👧"]);
  });

  it("has a menu to quote and copy", async () => {
    const id = await say(server, "bob", "menu", { text: "first\nsecond" });
    const ann = await Person.in(browser, server, "ann", "menu", CLIPBOARD);
    await ann.shows("first\nsecond");
    const clipboard = (): Promise<string> => ann.page.evaluate(() => navigator.clipboard.readText());
    const choose = async (item: string): Promise<void> => {
      const menu = await ann.openMenu("first");
      await menu.getByRole("menuitem", { name: item }).click();
      await menu.waitFor({ state: "detached" });
    };
    await choose("Copy text");
    await until("the text is copied", async () => (await clipboard()) === "first\nsecond");
    await choose("Copy ID");
    await until("the id is copied", async () => (await clipboard()) === id);
    await choose("Copy link");
    await until("the link is copied", async () => (await clipboard()).endsWith(`/#menu/${id}`));
    await choose("Quote");
    expect(await ann.at("textarea").inputValue()).toBe("> first\n> second\n\n");
    await ann.page.keyboard.type("agreed");
    await ann.page.keyboard.press("Enter");
    await until("the quote is shown", async () => (await ann.at(".message[data-mine] blockquote").count()) === 1);
    expect(await ann.at(".message[data-mine] blockquote").textContent()).toBe("first\nsecond");
  });

  it("can be reached, and its menu used, by keyboard alone", async () => {
    await say(server, "bob", "keys", { text: "one" });
    await say(server, "bob", "keys", { text: "two" });
    const ann = await Person.in(browser, server, "ann", "keys");
    await ann.shows("two");
    await ann.at("textarea").focus();
    const focused = (): Promise<string | null> => ann.page.evaluate(() => document.activeElement!.closest(".message")?.querySelector(".text")!.textContent ?? null);
    await until("the last message has the focus", async () => (await ann.page.keyboard.press("Shift+Tab"), (await focused()) === "two"));
    await ann.page.keyboard.press("ArrowUp");
    await until("the one before has the focus", async () => (await focused()) === "one");
    await ann.page.keyboard.press("Enter");
    await ann.page.getByRole("menuitem", { name: "Quote" }).waitFor();
    expect(await ann.page.evaluate(() => document.activeElement!.textContent!.trim())).toBe("Quote");
    await ann.page.keyboard.press("ArrowDown");
    expect(await ann.page.evaluate(() => document.activeElement!.textContent!.trim())).toBe("Copy text");
    await ann.page.keyboard.press("Escape");
    await until("the focus is back", async () => (await focused()) === "one");
  });

  it("opens its menu by a long press on a phone", async () => {
    await say(server, "bob", "press", { text: "hold me" });
    const ann = await Person.in(browser, server, "ann", "press", { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true });
    await ann.shows("hold me");
    const touch = (type: string): Promise<void> => ann.at(".text").dispatchEvent(type, { pointerType: "touch", clientX: 100, clientY: 600, bubbles: true });
    await touch("pointerdown");
    await ann.page.locator("dialog.menu").waitFor();
    await touch("pointerup");
    await ann.page.getByRole("menuitem", { name: "Quote" }).tap();
    expect(await ann.at("textarea").inputValue()).toBe("> hold me\n\n");
  });

  it("can be deleted by a manager, and disappears from open pages at once", async () => {
    const strict = await Server.start();
    others.push(strict);
    const arrive = async (name: string, permissions: string[]): Promise<Person> => {
      const person = await Person.arrive(browser, strict);
      await person.visit("moderated");
      await person.page.fill("[name=token]", token(name, { rooms: { "moder*": permissions } }));
      await person.page.click("button.primary");
      await person.isLive();
      return person;
    };
    const [ann, boss] = [await arrive("ann", ["read", "write"]), await arrive("boss", ["read", "write", "manage"])];
    for (const text of ["good", "bad", "fine"]) await ann.write(text);
    await boss.shows("fine");
    expect(await (await ann.openMenu("bad")).getByText("Delete").count(), "ann may not").toBe(0);
    await ann.page.keyboard.press("Escape");
    await (await boss.openMenu("bad")).getByText("Delete for everyone").click();
    for (const person of [boss, ann]) await until("it is gone", async () => (await person.texts()).join() === "good,fine");
    expect(await ann.at(".gap").textContent()).toBe("1 message was deleted or has expired.");
    await ann.page.reload();
    await until("it stays gone", async () => (await ann.texts()).join() === "good,fine");
  });
});
