// Measures Roomlog beside its peers: each workload on one node, one of them on two, and Roomlog alone under special conditions.
// `node crates/bench/run.mjs rooms fanout` does these runs only. Options behind the names are those of `roomlog-bench`, and replace
// those below: `node crates/bench/run.mjs rooms --duration 10s`. The figures go to crates/bench/results; report.mjs makes the page.

import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, release, totalmem } from "node:os";
import { join, resolve } from "node:path";

import { GROUPS, root } from "./results.mjs";

const results = join(root, "crates/bench/results");
const programs = resolve(root, process.env.CARGO_TARGET_DIR ?? "target", "release");
const roomlog = join(programs, "roomlog");
const generator = join(programs, "roomlog-bench");

// All of it takes some 13 minutes on two cores.
const LOAD = ["--duration", "2s", "--warmup", "1s"];
const ONCE = ["--repeats", "1"];
const THRICE = ["--repeats", "3"];
const peers = (names) => names.flatMap((name) => ["--peer", `crates/bench/peers/${name}`]);
const BESIDE = [...peers(GROUPS.flatMap(([, , servers]) => servers).filter((name) => name !== "roomlog")), "--floor"];

/** Each run: its name, and the arguments of `roomlog-bench`. */
const RUNS = [
  ["idle", ["idle", "--duration", "2s", ...ONCE, ...BESIDE]],
  ["fanout", ["fanout", ...LOAD, ...THRICE, ...BESIDE]],
  ["rooms", ["rooms", ...LOAD, ...THRICE, ...BESIDE]],
  ["publish", ["publish", ...LOAD, ...THRICE, ...BESIDE]],
  ["storm", ["storm", ...ONCE, ...BESIDE]],
  ["slow", ["slow", ...LOAD, ...ONCE, ...BESIDE]],
  ["rooms-two-nodes", ["rooms", "--nodes", "2", ...LOAD, ...ONCE, ...BESIDE]],
  ["durable", ["durable", ...LOAD, ...THRICE]],
  ["burst", ["fanout", "--burst", "10", ...LOAD, ...THRICE, "--floor"]],
  ["storm-10000", ["storm", "--members", "1000", ...ONCE]],
  ["rooms-on-disk", ["rooms", "--redis-fsync", "always", ...LOAD, ...THRICE]],
  ["publish-on-disk", ["publish", "--redis-fsync", "always", ...LOAD, ...THRICE]],
  ["replay", ["replay", ...ONCE]],
  ["sweep", ["sweep", "--duration", "1s", "--warmup", "1s", ...ONCE, "--floor"]],
  ["highest", ["rooms", "--highest", ...LOAD, ...ONCE, ...peers(["ws-streams", "centrifugo"])]],
];

const [asked, more] = split(process.argv.slice(2));
const unknown = asked.filter((name) => !RUNS.some(([run]) => name === run));
if (unknown.length > 0) {
  console.error(`unknown: ${unknown.join(", ")}. Known runs: ${RUNS.map(([name]) => name).join(", ")}`);
  process.exit(2);
}
const runs = RUNS.filter(([name]) => asked.length === 0 || asked.includes(name));

mkdirSync(results, { recursive: true });
const about = machine();
record("machine", about);
let failed = false;
for (const [index, [name, args]] of runs.entries()) {
  const all = [...without(args, more), "--spawn", ...more];
  console.error(`[${index + 1}/${runs.length}] ${name}: roomlog-bench ${all.join(" ")}`);
  const started = Date.now();
  const { code, out } = await run([...all, "--json", ...(name === "sweep" ? ["--plot", "docs/benchmarks/sweep.svg"] : [])]);
  if (out) {
    const report = JSON.parse(out);
    report.servers?.forEach(summarise);
    report.sweep?.forEach(({ servers }) => servers.forEach(summarise));
    record(name, { date: new Date(started).toISOString(), version: about.versions.roomlog, report });
    for (const { server, failed } of report.servers ?? []) if (failed) console.error(`    ${server}: ${failed.split("\n")[0]}`);
  }
  console.error(`    ${Math.round((Date.now() - started) / 1000)} s${code === 0 ? "" : `, failed with ${code}`}`);
  failed ||= code !== 0;
}
process.exit(failed ? 1 : 0);

/** Keeps the medians of a server, and the number of repeats. */
function summarise(server) {
  server.repeats = server.repeats.length;
  delete server.ratios;
}

function record(name, value) {
  writeFileSync(join(results, `${name}.json`), `${JSON.stringify(value, null, 1)}\n`);
}

/** The runs that were asked for, and the options of `roomlog-bench` behind them. */
function split(args) {
  const first = args.findIndex((arg) => arg.startsWith("-"));
  return first < 0 ? [args, []] : [args.slice(0, first), args.slice(first)];
}

/** Arguments without the options, and their values, that are among these. */
function without(args, options) {
  return args.filter((arg, index) => !options.includes(arg.startsWith("--") ? arg : args[index - 1]) || index === 0);
}

async function run(args) {
  const child = spawn(generator, args, { cwd: root, stdio: ["ignore", "pipe", "inherit"] });
  let out = "";
  child.stdout.setEncoding("utf8").on("data", (text) => (out += text));
  return new Promise((resolve) => {
    child.on("error", (error) => console.error(`    ${error.message}`) ?? resolve({ code: -1, out: "" }));
    child.on("close", (code) => resolve({ code, out }));
  });
}

/** The machine, and the versions of all servers. */
function machine() {
  const first = (command, ...args) => {
    const { stdout, stderr } = spawnSync(command, args, { cwd: root, encoding: "utf8" });
    return `${stdout ?? ""}${stderr ?? ""}`.trim().split("\n")[0] || "missing";
  };
  const { packages } = JSON.parse(readFileSync(join(root, "crates/bench/peers/package-lock.json"), "utf8"));
  const locked = Object.keys(packages[""].dependencies).map((name) => [name, packages[`node_modules/${name}`].version]);
  return {
    date: new Date().toISOString(),
    cpu: `${availableParallelism()} × ${cpus()[0].model}`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    kernel: release(),
    load: loadavg()[0].toFixed(1),
    versions: {
      roomlog: `${first(roomlog, "--version")} (${first("git", "describe", "--always", "--dirty")})`,
      redis: first("redis-server", "--version").replace(/ sha=.*/, ""),
      node: process.version,
      nginx: first("nginx", "-v"),
      nchan: first("dpkg-query", "-W", "-f", "${Version}", "libnginx-mod-nchan"),
      nats: first("nats-server", "--version"),
      centrifugo: first("centrifugo", "version"),
      ...Object.fromEntries(locked),
    },
  };
}
