// The browser that is installed on this machine.
import { existsSync } from "node:fs";
import { chromium } from "playwright-core";
import type { Browser } from "playwright-core";

function path(): string {
  const names = ["chromium", "chromium-browser", "google-chrome"];
  const paths = (process.env["PATH"] ?? "").split(":").flatMap((folder) => names.map((name) => `${folder}/${name}`));
  const path = paths.find((path) => existsSync(path));
  if (!path) throw new Error("there is no Chromium: run scripts/install-deps.sh chromium");
  return path;
}

export const startChromium = (): Promise<Browser> =>
  chromium.launch({
    executablePath: path(),
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage", "--disable-extensions", "--no-first-run"],
  });
