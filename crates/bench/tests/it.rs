//! The load generator: each workload, at a tiny size against the server that it starts, finds nothing lost,
//! duplicated or out of order.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use roomlog_testkit::{Rest, admin, eventually, path, redis_and_server, run_program, spawn_program};

const SHORT: [&str; 6] = ["--repeats", "1", "--duration", "300ms", "--warmup", "100ms"];

/// Runs a workload for a moment.
async fn short(workload: &str, more: &[&str], env: &[(&str, &str)]) -> Value {
    let args: Vec<&str> = [workload].iter().chain(&SHORT).chain(more).copied().collect();
    let output = run_program("roomlog-bench", &args, env).await.success();
    serde_json::from_str(&output).unwrap()
}

/// Runs a workload with few members for a moment.
async fn bench(workload: &str, more: &[&str], env: &[(&str, &str)]) -> Value {
    let few = ["--rooms", "2", "--members", "3"];
    short(workload, &few.iter().chain(more).copied().collect::<Vec<_>>(), env).await
}

fn assert_clean(report: &Value, servers: &[&str]) {
    let of = |field: &str| -> Vec<&Value> {
        report["servers"].as_array().unwrap().iter().map(|server| &server[field]).collect()
    };
    assert_eq!(of("server"), servers, "{report}");
    for count in ["lost", "duplicates", "reordered", "errors"] {
        assert!(of(count).iter().all(|count| **count == 0), "{report}");
    }
}

#[tokio::test]
async fn workloads_are_compared_with_their_floor() {
    for (workload, more, figure) in [
        ("idle", &[][..], "joins_per_s"),
        ("fanout", &["--rate", "200"], "p99_ms"),
        ("rooms", &["--rate", "500", "--msgpack"], "delivered_per_s"),
        ("publish", &[], "confirmed_per_s"),
    ] {
        let args: Vec<&str> = ["--spawn", "--floor"].iter().chain(more).copied().collect();
        let report = bench(workload, &args, &[]).await;
        assert_clean(&report, &["roomlog", "floor"]);
        assert!(report["servers"][0]["figures"][figure].as_f64().unwrap() > 0.0, "{report}");
        assert!(report["servers"][0]["ratios"][figure].is_number(), "{report}");
    }
}

#[tokio::test]
async fn members_are_spread_over_nodes() {
    let report = bench("rooms", &["--spawn", "--nodes", "2", "--rate", "200"], &[]).await;
    assert_clean(&report, &["roomlog"]);
    assert!(report["servers"][0]["figures"]["redis_us_per_publish"].is_number(), "{report}");
}

#[tokio::test]
async fn durable_members_acknowledge_every_message() {
    let (_redis, server) = redis_and_server().await;
    let (url, token) = (server.url(), admin());
    let env = [("ROOMLOG_URL", url.as_str()), ("ROOMLOG_TOKEN", token.as_str())];
    let report = bench("durable", &["--rate", "200"], &env).await;
    assert_clean(&report, &["roomlog"]);

    let rest = Rest::new(&server, &token);
    let rooms = rest.get("/v1/rooms?match=bench.*").await.with(200);
    let rooms = rooms["rooms"].as_array().unwrap();
    assert_eq!(rooms.len(), 2, "{rooms:?}");
    for room in rooms {
        let path = format!("/v1/rooms/{}/subscriptions", room.as_str().unwrap());
        eventually("all is acknowledged", async || {
            let subscriptions = rest.get(&path).await.with(200);
            let subscriptions = subscriptions.as_array().unwrap();
            assert_eq!(subscriptions.len(), 3, "{subscriptions:?}");
            subscriptions.iter().all(|subscription| subscription["lag"] == 0)
        })
        .await;
    }
}

#[tokio::test]
async fn replaying_a_history_is_compared_with_bare_reads() {
    for more in [&[][..], &["--msgpack"]] {
        let args: Vec<&str> = ["--spawn", "--messages", "2500"].iter().chain(more).copied().collect();
        let report = short("replay", &args, &[]).await;
        assert_clean(&report, &["roomlog"]);
        for figure in ["filled_per_s", "rest_to_bare", "websocket_to_bare"] {
            assert!(report["servers"][0]["figures"][figure].as_f64().unwrap() > 0.0, "{report}");
        }
    }
}

#[tokio::test]
async fn the_highest_sustainable_rate_is_found_with_bursts_too() {
    let args = ["--spawn", "--floor", "--rate", "40", "--burst", "4", "--highest"];
    let report = bench("rooms", &args, &[]).await;
    assert_clean(&report, &["roomlog", "floor"]);
    assert!(report["servers"][0]["figures"]["highest_rate_per_s"].is_number(), "{report}");
}

#[tokio::test]
async fn system_calls_are_counted_if_strace_is_installed() {
    let (_redis, server) = redis_and_server().await;
    let (url, token, pid) = (server.url(), admin(), server.pid().to_string());
    let env = [("ROOMLOG_URL", url.as_str()), ("ROOMLOG_TOKEN", token.as_str())];
    let report = bench("fanout", &["--rate", "100", "--syscalls", "--server-pid", &pid], &env).await;
    assert_clean(&report, &["roomlog"]);
    assert!(report["servers"][0]["figures"]["syscalls_per_delivery"].as_f64().unwrap() > 0.0, "{report}");

    let nowhere = [env[0], env[1], ("PATH", "/nonexistent")];
    let args: Vec<&str> =
        ["fanout", "--syscalls", "--server-pid", &pid].iter().chain(&SHORT).copied().collect();
    let refused = run_program("roomlog-bench", &args, &nowhere).await.failure();
    assert!(refused.contains("strace, which is not installed"), "{refused}");
}

#[tokio::test]
async fn a_sweep_has_a_report_for_each_size_and_a_chart() {
    let directory = tempfile::tempdir().unwrap();
    let chart = directory.path().join("chart.svg");
    let args = ["--spawn", "--floor", "--rooms", "100", "--members", "2", "--rate", "100"];
    let plot = ["--plot", chart.to_str().unwrap()];
    let sweep = short("sweep", &args.iter().chain(&plot).copied().collect::<Vec<_>>(), &[]).await;
    let plans: Vec<&Value> =
        sweep["sweep"].as_array().unwrap().iter().map(|report| &report["plan"]).collect();
    let sizes: Vec<Value> =
        plans.iter().map(|plan| json!([plan["workload"], plan["rooms"], plan["members"]])).collect();
    assert_eq!(
        json!(sizes),
        json!([["rooms", 10, 2], ["rooms", 100, 2], ["fanout", 1, 10], ["fanout", 1, 100]])
    );
    let chart = fs::read_to_string(&chart).unwrap();
    assert!(chart.starts_with("<svg") && chart.contains("Members of one room"), "{chart}");

    let other = run_program("roomlog-bench", &["sweep", "--plot", "chart.png"], &[]).await.failure();
    assert!(other.contains("FILE.svg"), "{other}");
}

#[tokio::test]
async fn quick_compares_with_the_recorded_costs() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("recorded.json");
    let few = ["quick", "--spawn", "--rooms", "2", "--members", "3", "--recorded"];
    let args = |more: &[&'static str]| -> Vec<String> {
        let path = path.to_str().unwrap();
        few.iter().chain(&[path]).chain(&SHORT).chain(more).map(|arg| (*arg).to_owned()).collect()
    };
    let quick = async |more: &[&'static str]| {
        let args = args(more);
        run_program("roomlog-bench", &args.iter().map(String::as_str).collect::<Vec<_>>(), &[]).await
    };
    quick(&["--record"]).await.success();
    assert!(read(&path)["durable"]["redis_us_per_publish"].as_f64().unwrap() > 0.0);

    // Whatever the ratio is now, it is worse than nothing and better than a million.
    let recorded = json!({
        "fanout": { "server_us_per_delivery": 1e-6 },
        "rooms": { "server_us_per_publish": 1e6 },
    });
    fs::write(&path, recorded.to_string()).unwrap();
    let failed = quick(&[]).await.failure();
    let (_, worse) = failed.split_once("worse than recorded: ").unwrap_or_else(|| panic!("{failed}"));
    assert!(worse.starts_with("fanout server_us_per_delivery") && !worse.contains("rooms"), "{worse}");
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[tokio::test]
async fn impossible_measurements_are_refused_with_a_reason() {
    for (args, reason) in [
        (&["idle", "--members", "100000000"][..], "ulimit -Hn"),
        (&["fanout", "--highest"], "--highest"),
        (&["replay", "--members", "2"], "one room with one member"),
        (&["fanout", "--rate", "0"], "--rate"),
    ] {
        let args: Vec<&str> = args.iter().chain(&["--spawn"]).copied().collect();
        let refused = run_program("roomlog-bench", &args, &[]).await.failure();
        assert!(refused.contains(reason), "{refused}");
    }
}

#[tokio::test]
async fn returning_and_slow_members_miss_nothing() {
    let storm = bench("storm", &["--spawn", "--redis-fsync", "always"], &[]).await;
    assert_clean(&storm, &["roomlog"]);
    assert!(storm["servers"][0]["figures"]["all_caught_up_s"].as_f64().unwrap() > 0.0, "{storm}");
    let slow = bench("slow", &["--spawn", "--rate", "100", "--payload", "20000"], &[]).await;
    assert_clean(&slow, &["roomlog"]);
    assert!(slow["servers"][0]["figures"]["stopped_caught_up_s"].as_f64().unwrap() > 0.0, "{slow}");
}

#[tokio::test]
async fn a_running_server_is_measured_with_a_token() {
    let (_redis, server) = redis_and_server().await;
    let (url, token, pid) = (server.url(), admin(), server.pid().to_string());
    let env = [("ROOMLOG_URL", url.as_str()), ("ROOMLOG_TOKEN", token.as_str())];
    let report = bench("fanout", &["--server-pid", &pid], &env).await;
    assert_clean(&report, &["roomlog"]);
    assert!(report["servers"][0]["figures"]["server_us_per_delivery"].is_number(), "{report}");

    let refused = run_program("roomlog-bench", &["fanout"], &[("ROOMLOG_URL", &url)]).await.failure();
    assert!(refused.contains("--token"), "{refused}");
}

/// Returns the directories of two servers to compare with.
fn nats() -> [String; 2] {
    ["nats-core", "nats-jetstream"]
        .map(|name| path(&format!("crates/bench/peers/{name}")).display().to_string())
}

#[tokio::test]
async fn peers_are_measured_in_their_own_protocol() {
    let broken = tempfile::tempdir().unwrap();
    let start = broken.path().join("start");
    fs::write(&start, "#!/bin/sh\necho 'this one needs a licence' >&2\nexit 1\n").unwrap();
    fs::set_permissions(&start, PermissionsExt::from_mode(0o755)).unwrap();
    let [core, jetstream] = nats();
    let peers: Vec<&str> = [&*core, &*jetstream, broken.path().to_str().unwrap()]
        .iter()
        .flat_map(|peer| ["--peer", peer])
        .collect();
    let args: Vec<&str> = ["--spawn", "--floor", "--rate", "200"].iter().chain(&peers).copied().collect();
    let report = bench("rooms", &args, &[]).await;
    let name = broken.path().file_name().unwrap().to_str().unwrap();
    assert_clean(&report, &["roomlog", "nats-core", "nats-jetstream", name, "floor"]);
    for server in [0, 1, 2, 4] {
        let figures = &report["servers"][server]["figures"];
        assert!(figures["confirmed_per_s"].as_f64().unwrap() > 0.0, "{report}");
        assert!(figures["server_us_per_delivery"].as_f64().unwrap() > 0.0, "{report}");
    }
    // This is no reason not to measure the others.
    let failed = report["servers"][3]["failed"].as_str().unwrap();
    assert!(failed.contains("this one needs a licence"), "{report}");
}

#[tokio::test]
async fn losses_of_peers_do_not_fail_the_run() {
    let [core, jetstream] = nats();
    let peers = ["--peer", &core, "--peer", &jetstream];
    let args: Vec<&str> = ["--spawn", "--floor"].iter().chain(&peers).copied().collect();
    let report = bench("storm", &args, &[]).await;
    let server = |index: usize| &report["servers"][index];
    // Two members of each room miss a hundred messages.
    assert_eq!(server(1)["lost"], 2 * 2 * 100, "{report}");
    assert!(server(1)["figures"]["all_caught_up_s"].is_null(), "{report}");
    for index in [0, 2] {
        assert_eq!(server(index)["lost"], 0, "{report}");
        assert!(server(index)["figures"]["all_caught_up_s"].as_f64().unwrap() > 0.0, "{report}");
    }
    // The floor keeps nothing to resume from.
    assert_eq!(server(3)["repeats"], json!([]), "{report}");
}

/// Returns the children of a process from `/proc`: their process ids and command lines.
fn children(parent: u32) -> Vec<(u32, String)> {
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let child = |pid: u32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        (status(pid)?.1 == parent).then(|| (pid, line.replace('\0', " ")))
    };
    processes.filter_map(child).collect()
}

/// Returns the state of a process, such as `S`, or `Z` if it has ended, and its parent.
fn status(pid: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

#[tokio::test]
async fn child_processes_end_even_if_the_program_is_killed() {
    // The files that it would have removed itself go with this directory.
    let dir = tempfile::tempdir().unwrap();
    let env = [("TMPDIR", dir.path().to_str().unwrap())];
    let generator =
        spawn_program("roomlog-bench", &["rooms", "--spawn", "--nodes", "2", "--duration", "10m"], &env);
    let mut started = Vec::new();
    eventually("Redis and both nodes run", async || {
        started = children(generator.pid());
        let nodes = started.iter().filter(|(_, line)| line.contains(" serve ")).count();
        nodes == 2 && started.len() == 3
    })
    .await;
    // It is killed, so that it cannot end anything itself.
    drop(generator);
    for (pid, line) in started {
        eventually(&format!("{line} ends"), async || status(pid).is_none_or(|(state, _)| state == "Z")).await;
    }
}
