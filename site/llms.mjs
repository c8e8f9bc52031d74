// Writes the pages for language models: llms.txt lists them with a sentence each, llms-full.txt has all of them, and each
// page is beside its HTML as Markdown.
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expander, pages, REPOSITORY, source } from "./pages.mjs";

const HEAD = `# Roomlog

> Roomlog is a messaging server. A room is a durable log on Redis Streams: clients publish to rooms, and read them from a position, over WebSocket, Server-Sent Events or HTTP, without missing a message.
`;

/** Returns the first sentence of a page's first paragraph as plain text. */
function summary(text) {
  const paragraph = text.split("\n").find((line) => /^[A-Z`*[“"]/.test(line) && !line.startsWith("|")) ?? "";
  const plain = paragraph.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1").replace(/\*\*/g, "");
  return /^.*?[.:?](?=\s|$)/.exec(plain)?.[0].replace(/:$/, ".") ?? plain;
}

export function writeLlms(out) {
  const expand = expander(REPOSITORY);
  let index = HEAD;
  let full = HEAD;
  let part;
  for (const page of pages()) {
    const text = expand(source(page.path), page.path);
    if (page.part !== part) index += `${page.part && `\n## ${page.part}`}\n`;
    part = page.part;
    index += `- [${page.title}](${page.path}): ${summary(text)}\n`;
    full += `\n<!-- ${page.path} -->\n\n${text.trim()}\n`;
    const copy = join(out, page.path);
    mkdirSync(dirname(copy), { recursive: true });
    writeFileSync(copy, text);
  }
  writeFileSync(join(out, "llms.txt"), index);
  writeFileSync(join(out, "llms-full.txt"), full);
}
