// Reads the pages of the site: their order from docs/SUMMARY.md, and their text with included files in it.
//
// Pages link to other files of the repository by relative paths, so that they work on a forge too. Here such a path becomes a
// link to the page that includes the file, if there is one, and otherwise to the file in the repository.
import { existsSync, readFileSync, statSync } from "node:fs";
import { join, posix, resolve } from "node:path";

export const ROOT = resolve(import.meta.dirname, "..");
const DOCS = join(ROOT, "docs");
const INCLUDE = /^\{\{#include (\S+)\}\}$/gm;

const read = (path) => readFileSync(join(ROOT, path), "utf8");

/** Returns `{ title, path, part }` of each page in order; `path` is relative to docs/, `part` is the heading above it. */
export function pages() {
  const all = [];
  let part = "";
  for (const line of read("docs/SUMMARY.md").split("\n").slice(1)) {
    part = /^# (.+)/.exec(line)?.[1] ?? part;
    const [, title, path] = /^\s*(?:- )?\[(.+)\]\((.+\.md)\)$/.exec(line) ?? [];
    if (path) all.push({ title, path: posix.normalize(path), part });
  }
  return all;
}

/** Maps each file that a page consists of, such as CHANGELOG.md, to that page. */
function homes() {
  const homes = new Map();
  for (const { path } of pages()) {
    for (const [, file] of read(`docs/${path}`).matchAll(INCLUDE)) homes.set(posix.join("docs", posix.dirname(path), file), path);
  }
  return homes;
}

/** Applies a function to the target of each Markdown link outside of code. */
function mapLinks(text, change) {
  const parts = text.split(/(^```[\s\S]*?^```$|`[^`\n]+`(?!\]))/m);
  return parts.map((part, n) => (n % 2 ? part : part.replace(/\]\(([^()\s]+)\)/g, (_, target) => `](${change(target)})`))).join("");
}

/** Returns a function that expands the text of a page, given the URL of the repository for links to its other files. */
export function expander(repository) {
  const included = homes();
  const link = (target, from, page) => {
    if (/^([a-z]+:|#)/.test(target)) return target;
    const [file, anchor] = target.split("#");
    const path = posix.join(from, file);
    const hash = anchor ? `#${anchor}` : "";
    const home = included.get(path.replace(/\/$/, ""));
    if (home) return posix.relative(posix.dirname(page) || ".", home) + hash;
    if (path.startsWith("docs/") && !path.endsWith("/")) return posix.relative(posix.join("docs", posix.dirname(page)), path) + hash;
    const kind = existsSync(join(ROOT, path)) && statSync(join(ROOT, path)).isDirectory() ? "tree" : "blob";
    return `${repository}/${kind}/main/${path}${hash}`;
  };
  return (text, page) => {
    const here = posix.join("docs", posix.dirname(page));
    const whole = mapLinks(text, (target) => link(target, here, page));
    return whole.replace(INCLUDE, (_, file) => {
      const path = posix.join(here, file);
      return mapLinks(read(path), (target) => link(target, posix.dirname(path), page));
    });
  };
}

/** The URL of the repository, which book.toml has. */
export const REPOSITORY = /git-repository-url = "(.+)"/.exec(readFileSync(join(import.meta.dirname, "book.toml"), "utf8"))[1];

export const source = (page) => readFileSync(join(DOCS, page), "utf8");
