// Without a network: the page opens, shows what it showed last, and sends what was written. After an upgrade, nobody sees the old page.
import { createServer } from "node:http";
import type { Server as HttpServer } from "node:http";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { extname, join, resolve } from "node:path";
import type { Browser, Page } from "playwright-core";
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

/** Resolves when the service worker has stored its version of the page, and answers for it. */
const isInstalled = (page: Page): Promise<unknown> =>
  until("the service worker is in charge", () => page.evaluate(async () => navigator.serviceWorker.controller !== null && (await caches.keys()).length > 0));

/** Whether the browser has stored the messages of a room. */
const isStored = (page: Page, user: string, room: string): Promise<boolean> =>
  page.evaluate(([name, room]) => new Promise<boolean>((resolve) => {
    const opening = indexedDB.open(name!);
    opening.onsuccess = () => {
      const counting = opening.result.transaction("rooms").objectStore("rooms").count(room!);
      counting.onsuccess = () => (opening.result.close(), resolve(counting.result > 0));
    };
  }), [`roomlog messages ${user}`, room]);

describe("the page", () => {
  it("opens without a network, shows its messages, and sends what is written", async () => {
    for (const text of ["one", "two", "three"]) await say(server, "bob", "tunnel", { text });
    const ann = await Person.in(browser, server, "ann", "tunnel");
    await ann.shows("three");
    await isInstalled(ann.page);
    await until("the messages are stored", () => isStored(ann.page, "ann", "tunnel"));
    await ann.page.goto("about:blank");
    ann.network.goOffline();
    await ann.visit("tunnel");
    await ann.shows("three");
    expect(await ann.texts()).toEqual(["one", "two", "three"]);
    await ann.at(".banner").waitFor();
    await ann.write("from the tunnel");
    await ann.at(".message[data-state=sending]").waitFor();
    await say(server, "bob", "tunnel", { text: "four" });
    await ann.comeBack();
    await until("it is sent", async () => (await ann.at(".message[data-state=sending]").count()) === 0);
    await ann.isLive();
    expect((await ann.texts()).sort()).toEqual(["four", "from the tunnel", "one", "three", "two"]);
    expect(await ann.at(".new").textContent()).toBe("1 new");
  });

  it("lets the last user sign in again without a network", async () => {
    const ann = await Person.in(browser, server, "ann", "again");
    await ann.write("kept");
    await until("it is sent", async () => (await ann.at(".message[data-state=sent]").count()) === 1);
    await isInstalled(ann.page);
    await until("the messages are stored", () => isStored(ann.page, "ann", "again"));
    const tab = await ann.page.context().newPage();
    ann.network.goOffline();
    await tab.goto(ann.page.url());
    await tab.getByText("You're offline.").waitFor();
    expect(await tab.inputValue("[name=user]")).toBe("ann");
    await tab.click("button.primary");
    await tab.locator(".chat[data-open] .text").getByText("kept").waitFor();
  });

  it("counts down to the next attempt to connect, and keeps the server's reason", async () => {
    const ann = await Person.in(browser, server, "ann", "countdown");
    ann.network.goOffline();
    const seconds: number[] = [];
    await until("it has counted", async () => {
      const [, second] = /in (\d+) s/.exec(await ann.at(".banner .retry").textContent({ timeout: 10_000 }) ?? "") ?? [];
      if (second !== undefined && Number(second) !== seconds.at(-1)) seconds.push(Number(second));
      return seconds.length > 4;
    });
    expect(Math.max(...seconds)).toBeLessThanOrEqual(5);
    await ann.comeBack();
    await ann.isLive();
  });
});

const dist = resolve(import.meta.dirname, "../dist");
const TYPES: Record<string, string> = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png" };

/** Serves one version of the page after another. */
class Versions {
  private readonly folder = mkdtempSync(join(tmpdir(), "roomlog-versions-"));
  private readonly http: HttpServer;
  current = "1";

  constructor(...names: string[]) {
    for (const name of names) {
      const folder = join(this.folder, name);
      cpSync(dist, folder, { recursive: true });
      const replace = (file: string, from: RegExp, to: string): void => writeFileSync(join(folder, file), readFileSync(join(folder, file), "utf8").replace(from, to));
      replace("index.html", /<title>.*<\/title>/, `<title>Version ${name}</title>`);
      replace("worker.js", /roomlog-\$\{[^}]+\}/, `roomlog-${name}`);
    }
    this.http = createServer((request, response) => {
      const { pathname } = new URL(request.url!, "http://localhost");
      const path = pathname === "/" ? "/index.html" : pathname;
      try {
        const body = readFileSync(join(this.folder, this.current, path));
        response.writeHead(200, { "content-type": TYPES[extname(path)] ?? "application/json", "cache-control": "no-cache" }).end(body);
      } catch {
        response.writeHead(404, { "content-type": "application/json" }).end("{}");
      }
    });
  }

  async start(): Promise<string> {
    this.http.listen(0, "127.0.0.1");
    await new Promise((resolve) => this.http.once("listening", resolve));
    return `http://127.0.0.1:${(this.http.address() as AddressInfo).port}/`;
  }

  async end(): Promise<void> {
    if (!this.http.listening) return;
    this.http.closeAllConnections();
    await new Promise((resolve) => this.http.close(resolve));
    rmSync(this.folder, { recursive: true, force: true });
  }
}

it("an upgrade shows at once, and is what opens offline afterwards", async () => {
  const versions = new Versions("1", "2", "3", "4");
  const url = await versions.start();
  const context = await browser.newContext();
  const page = await context.newPage();
  const first = async (): Promise<string> => {
    // The page sets its own title as soon as it runs: the one of the file is in its source.
    return (await page.evaluate(async () => (await (await fetch("/")).text()))).match(/<title>(.*)<\/title>/)![1]!;
  };
  const cached = (): Promise<string[]> => page.evaluate(() => caches.keys());
  try {
    for (const version of ["1", "2", "3", "4"]) {
      versions.current = version;
      const response = await page.goto(url);
      expect(await response!.text()).toContain(`<title>Version ${version}</title>`);
      await until(`version ${version} is stored`, async () => (await cached()).includes(`roomlog-${version}`));
      await isInstalled(page);
      expect(await first()).toBe(`Version ${version}`);
    }
    await until("old versions are gone", async () => (await cached()).join() === "roomlog-3,roomlog-4");
    await versions.end();
    const response = await page.goto(url);
    expect(await response!.text()).toContain("<title>Version 4</title>");
    await page.getByText("Can't reach the server.").first().waitFor();
  } finally {
    await context.close();
    await versions.end();
  }
});
