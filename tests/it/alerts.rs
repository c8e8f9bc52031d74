//! Each alert fires when its cause occurs, and not before. A real Prometheus reads servers that get into
//! trouble in one way after the other. It uses the repository's rules with shorter durations.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::harness::{
    Client, Clock, NO_CHECKS, Prometheus, Redis, Rest, Server, admin, eventually, everything, id_of, now,
    repository, within,
};
use crate::keys;

/// Alerts that need a machine in a state that a test cannot create. `promtool test rules` covers them.
const NOT_MADE_HERE: [&str; 1] = ["RoomlogMemoryNearLimit"];

/// Alerts whose cause is created below.
const OF_REDIS: [&str; 6] = [
    "RedisDown",
    "RedisEvicts",
    "RedisFsyncSlow",
    "RedisMemoryNearLimit",
    "RedisPersistenceFails",
    "RedisSlotsMissing",
];

fn names_after(file: &str, key: &str) -> BTreeSet<String> {
    let text = repository(file);
    let names = text.lines().filter_map(|line| line.trim().strip_prefix(key)).map(str::to_owned);
    names.collect()
}

#[test]
fn each_alert_has_a_runbook_a_unit_test_and_a_test_of_its_cause() {
    let alerts = names_after("grafana/rules/alerts.yml", "- alert: ");
    assert_eq!(names_after("docs/runbook.md", "## "), alerts);
    assert_eq!(names_after("grafana/rules/tests/alerts.yml", "alertname: "), alerts);
    let links = names_after("grafana/rules/alerts.yml", "runbook_url: \"{{ $externalLabels.runbook }}#");
    assert_eq!(links, alerts.iter().map(|name| format!("{}\"", name.to_lowercase())).collect());
    let here = repository("tests/it/alerts.rs");
    for alert in &alerts {
        let made = [format!("fires(\"{alert}\""), format!("[\"{alert}\","), format!(", \"{alert}\"]")];
        let is_made = made.iter().any(|text| here.contains(text)) || NOT_MADE_HERE.contains(&alert.as_str());
        assert!(is_made, "the cause of {alert} is not made");
    }
}

#[tokio::test]
async fn each_alert_of_redis_fires_for_its_cause_and_not_before() {
    let settings = ["--appendonly", "yes", "--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1"];
    let mut redis = Redis::on_port(&settings).await;
    redis.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let disk = ["--appendonly", "yes", "--appendfsync", "always", "--latency-monitor-threshold", "10"];
    let slow = Redis::on_disk_that_takes(Duration::from_millis(150), &disk).await;
    let prometheus = Prometheus::start(&[], &[&redis, &slow]).await;
    let set = |name: &str, value: &str| redis.ask(&["CONFIG", "SET", name, value]);
    eventually("slots are served", async || {
        prometheus.value("min(redis_cluster_slots_ok == 16384)").await.is_some()
    })
    .await;
    // Keys that can be evicted later, and that make a memory limit quick to reach.
    for n in 0..500 {
        redis.ask(&["SET", &format!("key.{{x}}.{n}"), &"x".repeat(10_000)]);
    }
    prometheus.fires("RedisFsyncSlow", async || drop(slow.ask(&["SET", "key", "value"]))).await;
    prometheus.fires("RedisSlotsMissing", async || drop(redis.ask(&["CLUSTER", "DELSLOTS", "7"]))).await;
    redis.ask(&["CLUSTER", "ADDSLOTS", "7"]);
    prometheus.fires("RedisPersistenceFails", async || drop(set("appendonly", "no"))).await;
    prometheus
        .fires("RedisMemoryNearLimit", async || {
            set("maxmemory", &(used_memory(&redis) * 11 / 10).to_string());
        })
        .await;
    prometheus
        .fires("RedisEvicts", async || {
            set("maxmemory-policy", "allkeys-random");
            set("maxmemory", &(used_memory(&redis) - 1_000_000).to_string());
        })
        .await;
    prometheus.fires("RedisDown", async || redis.stop()).await;
    let others = prometheus.firing().await.into_iter().filter(|alert| !OF_REDIS.contains(&alert.as_str()));
    assert_eq!(others.collect::<Vec<_>>(), ["RoomlogNodesAbsent"], "there are no nodes here");
}

/// Returns the used memory in bytes.
fn used_memory(redis: &Redis) -> u64 {
    let info = redis.ask(&["INFO", "memory"]).text();
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    line.trim().parse().unwrap()
}

/// Appends a message with a timestamp `seconds` ago, in a room without others.
fn append_in_the_past(redis: &Redis, room: &str, seconds: u64) {
    let ms = ((now() - seconds) * 1000).to_string();
    let (log, head) = (format!("rl:{{{room}}}:log"), format!("rl:{{{room}}}:head"));
    let data = b"\xa3old";
    let fields: [&[u8]; 8] = [b"key", &[7; 16], b"from", b"ann", b"type", b"message", b"data", data];
    let id = format!("{ms}-1");
    let add = [&[&b"XADD"[..], log.as_bytes(), id.as_bytes()][..], &fields].concat();
    redis.ask(&add);
    redis.ask(&["HSET", &head, "ms", &ms, "seq", "1"]);
}

/// Returns the process id of the embedded Redis of a server.
fn child_of(server: &Server) -> String {
    let pid = server.pid();
    let tasks = Path::new("/proc").join(pid.to_string()).join("task");
    let children = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children")).ok();
    let all: Vec<String> =
        std::fs::read_dir(tasks).unwrap().filter_map(|task| children(task.unwrap())).collect();
    all.concat().split_whitespace().next().expect("the embedded Redis").to_owned()
}

fn run(program: &str, args: &[&str]) {
    assert!(Command::new(program).args(args).status().unwrap().success(), "{program} {args:?}");
}

#[tokio::test]
async fn each_alert_of_roomlog_fires_for_its_cause_and_not_before() {
    let redis = Redis::durable().await;
    let set: Value = serde_json::from_str(&repository("tests/fixtures/keys/jwks.json")).unwrap();
    let keys = Arc::new(Mutex::new(set.to_string()));
    let rooms = "[{ match = \"tiny.*\", label = \"tiny\", max_length = 10 }]";
    let (jwks, dir) = (keys::serve(keys.clone()).await, tempfile::tempdir().unwrap());
    let env = [
        ("ROOMLOG_LIMITS__CONNECTIONS", "20"),
        ("ROOMLOG_LIMITS__MAX_MESSAGE", "8MiB"),
        ("ROOMLOG_LIMITS__OUTBOX", "8MiB"),
        ("ROOMLOG_RETENTION__INTERVAL", "300ms"),
        ("ROOMLOG_ROOMS", rooms),
        ("ROOMLOG_AUTH__JWKS_URL", &jwks),
        ("ROOMLOG_AUTH__JWKS_REFRESH", "500ms"),
    ];
    let one = Server::with(&redis.url(), &env).await;
    let mut two = Server::with(&redis.url(), &env[3..5]).await;
    let data = dir.path().join("data");
    let alone = Server::serve(&["--data-dir", data.to_str().unwrap()], &env[3..5]).await;
    let clock = Clock::new();
    let disk = ["--appendonly", "yes", "--appendfsync", "always"];
    let ahead = Redis::on_clock(&clock, &disk).await;
    let jumping = Server::with(&ahead.url(), &env[3..5]).await;
    let prometheus = Prometheus::start(&[&one, &two, &alone, &jumping], &[]).await;
    let rest = Rest::new(&one, &admin());
    let mut writer = Client::connect(&one, &everything("ann")).await;
    let batch = async |room: &str, count: usize| {
        let messages: Value = (0..count).map(|n| json!({ "room": room, "data": n })).collect();
        rest.post("/v1/messages", &messages).await.with(200);
    };
    assert_eq!(prometheus.firing().await, BTreeSet::new());

    prometheus.fires("RoomlogKeySetStale", async || *keys.lock() = "no set".into()).await;
    *keys.lock() = set.to_string();
    prometheus.fires("RoomlogRetentionHeld", async || clock.shift(31 * 24 * 3_600_000)).await;
    clock.shift(0);
    prometheus.fires("RoomlogEmbeddedRedisRestarts", async || run("kill", &["-9", &child_of(&alone)])).await;
    let mut many = Vec::new();
    prometheus
        .fires("RoomlogConnectionsNearLimit", async || {
            for n in 0..18 {
                many.push(Client::connect(&one, &everything(&format!("user.{n}"))).await);
            }
        })
        .await;
    drop(many);
    prometheus
        .fires("RoomlogFilesNearLimit", async || {
            let open = std::fs::read_dir(format!("/proc/{}/fd", two.pid())).unwrap().count();
            run("prlimit", &["--pid", &two.pid().to_string(), &format!("--nofile={}:", open + 2)]);
        })
        .await;
    run("prlimit", &["--pid", &two.pid().to_string(), "--nofile=1024:"]);

    prometheus
        .fires("RoomlogGap", async || {
            let ids = writer.publish_many("gap", 5, 10).await;
            redis.ask(&["XTRIM", "rl:{gap}:log", "MAXLEN", "1"]);
            let mut late = Client::connect(&one, &everything("late")).await;
            late.subscribe("gap", json!({ "since": ids[0] })).await;
            late.until("live").await;
        })
        .await;
    prometheus
        .fires("RoomlogRewind", async || {
            let ids = writer.publish_many("rewound", 5, 10).await;
            redis.ask(&["DEL", "rl:{rewound}:log", "rl:{rewound}:head"]);
            writer.publish("rewound", json!("anew")).await;
            let mut late = Client::connect(&one, &everything("late")).await;
            late.subscribe("rewound", json!({ "since": ids[4] })).await;
            assert!(late.until("live").await.iter().any(|frame| frame["reason"] == "rewound"));
        })
        .await;
    let mut phone = Client::connect(&one, &everything("bob")).await;
    prometheus
        .fires("RoomlogTrimmedUnacknowledged", async || {
            phone.subscribe("tiny.a", json!({ "durable": "phone" })).await;
            batch("tiny.a", 100).await;
        })
        .await;
    prometheus
        .fires("RoomlogUnacknowledgedOld", async || {
            append_in_the_past(&redis, "old", 90_000);
            phone.subscribe("old", json!({ "durable": "phone", "since": "0" })).await;
        })
        .await;
    prometheus
        .fires("RoomlogLagGrows", async || {
            phone.subscribe("busy", json!({ "durable": "phone" })).await;
            phone.close().await;
            // The lag grows for as long as the test watches.
            let (rest, grow) = (rest.clone(), async |rest: &Rest| {
                let messages: Value = (0..1000).map(|n| json!({ "room": "busy", "data": n })).collect();
                rest.post("/v1/messages", &messages).await.with(200);
            });
            for _ in 0..11 {
                grow(&rest).await;
            }
            within(Duration::from_secs(60), "the lag grows", async || {
                grow(&rest).await;
                prometheus.firing().await.contains("RoomlogLagGrows")
            })
            .await;
        })
        .await;
    let mut near = Client::connect(&two, &everything("near")).await;
    near.join("slow").await;
    writer.deliver("slow", &mut near).await;
    let usual = format!("roomlog_delivery_seconds_count{{instance=\"{}\"}}", two.address);
    eventually("a usual delivery was read", async || prometheus.value(&usual).await.is_some()).await;
    prometheus
        .fires("RoomlogSlowDelivery", async || {
            // A node that is frozen for a moment delivers late the messages that arrived meanwhile.
            two.signal(Signal::SIGSTOP);
            let published = writer.publish("slow", json!("late")).await;
            tokio::time::sleep(Duration::from_millis(2500)).await;
            two.signal(Signal::SIGCONT);
            assert_eq!(id_of(&near.expect("message").await), published);
        })
        .await;
    prometheus
        .fires("RoomlogAppendQueueFull", async || {
            let large = "x".repeat(8_000_000);
            let messages: Value = (0..12).map(|_| json!({ "room": "large", "data": large })).collect();
            let results = rest.post("/v1/messages", &messages).await.with(200);
            assert!(
                results.as_array().unwrap().iter().any(|result| result["error"]["code"] == "unavailable")
            );
        })
        .await;

    prometheus
        .fires("RoomlogRedisFull", async || {
            // The buffers of the large messages above are freed meanwhile, so the limit follows the used
            // memory.
            within(Duration::from_secs(60), "Redis is full", async || {
                redis.ask(&["CONFIG", "SET", "maxmemory", &(used_memory(&redis) * 103 / 100).to_string()]);
                prometheus.firing().await.contains("RoomlogRedisFull")
            })
            .await;
        })
        .await;
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);

    let address = two.address.to_string();
    prometheus.fires("RoomlogNodeDown", async || two.kill()).await;
    redis.ask(&["CONFIG", "SET", "appendonly", "no"]);
    let mut again = None;
    prometheus
        .fires("RoomlogDurabilityLess", async || {
            let env = [("ROOMLOG_REDIS__URL", &*redis.url()), ("ROOMLOG_REDIS__DURABILITY", "disk")];
            again = Some(Server::listen(&address, &[], &env).await);
        })
        .await;
    eventually("publishes do not fail", async || !prometheus.firing().await.contains("RoomlogPublishesFail"))
        .await;
    // Nodes with a Redis of their own are their own janitors.
    drop((alone, jumping));
    prometheus
        .fires("RoomlogNoJanitor", async || {
            redis.ask(&["SET", "rl:janitor", "one that is gone", "PX", "600000"]);
        })
        .await;
    prometheus.fires("RoomlogCanaryFails", async || redis.pause()).await;
    prometheus
        .fires("RoomlogPublishesFail", async || {
            rest.post("/v1/rooms/room/messages", &json!({ "data": 1 })).await.problem(503, "unavailable");
        })
        .await;
    redis.resume();
}

#[tokio::test]
async fn alerts_on_the_error_budget_and_on_missing_nodes_fire_for_their_cause() {
    let redis = Redis::start().await;
    // Only notifications bring messages from one node to the other, so all deliveries are live and measured.
    let (one, two) = (Server::on(&redis.url()).await, Server::with(&redis.url(), &NO_CHECKS).await);
    let prometheus = Prometheus::start(&[&one, &two], &[]).await;
    for alert in ["RoomlogErrorBudgetBurnsFast", "RoomlogErrorBudgetBurnsSlowly"] {
        within(Duration::from_secs(90), "all is well", async || prometheus.firing().await.is_empty()).await;
        let mut writer = Client::connect(&one, &everything("ann")).await;
        let mut reader = Client::connect(&two, &everything("bob")).await;
        reader.join("room").await;
        writer.deliver("room", &mut reader).await;
        let usual = "roomlog_delivery_seconds_count > 0";
        eventually("a usual delivery was read", async || prometheus.value(usual).await.is_some()).await;
        prometheus
            .fires(alert, async || {
                within(Duration::from_secs(90), "deliveries are late", async || {
                    // A node that is frozen for a moment delivers late what arrived meanwhile.
                    two.signal(Signal::SIGSTOP);
                    let published = writer.publish("room", json!("late")).await;
                    tokio::time::sleep(Duration::from_millis(1500)).await;
                    two.signal(Signal::SIGCONT);
                    assert_eq!(id_of(&reader.expect("message").await), published);
                    let fires = eventually(alert, async || prometheus.firing().await.contains(alert));
                    tokio::time::timeout(Duration::from_secs(8), fires).await.is_ok()
                })
                .await;
            })
            .await;
    }
    let (first, second) = (one.address.to_string(), two.address.to_string());
    prometheus.fires("RoomlogNodeVanished", async || prometheus.forget(&second)).await;
    prometheus.fires("RoomlogNodesAbsent", async || prometheus.forget(&first)).await;
}
