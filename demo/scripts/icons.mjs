// Draws the icons of the installed app from src/icon.svg. Run it with `npm run icons` when the logo has changed.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "playwright-core";

const demo = join(import.meta.dirname, "..");
const svg = readFileSync(join(demo, "src/icon.svg"), "utf8");
// Systems cut a maskable icon into a shape of their own: it has no corners, and its content keeps clear of the edge.
const maskable = svg.replace('rx="8"', "").replace("<g ", '<g transform="translate(16 16) scale(.8) translate(-16 -16)" ');

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const page = await browser.newPage();
for (const [name, size, image] of [["icon-192", 192, svg], ["icon-512", 512, svg], ["icon-maskable", 512, maskable]]) {
  await page.setViewportSize({ width: size, height: size });
  await page.setContent(`<style>body { margin: 0 } svg { display: block; width: 100vw }</style>${image}`);
  await page.screenshot({ path: join(demo, "public", `${name}.png`), omitBackground: true });
}
await browser.close();
