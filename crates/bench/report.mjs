// Generates docs/benchmarks.md from the figures in crates/bench/results.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "../..");
const read = (name) => {
  const file = join(root, "crates/bench/results", `${name}.json`);
  return existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : null;
};

const LESS = "less";
const MORE = "more";
/** Figures by name: the label, and whether less or more is better, if either is. */
const FIGURES = {
  pss_kb_per_connection: ["KB per connection", LESS],
  joins_per_s: ["joins per second", MORE],
  server_us_per_join: ["CPU per join, µs", LESS],
  confirmed_per_s: ["confirmed per second", MORE],
  delivered_per_s: ["delivered per second"],
  server_us_per_delivery: ["CPU per delivery, µs", LESS],
  server_us_per_publish: ["CPU per publish, µs", LESS],
  all_us_per_delivery: ["with Redis, µs", LESS],
  all_us_per_publish: ["with Redis, µs", LESS],
  p50_ms: ["p50, ms", LESS],
  p99_ms: ["p99, ms", LESS],
  p999_ms: ["p99.9, ms", LESS],
  all_caught_up_s: ["all caught up after, s", LESS],
  server_peak_mb: ["peak memory, MB", LESS],
  server_growth_mb: ["memory growth, MB", LESS],
  highest_rate_per_s: ["highest rate per second", MORE],
  redis_us_per_publish: ["Redis CPU per publish, µs", LESS],
  redis_calls: ["Redis calls", LESS],
  rest_messages_per_s: ["REST, messages per second", MORE],
  websocket_messages_per_s: ["WebSocket, messages per second", MORE],
  bare_messages_per_s: ["bare XRANGE, messages per second"],
  rest_to_bare: ["REST / bare", MORE],
  websocket_to_bare: ["WebSocket / bare", MORE],
  stopped_caught_up_s: ["stalled readers caught up after, s", LESS],
};
const OFFERED = ["server_us_per_delivery", "all_us_per_delivery", "p50_ms", "p99_ms", "p999_ms"];
const ROOMS = [...OFFERED.slice(0, 1), "redis_us_per_publish", ...OFFERED.slice(1)];
const PUBLISH = ["confirmed_per_s", "server_us_per_publish", "all_us_per_publish", "p50_ms", "p99_ms"];
const STORM = ["all_caught_up_s", "p50_ms", "server_us_per_delivery", "all_us_per_delivery", "redis_calls", "server_peak_mb"];
const SECTIONS = [
  ["idle", "Idle connections", ["pss_kb_per_connection", "server_us_per_join", "joins_per_s"]],
  ["fanout", "One large room", OFFERED],
  ["rooms", "Many small rooms", ROOMS],
  ["publish", "Publish throughput", PUBLISH],
  ["highest", "Many small rooms, highest rate with p99 below 50 ms", ["highest_rate_per_s"]],
  ["durable", "Many small rooms, each member acknowledges each message", ROOMS],
  ["burst", "One large room, bursts of ten messages", OFFERED],
  ["storm", "Reconnect storm", STORM],
  ["storm-10000", "Reconnect storm of ten thousand", STORM],
  ["replay", "Replay of a million messages", ["rest_messages_per_s", "websocket_messages_per_s", "bare_messages_per_s", "rest_to_bare", "websocket_to_bare"]],
  ["slow", "Stalled readers", ["server_us_per_delivery", "p50_ms", "p99_ms", "server_growth_mb", "stopped_caught_up_s"]],
  ["rooms-two-nodes", "Many small rooms, on two nodes", ROOMS],
  ["publish-two-nodes", "Publish throughput, on two nodes", PUBLISH],
  ["rooms-on-disk", "Many small rooms, each message synced to disk", ROOMS],
  ["publish-on-disk", "Publish throughput, each message synced to disk", PUBLISH],
];
/** The smallest difference at which Roomlog's figure counts as worse. */
const NOTEWORTHY = 0.05;

const COUNTS = { lost: "lost", duplicates: "duplicated", reordered: "out of order", errors: "errors" };
const counts = (server) =>
  Object.entries(COUNTS).flatMap(([count, name]) => (server[count] > 0 ? [`${server[count].toLocaleString("en")} ${name}`] : []));

function show(value) {
  if (value === undefined || value === null) return "-";
  return value >= 1000 ? Math.round(value).toLocaleString("en") : value.toPrecision(value < 1 ? 2 : 3).replace(/\.0+$/, "");
}

/** A table of all servers: each figure, and its ratio to Roomlog's. */
function table(servers, names) {
  const ours = servers[0].figures;
  const cell = (server, name) => {
    const [value, own] = [server.figures[name], ours[name]];
    const ratio = server !== servers[0] && value !== undefined && own > 0 ? ` (×${show(value / own)})` : "";
    return show(value) + ratio;
  };
  const rows = servers.map((server) => [
    server === servers[0] ? `**${server.server}**` : server.server,
    ...names.map((name) => cell(server, name)),
    server.repeats.length === 0 ? "-" : counts(server).join(", ") || "none",
  ]);
  const head = ["", ...names.map((name) => FIGURES[name][0]), "failures"];
  return [head, head.map((_, index) => (index === 0 ? "---" : "---:")), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
}

/** The figures in which a peer is better than Roomlog. */
function better(title, servers, names) {
  const [ours, ...others] = servers;
  return names.flatMap((name) => {
    const [called, direction] = FIGURES[name];
    if (!direction) return [];
    const own = ours.figures[name];
    const gain = (server) => (direction === LESS ? 1 - server.figures[name] / own : server.figures[name] / own - 1);
    const ahead = others
      .filter((server) => server.server !== "floor" && own > 0 && gain(server) > NOTEWORTHY)
      .sort((a, b) => gain(b) - gain(a));
    if (ahead.length === 0) return [];
    const each = ahead.map((server) => `${server.server} ${show(server.figures[name])} (×${show(server.figures[name] / own)})`);
    return [`- ${title}, ${called}: Roomlog ${show(own)}; ${each.join(", ")}`];
  });
}

/** Adds the cost of the server and its Redis together: some servers do in one what others do in the other. */
function withRedis({ figures }) {
  for (const one of ["delivery", "publish"]) {
    const server = figures[`server_us_per_${one}`];
    if (server !== undefined) figures[`all_us_per_${one}`] = server + (figures[`redis_us_per_${one}`] ?? 0);
  }
}

const found = SECTIONS.flatMap(([name, title, names]) => {
  const result = read(name);
  // Roomlog was measured at least once.
  if (!result?.report.servers[0].repeats.length) return [];
  result.report.servers.forEach(withRedis);
  return [{ name, title, names, ...result }];
});
const machine = read("machine");
if (!machine || found.length === 0) {
  console.error("there are no results: make bench");
  process.exit(1);
}

const pages = found.map(({ name, title, names, command, date, report }) => {
  const { rooms, members, rate, payload, window, duration, repeats, workload } = report.plan;
  const load = ["fanout", "rooms", "slow"].includes(workload) ? `, ${rate} messages a second` : workload === "publish" ? `, ${window} in flight in each` : "";
  const notMeasured = report.servers.filter((server) => server.failed).map((server) => `- ${server.server}: ${server.failed.split("\n")[0]}`);
  const chart = existsSync(join(root, `docs/benchmarks/${name}.svg`)) && workload !== "idle" ? `\n![${title}](benchmarks/${name}.svg)\n` : "";
  return `## ${title}
\`${workload}\`: ${rooms.toLocaleString("en")} ${rooms === 1 ? "room" : "rooms"} of ${members.toLocaleString("en")}${load}, ${payload} bytes each; ${repeats === 1 ? "1 run" : `medians of ${repeats} runs`}${load ? ` of ${duration} s` : ""}, ${date.slice(0, 10)}.
\`\`\`
${command}
\`\`\`

${table(report.servers, names)}
${chart}${notMeasured.length > 0 ? `\nNot measured:\n${notMeasured.join("\n")}\n` : ""}`;
});

/** The growth of the cost of a delivery with rooms and with members. */
function sweep(result) {
  if (!result) return "";
  const { sweep, largest_by_100, left_out } = result.report;
  const rows = sweep.map(({ plan, servers }) => {
    const size = plan.workload === "rooms" ? `${plan.rooms.toLocaleString("en")} rooms of ${plan.members}` : `one room of ${plan.members.toLocaleString("en")}`;
    return [size, ...servers.map((server) => show(server.figures.server_us_per_delivery))];
  });
  const growth = Object.entries(largest_by_100).filter(([, values]) => values).map(([name, values]) => [`${name}: largest relative to 100`, ...values.map(show)]);
  const head = ["CPU per delivery, µs", ...sweep[0].servers.map((server) => server.server)];
  const lines = [head, head.map((_, index) => (index === 0 ? "---" : "---:")), ...rows, ...growth];
  return `## How cost grows
\`\`\`
${result.command}
\`\`\`

${lines.map((row) => `| ${row.join(" | ")} |`).join("\n")}

![How cost grows](benchmarks/sweep.svg)
${left_out.map((what) => `\nLeft out: ${what}`).join("")}
`;
}

const worse = found.flatMap(({ title, names, report }) => better(title, report.servers, names));
const wrong = found.flatMap(({ title, report }) =>
  report.servers.filter((server) => counts(server).length > 0).map((server) => `- ${title}, ${server.server}: ${counts(server).join(", ")}`),
);

const page = `# Benchmarks

Roomlog compared with the usual alternatives: each does the same work for the same load generator, in turn, on one machine.
\`make bench\` generates this page from the figures; run it on your machine.
[crates/bench/peers](../crates/bench/peers/README.md) describes each server, and when it confirms a message; [measuring](measuring.md) describes the workloads.

- In parentheses: the ratio to Roomlog in the same run.
- CPU is that of the server's processes, first without and then with Redis.
- *floor* is a bare server that only writes frames to sockets: no server needs less than that.
- Latency is from publishing to receiving, at the load generator; in a storm, from reconnecting to having caught up.
- *failures* are messages of all runs that were lost, duplicated or out of order, and errors.
  Some peers lose messages by design.
- All servers share the machine, and its cores, with the load generator.
- Each run has a fresh Redis, which has messages on its disk within a second unless it says otherwise.
  NATS has no Redis; it has its own files.

## Where Roomlog is not the best
By more than ${100 * NOTEWORTHY} %, regardless of other differences in what the servers do:

${worse.join("\n") || "Nowhere."}

## What was lost
${wrong.join("\n") || "No server lost anything."}

${pages.join("\n")}
${sweep(read("sweep"))}
## The machine
| | |
|---|---|
| date | ${machine.date.slice(0, 10)} |
| processor | ${machine.cpu} |
| memory | ${machine.memory} |
| kernel | ${machine.kernel} |
| load at the start | ${machine.load} |
${Object.entries(machine.versions).map(([name, version]) => `| ${name} | ${version} |`).join("\n")}
`;
writeFileSync(join(root, "docs/benchmarks.md"), page);
console.error("docs/benchmarks.md is written");
