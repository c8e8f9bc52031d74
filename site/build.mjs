// Builds the documentation site: the book with mdBook, and beside it the references that tools generate from the code.
//
//   node build.mjs OUT [part …]    parts: book http js python rust; all of them by default
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { writeLlms } from "./llms.mjs";
import { ROOT } from "./pages.mjs";
import { openApi } from "./server.mjs";

const HERE = import.meta.dirname;
const OUT = resolve(process.argv[2] ?? join(ROOT, "target/docs"));
const TARGET = resolve(ROOT, process.env.CARGO_TARGET_DIR ?? "target");

const run = (program, args, options = {}) => execFileSync(program, args, { stdio: ["ignore", "ignore", "inherit"], cwd: ROOT, ...options });

/** mdBook empties the folder first, and copies the sources of the theme, which nobody needs. */
function book() {
  run("mdbook", ["build", HERE, "--dest-dir", OUT]);
  writeLlms(OUT);
}

/** The document is the one that a server answers; the page needs nothing from elsewhere. */
async function http() {
  const out = folder("http");
  const ui = join(HERE, "node_modules/swagger-ui-dist");
  for (const file of ["swagger-ui.css", "swagger-ui-bundle.js"]) cpSync(join(ui, file), join(out, file));
  cpSync(join(HERE, "openapi.html"), join(out, "index.html"));
  writeFileSync(join(out, "openapi.json"), JSON.stringify(await openApi(), null, 2));
}

/** Each entry point of the package is a module of the reference. */
function js() {
  const client = join(ROOT, "clients/js");
  const { exports } = JSON.parse(readFileSync(join(client, "package.json"), "utf8"));
  const names = Object.keys(exports).map((name) => (name === "." ? "index" : name.slice(2)));
  const entries = names.map((name) => join(client, "src", `${name}.ts`)).filter((file) => existsSync(file));
  const options = ["--name", "@roomlog/client", "--readme", "none", "--tsconfig", join(client, "tsconfig.json"), "--skipErrorChecking"];
  run(join(HERE, "node_modules/.bin/typedoc"), [...options, "--excludeInternal", "--disableGit", "--sourceLinkTemplate", "{path}", "--disableSources", "--logLevel", "Error", "--out", folder("js"), ...entries]);
}

function python() {
  run(join(ROOT, "clients/python/.venv/bin/pdoc"), ["--output-directory", folder("python"), "roomlog", "roomlog.sync", "roomlog.server"]);
}

/** rustdoc adds to what is in its folder, so that is emptied first. */
function rust() {
  rmSync(join(TARGET, "doc"), { recursive: true, force: true });
  run("cargo", ["doc", "--quiet", "--locked", "--no-deps", "--package", "roomlog-protocol", "--package", "roomlog-client"]);
  cpSync(join(TARGET, "doc"), folder("rust"), { recursive: true });
}

function folder(name) {
  const path = join(OUT, "api", name);
  rmSync(path, { recursive: true, force: true });
  mkdirSync(path, { recursive: true });
  return path;
}

const parts = { book, http, js, python, rust };
const wanted = process.argv.slice(3);
for (const name of wanted.length > 0 ? wanted : Object.keys(parts)) {
  const start = Date.now();
  await parts[name]();
  console.error(`docs: ${name} in ${((Date.now() - start) / 1000).toFixed(1)} s`);
}
