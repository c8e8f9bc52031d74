// In a real browser: reloads with IndexedDB and localStorage, tabs, and offline.
import type { Browser, BrowserContext, Page as Tab } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compareIds } from "../src/node.js";
import { startChromium } from "./harness/chromium.js";
import type { Page } from "./harness/page.js";
import { Proxy } from "./harness/proxy.js";
import { Random } from "./harness/random.js";
import { Server, token } from "./harness/server.js";
import { Site } from "./harness/site.js";
import { pause, until } from "./harness/until.js";

declare const page: Page;

const SCRIPTS = 14;
const STEPS = 10;

let server: Server;
let browser: Browser;
let origin: string;
let site: Site;

beforeAll(async () => {
  site = await Site.start();
  origin = site.url;
  server = await Server.start();
  browser = await startChromium();
});

afterAll(async () => {
  await browser?.close();
  site?.end();
  await server?.end();
});

/** A tab of a browser, and a record of its user's actions. */
class Person {
  tab!: Tab;
  readonly written: { key: string; cancelled: boolean; id?: string | undefined }[] = [];

  constructor(
    private readonly context: BrowserContext,
    private readonly proxy: Proxy,
    private readonly user: string,
    private readonly room: string,
    readonly record: string,
    private readonly durable?: string,
  ) {}

  async open(): Promise<void> {
    this.tab ??= await this.context.newPage();
    await this.tab.goto(origin);
    const { user, room, record, durable, proxy } = this;
    await this.tab.evaluate((start) => page.start(start), { url: proxy.url, token: token(user), room, record, ...(durable && { durable }) });
  }

  async reload(): Promise<void> {
    await this.note();
    await this.open();
  }

  async write(text: string, cancel: boolean): Promise<void> {
    const [key, cancelled] = await this.tab.evaluate(([text, cancel]) => {
      const key = page.publish(text);
      return [key, cancel === true && page.cancel(key)] as const;
    }, [text, cancel] as [string, boolean]);
    this.written.push({ key, cancelled });
  }

  /** Records the confirmed ids before the page is closed. */
  async note(): Promise<void> {
    const ids = await this.tab.evaluate((keys) => keys.map((key) => page.confirmed(key)), this.written.map(({ key }) => key));
    this.written.forEach((written, i) => (written.id ??= ids[i]));
  }

  handled = (): Promise<string[]> => this.tab.evaluate((record) => page.handled(record), this.record);
  problems = (): Promise<string[]> => this.tab.evaluate((record) => page.problems(record), this.record);
}

async function script(seed: number): Promise<void> {
  const random = new Random(seed);
  const name = `browser.${seed}`;
  const contexts = [await browser.newContext(), await browser.newContext()];
  const proxies = [await Proxy.to(server.port), await Proxy.to(server.port)];
  const [alone, shared] = contexts as [BrowserContext, BrowserContext];
  const ann = new Person(alone, proxies[0]!, "ann", name, "ann");
  const tabs = ["bob-tab1", "bob-tab2"].map((record) => new Person(shared, proxies[1]!, "bob", name, record, "phone"));
  const people = [ann, ...tabs];
  try {
    for (const person of people) {
      await person.open();
      await until("the room is followed", () => person.tab.evaluate(() => page.position()));
    }
    let number = 0;
    for (let step = 0; step < STEPS; step++) {
      const [person, which] = [random.pick(people), random.below(2)];
      switch (random.weighted({ write: 6, cancel: 1, reload: 2, offline: 2, online: 2, cut: 2, takeOver: 1, killNode: 0.3 })) {
        case "write":
          for (let n = random.below(3); n >= 0; n--) await person.write(`${number++}`, false);
          break;
        case "cancel":
          await person.write(`${number++}`, true);
          break;
        case "reload":
          // A browser that is offline cannot load the page.
          for (const context of contexts) await context.setOffline(false);
          await person.reload();
          break;
        case "offline":
          await contexts[which]!.setOffline(true);
          proxies[which]!.goOffline();
          break;
        case "online":
          for (const proxy of proxies) proxy.goOnline();
          for (const context of contexts) await context.setOffline(false);
          break;
        case "cut":
          proxies[which]!.cut(random.chance(0.5));
          break;
        case "takeOver":
          await random.pick(tabs).tab.evaluate(() => page.resume());
          break;
        case "killNode":
          await server.killNode();
          await server.startNode();
      }
      await pause(random.below(40));
    }
    for (const proxy of proxies) proxy.goOnline();
    for (const context of contexts) await context.setOffline(false);
    for (const { tab } of people) await until("nothing waits", () => tab.evaluate(() => page.waiting() === 0));
    const log = await server.history(name);
    const ids = log.map(({ id }) => id);
    await until("the single tab has read the log", async () => (await ann.handled()).at(-1) === ids.at(-1));
    await until("both tabs together have read the log", async () => {
      for (const { tab } of tabs) if ((await tab.evaluate(() => page.state())).endsWith("ended")) await tab.evaluate(() => page.resume());
      const seen = new Set((await Promise.all(tabs.map((person) => person.handled()))).flat());
      return ids.every((id) => seen.has(id));
    });
    const stored = new Map(log.map(({ key, id }) => [key, id]));
    expect(stored.size, "each key is stored once").toBe(log.length);
    expect(await ann.handled(), "each message is handled once and in order, over reloads").toEqual(ids);
    for (const person of people) {
      await person.note();
      for (const { key, cancelled, id } of person.written) {
        if (cancelled) expect(stored.has(key)).toBe(false);
        if (id !== undefined) expect(stored.get(key)).toBe(id);
      }
      const order = log.filter(({ key }) => person.written.some((written) => written.key === key)).map(({ key }) => key);
      expect(order, "in the order in which it was written").toEqual(person.written.map(({ key }) => key).filter((key) => stored.has(key)));
      const handled = await person.handled();
      for (let i = 1; i < handled.length; i++) expect(compareIds(handled[i - 1]!, handled[i]!)).toBeLessThan(0);
      expect(await person.problems()).toEqual([]);
    }
  } finally {
    for (const context of contexts) await context.close();
    for (const proxy of proxies) proxy.close();
  }
}

describe("in a browser, random faults lose, repeat and reorder nothing", () => {
  const only = process.env["ROOMLOG_SEED"];
  const seeds = only ? [Number(only)] : Array.from({ length: SCRIPTS }, (_, i) => 1000 + i);
  it.each(seeds)("ROOMLOG_SEED=%i", (seed) => script(seed));
});

describe("a page", () => {
  it("sends the messages that a closed tab left unsent", async () => {
    const context = await browser.newContext();
    const proxy = await Proxy.to(server.port);
    const [first, second] = ["cleo-tab1", "cleo-tab2"].map((record) => new Person(context, proxy, "cleo", "left", record));
    await first!.open();
    await second!.open();
    proxy.goOffline();
    await first!.write("left behind", false);
    await second!.write("mine", false);
    // A message is stored a moment after it is published: the tab must not be closed before that.
    await until("both are on the disk", () =>
      first!.tab.evaluate(
        () =>
          new Promise<boolean>((resolve) => {
            const opening = indexedDB.open("cleo");
            opening.onsuccess = () => {
              const counting = opening.result.transaction("outbox").objectStore("outbox").count();
              counting.onsuccess = () => (opening.result.close(), resolve(counting.result === 2));
            };
          }),
      ),
    );
    await first!.tab.close();
    await second!.open();
    expect(await until("it has adopted the messages", () => second!.tab.evaluate(() => page.waiting()))).toBe(2);
    proxy.goOnline();
    await until("nothing waits", () => second!.tab.evaluate(() => page.waiting() === 0));
    expect((await server.history("left")).map(({ data }) => data)).toEqual(["left behind", "mine"]);
    await context.close();
    proxy.close();
  });

  it("falls back to the transport that the network allows", async () => {
    for (const [transport, hindrances] of [["sse", { refuseUpgrades: true }], ["polling", { refuseUpgrades: true, holdStreams: true }]] as const) {
      const context = await browser.newContext();
      const proxy = await Proxy.to(server.port, hindrances);
      const person = new Person(context, proxy, "finn", `through.${transport}`, "finn");
      await person.open();
      await until("it is live", async () => (await person.tab.evaluate(() => page.state())) === "open live");
      expect(await person.tab.evaluate(() => page.transport())).toBe(transport);
      await person.write("hi", false);
      await until("the message has arrived", async () => (await person.handled()).length === 1);
      await context.close();
      proxy.close();
    }
  });

  it("reconnects at once when the browser comes online, and when the page is shown", async () => {
    const context = await browser.newContext();
    const proxy = await Proxy.to(server.port);
    const tab = await context.newPage();
    await tab.goto(origin);
    const start = { url: proxy.url, token: token("gus"), room: "online", record: "gus", options: { timing: { backoffMin: 1e9, backoffMax: 1e9, backoffMaxVisible: 1e9 } } };
    await tab.evaluate((start) => page.start(start), start);
    await until("it is open", async () => (await tab.evaluate(() => page.state())) === "open live");
    await context.setOffline(true);
    proxy.goOffline();
    await until("it waits", async () => (await tab.evaluate(() => page.state())).startsWith("waiting"));
    proxy.goOnline();
    await context.setOffline(false);
    await until("it is open again", async () => (await tab.evaluate(() => page.state())) === "open live");
    proxy.goOffline();
    await until("it waits", async () => (await tab.evaluate(() => page.state())).startsWith("waiting"));
    proxy.goOnline();
    await tab.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
    await until("it is open once more", async () => (await tab.evaluate(() => page.state())) === "open live");
    await context.close();
    proxy.close();
  });
});
