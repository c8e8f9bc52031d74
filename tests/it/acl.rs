//! A server whose user in Redis has exactly the permissions that `roomlog doctor --acl` prints: everything
//! works, and Redis denies nothing.

use std::time::Duration;

use serde_json::json;

use crate::harness::{
    Client, Cluster, Redis, Rest, Server, admin, eventually, everything, id_of, ids, redis_and_server,
    repository, run, within,
};

const PASSWORD: &str = "hunter2";

/// Settings with which retention and expiry take effect within a test.
const HASTE: [(&str, &str); 3] = [
    ("ROOMLOG_RETENTION__INTERVAL", "1s"),
    ("ROOMLOG_RETENTION__SUBSCRIPTION_TTL", "2s"),
    ("ROOMLOG_ROOMS", r#"[{ match = "short*", max_length = 10 }, { match = "brief*", max_age = "1s" }]"#),
];

/// Returns the words of the rule for this prefix.
async fn rule(prefix: &str) -> Vec<String> {
    let env = [("ROOMLOG_REDIS__PREFIX", prefix)];
    let rule = run(&["doctor", "--acl"], &env).await.success().replace("PASSWORD", PASSWORD);
    rule.split_whitespace().map(Into::into).collect()
}

/// Creates the user on these servers. From then on, everything that the rule leaves out is denied and logged.
async fn allow(servers: &[&Redis], prefix: &str) {
    for redis in servers {
        redis.ask(&rule(prefix).await);
    }
}

/// Checks that nothing was denied.
fn denied_nothing(servers: &[&Redis]) {
    for redis in servers {
        let denied: Vec<String> =
            redis.ask(&["ACL", "LOG"]).list().iter().map(|entry| entry.field("object").text()).collect();
        assert!(denied.is_empty(), "{denied:?} is denied: COMMANDS in src/redis/acl.rs lacks it");
    }
}

/// Uses every feature, on two nodes.
async fn use_all(one: &Server, two: &Server) {
    let mut writer = Client::connect(one, &everything("ann")).await;
    let mut reader = Client::connect(two, &everything("bob")).await;
    let rest = Rest::new(one, &admin());

    // Live and durable subscriptions, acknowledgements, takeover, history, signals.
    reader.subscribe("room", json!({ "durable": "phone" })).await;
    reader.expect("live").await;
    writer.join("room").await;
    let ids = writer.publish_many("room", 20, 100).await;
    let last = reader.messages(20).await.pop().unwrap();
    assert_eq!(id_of(&last), ids[19]);
    reader.ok(json!({ "op": "ack", "room": "room", "id": ids[9] })).await;
    let mut newer = Client::connect(one, &everything("bob")).await;
    newer.subscribe("room", json!({ "durable": "phone" })).await;
    newer.messages(10).await;
    assert_eq!(reader.expect("unsubscribed").await["code"], "replaced");
    reader.subscribe("room", json!({ "last": 3 })).await;
    reader.messages(3).await;
    reader.expect("live").await;
    reader.ok(json!({ "op": "history", "room": "room", "after": ids[0] })).await;
    reader.ok(json!({ "op": "history", "room": "room", "before": ids[5], "limit": 2 })).await;
    writer.settled().await;
    newer.ok(json!({ "op": "signal", "room": "room", "type": "typing", "data": null })).await;
    writer.until("signal").await;
    let key = "0b9d9b2e-6a52-4f0e-9d3a-6d3c1f0c7a11";
    let publish = json!({ "op": "publish", "room": "room", "data": 1, "key": key });
    writer.ok(publish.clone()).await;
    assert_eq!(writer.ok(publish).await["duplicate"], true);
    writer.subscribe("room", json!({ "since": "0" })).await;
    writer.until("live").await;
    let wrong = json!({ "op": "subscribe", "room": "empty", "since": "1999999999999-99" });
    writer.ok(wrong).await;
    newer.ok(json!({ "op": "unsubscribe", "room": "room", "forget": true })).await;
    reader.ok(json!({ "op": "unsubscribe", "room": "room" })).await;

    // Durable subscriptions over HTTP, and all management operations.
    let taken =
        rest.post("/v1/rooms/room/subscriptions", &json!({ "durable": "web", "since": "0" })).await.with(200);
    let ack = json!({ "durable": "web", "holder": taken["holder"], "id": ids[3] });
    rest.post("/v1/rooms/room/acks", &ack).await.with(204);
    rest.post("/v1/rooms/room/signals", &json!({ "type": "typing", "data": 1 })).await.with(204);
    rest.post("/v1/messages", &json!([{ "room": "a", "data": 1 }, { "room": "b", "data": 2 }]))
        .await
        .with(200);
    rest.get("/v1/rooms/room/messages?order=desc&limit=2").await.with(200);
    rest.get("/v1/rooms/room").await.with(200);
    rest.get("/v1/rooms/room/subscriptions").await.with(200);
    rest.get("/v1/rooms").await.with(200);
    rest.delete(&format!("/v1/rooms/room/messages/{}", ids[7])).await.with(204);
    rest.delete("/v1/rooms/room/subscriptions/admin/web").await.with(204);
    rest.post("/v1/revocations", &json!({ "user": "eve" })).await.with(204);
    rest.delete("/v1/rooms/room").await.with(204);

    // Automatic removal: above a length, above an age, and unused subscriptions.
    writer.publish_many("short", 30, 10).await;
    writer.publish_many("brief", 3, 10).await;
    newer.subscribe("left", json!({ "durable": "phone" })).await;
    newer.close().await;
    let patience = Duration::from_secs(60);
    within(patience, "what is above a limit goes", async || {
        let lengths = [rest.get("/v1/rooms/short").await, rest.get("/v1/rooms/brief").await];
        lengths[0].body["length"] == 10 && lengths[1].body["length"].as_u64().unwrap_or(0) == 0
    })
    .await;
    within(patience, "a subscription that nobody uses goes", async || {
        let left = rest.get("/v1/rooms/left/subscriptions").await;
        left.status != 200 || left.body == json!([])
    })
    .await;
}

#[tokio::test]
async fn the_rule_that_doctor_prints_allows_everything_the_server_does() {
    let redis = Redis::on_port(&["--appendonly", "yes"]).await;
    let _replica = redis.replica().await;
    allow(&[&redis], "my-rooms:").await;
    let url = format!("redis://roomlog:{PASSWORD}@127.0.0.1:{}", redis.port());
    let more = [("ROOMLOG_REDIS__PREFIX", "my-rooms:"), ("ROOMLOG_REDIS__DURABILITY", "replica")];
    let env = [&HASTE[..], &more].concat();
    let (one, two) = (Server::with(&url, &env).await, Server::with(&url, &env).await);
    use_all(&one, &two).await;

    // Lost functions are loaded, and the call is repeated.
    redis.ask(&["FUNCTION", "FLUSH"]);
    redis.ask(&["CLIENT", "KILL", "USER", "roomlog"]);
    let (mut writer, mut reader) =
        (Client::connect(&one, &everything("ann")).await, Client::connect(&two, &everything("bob")).await);
    eventually("it goes on", async || {
        writer.request(json!({ "op": "publish", "room": "again", "data": 1 })).await["op"] == "ok"
    })
    .await;
    reader.join("again").await;
    writer.publish("again", json!(2)).await;
    reader.expect("message").await;

    let doctor = run(&["doctor", "--json"], &[("ROOMLOG_REDIS__URL", &*url)]).await;
    assert!(doctor.stdout.contains("appendfsync"), "{doctor:?}");
    denied_nothing(&[&redis]);
}

#[tokio::test]
async fn the_rule_that_doctor_prints_allows_everything_in_a_cluster() {
    let cluster = Cluster::start().await;
    let nodes: Vec<&Redis> = cluster.nodes.iter().collect();
    allow(&nodes, "rl:").await;
    let url = cluster.url().replace("//", &format!("//roomlog:{PASSWORD}@"));
    let (one, two) = (Server::with(&url, &HASTE).await, Server::with(&url, &HASTE).await);
    use_all(&one, &two).await;
    let mut writer = Client::connect(&one, &everything("ann")).await;
    writer.publish("moved", json!(1)).await;
    cluster.move_slot_of("moved").await;
    within(Duration::from_secs(60), "its slot is found again", async || {
        writer.request(json!({ "op": "publish", "room": "moved", "data": 1 })).await["op"] == "ok"
    })
    .await;
    denied_nothing(&nodes);
}

#[tokio::test]
async fn commands_outside_the_rule_are_denied() {
    let redis = Redis::on_port(&["--appendonly", "no"]).await;
    allow(&[&redis], "rl:").await;
    let line = rule("rl:").await.join(" ");
    for (command, name) in [
        (&["CONFIG", "SET", "dir", "/tmp"][..], "config|set"),
        (&["FLUSHALL"], "flushall"),
        (&["KEYS", "*"], "keys"),
        (&["SET", "other", "1"], "other"),
        (&["EVAL", "return 1", "0"], "eval"),
        (&["FUNCTION", "FLUSH"], "function|flush"),
        (&["ACL", "LIST"], "acl|list"),
        (&["MONITOR"], "monitor"),
        (&["PUBLISH", "other", "1"], "other"),
    ] {
        let dry_run = [&["ACL", "DRYRUN", "roomlog"], command].concat();
        let answer = redis.ask(&dry_run).text();
        assert!(answer.contains("permission") && answer.contains(name), "{command:?}: {answer}");
    }
    let docs = repository("docs/operations/redis.md");
    let shown = docs.lines().find(|line| line.starts_with("ACL SETUSER roomlog ")).expect("the rule");
    let (shown, _more) = shown.split_once(" …").expect("a rule cut short");
    assert!(line.replace(PASSWORD, "PASSWORD").starts_with(shown), "{line}");
}

/// If the server's user may not read the name of the history, epochs have none, and everything else works.
#[tokio::test]
async fn publishing_works_without_the_right_to_info() {
    let (redis, server) = redis_and_server().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    redis.ask(&["ACL", "SETUSER", "default", "-info"]);
    client.join("room").await;
    let mut sent = Vec::new();
    eventually("the name is asked for", async || {
        sent.extend(client.publish_many("room", 1, 10).await);
        redis.ask(&["ACL", "LOG"]).list().iter().any(|entry| entry.field("object").text() == "info")
    })
    .await;
    assert_eq!(ids(&client.messages(sent.len()).await), sent);
}
