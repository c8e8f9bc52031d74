// A preprocessor of mdBook: includes files in pages, and directs links to files outside of docs/. See pages.mjs.
import { readFileSync } from "node:fs";
import { expander, REPOSITORY } from "./pages.mjs";

// mdBook asks first whether a renderer is supported: all are.
if (process.argv[2] === "supports") process.exit(0);

const [, book] = JSON.parse(readFileSync(0, "utf8"));
const expand = expander(REPOSITORY);

/** mdBook turns README.md into index.html, but not the links to it. */
const toIndex = (text) => text.replace(/\]\(([^()\s:]*\/)?README\.md/g, "]($1index.md");

function visit(items) {
  for (const { Chapter: chapter } of items) {
    if (!chapter) continue;
    if (chapter.source_path) chapter.content = toIndex(expand(chapter.content, chapter.source_path));
    visit(chapter.sub_items);
  }
}

visit(book.items);
process.stdout.write(JSON.stringify(book));
