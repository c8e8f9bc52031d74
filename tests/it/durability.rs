//! The failures that a confirmed message survives: lost replicas, failover by a sentinel, and rooms of
//! several servers merged into one Redis.

use serde_json::json;

use crate::harness::{Client, Redis, Rest, Sentinel, Server, eventually, everything, id_of, ids, seq, seqs};

/// Rules: op-4, pub-4.
#[tokio::test]
async fn with_durability_replica_a_message_is_confirmed_once_a_replica_has_it() {
    let primary = Redis::on_port(&["--appendonly", "no"]).await;
    let replica = primary.replica().await;
    let server = Server::with(&primary.url(), &[("ROOMLOG_REDIS__DURABILITY", "replica")]).await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    let ids = client.publish_many("room", 50, 10).await;
    assert_eq!(replica.ask(&["XLEN", "rl:{room}:log"]).number(), ids.len() as i64);

    replica.pause();
    let key = uuid::Uuid::new_v4();
    let publish = json!({ "op": "publish", "room": "room", "data": "held back", "key": key });
    assert_eq!(
        client.error(publish.clone()).await,
        "unavailable",
        "while the replica is silent, not after it"
    );
    replica.resume();
    let mut id = None;
    eventually("it is confirmed", async || {
        let answer = client.request(publish.clone()).await;
        id = (answer["op"] == "ok").then(|| id_of(&answer));
        id.is_some()
    })
    .await;
    assert_eq!(seq(&id.unwrap()), 51, "stored once, whatever was answered first");
    assert_eq!(replica.ask(&["XLEN", "rl:{room}:log"]).number(), 51);
}

#[tokio::test]
async fn weaker_durability_than_configured_is_reported() {
    let redis = Redis::start().await;
    let server = Server::with(&redis.url(), &[("ROOMLOG_REDIS__DURABILITY", "disk")]).await;
    let rest = Rest::anonymous(&server);
    let ready = rest.get("/readyz").await;
    assert!(ready.body.to_string().contains("disk"), "{ready:?}");
    let metrics = rest.get("/metrics").await.with(200);
    assert!(metrics.as_str().unwrap().contains("roomlog_durability_as_wanted 0"));
}

#[tokio::test]
async fn a_sentinel_failover_loses_no_replicated_message() {
    let mut primary = Redis::on_port(&["--appendonly", "no"]).await;
    let replica = primary.replica().await;
    let sentinel = Sentinel::start(&primary).await;
    let server = Server::with(&sentinel.url(), &[("ROOMLOG_REDIS__DURABILITY", "replica")]).await;
    let mut writer = Client::connect(&server, &everything("ann")).await;
    let mut reader = Client::connect(&server, &everything("bob")).await;
    reader.join("room").await;
    let before = writer.publish_many("room", 50, 10).await;
    assert_eq!(ids(&reader.messages(50).await), before);

    // The only other copy is gone, and the new primary has no replica. Everything that was confirmed before
    // is still there.
    primary.stop();
    eventually("the replica is the primary", async || replica.ask(&["ROLE"]).list()[0].text() == "master")
        .await;
    eventually("history is there", async || {
        let page = writer.request(json!({ "op": "history", "room": "room", "after": "0" })).await;
        page["messages"].as_array().is_some_and(|messages| ids(messages) == before)
    })
    .await;
    let late = Server::on(&sentinel.url()).await;
    let mut late = Client::connect(&late, &everything("cia")).await;
    let mut id = None;
    eventually("publishing goes on", async || {
        let answer = late.request(json!({ "op": "publish", "room": "room", "data": "on" })).await;
        id = (answer["op"] == "ok").then(|| id_of(&answer));
        id.is_some()
    })
    .await;
    assert_eq!(id_of(&reader.expect("message").await), id.unwrap());
}

/// A sentinel that has promoted a replica still calls the old primary the master, with the new epoch, until
/// the other replicas follow. The address to use is the one that it gives to clients.
#[tokio::test]
async fn the_promoted_replica_is_used_before_the_other_replicas_follow_it() {
    let mut primary = Redis::on_port(&["--appendonly", "no"]).await;
    let replica = primary.replica().await;
    let stuck = primary.replica().await;
    stuck.ask(&["CONFIG", "SET", "replica-priority", "0", "masterauth", "wrong"]);
    let sentinel = Sentinel::watching(primary.port(), 1, 2).await;
    sentinel.ask(&["SENTINEL", "SET", "main", "failover-timeout", "600000"]);
    let server = Server::on(&sentinel.url()).await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    client.publish_many("room", 3, 10).await;

    primary.stop();
    let mut id = None;
    eventually("publishing works again", async || {
        let answer = client.request(json!({ "op": "publish", "room": "room", "data": "on" })).await;
        id = (answer["op"] == "ok").then(|| id_of(&answer));
        id.is_some()
    })
    .await;
    assert_eq!(
        replica.ask(&["XREVRANGE", "rl:{room}:log", "+", "-", "COUNT", "1"]).list()[0].list()[0].text(),
        id.unwrap()
    );
    let master = sentinel.ask(&["SENTINEL", "MASTER", "main"]);
    assert!(master.field("flags").text().contains("failover_in_progress"), "{master:?}");
}

#[tokio::test]
async fn servers_with_different_prefixes_share_nothing() {
    let redis = Redis::start().await;
    let one = Server::with(&redis.url(), &[("ROOMLOG_REDIS__PREFIX", "one:")]).await;
    let two = Server::with(&redis.url(), &[("ROOMLOG_REDIS__PREFIX", "two:")]).await;
    let mut ann = Client::connect(&one, &everything("ann")).await;
    let mut bob = Client::connect(&two, &everything("bob")).await;
    ann.publish_many("room", 3, 10).await;
    bob.publish("room", json!(1)).await;
    bob.subscribe("room", json!({ "since": "0" })).await;
    assert_eq!(seqs(&bob.until("live").await), [1]);
    let keys = redis.ask(&["KEYS", "*"]);
    let is_prefixed = |key: &str| key.starts_with("one:") || key.starts_with("two:");
    assert!(keys.list().iter().all(|key| is_prefixed(&key.text())), "{keys:?}");
}
