// A preprocessor of mdBook: includes files in pages, directs links to files outside of docs/ (see pages.mjs), and gives each rule of the
// protocol an anchor.
import { readFileSync } from "node:fs";
import { expander, REPOSITORY } from "./pages.mjs";

// mdBook asks first whether a renderer is supported: all are.
if (process.argv[2] === "supports") process.exit(0);

const [, book] = JSON.parse(readFileSync(0, "utf8"));
const expand = expander(REPOSITORY);

/** mdBook turns README.md into index.html, but not the links to it. */
const toIndex = (text) => text.replace(/\]\(([^()\s:]*\/)?README\.md/g, "]($1index.md");

/** Each rule of the protocol, `**[sub-4]**`, gets an anchor. */
const withAnchors = (text) => text.replace(/\*\*\[([a-z]+-\d+)\]\*\*/g, '<a class="rule" id="$1" href="#$1">$1</a>');

function visit(items) {
  for (const { Chapter: chapter } of items) {
    if (!chapter) continue;
    if (chapter.source_path) chapter.content = toIndex(expand(chapter.content, chapter.source_path));
    if (chapter.source_path === "protocol.md") chapter.content = withAnchors(chapter.content);
    visit(chapter.sub_items);
  }
}

visit(book.items);
process.stdout.write(JSON.stringify(book));
