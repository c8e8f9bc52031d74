// What is committed in dist/ is what the sources give.
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { gunzipSync } from "node:zlib";
import { build } from "vite";
import { expect, it } from "vitest";

const demo = resolve(import.meta.dirname, "..");

/** Each file and what is in it; of compressed ones what they hold, since that compresses differently from machine to machine. */
function contents(folder: string): Map<string, string> {
  const names = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return new Map(
    names.map(({ parentPath, name }) => {
      const path = join(parentPath, name);
      const bytes = readFileSync(path);
      return [path.slice(folder.length + 1), String(name.endsWith(".gz") ? gunzipSync(bytes) : bytes)];
    }),
  );
}

it("dist/ is what the sources give: else run `make demo`, and commit it", async () => {
  const folder = mkdtempSync(join(tmpdir(), "roomlog-demo-"));
  try {
    // As for a visitor, and not for the tests.
    process.env["NODE_ENV"] = "production";
    await build({ root: demo, configFile: join(demo, "vite.config.ts"), logLevel: "warn", build: { outDir: folder, emptyOutDir: true } });
    const [built, committed] = [contents(folder), contents(join(demo, "dist"))];
    expect([...committed.keys()].sort()).toEqual([...built.keys()].sort());
    for (const [name, text] of built) expect(committed.get(name) === text, name).toBe(true);
    for (const name of built.keys()) expect(built.get(`${name}.gz`) ?? built.get(name)).toBe(built.get(name));
  } finally {
    rmSync(folder, { recursive: true });
  }
});
