//! Durable subscriptions: a position that moves only by the client's acknowledgements, kept in Redis, and
//! held by one connection at a time.

mod http;

use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::{
    Client, Redis, Reply, Rest, Server, admin, eventually, everything, id_of, ids, redis_and_server, seqs,
    to_msgpack,
};

/// Starts a server, and a room with `count` messages. Returns their ids too.
async fn room_with(count: usize) -> (Redis, Server, Vec<String>) {
    let (redis, server) = redis_and_server().await;
    let ids = Client::connect(&server, &everything("ann")).await.publish_many("room", count, 10).await;
    (redis, server, ids)
}

/// Returns the consumer group of a durable subscription, as Redis shows it.
fn group(redis: &Redis, name: &str) -> Option<Reply> {
    let groups = redis.ask(&["XINFO", "GROUPS", "rl:{room}:log"]);
    groups.list().iter().find(|group| group.field("name").text() == name).cloned()
}

/// Returns the id at which the group stands.
fn position(redis: &Redis, name: &str) -> String {
    group(redis, name).unwrap().field("last-delivered-id").text()
}

fn durable() -> Value {
    json!({ "durable": "phone" })
}

/// Rules: word-5, op-5, op-12, sub-11.
#[tokio::test]
async fn the_position_moves_only_by_acknowledging() {
    let (redis, server, ids) = room_with(10).await;
    let mut client = Client::connect(&server, &everything("bob")).await;
    client.subscribe("room", json!({ "durable": "phone", "since": "0" })).await;
    assert_eq!(seqs(&client.until("live").await), (1..=10).collect::<Vec<_>>());
    client.ok(json!({ "op": "ack", "room": "room", "id": ids[3] })).await;
    // After `ok`, Redis holds the position, and counts the remaining messages itself.
    assert_eq!(position(&redis, "bob/phone"), ids[3]);
    assert_eq!(group(&redis, "bob/phone").unwrap().field("lag").number(), 6);

    // An acknowledgement at or below the position changes nothing.
    for id in [&ids[3], &ids[1]] {
        client.ok(json!({ "op": "ack", "room": "room", "id": id })).await;
        assert_eq!(position(&redis, "bob/phone"), ids[3]);
    }
    let beyond = json!({ "op": "ack", "room": "room", "id": ids[9].replace("-10", "-11") });
    assert_eq!(client.error(beyond).await, "bad_request");
    client.close().await;

    let mut client = Client::connect(&server, &everything("bob")).await;
    let answer = client.subscribe("room", durable()).await;
    assert_eq!((&answer["position"], &answer["head"]), (&json!(ids[3]), &json!(ids[9])));
    assert_eq!(seqs(&client.until("live").await), (5..=10).collect::<Vec<_>>());
}

/// Rules: word-5, op-12.
#[tokio::test]
async fn missed_messages_are_delivered_on_any_node() {
    let (redis, server, _ids) = room_with(2).await;
    let other = Server::on(&redis.url()).await;
    let mut client = Client::connect(&server, &everything("bob")).await;
    client.subscribe("room", durable()).await;
    assert_eq!(client.until("live").await, Vec::<Value>::new(), "its first use starts with what is new");
    client.close().await;

    let mut writer = Client::connect(&server, &everything("ann")).await;
    writer.publish_many("room", 3, 10).await;
    let mut client = Client::connect(&other, &everything("bob")).await;
    client.subscribe("room", durable()).await;
    let messages = client.until("live").await;
    assert_eq!(seqs(&messages), [3, 4, 5]);
    let id = writer.publish("room", json!("live")).await;
    assert_eq!(id_of(&client.expect("message").await), id);
    client.ok(json!({ "op": "ack", "room": "room", "id": id })).await;
    assert_eq!(group(&redis, "bob/phone").unwrap().field("lag").number(), 0);
}

/// Rules: word-5, op-12, sub-8.
#[tokio::test]
async fn the_first_use_sets_the_start_and_since_replaces_it_later() {
    let (redis, server, ids) = room_with(6).await;
    let subscribe = async |fields: Value| {
        let mut client = Client::connect(&server, &everything("bob")).await;
        let answer = client.subscribe("room", fields).await;
        let messages = client.until("live").await;
        client.close().await;
        (answer["position"].as_str().unwrap().to_owned(), seqs(&messages))
    };
    assert_eq!(subscribe(json!({ "durable": "a", "last": 2 })).await, (ids[3].clone(), vec![5, 6]));
    assert_eq!(position(&redis, "bob/a"), ids[3]);
    // Each later use starts at the stored position, whatever `last` is.
    assert_eq!(subscribe(json!({ "durable": "a", "last": 1 })).await.1, [5, 6]);
    assert_eq!(subscribe(json!({ "durable": "a" })).await.1, [5, 6]);
    assert_eq!(subscribe(json!({ "durable": "a", "since": ids[1] })).await.1, [3, 4, 5, 6]);
    assert_eq!(position(&redis, "bob/a"), ids[1]);
    assert_eq!(subscribe(json!({ "durable": "a", "since": "$" })).await.1, Vec::<u64>::new());
    assert_eq!(position(&redis, "bob/a"), ids[5]);
    assert_eq!(subscribe(json!({ "durable": "a", "since": "0" })).await.1, [1, 2, 3, 4, 5, 6]);
    // Subscriptions with another name, or of another user, are distinct.
    assert_eq!(subscribe(json!({ "durable": "b", "since": ids[4] })).await.1, [6]);
    let mut cia = Client::connect(&server, &everything("cia")).await;
    cia.subscribe("room", json!({ "durable": "a" })).await;
    assert_eq!(cia.until("live").await, Vec::<Value>::new());
}

/// Rules: op-13, out-6, sub-10, code-9.
#[tokio::test]
async fn the_newest_connection_takes_over() {
    let (redis, server, ids) = room_with(3).await;
    let other = Server::on(&redis.url()).await;
    let mut holder = Client::connect(&server, &everything("bob")).await;
    holder.subscribe("room", json!({ "durable": "phone", "since": "0" })).await;
    assert_eq!(holder.until("live").await.len(), 3);

    for node in [&server, &other, &server] {
        let mut newer = Client::connect(node, &everything("bob")).await;
        newer.subscribe("room", durable()).await;
        assert_eq!(newer.until("live").await.len(), 3);
        let ended = holder.expect("unsubscribed").await;
        assert_eq!((&ended["room"], &ended["code"]), (&json!("room"), &json!("replaced")));
        assert!(ended["message"].is_string());
        let ack = json!({ "op": "ack", "room": "room", "id": ids[2] });
        assert_eq!(holder.error(ack).await, "not_subscribed");
        holder = newer;
    }
    holder.ok(json!({ "op": "ack", "room": "room", "id": ids[0] })).await;
    assert_eq!(position(&redis, "bob/phone"), ids[0]);
}

/// Rules: op-13.
#[tokio::test]
async fn a_concurrent_takeover_notifies_the_loser() {
    let (_redis, server, _) = room_with(1).await;
    for round in 0..20 {
        let name = json!({ "durable": format!("phone{round}") });
        let mut both = [
            Client::connect(&server, &everything("bob")).await,
            Client::connect(&server, &everything("bob")).await,
        ];
        let [one, other] = &mut both;
        tokio::join!(one.subscribe("room", name.clone()), other.subscribe("room", name));
        tokio::select! {
            _told = one.until("unsubscribed") => {}
            _told = other.until("unsubscribed") => {}
        }
    }
}

/// Rules: op-5, ws-3, code-10.
#[tokio::test]
async fn only_a_durable_subscription_can_be_acknowledged() {
    let (_redis, server, ids) = room_with(1).await;
    let mut client = Client::connect(&server, &everything("bob")).await;
    let ack = json!({ "op": "ack", "room": "room", "id": ids[0] });
    assert_eq!(client.error(ack.clone()).await, "not_subscribed");
    client.join("room").await;
    assert_eq!(client.error(ack.clone()).await, "not_durable");
    for id in [json!("x"), json!(1), Value::Null] {
        let ack = json!({ "op": "ack", "room": "room", "id": id });
        assert_eq!(client.error(ack).await, "bad_request");
    }
    // A failure is reported even without a `ref`.
    client.send(ack).await;
    assert_eq!(client.expect("error").await["code"], "not_durable");
}

/// Rules: op-3.
#[tokio::test]
async fn deleting_the_subscription_deletes_the_position() {
    let (redis, server, ids) = room_with(4).await;
    let mut client = Client::connect(&server, &everything("bob")).await;
    client.subscribe("room", json!({ "durable": "phone", "since": ids[0] })).await;
    client.until("live").await;
    client.ok(json!({ "op": "unsubscribe", "room": "room" })).await;
    assert_eq!(position(&redis, "bob/phone"), ids[0], "unsubscribing alone keeps it");

    client.subscribe("room", durable()).await;
    assert_eq!(seqs(&client.until("live").await), [2, 3, 4]);
    client.ok(json!({ "op": "unsubscribe", "room": "room", "forget": true })).await;
    assert_eq!(group(&redis, "bob/phone"), None);
    client.subscribe("room", durable()).await;
    assert_eq!(client.until("live").await, Vec::<Value>::new(), "it starts anew");
}

#[tokio::test]
async fn a_late_notification_does_not_end_a_newer_subscription() {
    let (redis, server, _ids) = room_with(1).await;
    let mut client = Client::connect(&server, &everything("bob")).await;
    client.subscribe("room", durable()).await;
    client.until("live").await;
    let stored = redis.ask(&["HGET", "rl:{room}:subs", "bob/phone"]).text();
    let holder = stored.rsplit(' ').next().unwrap();
    client.ok(json!({ "op": "unsubscribe", "room": "room", "forget": true })).await;
    client.subscribe("room", durable()).await;
    client.until("live").await;

    // A notification may arrive late: that the earlier subscription was deleted, or taken over.
    for word in ["f", "t"] {
        let late = to_msgpack(&json!([word, "bob/phone", holder]));
        redis.ask(&[b"SPUBLISH", &b"rl:{room}:bell"[..], &late]);
    }
    let mut writer = Client::connect(&server, &everything("ann")).await;
    let id = writer.publish("room", json!("still here?")).await;
    assert_eq!(id_of(&client.expect("message").await), id);
}

/// Rules: api-10.
#[tokio::test]
async fn the_listing_shows_position_lag_and_who_is_connected() {
    let (redis, server, ids) = room_with(5).await;
    let other = Server::on(&redis.url()).await;
    let mut bob = Client::connect(&server, &everything("bob")).await;
    bob.subscribe("room", json!({ "durable": "phone", "since": "0" })).await;
    bob.ok(json!({ "op": "ack", "room": "room", "id": ids[1] })).await;
    let mut cia = Client::connect(&other, &everything("cia")).await;
    cia.subscribe("room", json!({ "durable": "desk" })).await;

    let rest = Rest::new(&server, &admin());
    let subscription = |user, name, position: &str, lag, connected| json!({ "user": user, "name": name, "position": position, "lag": lag, "connected": connected });
    let listed = rest.get("/v1/rooms/room/subscriptions").await.with(200);
    let both = json!([
        subscription("bob", "phone", &ids[1], 3, true),
        subscription("cia", "desk", &ids[4], 0, true)
    ]);
    assert_eq!(listed, both);

    bob.close().await;
    let left = subscription("bob", "phone", &ids[1], 3, false);
    eventually("bob is seen to have left", async || {
        rest.get("/v1/rooms/room/subscriptions").await.with(200)[0] == left
    })
    .await;
}

/// Rules: sub-11.
#[tokio::test]
async fn acknowledgements_are_written_together() {
    let (redis, server, ids) = room_with(1000).await;
    let mut client = Client::connect(&server, &everything("bob")).await;
    client.subscribe("room", json!({ "durable": "phone", "since": "0" })).await;
    client.until("live").await;
    redis.ask(&["CONFIG", "RESETSTAT"]);
    let started = Instant::now();
    for chunk in ids.chunks(5) {
        for id in chunk {
            client.send(json!({ "op": "ack", "room": "room", "id": id })).await;
        }
        client.settled().await;
    }
    eventually("the last one is written", async || position(&redis, "bob/phone") == ids[999]).await;
    let (writes, seconds) = (redis.calls("xgroup|setid"), started.elapsed().as_secs_f64());
    assert!(writes as f64 <= 4.0 * seconds + 2.0, "{writes} writes in {seconds} s");
}

/// Rules: sub-9.
#[tokio::test]
async fn acknowledgements_are_written_when_the_connection_ends() {
    let (redis, server, ids) = room_with(5).await;
    let mut client = Client::connect(&server, &everything("bob")).await;
    client.subscribe("room", json!({ "durable": "phone", "since": "0" })).await;
    client.until("live").await;
    for id in &ids[..3] {
        client.send(json!({ "op": "ack", "room": "room", "id": id })).await;
    }
    client.close().await;
    eventually("the position is written", async || position(&redis, "bob/phone") == ids[2]).await;
}

/// Rules: sub-9, close-1012.
#[tokio::test]
async fn acknowledgements_are_written_when_the_server_shuts_down() {
    let (redis, mut server, all) = room_with(5).await;
    let mut client = Client::connect(&server, &everything("bob")).await;
    client.subscribe("room", json!({ "durable": "phone", "since": "0" })).await;
    let messages = client.until("live").await;
    assert_eq!(ids(&messages), all);
    for id in &all[..4] {
        client.send(json!({ "op": "ack", "room": "room", "id": id })).await;
    }
    client.settled().await;
    let (status, closed) = tokio::join!(server.terminate(), client.closed());
    assert!(status.success(), "{status}");
    assert_eq!(closed, 1012);
    assert_eq!(position(&redis, "bob/phone"), all[3]);
    let goodbye = client.expect("goodbye").await;
    assert!(goodbye["retry_after_ms"].is_u64(), "{goodbye}");
}

/// Rules: out-4.
#[tokio::test]
async fn a_position_overtaken_by_retention_is_a_gap() {
    let (redis, server, ids) = room_with(8).await;
    let mut client = Client::connect(&server, &everything("bob")).await;
    client.subscribe("room", json!({ "durable": "phone", "since": ids[1] })).await;
    client.close().await;
    redis.ask(&["XTRIM", "rl:{room}:log", "MINID", "=", &ids[5]]);
    let mut client = Client::connect(&server, &everything("bob")).await;
    let answer = client.subscribe("room", durable()).await;
    assert_eq!(answer["position"], json!(ids[1]));
    let gap = json!({ "op": "gap", "room": "room", "after": ids[1], "next": ids[5], "reason": "trimmed" });
    assert_eq!(client.next().await, gap);
    assert_eq!(seqs(&client.until("live").await), [6, 7, 8]);
}
