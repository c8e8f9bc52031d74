// Users of the page in a real browser, with a real server and a real Redis.
import type { Browser } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { startChromium } from "../../clients/js/test/harness/chromium.ts";
import { Server, token } from "../../clients/js/test/harness/server.ts";
import { until } from "../../clients/js/test/harness/until.ts";
import { Person, endAll } from "./harness/person.ts";

let browser: Browser;
/** In development mode: it issues tokens, which become invalid when it restarts. */
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

/** Publishes to a room over REST. */
async function publish(user: string, room: string, data: unknown, type = "message", to = server): Promise<string> {
  const headers = { authorization: `Bearer ${await to.devToken(user)}`, "content-type": "application/json" };
  const response = await fetch(`${to.url}/v1/rooms/${room}/messages`, { method: "POST", headers, body: JSON.stringify({ data, type }) });
  expect(response.ok).toBe(true);
  return ((await response.json()) as { id: string }).id;
}

async function fill(room: string, count: number): Promise<void> {
  const headers = { authorization: `Bearer ${await server.devToken("mia")}`, "content-type": "application/json" };
  const messages = Array.from({ length: count }, (_, i) => ({ room, data: { text: `message ${i + 1}` } }));
  const response = await fetch(`${server.url}/v1/messages`, { method: "POST", headers, body: JSON.stringify(messages) });
  expect(response.ok, await response.clone().text()).toBe(true);
}

describe("two users", () => {
  it("chat and see each other typing", async () => {
    const ann = await Person.in(browser, server, "ann", "two");
    const bob = await Person.in(browser, server, "bob", "two");
    await bob.at("textarea").pressSequentially("hel");
    await until("ann sees that bob is typing", async () => (await ann.at(".typing").textContent()) === "bob is typing…");
    await bob.write("hello\nann");
    await ann.shows("hello\nann");
    await until("ann no longer sees it", async () => (await ann.at(".typing").textContent()) === "");
    await ann.write("hi");
    await bob.shows("hi");
    await until("it is sent", async () => (await ann.at(".message[data-mine]").getAttribute("data-state")) === "sent");
    expect(await bob.shown()).toEqual(await ann.shown());
  });

  it("lose nothing when one is offline and the server is killed and restarted", async () => {
    const ann = await Person.in(browser, server, "ann", "away");
    const bob = await Person.in(browser, server, "bob", "away");
    await ann.write("before");
    await bob.shows("before");

    bob.network.goOffline();
    await bob.at(".banner").waitFor();
    await bob.write("bob, offline");
    await bob.write("a mistake");
    const mistake = bob.at(".message").filter({ hasText: "a mistake" });
    expect(await mistake.getAttribute("data-state")).toBe("sending");
    await mistake.getByText("Cancel").click();
    expect(await mistake.getAttribute("data-state")).toBe("cancelled");
    await mistake.getByText("Discard").click();
    for (const text of ["one", "two", "three"]) await ann.write(text);
    await until("all is sent", async () => (await ann.at(".message[data-state=sent]").count()) === 4);

    await server.killNode();
    await ann.at(".banner").waitFor();
    await ann.write("ann, without a server");
    await server.startNode();
    await until("all is sent", async () => (await ann.at(".message[data-state=sent]").count()) === 5);
    await bob.comeBack();

    await until("both show the same", async () => {
      const [hers, his] = [await ann.shown(), await bob.shown()];
      return hers.length === 6 && hers.join() === his.join() && !hers.join().includes("undefined");
    });
    const texts = await ann.texts();
    expect(texts.slice(0, 4)).toEqual(["before", "one", "two", "three"]);
    expect([...texts].sort()).toEqual(["before", "bob, offline", "one", "two", "three", "ann, without a server"].sort());
    await bob.isLive();
    expect(await bob.at(".new").textContent()).toBe("4 new");
    expect(await bob.at(".new + .message .bubble").textContent()).toBe("one");
    await bob.at("textarea").press("Escape");
    await bob.at(".new").waitFor({ state: "detached" });
    await bob.at(".banner").waitFor({ state: "detached" });
  });

  it("find unsent and missed messages after a reload", async () => {
    const ann = await Person.in(browser, server, "ann", "reload");
    await publish("bob", "reload", { text: "seen" });
    await ann.shows("seen");
    ann.network.goOffline();
    await ann.at(".banner").waitFor();
    await ann.write("written offline");
    await until("it is stored in the browser", () =>
      ann.page.evaluate(async () => {
        const [stored] = (await indexedDB.databases()).filter(({ name }) => name === "roomlog ann");
        return stored !== undefined && new Promise<boolean>((resolve) => {
          const opening = indexedDB.open("roomlog ann");
          opening.onsuccess = () => {
            const counting = opening.result.transaction("outbox").objectStore("outbox").count();
            counting.onsuccess = () => (opening.result.close(), resolve(counting.result === 1));
          };
        });
      }),
    );
    await publish("bob", "reload", { text: "missed" });
    await ann.page.goto("about:blank");
    ann.network.goOnline();
    await ann.visit("reload");
    await ann.shows("written offline");
    await ann.isLive();
    expect(await ann.texts()).toEqual(["seen", "missed", "written offline"]);
    expect(await ann.at(".new").textContent()).toBe("1 new");
  });
});

describe("a reader", () => {
  it("keeps the scroll position when messages are added above or below", async () => {
    await fill("long", 260);
    const ann = await Person.in(browser, server, "ann", "long");
    await ann.shows("message 260");
    const log = ann.at(".log");
    expect(await log.evaluate((box) => box.scrollHeight - box.scrollTop - box.clientHeight), "starts at the end").toBeLessThan(2);

    for (;;) {
      const count = await ann.at(".message").count();
      if (count === 260) break;
      // Finds the topmost visible message and its position.
      const before = await log.evaluate((box) => {
        box.scrollTop = 30;
        const edge = box.getBoundingClientRect().top;
        const row = [...box.querySelectorAll<HTMLElement>(".message")].find((row) => row.getBoundingClientRect().top >= edge)!;
        return { key: row.dataset["key"]!, top: row.getBoundingClientRect().top };
      });
      await until("older messages are loaded", async () => (await ann.at(".message").count()) > count);
      const after = await ann.at(`.message[data-key="${before.key}"]`).evaluate((row) => row.getBoundingClientRect().top);
      expect(Math.abs(after - before.top)).toBeLessThan(2);
    }
    expect(await ann.texts()).toEqual(Array.from({ length: 260 }, (_, i) => `message ${i + 1}`));
    await ann.at(".log").getByText("This is the beginning of the room.").waitFor();

    const where = await log.evaluate((box) => (box.scrollTop = 400));
    await publish("bob", "long", { text: "new below" });
    await ann.shows("new below");
    expect(await log.evaluate((box) => box.scrollTop)).toBe(where);
    const toEnd = ann.at(".to-end");
    await until("the button counts the new message", async () => (await toEnd.textContent())?.trim() === "1 new");
    await toEnd.click();
    await until("it is at the end", () => log.evaluate((box) => box.scrollHeight - box.scrollTop - box.clientHeight < 2));
    await toEnd.waitFor({ state: "detached" });
    await publish("bob", "long", { text: "and follows" });
    await ann.shows("and follows");
    await until("it is at the end again", () => log.evaluate((box) => box.scrollHeight - box.scrollTop - box.clientHeight < 2));
  });

  it("sees HTML as plain text", async () => {
    const nasty = `<img src=x onerror="globalThis.hacked=1"><script>globalThis.hacked=1</script><b>bold</b> javascript:alert(1)`;
    await publish("bob", "html", { text: nasty });
    await publish("bob", "html", nasty);
    await publish("bob", "html", { html: nasty }, "note");
    const ann = await Person.in(browser, server, "ann", "html");
    await until("all are there", async () => (await ann.at(".message").count()) === 3);
    expect((await ann.texts()).slice(0, 2)).toEqual([nasty, nasty]);
    await ann.write(nasty);
    await until("ann's own message is sent", async () => (await ann.at(".message[data-mine][data-state=sent]").count()) === 1);
    await ann.at("header [aria-pressed]").click();
    for (const summary of await ann.page.locator(".frames summary").all()) await summary.click();
    expect(await ann.page.locator("[role=log] :is(img, script, b, a), .drawer :is(img, script, b, a)").count()).toBe(0);
    expect(await ann.page.evaluate(() => "hacked" in globalThis)).toBe(false);
  });

  it("sees where messages are missing", async () => {
    const managed = await Server.start({}, "--dev");
    others.push(managed);
    const ids = [];
    for (const text of ["one", "two", "three"]) ids.push(await publish("bob", "gone", { text }, "message", managed));
    const manager = { authorization: `Bearer ${token("boss", { rooms: { "*": ["manage"] } })}` };
    expect((await fetch(`${managed.url}/v1/rooms/gone/messages/${ids[1]}`, { method: "DELETE", headers: manager })).ok).toBe(true);
    const ann = await Person.in(browser, managed, "ann", "gone");
    await ann.shows("three");
    expect(await ann.at(".gap").textContent()).toBe("1 message is no longer available: expired or deleted.");
  });

  it("navigates by keyboard and sees unread counts", async () => {
    const ann = await Person.in(browser, server, "ann", "first");
    const { page } = ann;
    await page.fill("[name=room]", "second");
    await page.press("[name=room]", "Enter");
    await until("it is open", async () => (await page.title()) === "second · Roomlog");
    await ann.isLive();
    await publish("bob", "first", { text: "a" });
    await publish("bob", "first", { text: "b" });
    const first = page.locator(".room", { hasText: "first" });
    const shows = (text: string): Promise<unknown> => until(`it shows ${text}`, async () => (await first.locator(".unread").textContent({ timeout: 10_000 })) === text);
    await shows("2 unread");
    await page.locator(".room[aria-current]").focus();
    await page.keyboard.press("ArrowUp");
    await page.keyboard.press("Enter");
    await ann.shows("b");
    await page.locator(".room", { hasText: "second" }).click();
    await publish("bob", "first", { text: "c" });
    await shows("1 unread");
    await first.click();
    await first.locator(".unread").waitFor({ state: "detached" });
    expect(await ann.at(".new").textContent()).toBe("1 new");

    await ann.at("textarea").fill("line 1");
    await ann.at("textarea").press("Shift+Enter");
    await ann.at("textarea").pressSequentially("line 2");
    await ann.at("textarea").press("Enter");
    await ann.shows("line 1\nline 2");
    await ann.at("header [aria-pressed]").click();
    await page.locator(".drawer").waitFor();
    await page.keyboard.press("Escape");
    await page.locator(".drawer").waitFor({ state: "detached" });
  });
});

describe("without --dev", () => {
  it("the page accepts a token, shows errors, and lets the user retry", async () => {
    const strict = await Server.start();
    others.push(strict);
    const ann = await Person.arrive(browser, strict);
    await ann.visit("readable");
    const signIn = async (text: string): Promise<void> => {
      await ann.page.fill("[name=token]", text);
      await ann.page.click("button.primary");
    };
    await signIn("nonsense");
    await until("it explains the format of a token", async () => (await ann.page.textContent("[role=alert]"))?.includes("three parts"));
    await signIn(`${token("ann")}x`);
    await until("it shows the server's error", async () => (await ann.page.locator("[role=alert]").count()) === 1 && (await ann.page.textContent("[role=alert]"))!.length > 10);
    await signIn(token("ann", { rooms: { readable: ["read"] } }));
    await ann.isLive();
    await ann.write("may I?");
    await until("it failed", async () => (await ann.at(".message").getAttribute("data-state")) === "failed");
    expect(await ann.at(".message .state").textContent()).toBe("Not sent: the token does not grant `write` on this room");
    await ann.at(".message").getByText("Try again").click();
    await until("it failed again", async () => (await ann.at(".message").getAttribute("data-state")) === "failed");
    await ann.at(".message").getByText("Discard").click();
    await ann.at(".message").waitFor({ state: "detached" });
    await ann.page.fill("[name=room]", "secret");
    await ann.page.press("[name=room]", "Enter");
    await until("access is denied", async () => (await ann.at(".banner").textContent())?.includes("You don't have access to this room."));
  });
});
