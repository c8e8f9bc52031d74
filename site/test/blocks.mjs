// Reads the code that a page shows. The word after the language of a fenced block says what it is: `file=NAME`, or the name of
// the program that all blocks with this word make up. Blocks without such a word are only shown.
import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { source } from "../pages.mjs";

/** Returns the blocks of a page as `{ language, word, text }`. */
export function blocks(page) {
  const fences = source(page).matchAll(/^```(\w*) ?(\S*)\n([\s\S]*?)^```$/gm);
  return [...fences].map(([, language, word, text]) => ({ language, word, text }));
}

/** Returns a file that a page shows, with parts of it replaced; each replaced part must be there. */
export function file(page, name, replaced = {}) {
  const block = blocks(page).find(({ word }) => word === `file=${name}`);
  if (!block) throw new Error(`${page} shows no file ${name}`);
  return replace(page, block.text, replaced);
}

/** Returns a program that a page shows in pieces. */
export function program(page, name, replaced = {}) {
  const text = blocks(page).filter(({ word }) => word === name).map(({ text }) => text).join("");
  if (!text) throw new Error(`${page} shows no program ${name}`);
  return replace(page, text, replaced);
}

function replace(page, text, replaced) {
  return Object.entries(replaced).reduce((text, [old, value]) => {
    if (!text.includes(old)) throw new Error(`${page} no longer shows ${old}`);
    return text.replaceAll(old, value);
  }, text);
}

/** Makes a folder with these files, in which the packages of the site can be imported. */
export function folder(files) {
  const path = mkdtempSync(join(tmpdir(), "roomlog-docs-"));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(path, name)), { recursive: true });
    writeFileSync(join(path, name), text);
  }
  return path;
}
