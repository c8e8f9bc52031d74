// Builds dist/: ES modules and CommonJS, each with its types beside it. Fetches the licenses, which the package contains, too.
import { execFileSync } from "node:child_process";
import { copyFileSync, rmSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

for (const license of ["LICENSE-MIT", "LICENSE-APACHE"]) copyFileSync(`../../${license}`, license);
rmSync("dist", { recursive: true, force: true });
for (const [format, type] of [["esm", "module"], ["cjs", "commonjs"]]) {
  const outdir = `dist/${format}`;
  await build({
    entryPoints: ["src/index.ts", "src/node.ts", "src/react.ts", "src/typing.ts", "src/cache.ts", "src/server.ts"],
    outdir,
    bundle: true,
    // What the entries share exists once, so that they have the same classes.
    splitting: format === "esm",
    packages: "external",
    format,
    target: "es2022",
    sourcemap: true,
    chunkNames: "shared-[hash]",
  });
  const emit = ["--noEmit", "false", "--declaration", "--emitDeclarationOnly", "--rootDir", "src", "--outDir", outdir];
  execFileSync("npx", ["tsc", "-p", "tsconfig.build.json", ...emit], { stdio: "inherit" });
  writeFileSync(`${outdir}/package.json`, `${JSON.stringify({ type })}\n`);
}
