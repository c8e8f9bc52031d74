//! The operators' view, read by a real Prometheus from real servers: every query of every dashboard has a
//! result, metrics that must be zero are zero, and labels do not grow with rooms and users. Alerts are in
//! `alerts.rs`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use roomlog::metrics::{Kind, Name};
use serde_json::{Value, json};

use crate::harness::{
    Client, Prometheus, Redis, Rest, Server, Upgrade, admin, eventually, everything, now, redis_and_server,
    repository, within,
};

const DASHBOARDS: [&str; 3] = ["delivery", "node", "redis"];

/// A query of a panel.
#[derive(Debug)]
struct Query {
    panel: String,
    expression: String,
    /// Set if the panel shows a text where there is no data, instead of staying empty.
    may_be_empty: bool,
}

fn dashboard(name: &str) -> Value {
    serde_json::from_str(&repository(&format!("grafana/dashboards/{name}.json"))).unwrap()
}

/// Returns a query with the variables filled in as Grafana does where everything is selected.
fn filled(expression: &Value) -> String {
    let expression = expression.as_str().unwrap();
    let expression = expression.replace("$node", ".*").replace("$class", ".*");
    let expression = expression.replace("$job", "roomlog").replace("$redis_job", "redis");
    let expression = expression.replace("$__rate_interval", "15s").replace("$__range", "120s");
    assert!(!expression.contains('$'), "a variable that the test does not know: {expression}");
    expression
}

/// Returns every query of a dashboard.
fn queries(dashboard: &Value) -> Vec<Query> {
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().unwrap();
        assert!(
            panel["description"].as_str().is_some_and(|text| text.len() > 20),
            "{title} explains nothing"
        );
        let unit = &panel["fieldConfig"]["defaults"]["unit"];
        assert!(unit.is_string() || panel["type"] == "heatmap", "{title} has no unit");
        for target in panel["targets"].as_array().unwrap() {
            queries.push(Query {
                panel: title.to_owned(),
                expression: filled(&target["expr"]),
                may_be_empty: panel["fieldConfig"]["defaults"]["noValue"].is_string(),
            });
        }
    }
    queries
}

/// Starts a cluster of one primary, on a slightly slow disk, with every setting that an operator can make,
/// and two nodes on it.
async fn stack() -> (Redis, Server, Server) {
    let settings = [
        "--cluster-enabled",
        "yes",
        "--cluster-announce-ip",
        "127.0.0.1",
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--maxmemory",
        "2gb",
        "--latency-monitor-threshold",
        "1",
    ];
    let redis = Redis::on_disk_that_takes(Duration::from_millis(2), &settings).await;
    redis.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    eventually("the cluster is complete", async || {
        redis.ask(&["CLUSTER", "INFO"]).text().contains("cluster_state:ok")
    })
    .await;
    let url = redis.url().replace("redis://", "redis-cluster://");
    let env = [
        ("ROOMLOG_REDIS__DURABILITY", "disk"),
        ("ROOMLOG_RETENTION__INTERVAL", "500ms"),
        ("ROOMLOG_ROOMS", "[{ match = \"chat.*\", label = \"chat\", max_length = 5000 }]"),
    ];
    let (one, two) = (Server::with(&url, &env).await, Server::with(&url, &env).await);
    (redis, one, two)
}

/// Uses every feature once.
async fn load(one: &Server, two: &Server) {
    let mut writer = Client::connect(one, &everything("ann")).await;
    let mut far = Client::connect_msgpack(two, &everything("bob")).await;
    far.subscribe("chat.a", json!({ "durable": "phone" })).await;
    far.until("live").await;
    writer.join("chat.a").await;
    let rest = Rest::new(one, &admin());
    let mut events = rest.events("/v1/rooms/chat.a/events", &[]).await.unwrap();
    let ids = writer.publish_many("chat.a", 400, 100).await;
    far.messages(400).await;
    far.ok(json!({ "op": "ack", "room": "chat.a", "id": ids[199] })).await;
    events.next().await;
    let key =
        json!({ "op": "publish", "room": "chat.a", "data": 1, "key": uuid::Uuid::new_v4().to_string() });
    writer.ok(key.clone()).await;
    assert_eq!(writer.ok(key).await["duplicate"], true);
    writer.ok(json!({ "op": "signal", "room": "chat.a", "type": "typing", "data": 1 })).await;
    // A client that resumes, from the ring and from Redis, and a slow client.
    let mut back = Client::connect(two, &everything("cia")).await;
    back.subscribe("chat.a", json!({ "last": 10 })).await;
    back.until("live").await;
    back.subscribe("chat.a", json!({ "since": "0" })).await;
    back.until("live").await;
    back.close().await;
    let upgrade = Upgrade { buffer: Some(4096), ..Upgrade::default() };
    let mut slow = Client::connect_with(one, &everything("dan"), upgrade).await;
    slow.join("big").await;
    writer.publish_many("big", 300, 8000).await;
    slow.messages(300).await;
    let poll = rest.get("/v1/rooms/quiet/messages?wait=1").await;
    assert_eq!(poll.status, 200);
    writer.settled().await;
    far.close().await;
}

#[tokio::test]
async fn every_dashboard_query_has_data_and_panels_that_must_be_zero_are_zero() {
    let (redis, one, two) = stack().await;
    let prometheus = Prometheus::start(&[&one, &two], &[&redis]).await;
    for _ in 0..3 {
        load(&one, &two).await;
    }
    for name in DASHBOARDS {
        for Query { panel, expression, may_be_empty } in queries(&dashboard(name)) {
            let mut found = Vec::new();
            eventually(&format!("{name}, {panel}: {expression}"), async || {
                found = prometheus.query(&expression).await;
                found.iter().any(|(_, value)| value.is_finite())
            })
            .await;
            if panel.ends_with("(must be 0)") {
                assert!(found.iter().all(|(_, value)| *value == 0.0), "{panel}: {found:?}");
            }
            assert!(!may_be_empty || !found.is_empty());
        }
    }
    for name in DASHBOARDS {
        let marks = prometheus.query(&filled(&dashboard(name)["annotations"]["list"][0]["expr"])).await;
        let now = now() as f64 * 1000.0;
        let is_recent = |(_, at): &(_, f64)| (now - 600_000.0..=now).contains(at);
        assert!(marks.len() == 2 && marks.iter().all(is_recent), "both nodes have just started: {marks:?}");
    }
    for rule in ["roomlog:publish_seconds:p99_rate5m", "roomlog:delivery_seconds:p99_rate5m"] {
        assert!(prometheus.value(rule).await.is_some(), "{rule}");
    }
    let mut firing = prometheus.firing().await;
    // If the disk is slow here, the alert is right.
    firing.remove("RedisFsyncSlow");
    assert_eq!(firing, BTreeSet::new(), "all is well");
}

/// Returns the names of the metrics that a server exposes.
fn shown(metrics: &str) -> BTreeSet<String> {
    let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_metric_is_documented_and_shown_or_left_out_for_a_reason() {
    let (_redis, server) = redis_and_server().await;
    let metrics = Rest::anonymous(&server).get("/metrics").await.with(200);
    let shown = shown(metrics.as_str().unwrap());
    let documented = repository("docs/metrics.md");
    let pages: Vec<(String, String)> = DASHBOARDS
        .iter()
        .map(|name| {
            let dashboard = dashboard(name);
            let expressions: Vec<String> =
                queries(&dashboard).into_iter().map(|query| query.expression).collect();
            let title = dashboard["title"].as_str().unwrap().trim_start_matches("Roomlog: ").to_owned();
            (title, expressions.join("\n"))
        })
        .collect();
    let is_used = |name: &str, text: &str| {
        let after = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let suffixes = ["", "_bucket", "_count", "_sum"];
        suffixes.iter().any(|suffix| text.split(&format!("{name}{suffix}")).skip(1).any(after))
    };
    let mut wrong = Vec::new();
    for name in &shown {
        let on: Vec<&str> = pages
            .iter()
            .filter(|(_, expressions)| is_used(name, expressions))
            .map(|(title, _)| title.as_str())
            .collect();
        let row = documented.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let place = row.and_then(|row| row.trim_end_matches(" |").rsplit("| ").next()).unwrap_or_default();
        let fits = if on.is_empty() { place.starts_with("not shown: ") } else { place == on.join(", ") };
        let known = Name::ALL.iter().find(|known| known.as_str() == name);
        let explained = known.is_none_or(|known| {
            let kind = match known.kind() {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            row.is_some_and(|row| row.starts_with(&format!("| `{name}` | {kind} | {}", known.help())))
        });
        if !fits || !explained {
            wrong.push(format!("{name}: on {on:?}, the row is {row:?}"));
        }
    }
    assert!(wrong.is_empty(), "docs/metrics.md is not up to date:\n{}", wrong.join("\n"));
    for name in Name::ALL {
        assert!(shown.contains(name.as_str()), "{} is not on /metrics", name.as_str());
    }
}

#[tokio::test]
async fn a_scrape_is_answered_immediately_while_redis_is_unreachable() {
    let redis = Redis::start().await;
    // A scrape that asked Redis would take as long.
    let env = [("ROOMLOG_REDIS__COMMAND_TIMEOUT", "25s")];
    let server = Server::with(&redis.url(), &env).await;
    let rest = Rest::anonymous(&server);
    assert_eq!(rest.get("/readyz").await.status, 200);
    redis.pause();
    // At any moment: right after the failure, and once the server knows of it.
    within(Duration::from_secs(60), "it is not ready", async || {
        let asked = Instant::now();
        let metrics = rest.get("/metrics").await.with(200);
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
        metrics.as_str().unwrap().contains("roomlog_ready 0")
    })
    .await;
    rest.get("/readyz").await.problem(503, "unavailable");
    redis.resume();
    eventually("it is ready again", async || rest.get("/readyz").await.status == 200).await;
}

#[tokio::test]
async fn rooms_and_users_create_no_time_series() {
    const BATCHES: usize = 100;
    let redis = Redis::start().await;
    let env = [("ROOMLOG_RETENTION__INTERVAL", "1h")];
    let server = Server::with(&redis.url(), &env).await;
    let batch = |batch: usize| -> Value {
        (0..1000).map(|n| json!({ "room": format!("room.{batch}.{n}"), "data": n })).collect()
    };
    let series = async || {
        let metrics = Rest::anonymous(&server).get("/metrics").await.with(200);
        let lines = metrics.as_str().unwrap().lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect::<BTreeSet<_>>()
    };
    let publish = async |index: usize| {
        let rest = Rest::new(&server, &everything(&format!("user.{index}")));
        let results = rest.post("/v1/messages", &batch(index)).await.with(200);
        assert!(results.as_array().unwrap().iter().all(|result| result["id"].is_string()));
    };
    publish(0).await;
    let before = series().await;
    for index in 1..BATCHES {
        publish(index).await;
    }
    assert_eq!(series().await, before);
    let text = Rest::anonymous(&server).get("/metrics").await.with(200);
    assert!(text.as_str().unwrap().contains("outcome=\"stored\"} 100000"), "{text}");
}

#[tokio::test]
async fn probes_are_not_listed_as_rooms_and_expire() {
    let redis = Redis::start().await;
    let env = [("ROOMLOG_RETENTION__INTERVAL", "200ms")];
    let server = Server::with(&redis.url(), &env).await;
    let rest = Rest::new(&server, &admin());
    let keys = || -> Vec<String> {
        redis.ask(&["KEYS", "rl:{.canary.*"]).list().iter().map(|key| key.text()).collect()
    };
    eventually("a few probes came", async || {
        let metrics = rest.get("/metrics").await.with(200);
        let line = metrics.as_str().unwrap().lines().find(|line| line.contains("outcome=\"returned\"}"));
        line.is_some_and(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap() >= 3)
    })
    .await;
    assert!(!keys().is_empty());
    for key in keys() {
        eventually("each key expires", async || {
            let left = redis.ask(&["PTTL", &key]).number();
            left == -2 || (1..=300_000).contains(&left)
        })
        .await;
    }
    assert_eq!(rest.get("/v1/rooms").await.with(200)["rooms"], json!([]));
    let node = keys()[0].split(['{', '}']).nth(1).unwrap().to_owned();
    rest.get(&format!("/v1/rooms/{node}/messages")).await.problem(400, "bad_request");
    let metrics = rest.get("/metrics").await.with(200);
    assert!(metrics.as_str().unwrap().contains("outcome=\"stored\"} 0"), "probes are not counted");
}
