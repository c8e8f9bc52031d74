// The modules of the package import each other in one direction only, types included.
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { expect, it } from "vitest";

const source = resolve(import.meta.dirname, "../src");

/** Returns the modules of this package that a module imports, statically or on demand. */
function importsOf(file: string): string[] {
  const found = readFileSync(file, "utf8").matchAll(/(?:^(?:import|export) [^"]*|\bimport\()"(\.[^"]+)\.js"/gm);
  return [...found].map(([, path]) => {
    const name = join(dirname(file), path!);
    return relative(source, name);
  });
}

/** Returns a path that leads back to its first module, if there is one. */
function circleIn(imports: Map<string, string[]>): string[] | undefined {
  const finished = new Set<string>();
  const search = (path: string[]): string[] | undefined => {
    const last = path.at(-1)!;
    for (const name of imports.get(last) ?? []) {
      if (finished.has(name)) continue;
      if (path.includes(name)) return [...path.slice(path.indexOf(name)), name];
      const circle = search([...path, name]);
      if (circle) return circle;
    }
    finished.add(last);
    return undefined;
  };
  for (const name of imports.keys()) {
    const circle = search([name]);
    if (circle) return circle;
  }
  return undefined;
}

it("modules do not import each other in a circle", () => {
  const files = readdirSync(source, { recursive: true, encoding: "utf8" }).filter((file) => /\.tsx?$/.test(file));
  const imports = new Map(files.map((file) => [file.replace(/\.tsx?$/, ""), importsOf(join(source, file))]));
  // Every kind of import is found: of values and types, re-exports, and imports on demand.
  expect(imports.get("client")).toEqual(expect.arrayContaining(["connection", "room/room", "token"]));
  expect(imports.get("index")).toContain("ids");
  expect(imports.get("connection")).toContain("transport/http");
  for (const names of imports.values()) for (const name of names) expect([...imports.keys()]).toContain(name);
  expect(circleIn(imports)).toBeUndefined();
});

it("the search finds a circle", () => {
  expect(circleIn(new Map([["a", ["b", "d"]], ["b", ["c"]], ["c", ["b"]], ["d", []]]))).toEqual(["b", "c", "b"]);
  expect(circleIn(new Map([["a", ["b", "c"]], ["b", ["c"]], ["c", []]]))).toBeUndefined();
});
