import { resolve } from "node:path";
import { defineConfig, mergeConfig } from "vitest/config";
import page from "../vite.config.ts";

const here = import.meta.dirname;

export default mergeConfig(page, defineConfig({
  root: resolve(here, ".."),
  // The client's harness is beside the client, and finds its browser here.
  resolve: { alias: [{ find: "playwright-core", replacement: resolve(here, "../node_modules/playwright-core/index.mjs") }] },
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 120_000,
    hookTimeout: 60_000,
    // One browser and one server at a time, on few cores.
    fileParallelism: false,
  },
}));
