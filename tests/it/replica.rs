//! Durability `replica`: a confirmed message is on a replica, whatever was tried before. Without a replica,
//! only publishes fail. Tested with the installed Redis and with a Valkey, whose `WAIT` counts a connection's
//! writes as newer versions of Redis do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::harness::{Client, Redis, Rest, Server, eventually, everything, id_of};

const ROOMS: usize = 8;

const REPLICA: [(&str, &str); 1] = [("ROOMLOG_REDIS__DURABILITY", "replica")];

fn rooms() -> impl Iterator<Item = String> {
    (0..ROOMS).map(|number| format!("room.{number}"))
}

async fn redis() -> Redis {
    Redis::on_port(&["--appendonly", "no"]).await
}

async fn valkey() -> Redis {
    Redis::valkey(&["--appendonly", "no"]).await
}

async fn a_second_try_is_confirmed_once_a_replica_has_the_first(primary: Redis) {
    let replica = primary.replica().await;
    // Nothing else was ever written on some of these nodes' connections.
    let (mut nodes, mut clients) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let node = Server::with(&primary.url(), &REPLICA).await;
        clients.push(Client::connect(&node, &everything("ann")).await);
        nodes.push(node);
    }
    replica.pause();
    let publishes: Vec<_> = rooms()
        .map(|room| json!({ "op": "publish", "room": room, "data": 1, "key": Uuid::new_v4() }))
        .collect();
    for client in &mut clients {
        let mut asked = Vec::new();
        for publish in &publishes {
            asked.push(client.ask(publish.clone()).await);
        }
        for reference in asked {
            let answer = client.answer(reference).await;
            assert_eq!(answer["code"], "unavailable", "no replica has it: {answer}");
        }
    }
    replica.resume();
    for publish in &publishes {
        eventually("it is confirmed", async || clients[0].request(publish.clone()).await["op"] == "ok").await;
    }
    for room in rooms() {
        assert_eq!(replica.ask(&["XLEN", &format!("rl:{{{room}}}:log")]).number(), 1);
    }
}

#[tokio::test]
async fn a_resent_message_waits_for_the_replica_on_redis() {
    a_second_try_is_confirmed_once_a_replica_has_the_first(redis().await).await;
}

#[tokio::test]
async fn a_resent_message_waits_for_the_replica_on_valkey() {
    a_second_try_is_confirmed_once_a_replica_has_the_first(valkey().await).await;
}

async fn what_is_sent_again_for_lost_functions_waits(primary: Redis) {
    let replica = primary.replica().await;
    let server = Server::with(&primary.url(), &REPLICA).await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    client.publish("room", json!("before")).await;
    replica.pause();
    primary.ask(&["FUNCTION", "FLUSH"]);
    let publish = json!({ "op": "publish", "room": "room", "data": 1, "key": Uuid::new_v4() });
    assert_eq!(client.error(publish.clone()).await, "unavailable");
    replica.resume();
    eventually("it is confirmed", async || client.request(publish.clone()).await["op"] == "ok").await;
    assert_eq!(replica.ask(&["XLEN", "rl:{room}:log"]).number(), 2);
}

#[tokio::test]
async fn lost_functions_do_not_shorten_the_wait_on_redis() {
    what_is_sent_again_for_lost_functions_waits(redis().await).await;
}

#[tokio::test]
async fn lost_functions_do_not_shorten_the_wait_on_valkey() {
    what_is_sent_again_for_lost_functions_waits(valkey().await).await;
}

/// Without a replica, all publishes fail for as long as that lasts. Nothing else fails, and no connection is
/// cut.
async fn only_publishes_need_a_replica(primary: Redis) {
    /// Far below the time that a command waits for a replica.
    const PROMPT: Duration = Duration::from_millis(900);
    let mut replica = primary.replica().await;
    let server = Server::with(&primary.url(), &REPLICA).await;
    let mut reader = Client::connect(&server, &everything("bob")).await;
    let mut newest = Vec::new();
    for room in rooms() {
        reader.publish(&room, json!(1)).await;
        newest.push(reader.publish(&room, json!(2)).await);
    }
    replica.stop();
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for room in rooms() {
        let (mut client, stop) = (Client::connect(&server, &everything("ann")).await, stop.clone());
        writers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let answer = client.request(json!({ "op": "publish", "room": room, "data": 3 })).await;
                assert_eq!(answer["code"], "unavailable");
            }
        });
    }
    let (since, pages) = (Instant::now(), Rest::anonymous(&server));
    let mut round = 0;
    while since.elapsed() < Duration::from_secs(12) {
        for (room, id) in rooms().zip(&newest) {
            let started = Instant::now();
            let page = reader.ok(json!({ "op": "history", "room": room, "after": "0", "limit": 2 })).await;
            assert_eq!(id_of(&page["messages"][1]), *id);
            // Some of the rooms' unconfirmed messages may be delivered.
            reader.ok(json!({ "op": "subscribe", "room": room, "durable": "phone", "since": id })).await;
            reader.ok(json!({ "op": "ack", "room": room, "id": id })).await;
            reader.ok(json!({ "op": "unsubscribe", "room": room })).await;
            assert!(started.elapsed() < PROMPT, "{:?}", started.elapsed());
        }
        assert_eq!(pages.get("/readyz").await.status, 200);
        round += 1;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    let log = server.log();
    assert!(!log.iter().any(|line| line.contains("Redis does not answer")), "{log:#?}");
    assert!(round > 3, "{round}");
    replica.start_again().await;
    let publish = json!({ "op": "publish", "room": "room.0", "data": 4 });
    eventually("publishing goes on", async || reader.request(publish.clone()).await["op"] == "ok").await;
}

#[tokio::test]
async fn without_a_replica_only_publishing_fails_on_redis() {
    only_publishes_need_a_replica(redis().await).await;
}

#[tokio::test]
async fn without_a_replica_only_publishing_fails_on_valkey() {
    only_publishes_need_a_replica(valkey().await).await;
}
