// Every link, anchor and image of the built site leads somewhere; so does every page of llms.txt. Links to other sites are not followed.
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { test } from "node:test";
import { Parser } from "htmlparser2";
import { pages, REPOSITORY, ROOT } from "../pages.mjs";
import { SITE } from "./site.mjs";

const TARGETS = { a: "href", img: "src", link: "href", script: "src", iframe: "src" };

/** The references that tools generate; their scripts add anchors, so only their files are checked. */
const GENERATED = join(SITE, "api");

/** rustdoc checks the links of its own pages, apart from those in the documentation of other crates that it copies. */
const RUST = join(GENERATED, "rust");

/** Returns the links and the ids of an HTML file. */
const parsed = new Map();
function parse(file) {
  if (!parsed.has(file)) {
    const found = { links: [], ids: new Set() };
    const parser = new Parser({
      onopentag(name, attributes) {
        const target = attributes[TARGETS[name]];
        if (target !== undefined) found.links.push(target);
        if (attributes.id) found.ids.add(attributes.id);
        if (name === "a" && attributes.name) found.ids.add(attributes.name);
      },
    });
    parser.end(readFileSync(file, "utf8"));
    parsed.set(file, found);
  }
  return parsed.get(file);
}

/** Says what is wrong with a link, or returns undefined. */
function problem(from, link) {
  const inRepository = new RegExp(`^${REPOSITORY}/(?:blob|tree)/main/([^#?]*)`).exec(link);
  if (inRepository) return existsSync(join(ROOT, decodeURI(inRepository[1]))) ? undefined : "not in the repository";
  if (/^([a-z]+:|\/\/)/i.test(link)) return undefined;
  const [path, anchor] = link.split("#");
  let target = path.split("?")[0] ? resolve(dirname(from), decodeURI(path.split("?")[0])) : from;
  if (!existsSync(target)) return "no such file";
  if (statSync(target).isDirectory()) target = join(target, "index.html");
  if (!existsSync(target)) return "a folder without a page";
  if (!anchor || !target.endsWith(".html") || target.startsWith(GENERATED)) return undefined;
  return parse(target).ids.has(decodeURIComponent(anchor)) ? undefined : "no such anchor";
}

const htmlFiles = () =>
  readdirSync(SITE, { recursive: true })
    .filter((name) => name.endsWith(".html"))
    .map((name) => join(SITE, name));

test("every link, anchor and image leads somewhere", () => {
  const files = htmlFiles();
  assert(files.length > 100, "the site is built, with its references");
  const broken = [];
  for (const file of files) {
    // The page for unknown addresses has links from the root.
    if (relative(SITE, file) === "404.html" || file.startsWith(RUST)) continue;
    for (const link of new Set(parse(file).links)) {
      const wrong = problem(file, link);
      if (wrong) broken.push(`${relative(SITE, file)}: ${link}: ${wrong}`);
    }
  }
  assert.deepEqual(broken, []);
});

test("every page is in the navigation", () => {
  const listed = new Set(pages().map(({ path }) => path));
  const written = readdirSync(join(ROOT, "docs"), { recursive: true }).filter((name) => name.endsWith(".md") && name !== "SUMMARY.md");
  assert.deepEqual(written.filter((name) => !listed.has(name)), []);
});

test("llms.txt lists every page, and each is there as Markdown", () => {
  const lines = readFileSync(join(SITE, "llms.txt"), "utf8").split("\n");
  const links = lines.map((line) => /^- \[.+\]\((.+)\): \S/.exec(line)?.[1]).filter(Boolean);
  assert.deepEqual(links, pages().map(({ path }) => path));
  const full = readFileSync(join(SITE, "llms-full.txt"), "utf8");
  for (const link of links) assert(full.includes(readFileSync(join(SITE, link), "utf8").trim()), link);
});
