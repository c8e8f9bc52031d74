//! The load generator: each workload, tiny, against the server that it starts, finds nothing lost, twice or out of order.

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
