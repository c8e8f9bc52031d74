// The committed dist/ matches the sources.
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { gunzipSync } from "node:zlib";
import { build } from "vite";
import { expect, it } from "vitest";

const demo = resolve(import.meta.dirname, "..");

/** The contents of each file. Compressed files are decompressed, since compression differs between machines. */
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

it("dist/ matches the sources (if not, run `make demo` and commit it)", async () => {
  const folder = mkdtempSync(join(tmpdir(), "roomlog-demo-"));
  try {
    // Vitest sets another value.
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
