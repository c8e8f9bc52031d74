// The built site, and a browser to look at it with.
import { createServer } from "node:http";
import { existsSync, readFileSync, statSync } from "node:fs";
import { extname, join, resolve } from "node:path";
import { chromium } from "playwright-core";
import { ROOT } from "../pages.mjs";

const TARGET = resolve(ROOT, process.env.CARGO_TARGET_DIR ?? "target");
export const SITE = join(TARGET, "docs");
export const SCREENSHOTS = join(TARGET, "docs-screenshots");

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".json": "application/json", ".png": "image/png" };

/** Serves a folder as plain files. */
export async function serve(folder) {
  const server = createServer((request, response) => {
    let path = join(folder, decodeURI(new URL(request.url, "http://localhost").pathname));
    if (existsSync(path) && statSync(path).isDirectory()) path = join(path, "index.html");
    if (!existsSync(path)) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": TYPES[extname(path)] ?? "text/plain" }).end(readFileSync(path));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, end: () => server.close() };
}

export function startChromium() {
  const names = ["chromium", "chromium-browser", "google-chrome"];
  const paths = process.env.PATH.split(":").flatMap((folder) => names.map((name) => join(folder, name)));
  const executablePath = paths.find((path) => existsSync(path));
  if (!executablePath) throw new Error("there is no Chromium: run scripts/install-deps.sh chromium");
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"] });
}
