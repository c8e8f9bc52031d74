//! A Redis at its memory limit: operations that add data are refused, operations that free memory work, and
//! it recovers automatically.

use serde_json::{Value, json};

use crate::harness::{Client, Redis, Rest, Server, admin, eventually, everything, token_with_id};

/// Returns a figure of `INFO memory`.
fn memory(redis: &Redis, name: &str) -> u64 {
    let info = redis.ask(&["INFO", "memory"]).text();
    let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    value.trim().parse().unwrap()
}

/// Returns a metric without labels.
async fn metric(rest: &Rest, name: &str) -> Option<String> {
    let metrics = rest.get("/metrics").await.with(200);
    metrics
        .as_str()
        .unwrap()
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .map(str::to_owned)
}

async fn length(rest: &Rest, room: &str) -> u64 {
    rest.get(&format!("/v1/rooms/{room}")).await.with(200)["length"].as_u64().unwrap()
}

/// Publishes until that is refused, and checks the refusal.
async fn fill(rest: &Rest) {
    let data = "x".repeat(50_000);
    loop {
        let messages: Value = (0..10).map(|_| json!({ "room": "large", "data": data })).collect();
        let results = rest.post("/v1/messages", &messages).await.with(200);
        let Some(refused) = results.as_array().unwrap().iter().find(|result| result["error"].is_object())
        else {
            continue;
        };
        assert_eq!(refused["error"]["code"], "unavailable");
        if refused["error"]["message"].as_str().unwrap().contains("nearly full") {
            return;
        }
    }
}

/// Rules: code-14.
#[tokio::test]
async fn a_full_redis_can_be_emptied_and_recovers_automatically() {
    let redis = Redis::on_port(&["--appendonly", "no", "--maxmemory", "20mb"]).await;
    let env = [
        ("ROOMLOG_ROOMS", r#"[{ match = "large", max_age = "8s" }, { match = "*" }]"#),
        ("ROOMLOG_RETENTION__INTERVAL", "1s"),
    ];
    let server = Server::with(&redis.url(), &env).await;
    let rest = Rest::new(&server, &admin());
    let mut client = Client::connect(&server, &everything("bob")).await;
    let ids = client.publish_many("room", 3, 10).await;
    client.publish("doomed", json!(1)).await;
    client.subscribe("room", json!({ "durable": "phone", "since": "0" })).await;
    client.until("live").await;
    rest.post("/v1/rooms/room/subscriptions", &json!({ "durable": "other" })).await.with(200);

    fill(&rest).await;
    assert_eq!(metric(&rest, "roomlog_redis_full").await.as_deref(), Some("1"));
    // The reserve is used up too.
    let limit = memory(&redis, "used_memory") - 100_000;
    redis.ask(&["CONFIG", "SET", "maxmemory", &limit.to_string()]);

    for room in ["room", "another"] {
        let refused = rest.post(&format!("/v1/rooms/{room}/messages"), &json!({ "data": 1 })).await;
        assert!(refused.body["detail"].as_str().unwrap().contains("nearly full"), "{refused:?}");
        refused.problem(503, "unavailable");
    }
    let refused = rest.post("/v1/rooms/room/subscriptions", &json!({ "durable": "new" })).await;
    refused.problem(503, "unavailable");
    client.ok(json!({ "op": "ack", "room": "room", "id": ids[1] })).await;
    let mut again = Client::connect(&server, &everything("bob")).await;
    let taken = again.subscribe("room", json!({ "durable": "phone" })).await;
    assert_eq!(taken["position"], json!(ids[1]), "{taken}");
    rest.delete(&format!("/v1/rooms/room/messages/{}", ids[0])).await.with(204);
    rest.delete("/v1/rooms/room/subscriptions/admin/other").await.with(204);
    rest.delete("/v1/rooms/doomed").await.with(204);
    rest.post("/v1/revocations", &json!({ "jti": "lost" })).await.with(204);
    let stolen = Rest::new(&server, &token_with_id("eve", json!({ "*": ["read"] }), "lost"));
    stolen.get("/v1/rooms/room").await.problem(401, "token_revoked");

    eventually("the large room shrinks by itself", async || length(&rest, "large").await == 0).await;
    assert_eq!(metric(&rest, "roomlog_janitor").await.as_deref(), Some("1"));
    eventually("publishing works again", async || {
        rest.post("/v1/rooms/room/messages", &json!({ "data": 2 })).await.status == 201
    })
    .await;
    assert_eq!(metric(&rest, "roomlog_redis_full").await.as_deref(), Some("0"));
}
