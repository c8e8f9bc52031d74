// The site in Chromium: search finds pages, both themes are readable, and nothing is loaded from elsewhere. Leaves screenshots in
// target/docs-screenshots.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pages } from "../pages.mjs";
import { SCREENSHOTS, serve, SITE, startChromium } from "./site.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const WINDOWS = {
  light: { colorScheme: "light", viewport: { width: 1280, height: 900 } },
  dark: { colorScheme: "dark", viewport: { width: 1280, height: 900 } },
  phone: { colorScheme: "light", viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true },
};

let site;
let browser;
before(async () => {
  site = await serve(SITE);
  browser = await startChromium();
});
after(async () => {
  await browser.close();
  site.end();
});

/** Opens a page in a window of its own. `complaints` collects errors, and requests to other servers. */
async function open(path, window) {
  const context = await browser.newContext({ ...WINDOWS[window], reducedMotion: "reduce" });
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("request", (request) => /^https?:/.test(request.url()) && !request.url().startsWith(site.url) && complaints.push(request.url()));
  await page.goto(`${site.url}/${path}`, { waitUntil: "networkidle" });
  return { page, complaints, end: () => context.close() };
}

for (const window of Object.keys(WINDOWS)) {
  test(`pages look right in the ${window} window`, async () => {
    for (const path of ["index.html", "concepts.html", "operations/durability.html", "protocol.html", "coming-from/socketio.html", "benchmarks.html"]) {
      const { page, complaints, end } = await open(path, window);
      assert.deepEqual(complaints, [], path);
      await page.screenshot({ path: join(SCREENSHOTS, `${path.replace(/[/.]/g, "-")}-${window}.png`) });
      await end();
    }
  });
}

test("no page is too wide for a phone", async () => {
  const { page, end } = await open("index.html", "phone");
  const wide = [];
  for (const { path } of pages()) {
    await page.goto(`${site.url}/${path.replace(/README\.md$/, "index.md").replace(/md$/, "html")}`);
    const pixels = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (pixels > 0) wide.push(`${path}: ${pixels}`);
  }
  assert.deepEqual(wide, []);
  await end();
});

for (const window of ["light", "dark"]) {
  test(`text has enough contrast in the ${window} theme`, async () => {
    for (const path of ["index.html", "concepts.html", "protocol.html", "operations/configuration.html", "coming-from/socketio.html", "deploy/systemd.html"]) {
      const { page, end } = await open(path, window);
      await page.evaluate(AXE);
      const { violations } = await page.evaluate(() => globalThis.axe.run("main", { runOnly: ["color-contrast", "image-alt", "heading-order"] }));
      assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes[0].html]), [], path);
      await end();
    }
  });
}

test("search finds a page by a word", async () => {
  const { page, complaints, end } = await open("index.html", "light");
  await page.keyboard.press("s");
  await page.locator("#mdbook-searchbar").pressSequentially("revocation");
  await page.waitForSelector("#mdbook-searchresults a");
  const titles = await page.locator("#mdbook-searchresults a").allTextContents();
  assert(titles.some((title) => /Revo/.test(title)), titles.join("\n"));
  await page.screenshot({ path: join(SCREENSHOTS, "search.png") });
  await page.locator("#mdbook-searchresults a").first().click();
  await page.waitForURL(/highlight=revocation/);
  assert.deepEqual(complaints, []);
  await end();
});

test("a chosen theme stays, and the drawings follow it", async () => {
  const { page, end } = await open("concepts.html", "light");
  await page.click("#mdbook-theme-toggle");
  await page.click("#mdbook-theme-navy");
  await page.reload({ waitUntil: "networkidle" });
  assert.match(await page.locator("html").getAttribute("class"), /navy/);
  await page.screenshot({ path: join(SCREENSHOTS, "concepts-chosen-dark.png") });
  await end();
});

test("the HTTP reference shows every operation, without loading anything from elsewhere", async () => {
  for (const window of ["light", "dark"]) {
    const { page, complaints, end } = await open("api/http/index.html", window);
    await page.waitForSelector(".opblock");
    const { paths } = JSON.parse(readFileSync(join(SITE, "api/http/openapi.json"), "utf8"));
    const operations = Object.values(paths).flatMap((path) => Object.keys(path).filter((key) => /^(get|post|put|delete|patch)$/.test(key)));
    assert.equal(await page.locator(".opblock").count(), operations.length);
    assert.deepEqual(complaints, []);
    await page.screenshot({ path: join(SCREENSHOTS, `api-http-${window}.png`) });
    await end();
  }
});

for (const [path, title] of [["api/js/index.html", "@roomlog/client"], ["api/python/roomlog.html", "roomlog"], ["api/rust/roomlog_client/index.html", "roomlog_client"]]) {
  test(`the reference ${path} is there`, async () => {
    const { page, end } = await open(path, "light");
    assert.match(await page.title(), new RegExp(title));
    await end();
  });
}
