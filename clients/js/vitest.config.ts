import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 120_000,
    hookTimeout: 60_000,
    // What runs at once shares two cores with servers and browsers.
    maxConcurrency: 2,
    maxWorkers: 1,
  },
});
