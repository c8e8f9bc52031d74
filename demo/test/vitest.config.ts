import { resolve } from "node:path";
import { defineConfig, mergeConfig } from "vitest/config";
import page from "../vite.config.ts";

const here = import.meta.dirname;

export default mergeConfig(page, defineConfig({
  root: resolve(here, ".."),
  // The client's test harness is outside this folder, and imports the browser from here.
  resolve: { alias: [{ find: "playwright-core", replacement: resolve(here, "../node_modules/playwright-core/index.mjs") }] },
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 120_000,
    hookTimeout: 60_000,
    // CI has few cores: one browser and one server at a time.
    fileParallelism: false,
  },
}));
