// Draws the chart at the top of docs/benchmarks.md: a panel for each figure, and in it a bar for each server, with a colour for
// what the server keeps. Readable on light and dark pages.

import { GROUPS, server, shown } from "./results.mjs";

const WIDTH = 960;
const PANEL = { width: WIDTH / 2, names: 130, values: 90 };
const BAR = { height: 14, step: 20 };
const HEAD = 46;
/** By group of servers; Roomlog has its own. */
const COLOURS = ["#8b949e", "#c9a227", "#d9886b"];
const ROOMLOG = "#3b7dd8";

const STYLE = `text { font: 12px system-ui, sans-serif; fill: #1f2328 } .title { font-size: 14px; font-weight: 600 } .own { font-weight: 600 }
  @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .page { fill: #0d1117 } }`;

const ORDER = GROUPS.flatMap(([, , servers], group) => servers.map((name) => ({ name, colour: name === "roomlog" ? ROOMLOG : COLOURS[group] })));

/** One panel: bars from the same left edge, the longest for the largest value. */
function panel({ title, result, figure }, x, y) {
  const bars = ORDER.map(({ name, colour }) => ({ name, colour, one: server(result, name) }));
  const most = Math.max(...bars.map(({ one }) => one?.figures[figure] ?? 0));
  const room = PANEL.width - PANEL.names - PANEL.values - 16;
  const rows = bars.map(({ name, colour, one }, index) => {
    const top = y + HEAD + index * BAR.step;
    const width = ((one?.figures[figure] ?? 0) / most) * room;
    const own = name === "roomlog" ? ' class="own"' : "";
    return `<text${own} x="${x + PANEL.names - 8}" y="${top + 11}" text-anchor="end">${name}</text>
<rect x="${x + PANEL.names}" y="${top}" width="${width.toFixed(1)}" height="${BAR.height}" rx="2" fill="${colour}"/>
<text${own} x="${(x + PANEL.names + width + 6).toFixed(1)}" y="${top + 11}">${shown(one, figure)}</text>`;
  });
  return `<text class="title" x="${x + 16}" y="${y + 30}">${title}</text>\n${rows.join("\n")}`;
}

/** The chart as SVG, with two panels in a row. */
export function chart(panels) {
  const height = HEAD + ORDER.length * BAR.step + 10;
  const total = height * Math.ceil(panels.length / 2) + 34;
  const drawn = panels.map((one, index) => panel(one, (index % 2) * PANEL.width, Math.floor(index / 2) * height));
  const legend = GROUPS.map(([name], index) => {
    const x = PANEL.names + index * 220;
    return `<rect x="${x}" y="${total - 24}" width="12" height="12" rx="2" fill="${COLOURS[index]}"/><text x="${x + 18}" y="${total - 14}">${name}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${total}" width="${WIDTH}" height="${total}" role="img">
<style>${STYLE}</style>
<rect class="page" width="${WIDTH}" height="${total}" fill="#ffffff"/>
${drawn.join("\n")}
${legend.join("\n")}
</svg>
`;
}
