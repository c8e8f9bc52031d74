// The hooks for React, in a real browser, under StrictMode and Suspense.
import type { Browser, BrowserContext, Page as Tab } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Roomlog } from "../src/node.js";
import type { Room, RoomOptions } from "../src/node.js";
import { startChromium } from "./harness/chromium.js";
import type { Page } from "./harness/page.js";
import { Proxy } from "./harness/proxy.js";
import { Server, token } from "./harness/server.js";
import { Site } from "./harness/site.js";
import { until } from "./harness/until.js";

declare const page: Page;

let server: Server;
let browser: Browser;
let site: Site;
beforeAll(async () => {
  site = await Site.start();
  server = await Server.start();
  browser = await startChromium();
});
afterAll(async () => {
  await browser?.close();
  site?.end();
  await server?.end();
});

const open: { close(): unknown }[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

interface Shown {
  tab: Tab;
  proxy: Proxy;
  context: BrowserContext;
  /** What the page has reported as errors. */
  errors: string[];
  /** Waits until the list shows these texts. */
  shows(...texts: string[]): Promise<void>;
  /** Loads the page anew, with changes. */
  reload(changes?: Partial<Start>): Promise<void>;
  /** The texts of the list, after each of its changes since the page was loaded. */
  history(): Promise<string[]>;
  /** Waits until an element has a text. */
  says(element: string, text: string | RegExp): Promise<void>;
}

type Start = Parameters<Page["render"]>[0];

/** Renders a component in a new tab. */
async function render(start: Partial<Start> & { room: string }): Promise<Shown> {
  const context = await browser.newContext();
  const proxy = await Proxy.to(server.port);
  open.push(context, proxy);
  const tab = await context.newPage();
  const errors: string[] = [];
  tab.on("console", (message) => message.type() === "error" && !/WebSocket connection to|ERR_/.test(message.text()) && errors.push(message.text()));
  tab.on("pageerror", (error) => errors.push(error.message));
  const whole: Start = { url: proxy.url, token: token("bob"), record: "", ...start };
  const load = async (changes: Partial<Start> = {}): Promise<void> => {
    await tab.goto(site.url);
    await tab.evaluate(() => {
      const lists: string[] = [];
      const note = (): void => {
        const texts = [...document.querySelectorAll("li")].map(({ textContent }) => textContent).join();
        if (texts !== lists.at(-1)) lists.push(texts);
      };
      new MutationObserver(note).observe(document.body, { subtree: true, childList: true });
      Object.assign(globalThis, { lists });
    });
    await tab.evaluate((start) => page.render(JSON.parse(start)), JSON.stringify({ ...whole, ...changes }));
  };
  await load();
  const settles = async (what: string, read: () => Promise<string>, matches: (now: string) => boolean): Promise<void> => {
    let now = "";
    await until(what, async () => matches((now = await read()))).catch((error: Error) => Promise.reject(new Error(`${error.message}: ${now}`)));
  };
  return {
    tab,
    proxy,
    context,
    errors,
    reload: load,
    history: () => tab.evaluate(() => (globalThis as unknown as { lists: string[] }).lists),
    shows: (...texts) =>
      settles(`the page shows ${texts.join()}`, async () => (await tab.locator("li").allTextContents()).join(), (now) => now === texts.join()),
    says: (element, text) =>
      settles(`${element} says ${text}`, async () => (await tab.locator(element).textContent()) ?? "", (now) => (typeof text === "string" ? now === text : text.test(now))),
  };
}

let count = 0;
/** Publishes texts in a new room. */
async function filled(...texts: string[]): Promise<Room<{ text: string }>> {
  const client = new Roomlog(server.url, { token: () => token("ann") });
  open.push(client);
  const room = client.room<{ text: string }>(`hooks.${++count}`);
  room.on("message", () => {});
  for (const text of texts) await room.publish({ text });
  return room;
}

describe("useRoom", () => {
  it("shows a room's messages, unconfirmed ones, older ones, and the users who type", async () => {
    const room = await filled("1", "2", "3", "4", "5");
    const { tab, proxy, errors, shows, says } = await render({ room: room.name });
    await shows("ann: 3", "ann: 4", "ann: 5");
    await says("#state", "open live");
    await tab.click("#older");
    await shows("ann: 1", "ann: 2", "ann: 3", "ann: 4", "ann: 5");
    await until("there is nothing older", async () => (await tab.click("#older", { timeout: 100 }).catch(() => {}), tab.isDisabled("#older")));

    // Published without a connection: shown immediately, and the same element once it is sent.
    proxy.goOffline();
    await until("it is offline", async () => (await tab.textContent("#state"))!.includes("catching_up"));
    await tab.click("#publish");
    await shows("ann: 1", "ann: 2", "ann: 3", "ann: 4", "ann: 5", "bob: mine 5");
    const last = tab.locator("li").last();
    expect(await last.getAttribute("data-state")).toBe("sending");
    const key = await last.getAttribute("data-key");
    await last.evaluate((element) => element.setAttribute("id", "same"));
    await room.publish({ text: "meanwhile" });
    proxy.goOnline();
    await until("it is sent", async () => (await tab.locator("#same").getAttribute("data-state")) === "sent");
    await shows("ann: 1", "ann: 2", "ann: 3", "ann: 4", "ann: 5", "ann: meanwhile", "bob: mine 5");
    expect(await tab.locator("#same").getAttribute("data-key")).toBe(key);

    await until("the room is live for both", async () => room.state === "live" && (await tab.textContent("#state")) === "open live");
    const heard: unknown[] = [];
    room.on("signal", ({ from, type, data }) => heard.push([from, type, data]));
    await tab.click("#type");
    await until("the other user sees the signal", () => heard.length > 0);
    expect(heard[0]).toEqual(["bob", "typing", true]);
    room.signal("typing", true);
    await until("it shows the user who types", async () => (await tab.textContent("#typing")) === "ann");
    await room.publish({ text: "done" });
    await until("and no longer", async () => (await tab.textContent("#typing")) === "");
    expect(errors).toEqual([]);
  });

  it("reads a room beside a handler that begins with new messages only", async () => {
    const room = await filled("1", "2", "3");
    const { tab, errors, shows, says } = await render({ room: room.name, component: "Beside" });
    await shows("1", "2", "3");
    await says("#state", "live");
    await room.publish({ text: "4" });
    await shows("1", "2", "3", "4");
    await says("#news", "1");
    await tab.click("#publish");
    await shows("1", "2", "3", "4", "mine");
    await says("#news", "2");
    expect(errors).toEqual([]);
  });

  it("no longer shows a message that is deleted, now or while it was offline", async () => {
    const room = await filled("1", "2", "3", "4");
    const { proxy, errors, shows, says } = await render({ room: room.name, component: "Pane" });
    await shows("1", "2", "3", "4");
    await says("#state", "live");
    const ids = (await server.history(room.name)).map(({ id }) => id);
    const headers = { authorization: `Bearer ${token("ops", { rooms: { "*": ["manage"] } })}` };
    const remove = (id: string): Promise<Response> => fetch(`${server.url}/v1/rooms/${room.name}/messages/${id}`, { method: "DELETE", headers });
    await remove(ids[1]!);
    await shows("1", "3", "4");
    proxy.goOffline();
    await says("#state", "catching_up");
    await remove(ids[2]!);
    await room.publish({ text: "5" });
    proxy.goOnline();
    await shows("1", "4", "5");
    expect(errors).toEqual([]);
  });

  it.each([
    ["a name", "not a room", {}, /^bad_request: .*not a valid room name/],
    ["a number of messages", "hooks.bad", { last: -5 }, /^bad_request: .*last/],
    ["a position", "hooks.bad", { since: "yesterday" }, /^bad_request: .*since/],
    ["a name of a subscription", "hooks.bad", { durable: "a b" }, /^bad_request: .*durable/],
  ] as [string, string, RoomOptions, RegExp][])("shows the error where %s is not valid", async (_, name, read, error) => {
    const { tab, errors, shows, says } = await render({ room: name, component: "Pane", read });
    await says("#state", "error");
    await says("#error", error);
    // The page is alive, and explains what cannot be published either.
    await tab.click("#resume");
    await tab.click("#publish");
    if (name === "not a room") await until("it failed", async () => (await tab.locator("li").getAttribute("data-state")) === "failed");
    else await shows("mine");
    expect(errors).toEqual([]);
  });

  it("shows the server's reason where it ended or refused the room", async () => {
    const options = { token: token("eve", { rooms: { "other.*": ["read"] } }) };
    const { errors, says } = await render({ room: "hooks.secret", component: "Pane", ...options });
    await says("#state", "ended");
    await says("#error", /^forbidden: .*grant/);
    expect(errors).toEqual([]);
  });

  it("shows why the client is closed", async () => {
    const { errors, says } = await render({ room: "hooks.closed", component: "Pane", token: "nonsense" });
    await says("#state", "error");
    await says("#error", /^unauthenticated: .*token/);
    await says("#connection", /^closed  .*token/);
    expect(errors).toEqual([]);
  });
});

describe("a page with a cache", () => {
  /** Waits until the cache has the texts of a room. */
  const caches = (tab: Tab, room: string, ...texts: string[]): Promise<unknown> =>
    until(`the cache has ${texts.join()}`, async () => (await cached(tab, room)) === texts.join());
  const cached = (tab: Tab, room: string): Promise<string | undefined> =>
    tab.evaluate(
      (room) =>
        new Promise<string | undefined>((resolve) => {
          const opening = indexedDB.open("messages");
          opening.onsuccess = () => {
            const getting = opening.result.transaction("rooms").objectStore("rooms").get(room);
            const texts = (messages: { data: { text: string } }[]): string => messages.map(({ data }) => data.text).join();
            getting.onsuccess = () => (opening.result.close(), resolve(getting.result && texts(getting.result.messages)));
          };
        }),
      room,
    );

  it("opens with what it showed last, offline too, and continues without a jump", async () => {
    const room = await filled("1", "2", "3", "4", "5");
    const { tab, proxy, errors, shows, says, reload, history } = await render({ room: room.name, component: "Pane", read: { last: 3 }, cache: {} });
    await shows("3", "4", "5");
    await caches(tab, room.name, "3", "4", "5");
    proxy.goOffline();
    await reload();
    await shows("3", "4", "5");
    await says("#state", "catching_up");
    await tab.click("#publish");
    await shows("3", "4", "5", "mine");
    await room.publish({ text: "6" });
    proxy.goOnline();
    await shows("3", "4", "5", "6", "mine");
    await says("#state", "live");
    // Each list that was shown has the one before as its beginning, apart from the unconfirmed message at its end.
    const lists = (await history()).map((texts) => texts.replace(/,?mine$/, "")).filter((texts) => texts !== "");
    for (const [i, texts] of lists.entries()) expect(texts.startsWith(lists[i - 1] ?? "3,4,5"), lists.join(" | ")).toBe(true);
    expect(errors).toEqual([]);
  });

  it("drops what was deleted meanwhile, and what no longer reaches up to the newest messages", async () => {
    const room = await filled("1", "2", "3", "4");
    const { tab, errors, shows, says, reload } = await render({ room: room.name, component: "Pane", read: { last: 4 }, cache: {} });
    await shows("1", "2", "3", "4");
    await caches(tab, room.name, "1", "2", "3", "4");
    await tab.goto("about:blank");
    const ids = (await server.history(room.name)).map(({ id }) => id);
    const headers = { authorization: `Bearer ${token("ops", { rooms: { "*": ["manage"] } })}` };
    await fetch(`${server.url}/v1/rooms/${room.name}/messages/${ids[1]}`, { method: "DELETE", headers });
    await room.publish({ text: "5" });
    await reload({ read: { last: 2 } });
    await shows("1", "3", "4", "5");
    await says("#state", "live");
    await caches(tab, room.name, "1", "3", "4", "5");
    await tab.goto("about:blank");
    for (const text of ["6", "7", "8"]) await room.publish({ text });
    await reload({ read: { last: 2 } });
    await shows("7", "8");
    expect(errors).toEqual([]);
  });

  it("is kept for so many messages, and so many rooms", async () => {
    const [first, second] = [await filled("1", "2", "3", "4"), await filled("5")];
    const { tab, errors, shows, reload } = await render({ room: first.name, component: "Pane", cache: { perRoom: 2, rooms: 1 } });
    await shows("1", "2", "3", "4");
    await caches(tab, first.name, "3", "4");
    await reload({ room: second.name });
    await caches(tab, second.name, "5");
    expect(await cached(tab, first.name)).toBeUndefined();
    expect(errors).toEqual([]);
  });

  it("forgets a room that the user may no longer read", async () => {
    const room = await filled("secret");
    const { tab, errors, shows, says, reload } = await render({ room: room.name, component: "Pane", cache: {} });
    await shows("secret");
    await caches(tab, room.name, "secret");
    await reload({ token: token("bob", { rooms: { "other.*": ["read"] } }) });
    await says("#state", "ended");
    await until("it is forgotten", async () => (await cached(tab, room.name)) === undefined);
    await shows();
    expect(errors).toEqual([]);
  });
});

describe("useConnection", () => {
  it("counts down to the next attempt, and connects at once on request", async () => {
    const room = await filled("1");
    const timing = { backoffMin: 1e9, backoffMax: 1e9, backoffMaxVisible: 1e6, connect: 3000, probe: 300 };
    const { tab, proxy, errors, says } = await render({ room: room.name, component: "Pane", options: { timing } });
    await says("#state", "live");
    proxy.goOffline();
    await says("#connection", /^waiting \d+ /);
    const seconds = async (): Promise<number> => Number(/\d+/.exec((await tab.textContent("#connection"))!)![0]);
    const before = await seconds();
    await until("it counts", async () => (await seconds()) === before - 1);
    proxy.goOnline();
    await tab.click("#retry");
    await says("#connection", "open  ");
    await says("#state", "live");
    expect(errors).toEqual([]);
  });
});
