// Builds the page into dist/, which the server has in it: names with hashes, each file also compressed, and a list of
// the sources that it was built from, by which a test knows whether it is of today.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { gzipSync } from "node:zlib";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";
import type { Plugin } from "vite";

const here = import.meta.dirname;
const client = resolve(here, "../clients/js/src");

/** What the page is made of. */
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

/** As sha256sum writes it, so that `cd demo && sha256sum --check dist/sources.sha256` does the same as the test. */
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
    // The client's sources find them here, and there is one of each.
    dedupe: ["react", "react-dom", "@msgpack/msgpack"],
  },
  build: {
    target: "es2022",
    // The page's policy allows no data: addresses, and the browsers that it is for need no polyfill.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  // `npm run dev` shows changes at once, beside `make run`.
  server: { proxy: { "/v1": { target: "http://127.0.0.1:8080", ws: true, changeOrigin: true }, "/dev": { target: "http://127.0.0.1:8080", changeOrigin: true } } },
});
