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
  ...filesIn(join(here, "public")),
  ...filesIn(client),
];

function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

const hash = (contents: string | Buffer): string => createHash("sha256").update(contents).digest("hex");

/** In the format of sha256sum, so that `cd demo && sha256sum --check dist/sources.sha256` does the same as the test. */
const listOfSources = (): string => sources.sort().map((file) => `${hash(readFileSync(file))}  ${relative(here, file)}\n`).join("");

/** Tells the service worker which files belong to this version. */
const worker: Plugin = {
  name: "roomlog-worker",
  enforce: "post",
  generateBundle(_, bundle) {
    const files = [...Object.keys(bundle).filter((name) => name.startsWith("assets/")), ...readdirSync(join(here, "public"))].sort().map((name) => `/${name}`);
    const page = bundle["index.html"];
    const chunk = bundle["worker.js"];
    if (page?.type !== "asset" || chunk?.type !== "chunk") throw new Error("the page or its service worker was not built");
    // Hashed names stand for their contents; the others are read.
    const fixed = readdirSync(join(here, "public")).sort().map((name) => hash(readFileSync(join(here, "public", name))));
    const version = hash([String(page.source), ...files, ...fixed].join("\n")).slice(0, 12);
    chunk.code = chunk.code.replaceAll("__FILES__", JSON.stringify(files)).replaceAll("__VERSION__", JSON.stringify(version));
  },
};

const finish: Plugin = {
  name: "roomlog-finish",
  writeBundle({ dir }) {
    for (const file of filesIn(dir!).filter((file) => !file.endsWith(".png"))) writeFileSync(`${file}.gz`, gzipSync(readFileSync(file), { level: 9 }));
    writeFileSync(join(dir!, "sources.sha256"), listOfSources());
  },
};

export default defineConfig({
  root: here,
  plugins: [react(), worker, finish],
  resolve: {
    alias: [
      { find: "@roomlog/client/cache", replacement: join(client, "cache.ts") },
      { find: "@roomlog/client/react", replacement: join(client, "react.ts") },
      { find: "@roomlog/client", replacement: join(client, "index.ts") },
    ],
    // The client's sources import these from here too, so there is one copy of each.
    dedupe: ["react", "react-dom"],
  },
  build: {
    target: "es2024",
    // The page's policy allows scripts only from files, and the supported browsers need no polyfill.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: {
      input: { index: join(here, "index.html"), worker: join(here, "src/worker/worker.ts") },
      // A service worker has one address for all its versions.
      output: { entryFileNames: ({ name }) => (name === "worker" ? "worker.js" : "assets/[name]-[hash].js") },
    },
  },
  // `npm run dev` shows changes immediately; it needs `make run` in another terminal.
  server: { proxy: { "/v1": { target: "http://127.0.0.1:8080", ws: true, changeOrigin: true }, "/dev": { target: "http://127.0.0.1:8080", changeOrigin: true } } },
});
