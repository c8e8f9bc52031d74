//! The load generator: each workload, tiny, against the server that it starts, finds nothing lost, twice or out of order.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::harness::{Redis, Server, admin, run};

/// Runs a workload with few members for a moment.
async fn bench(workload: &str, more: &[&str], env: &[(&str, &str)]) -> Value {
    let tiny = ["--rooms", "2", "--members", "3", "--repeats", "1", "--duration", "1s", "--warmup", "200ms"];
    let args: Vec<&str> = ["bench", workload].iter().chain(&tiny).chain(more).copied().collect();
    let output = run(&args, env).await.success();
    serde_json::from_str(&output).unwrap()
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
async fn workloads_with_a_floor_are_compared_with_it() {
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
async fn members_are_spread_over_nodes_and_acknowledge() {
    let report = bench("durable", &["--spawn", "--nodes", "2", "--rate", "200"], &[]).await;
    assert_clean(&report, &["roomlog"]);
    assert!(report["servers"][0]["figures"]["redis_us_per_publish"].is_number(), "{report}");
}

#[tokio::test]
async fn those_who_come_back_or_read_slowly_miss_nothing() {
    let storm = bench("storm", &["--spawn", "--redis-fsync", "always"], &[]).await;
    assert_clean(&storm, &["roomlog"]);
    assert!(storm["servers"][0]["figures"]["all_caught_up_s"].as_f64().unwrap() > 0.0, "{storm}");
    let slow = bench("slow", &["--spawn", "--rate", "100", "--payload", "20000"], &[]).await;
    assert_clean(&slow, &["roomlog"]);
    assert!(slow["servers"][0]["figures"]["stopped_caught_up_s"].as_f64().unwrap() > 0.0, "{slow}");
}

#[tokio::test]
async fn a_server_that_runs_already_is_measured_with_a_token() {
    let redis = Redis::start().await;
    let server = Server::on(&redis.url()).await;
    let (url, token, pid) = (server.url(), admin(), server.pid().to_string());
    let env = [("ROOMLOG_URL", url.as_str()), ("ROOMLOG_TOKEN", token.as_str())];
    let report = bench("fanout", &["--server-pid", &pid], &env).await;
    assert_clean(&report, &["roomlog"]);
    assert!(report["servers"][0]["figures"]["server_us_per_delivery"].is_number(), "{report}");

    let refused = run(&["bench", "fanout"], &[("ROOMLOG_URL", &url)]).await.failure();
    assert!(refused.contains("--token"), "{refused}");
}

#[tokio::test]
async fn other_servers_are_measured_beside_it_in_their_own_protocol() {
    let broken = tempfile::tempdir().unwrap();
    let start = broken.path().join("start");
    std::fs::write(&start, "#!/bin/sh\necho 'this one needs a licence' >&2\nexit 1\n").unwrap();
    std::fs::set_permissions(&start, PermissionsExt::from_mode(0o755)).unwrap();
    let peers = ["bench/peers/nats-core", "bench/peers/nats-jetstream", broken.path().to_str().unwrap()];
    let peers: Vec<&str> = peers.iter().flat_map(|peer| ["--peer", peer]).collect();
    let args: Vec<&str> = ["--spawn", "--floor", "--rate", "200"].iter().chain(&peers).copied().collect();
    let report = bench("rooms", &args, &[]).await;
    let name = broken.path().file_name().unwrap().to_str().unwrap();
    assert_clean(&report, &["roomlog", "nats-core", "nats-jetstream", name, "floor"]);
    for server in [0, 1, 2, 4] {
        let figures = &report["servers"][server]["figures"];
        assert!(figures["confirmed_per_s"].as_f64().unwrap() > 0.0, "{report}");
        assert!(figures["server_us_per_delivery"].as_f64().unwrap() > 0.0, "{report}");
    }
    // Which is no reason not to measure the others.
    let failed = report["servers"][3]["failed"].as_str().unwrap();
    assert!(failed.contains("this one needs a licence"), "{report}");
}

#[tokio::test]
async fn what_another_server_loses_is_a_figure() {
    let peers = ["--spawn", "--peer", "bench/peers/nats-core", "--peer", "bench/peers/nats-jetstream"];
    let report = bench("storm", &peers, &[]).await;
    let server = |index: usize| &report["servers"][index];
    // Two members of each room miss a hundred messages.
    assert_eq!(server(1)["lost"], 2 * 2 * 100, "{report}");
    assert!(server(1)["figures"]["all_caught_up_s"].is_null(), "{report}");
    for index in [0, 2] {
        assert_eq!(server(index)["lost"], 0, "{report}");
        assert!(server(index)["figures"]["all_caught_up_s"].as_f64().unwrap() > 0.0, "{report}");
    }
}
