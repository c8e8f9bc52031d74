// Generates docs/benchmarks.md and the chart at its top from the figures in crates/bench/results. With --check, it only compares
// them with what is there.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { chart } from "./chart.mjs";
import { GROUPS, gain, label, read, root, server, show, shown } from "./results.mjs";

const OFFERED = ["server_us_per_delivery", "all_us_per_delivery", "p50_ms", "p99_ms", "p999_ms"];
const ROOMS = [...OFFERED.slice(0, 1), "redis_us_per_publish", ...OFFERED.slice(1)];
const PUBLISH = ["confirmed_per_s", "server_us_per_publish", "all_us_per_publish", "p50_ms", "p99_ms"];
const STORM = ["all_caught_up_s", "p50_ms", "server_us_per_delivery", "all_us_per_delivery", "redis_calls", "server_peak_mb"];
/** Runs of all servers: the name, the title, what happens, and the figures. */
const COMPARED = [
  ["rooms", "Many small rooms", "A chat's usual load", ROOMS],
  ["fanout", "One large room", "Each message goes to all members", OFFERED],
  ["publish", "Publish throughput", "As fast as confirmations come", PUBLISH],
  ["idle", "Idle connections", "Members join, and then nothing happens", ["pss_kb_per_connection", "server_us_per_join", "joins_per_s"]],
  ["storm", "Reconnect storm", "All but one member of each room drop at once, miss 100 messages each, and come back", STORM],
  ["slow", "Stalled readers", "One reader of a hundred stops reading", ["server_us_per_delivery", "p50_ms", "p99_ms", "server_growth_mb", "stopped_caught_up_s"]],
  ["rooms-two-nodes", "Two nodes", "Many small rooms, with the members of each spread over two nodes", ROOMS],
  ["highest", "Highest rate", "Many small rooms, as fast as 99 of 100 messages arrive within 50 ms", ["highest_rate_per_s"]],
];
/** Runs of Roomlog alone, each below the run that it varies. */
const ALONE = [
  ["rooms", "many small rooms"],
  ["durable", "… each member acknowledges each message"],
  ["rooms-on-disk", "… each message synced to disk"],
  ["fanout", "one large room"],
  ["burst", "… bursts of ten messages"],
  ["publish", "publish throughput"],
  ["publish-on-disk", "… each message synced to disk"],
];
/** The figures at the top: the run, the figure, and what it is called. */
const TOP = [
  ["rooms", "all_us_per_delivery", "CPU per delivery, with Redis", "µs"],
  ["publish", "confirmed_per_s", "Confirmed publishes a second", ""],
  ["idle", "pss_kb_per_connection", "Memory per idle connection", "KB"],
  ["storm", "all_caught_up_s", "1,000 clients caught up after a reconnect storm", "s"],
];
/** The smallest difference at which Roomlog's figure counts as worse. */
const NOTEWORTHY = 0.05;

const COUNTS = { lost: "lost", duplicates: "duplicated", reordered: "out of order", errors: "errors" };
const counts = (one) => Object.entries(COUNTS).flatMap(([count, name]) => (one[count] > 0 ? [`${one[count].toLocaleString("en")} ${name}`] : []));
const plural = (count, what) => `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;
const rows = (head, ...cells) =>
  [head, head.map((_, index) => (index === 0 ? "---" : "---:")), ...cells].map((row) => `| ${row.join(" | ")} |`).join("\n");

const found = COMPARED.flatMap(([name, title, what, figures]) => {
  const result = read(name);
  return result?.report.servers[0].repeats ? [{ title, what, figures, result }] : [];
});
const machine = read("machine");
if (!machine || TOP.some(([name]) => !read(name))) {
  console.error("results are missing: make bench");
  process.exit(1);
}

/** The four figures: Roomlog's, and the best of each group. */
function top() {
  const lines = TOP.map(([name, figure, title, unit]) => {
    const result = read(name);
    const best = GROUPS.map(([, , servers]) => {
      const others = servers.filter((one) => one !== "roomlog").flatMap((one) => server(result, one) ?? []);
      const [first] = others.filter((one) => one.figures[figure] !== undefined).sort((a, b) => -gain(figure, a.figures[figure], b.figures[figure]));
      return first ? `${shown(first, figure, unit)} (${first.server})` : shown(others[0], figure);
    });
    return [title, `**${shown(server(result, "roomlog"), figure, unit)}**`, ...best];
  });
  return rows(["", "Roomlog", ...GROUPS.map(([group]) => `best of: ${group.toLowerCase()}`)], ...lines);
}

/** What each peer is better at, one line a peer and workload. */
function worse([group, , servers]) {
  const lines = servers.flatMap((name) => {
    const ahead = found.flatMap(({ title, figures, result }) => {
      const [ours, peer] = [server(result, "roomlog").figures, server(result, name)?.figures ?? {}];
      const better = figures.filter((figure) => gain(figure, peer[figure], ours[figure]) > NOTEWORTHY);
      return better.length > 0 ? [`${title.toLowerCase()} (${better.map((figure) => `${label(figure).replace(/, \S+$/, "")} ×${show(peer[figure] / ours[figure])}`).join(", ")})`] : [];
    });
    return ahead.length > 0 ? [`- ${name}: ${ahead.join("; ")}`] : [];
  });
  return lines.length > 0 ? [`*${group}*:\n${lines.join("\n")}`] : [];
}

/** A table of all servers by group: each figure, and its ratio to Roomlog's. */
function table({ figures, result }) {
  const ours = server(result, "roomlog").figures;
  const row = (one) => [
    one.server === "roomlog" ? "**roomlog**" : one.server,
    ...figures.map((name) => {
      const [value, own] = [one.figures[name], ours[name]];
      return show(value) + (one.server !== "roomlog" && value !== undefined && own > 0 ? ` (×${show(value / own)})` : "");
    }),
    one.repeats ? counts(one).join(", ") || "none" : "-",
  ];
  const measured = (name) => server(result, name)?.repeats > 0 && Object.keys(server(result, name).figures).length > 0;
  const groups = GROUPS.flatMap(([group, , servers]) => {
    const some = servers.filter(measured);
    return some.length > 0 ? [[`*${group.toLowerCase()}*`, ...figures.map(() => ""), ""], ...some.map((name) => row(server(result, name)))] : [];
  });
  const floor = measured("floor") ? [row(server(result, "floor"))] : [];
  return rows(["", ...figures.map(label), "failures"], ...groups, ...floor);
}

function section(one) {
  const { rooms, members, rate, payload, window, duration, repeats, workload, highest } = one.result.report.plan;
  const offered = ["fanout", "rooms", "slow"].includes(workload) && !highest;
  const load = offered ? `, ${rate.toLocaleString("en")} messages a second` : workload === "publish" ? `, ${window} publishes in flight in each` : "";
  const times = repeats === 1 ? "one run" : `medians of ${repeats} runs`;
  const missing = one.result.report.servers.filter((server) => server.failed).map((server) => `\nNot measured: ${server.server}, since ${server.failed.split("\n")[0].replace(/^.* did not start: /, "")}.\n`);
  return `## ${one.title}
${one.what}: ${plural(rooms, "room")} of ${plural(members, "member")}${load}, ${payload} bytes each; ${times}${load ? ` of ${duration} s` : ""}.

${table(one)}
${missing.join("")}`;
}

/** What Roomlog costs under conditions under which no peer was measured. */
function alone() {
  const figures = ["confirmed_per_s", ...OFFERED];
  const lines = ALONE.flatMap(([name, title]) => {
    const one = read(name);
    return one ? [[title, ...figures.map((figure) => show(server(one, "roomlog").figures[figure]))]] : [];
  });
  const [storm, replay] = ["storm-10000", "replay"].map((name) => server(read(name), "roomlog").figures);
  const floor = server(read("burst"), "floor").figures.server_us_per_delivery;
  return `${rows(["", ...figures.map(label)], ...lines)}

- In bursts, the floor needs ${show(floor)} µs per delivery.
- A storm of 10,000 connections has caught up after ${show(storm.all_caught_up_s)} s, with ${show(storm.server_peak_mb)} MB of memory and ${plural(storm.redis_calls, "call")} to Redis.
- A history of a million messages is read at ${show(replay.rest_messages_per_s)} messages a second over REST and ${show(replay.websocket_messages_per_s)} over a WebSocket.
  Bare \`XRANGE\` calls, without messages made of their replies, read ${show(replay.bare_messages_per_s)}.`;
}

/** How the cost of a delivery grows with rooms and with members. */
function sweep({ report: { sweep, left_out } }) {
  const lines = sweep.map(({ plan, servers }) => [
    plan.workload === "rooms" ? plural(plan.rooms, "room") + ` of ${plan.members}` : `one room of ${plan.members.toLocaleString("en")}`,
    ...servers.map((one) => show(one.figures.server_us_per_delivery)),
  ]);
  return `${rows(["CPU per delivery, µs", ...sweep[0].servers.map((one) => one.server)], ...lines)}

![How the cost of a delivery grows](benchmarks/sweep.svg)
${left_out.map((what) => `\nLeft out: ${what}`).join("")}`;
}

const lost = found.flatMap(({ title, result }) => result.report.servers.flatMap((one) => (one.lost > 0 ? [{ title, ...one }] : [])));
const page = `# Benchmarks
Roomlog beside the usual alternatives: each does the same work for the same load generator, in turn, on one machine.
CPU, memory and time are better when they are lower, publishes when they are higher.

${top()}

![Roomlog and its alternatives](benchmarks/overview.svg)

The alternatives differ in what they keep:
${GROUPS.map(([group, what, servers]) => `- **${group}** (${servers.join(", ")}) ${what}.`).join("\n")}

[Peers](../crates/bench/peers/README.md) describes each of them, and when it confirms a message.
[Measuring](measuring.md) describes the workloads; \`make bench\` measures on your machine and generates this page.

## Where Roomlog is not the best
By more than ${100 * NOTEWORTHY} %, as a ratio to Roomlog, whatever else a server does or does not do:

${GROUPS.flatMap(worse).join("\n\n") || "Nowhere."}

Lost messages, some of them by design: ${lost.map((one) => `${one.server} ${one.lost.toLocaleString("en")} (${one.title.toLowerCase()})`).join(", ") || "none"}.

## How to read the tables
- In parentheses: the ratio to Roomlog in the same run.
- CPU is that of the server's processes, first without and then with Redis.
- *floor* is a bare server that only writes frames to sockets, each message with a write of its own.
  Roomlog is above it for single messages, and below it where it writes several messages at once: in bursts and when publishing at full speed.
- Latency is from publishing to receiving, at the load generator; in a storm, from reconnecting to having caught up.
- *failures* are messages of all runs that were lost, duplicated or out of order, and errors.
- All servers share the machine, and its cores, with the load generator.
- Each run has a fresh Redis, which has messages on its disk within a second unless it says otherwise.
  NATS has no Redis; it has its own files.

${found.map(section).join("\n")}
## Roomlog alone
${alone()}

## How cost grows
${sweep(read("sweep"))}
## The machine
| | |
|---|---|
| measured | ${[...new Set(["machine", ...COMPARED.map(([name]) => name), "sweep"].flatMap((name) => read(name)?.date.slice(0, 10) ?? []))].sort().join(", ")} |
| processor | ${machine.cpu} |
| memory | ${machine.memory} |
| kernel | ${machine.kernel} |
| load at the start | ${machine.load} |
${Object.entries(machine.versions).map(([name, version]) => `| ${name} | ${version} |`).join("\n")}
`;

const generated = {
  "docs/benchmarks.md": page,
  "docs/benchmarks/overview.svg": chart(TOP.map(([name, figure, title, unit]) => ({ title: unit ? `${title}, ${unit}` : title, result: read(name), figure }))),
};
for (const [name, text] of Object.entries(generated)) {
  const file = join(root, name);
  if (!process.argv.includes("--check")) writeFileSync(file, text);
  else if (readFileSync(file, "utf8") !== text) {
    console.error(`${name} differs from what crates/bench/report.mjs makes of crates/bench/results: run it`);
    process.exitCode = 1;
  }
}
