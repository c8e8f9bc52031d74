// Measures Roomlog beside its peers: every workload with all of them on one node, then those that ask for it on two, and
// Roomlog alone with a Redis that has each message on its disk. `node crates/bench/run.mjs rooms fanout` does these only. What is
// found goes to crates/bench/results and docs/benchmarks/*.svg; crates/bench/report.mjs makes the page. Options behind the names are those of
// `roomlog-bench`, and replace what is said here: `node crates/bench/run.mjs rooms --duration 1s`.

import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, release, totalmem } from "node:os";
import { join, resolve } from "node:path";

const root = join(import.meta.dirname, "../..");
const results = join(root, "crates/bench/results");
const charts = join(root, "docs/benchmarks");
const programs = resolve(root, process.env.CARGO_TARGET_DIR ?? "target", "release");
const roomlog = join(programs, "roomlog");
const generator = join(programs, "roomlog-bench");

// How long and how often. All of it takes some 30 minutes on two cores.
const LOAD = ["--duration", "4s", "--warmup", "1s"];
const THRICE = ["--repeats", "3"];
const TWICE = ["--repeats", "2"];
const PEERS = readdirSync(join(root, "crates/bench/peers"), { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && entry.name !== "node_modules")
  .map((entry) => entry.name);
/** Those that keep what they confirm, as Roomlog does. */
const STORING = ["socketio-streams", "ws-streams", "nchan", "nats-jetstream"].flatMap((name) => ["--peer", `crates/bench/peers/${name}`]);
const BESIDE = [...PEERS.flatMap((name) => ["--peer", `crates/bench/peers/${name}`]), "--floor"];

/** Each run: what it is called, and the arguments of `roomlog-bench`. */
const RUNS = [
  ["idle", ["idle", "--duration", "2s", ...TWICE, ...BESIDE]],
  ["fanout", ["fanout", ...LOAD, ...THRICE, ...BESIDE]],
  ["rooms", ["rooms", ...LOAD, ...THRICE, ...BESIDE]],
  ["publish", ["publish", ...LOAD, ...THRICE, ...BESIDE]],
  ["storm", ["storm", ...TWICE, ...BESIDE]],
  ["slow", ["slow", ...LOAD, ...TWICE, ...BESIDE]],
  ["rooms-two-nodes", ["rooms", "--nodes", "2", ...LOAD, ...TWICE, ...BESIDE]],
  ["publish-two-nodes", ["publish", "--nodes", "2", ...LOAD, ...TWICE, ...BESIDE]],
  ["durable", ["durable", ...LOAD, ...THRICE, "--floor"]],
  ["burst", ["fanout", "--burst", "10", ...LOAD, ...THRICE, "--floor"]],
  ["highest", ["rooms", "--highest", "--duration", "2s", "--warmup", "1s", "--repeats", "1", ...STORING, "--floor"]],
  ["storm-10000", ["storm", "--members", "1000", "--repeats", "1"]],
  ["replay", ["replay", ...TWICE]],
  ["sweep", ["sweep", "--duration", "2s", "--warmup", "1s", "--repeats", "1", "--floor"]],
  ["rooms-on-disk", ["rooms", "--redis-fsync", "always", ...LOAD, ...THRICE]],
  ["publish-on-disk", ["publish", "--redis-fsync", "always", ...LOAD, ...THRICE]],
];

const [asked, more] = split(process.argv.slice(2));
const unknown = asked.filter((name) => !RUNS.some(([run, [workload]]) => name === run || name === workload));
if (unknown.length > 0) {
  console.error(`${unknown.join(", ")}: there are ${RUNS.map(([name]) => name).join(", ")}`);
  process.exit(2);
}
const runs = RUNS.filter(([name, [workload]]) => asked.length === 0 || asked.includes(name) || asked.includes(workload));

mkdirSync(results, { recursive: true });
mkdirSync(charts, { recursive: true });
writeFileSync(join(results, "machine.json"), JSON.stringify(machine(), null, 2));
let failed = false;
for (const [index, [name, args]] of runs.entries()) {
  const all = [...without(args, more), "--spawn", ...more];
  console.error(`[${index + 1}/${runs.length}] ${name}: roomlog-bench ${all.join(" ")}`);
  const started = Date.now();
  const { code, out } = await run([...all, "--json", "--plot", `docs/benchmarks/${name}.svg`]);
  if (out) {
    const found = { command: `roomlog-bench ${all.join(" ")}`, date: new Date(started).toISOString(), report: JSON.parse(out) };
    writeFileSync(join(results, `${name}.json`), JSON.stringify(found, null, 2));
    for (const { server, failed } of found.report.servers ?? []) if (failed) console.error(`    ${server}: ${failed}`);
  }
  console.error(`    ${Math.round((Date.now() - started) / 1000)} s${code === 0 ? "" : `, failed with ${code}`}`);
  failed ||= code !== 0;
}
process.exit(failed ? 1 : 0);

/** The runs that were asked for, and behind the first option more of `roomlog-bench`'s. */
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

/** What was measured, and on what. */
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
