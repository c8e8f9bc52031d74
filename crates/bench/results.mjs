// What was measured, as recorded in crates/bench/results: which servers there are, which figures, and how to read them.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

export const root = join(import.meta.dirname, "../..");

/** The servers by what they keep: a name, what it means, and the servers. Roomlog is in the first. */
export const GROUPS = [
  ["Durable logs", "store each message before they confirm it; clients continue from their position", ["roomlog", "nats-jetstream", "ws-streams"]],
  ["Pub/sub with a cache", "keep recent messages for clients that were away for a while", ["centrifugo", "nchan", "socketio-streams"]],
  ["Fire and forget", "keep nothing", ["nats-core", "socketio-pubsub", "ws-pubsub"]],
];

const LESS = "less";
const MORE = "more";
/** Figures by name: the label, and whether less or more is better, if either is. */
const FIGURES = {
  pss_kb_per_connection: ["KB per connection", LESS],
  joins_per_s: ["joins per second", MORE],
  server_us_per_join: ["CPU per join, µs", LESS],
  confirmed_per_s: ["confirmed per second", MORE],
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
  highest_rate_per_s: ["publishes per second", MORE],
  redis_us_per_publish: ["Redis CPU per publish, µs"],
  redis_calls: ["Redis calls", LESS],
  stopped_caught_up_s: ["stalled readers caught up after, s", LESS],
};
export const label = (figure) => FIGURES[figure][0];

/** Shows a figure of a server. Without one it lost messages, so that it never caught up, or was not measured. */
export function shown(one, figure, unit = "") {
  const value = one?.figures[figure];
  if (value !== undefined) return `${show(value)}${unit && ` ${unit}`}`;
  return one?.lost > 0 ? "lost messages" : "not measured";
}

/** By which share a value is better than another, negative if it is worse; 0 if neither is better by nature. */
export function gain(figure, value, other) {
  const direction = FIGURES[figure][1];
  if (!direction || value === undefined || !(other > 0)) return 0;
  return direction === LESS ? 1 - value / other : value / other - 1;
}

/** Formats a value with three significant digits. */
export function show(value) {
  if (value === undefined || value === null) return "-";
  return value >= 1000 ? Math.round(value).toLocaleString("en") : value.toPrecision(value < 1 ? 2 : 3).replace(/\.0+$/, "");
}

/** Reads a result by the name of its run, or null if there is none. */
export function read(name) {
  const file = join(root, "crates/bench/results", `${name}.json`);
  if (!existsSync(file)) return null;
  const result = JSON.parse(readFileSync(file, "utf8"));
  result.report?.servers?.forEach(addRedis);
  return result;
}

/** Adds the cost of a server and its Redis together: some servers do in one what others do in the other. */
function addRedis({ figures }) {
  for (const one of ["delivery", "publish"]) {
    const server = figures[`server_us_per_${one}`];
    if (server !== undefined) figures[`all_us_per_${one}`] = server + (figures[`redis_us_per_${one}`] ?? 0);
  }
}

/** Finds a server in a result. */
export const server = (result, name) => result.report.servers.find((one) => one.server === name);
