// Writes the pages for language models: llms.txt lists them with their first sentences, llms-full.txt has all of them, and each
// page is beside its HTML as Markdown.
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expander, pages, REPOSITORY, source } from "./pages.mjs";

const HEAD = `# Roomlog

> Roomlog is a messaging server. A room is a durable log on Redis Streams: clients publish to rooms, and read them from a position, over WebSocket, Server-Sent Events or HTTP, without missing a message.
`;

/** Returns the first sentences of a page as plain text, about 160 characters of them. */
function summary(text) {
  const lines = text.split("\n");
  const first = lines.findIndex((line) => /^[A-Z`*["]/.test(line));
  const end = lines.findIndex((line, n) => n > first && !/^[A-Z`*["]/.test(line));
  const sentences = lines.slice(first, end).map((line) => line.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1").replace(/\*\*/g, "").replace(/:$/, "."));
  let summary = "";
  for (const sentence of sentences) if (!summary || summary.length + sentence.length < 160) summary += ` ${sentence}`;
  return summary.trim();
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
