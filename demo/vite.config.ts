// Builds the page into dist/, which the server embeds: file names with hashes, a compressed copy of each file, and hashes of the
// sources, by which a test notices that dist/ is out of date.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { gzipSync } from "node:zlib";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";
import type { Plugin } from "vite";

const here = import.meta.dirname;
const client = resolve(here, "../clients/js/src");

/** The inputs of the build. */
const sources = [
  ...["index.html", "package-lock.json", "vite.config.ts"].map((file) => join(here, file)),
  ...filesIn(join(here, "src")),
  ...filesIn(client),
];

function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

/** In the format of sha256sum, so that `cd demo && sha256sum --check dist/sources.sha256` does the same as the test. */
function listOfSources(): string {
  const hash = (file: string): string => createHash("sha256").update(readFileSync(file)).digest("hex");
  return sources.sort().map((file) => `${hash(file)}  ${relative(here, file)}\n`).join("");
}

const finish: Plugin = {
  name: "roomlog-finish",
  writeBundle({ dir }) {
    for (const file of filesIn(dir!)) writeFileSync(`${file}.gz`, gzipSync(readFileSync(file), { level: 9 }));
    writeFileSync(join(dir!, "sources.sha256"), listOfSources());
  },
};

export default defineConfig({
  root: here,
  plugins: [react(), finish],
  resolve: {
    alias: [
      { find: "@roomlog/client/react", replacement: join(client, "react.ts") },
      { find: "@roomlog/client", replacement: join(client, "index.ts") },
    ],
    // The client's sources import these from here too, so there is one copy of each.
    dedupe: ["react", "react-dom"],
  },
  build: {
    target: "es2024",
    // The page's policy allows no data: URLs, and the supported browsers need no polyfill.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  // `npm run dev` shows changes immediately; it needs `make run` in another terminal.
  server: { proxy: { "/v1": { target: "http://127.0.0.1:8080", ws: true, changeOrigin: true }, "/dev": { target: "http://127.0.0.1:8080", changeOrigin: true } } },
});
