//! Subscribing: the start of delivery, the backlog, the live messages after it, and gaps.

use serde_json::{Value, json};

use crate::harness::{
    Client, NO_CHECKS, Redis, Server, everything, id_of, ids, redis_and_server, room_with, seq, seqs, token,
};

/// Rules: op-2, op-10, op-11.
#[tokio::test]
async fn delivery_starts_at_the_requested_position() {
    let (_redis, server, _writer, ids) = room_with(10).await;
    let cases = [
        (json!({}), 10),
        (json!({ "since": "$" }), 10),
        (json!({ "since": "0" }), 0),
        (json!({ "since": ids[3] }), 4),
        (json!({ "since": ids[9] }), 10),
        (json!({ "last": 3 }), 7),
        (json!({ "last": 0 }), 10),
        (json!({ "last": 10 }), 0),
        (json!({ "last": 1000 }), 0),
    ];
    for (fields, after) in cases {
        let mut client = Client::connect(&server, &everything("bob")).await;
        let answer = client.subscribe("room", fields.clone()).await;
        assert_eq!(answer["room"], "room");
        assert_eq!(answer["head"], json!(ids[9]));
        assert_eq!(seq(answer["position"].as_str().unwrap()), after as u64, "{fields}");
        let messages = client.until("live").await;
        assert_eq!(crate::harness::ids(&messages), ids[after..], "{fields}");
    }
}

/// Rules: op-2, out-3.
#[tokio::test]
async fn a_room_without_messages_can_be_subscribed_to() {
    let (_redis, server, mut writer, _ids) = room_with(0).await;
    for fields in [json!({}), json!({ "since": "0" }), json!({ "since": "0-0" }), json!({ "last": 5 })] {
        let mut client = Client::connect(&server, &everything("bob")).await;
        let answer = client.subscribe("empty", fields.clone()).await;
        assert_eq!((&answer["position"], &answer["head"]), (&json!("0-0"), &json!("0-0")), "{fields}");
        let live = client.expect("live").await;
        assert_eq!(live, json!({ "op": "live", "room": "empty", "id": "0-0" }));
    }
    let mut client = Client::connect(&server, &everything("bob")).await;
    client.join("first").await;
    let id = writer.publish("first", json!(1)).await;
    assert_eq!(id_of(&client.next().await), id);
}

/// Rules: op-2, out-2, out-3, sub-4.
#[tokio::test]
async fn a_long_backlog_is_delivered_in_order_and_in_batches() {
    let (_redis, server, mut writer, mut expected) = room_with(3000).await;
    for connect in [true, false] {
        let mut client = match connect {
            true => Client::connect(&server, &everything("bob")).await,
            false => Client::connect_msgpack(&server, &everything("bob")).await,
        };
        client.subscribe("room", json!({ "since": "0" })).await;
        let messages = client.messages(expected.len()).await;
        assert_eq!(ids(&messages), expected);
        assert!(client.received < 1000, "{} WebSocket messages", client.received);
        let live = client.expect("live").await;
        assert_eq!(live, json!({ "op": "live", "room": "room", "id": expected.last() }));

        expected.push(writer.publish("room", json!("new")).await);
        assert_eq!(id_of(&client.expect("message").await), *expected.last().unwrap());
        assert_eq!(client.settled().await, Vec::<Value>::new(), "`live` comes once");
    }
}

/// Rules: op-2.
#[tokio::test]
async fn nothing_is_missed_between_backlog_and_live() {
    let (_redis, server, mut writer, _ids) = room_with(500).await;
    let mut readers = Vec::new();
    for _ in 0..5 {
        readers.push(Client::connect(&server, &everything("bob")).await);
    }
    let write = writer.publish_many("room", 1000, 10);
    let read = async {
        for reader in &mut readers {
            reader.subscribe("room", json!({ "since": "0" })).await;
        }
    };
    tokio::join!(write, read);
    for reader in &mut readers {
        let mut seen = reader.until("live").await;
        seen.extend(reader.messages(1500 - seen.len()).await);
        assert_eq!(seqs(&seen), (1..=1500).collect::<Vec<_>>());
    }
}

/// Rules: op-2.
#[tokio::test]
async fn new_subscribers_do_not_miss_the_first_message_of_a_room() {
    let (redis, server, mut writer, _ids) = room_with(0).await;
    let other = Server::on(&redis.url()).await;
    let mut near = Client::connect(&server, &everything("bob")).await;
    let mut far = Client::connect(&other, &everything("cia")).await;
    for n in 0..300 {
        let room = format!("first.{n}");
        let fields = || json!({ "since": "0" });
        let (id, ..) = tokio::join!(
            writer.publish(&room, json!(n)),
            near.subscribe(&room, fields()),
            far.subscribe(&room, fields())
        );
        for reader in [&mut near, &mut far] {
            let mut frames = [reader.next().await, reader.next().await];
            frames.sort_by_key(|frame| frame["op"].as_str().map(str::to_owned));
            assert_eq!((&frames[0]["op"], &frames[1]["op"]), (&json!("live"), &json!("message")), "{room}");
            assert_eq!(id_of(&frames[1]), id);
        }
    }
}

#[tokio::test]
async fn a_message_reaches_other_nodes() {
    let (redis, server, mut writer, _ids) = room_with(0).await;
    let other = Server::with(&redis.url(), &NO_CHECKS).await;
    let mut near = Client::connect(&server, &everything("bob")).await;
    let mut far = Client::connect_msgpack(&other, &everything("cia")).await;
    for reader in [&mut near, &mut far] {
        reader.join("room").await;
    }
    let ids = writer.publish_many("room", 500, 100).await;
    for reader in [&mut near, &mut far] {
        assert_eq!(crate::harness::ids(&reader.messages(500).await), ids);
    }
    // One message at a time, so that none is found because of another.
    for _ in 0..20 {
        writer.deliver("room", &mut far).await;
    }
}

/// Rules: op-3.
#[tokio::test]
async fn unsubscribing_ends_delivery() {
    let (_redis, _server, mut client, _ids) = room_with(1).await;
    client.join("room").await;
    client.join("other").await;
    let answer = client.ok(json!({ "op": "unsubscribe", "room": "room" })).await;
    client.publish("room", json!(2)).await;
    let id = client.publish("other", json!(1)).await;
    let frames = client.settled().await;
    assert_eq!(ids(&frames), [id], "after {answer}");

    assert_eq!(client.error(json!({ "op": "unsubscribe", "room": "room" })).await, "not_subscribed");
    let answer = client.subscribe("room", json!({ "since": "0" })).await;
    assert_eq!(seq(answer["head"].as_str().unwrap()), 2);
    assert_eq!(seqs(&client.until("live").await), [1, 2]);
}

/// Rules: sub-2.
#[tokio::test]
async fn an_id_that_was_never_assigned_does_not_stall_delivery() {
    let (_redis, server, mut writer, ids) = room_with(3).await;
    for since in ["99999999999999-7", "1-1", "1-900"] {
        let mut client = Client::connect(&server, &everything("bob")).await;
        client.subscribe("room", json!({ "since": since })).await;
        let frames = client.until("live").await;
        let gap = frames.iter().find(|frame| frame["op"] == "gap");
        assert_eq!(gap.is_none(), since == "1-1" && frames.len() == 3, "{since}: {frames:?}");
        assert!(gap.is_none_or(|gap| gap["reason"] == "rewound"), "{since}: {frames:?}");
        let id = writer.publish("room", json!(since)).await;
        assert_eq!(id_of(&client.expect("message").await), id, "{since}");
    }
    assert_eq!(seq(&ids[2]), 3);
}

/// Rules: sub-1.
#[tokio::test]
async fn subscribing_again_starts_over() {
    let (_redis, _server, mut client, _ids) = room_with(5).await;
    client.subscribe("room", json!({ "last": 2 })).await;
    assert_eq!(seqs(&client.until("live").await), [4, 5]);
    client.subscribe("room", json!({ "since": "0" })).await;
    assert_eq!(seqs(&client.until("live").await), [1, 2, 3, 4, 5]);
    client.publish("room", json!(6)).await;
    assert_eq!(seqs(&client.settled().await), [6], "one subscription a room");
}

/// Rules: op-2, op-11, op-12, token-1.
#[tokio::test]
async fn impossible_subscriptions_are_refused() {
    let (_redis, server, mut client, ids) = room_with(1).await;
    for fields in [
        json!({ "since": ids[0], "last": 1 }),
        json!({ "since": "yesterday" }),
        json!({ "since": 5 }),
        json!({ "last": 1001 }),
        json!({ "last": -1 }),
        json!({ "last": "3" }),
        json!({ "durable": "" }),
        json!({ "durable": "a b" }),
        json!({ "durable": "x".repeat(65) }),
    ] {
        let mut frame = json!({ "op": "subscribe", "room": "room" });
        frame.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        assert_eq!(client.error(frame).await, "bad_request", "{fields}");
    }
    assert_eq!(client.error(json!({ "op": "subscribe", "room": ".x" })).await, "bad_request");

    let mut writer = Client::connect(&server, &token("eve", json!({ "room": ["write"] }))).await;
    assert_eq!(writer.error(json!({ "op": "subscribe", "room": "room" })).await, "forbidden");
}

/// Rules: word-1, token-2.
#[tokio::test]
async fn only_its_user_reads_an_inbox() {
    let (_redis, server) = redis_and_server().await;
    let mut ann = Client::connect(&server, &token("ann", json!({}))).await;
    let mut bob = Client::connect(&server, &everything("bob")).await;
    ann.join("@ann").await;
    assert_eq!(bob.error(json!({ "op": "subscribe", "room": "@ann" })).await, "forbidden");
    assert_eq!(bob.error(json!({ "op": "history", "room": "@ann" })).await, "forbidden");
    let id = bob.publish("@ann", json!("psst")).await;
    let message = ann.expect("message").await;
    assert_eq!((id_of(&message), &message["from"]), (id, &json!("bob")));
    assert_eq!(ann.error(json!({ "op": "publish", "room": "@bob", "data": 1 })).await, "forbidden");
}

/// Rules: code-13.
#[tokio::test]
async fn too_many_subscriptions_are_refused() {
    let redis = Redis::start().await;
    let server = Server::with(&redis.url(), &[("ROOMLOG_LIMITS__SUBSCRIPTIONS", "2")]).await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    client.join("a").await;
    client.join("b").await;
    assert_eq!(client.error(json!({ "op": "subscribe", "room": "c" })).await, "too_many");
    client.ok(json!({ "op": "unsubscribe", "room": "a" })).await;
    client.join("c").await;
}

/// Rules: out-4, sub-3.
#[tokio::test]
async fn trimmed_messages_are_a_gap() {
    let (redis, server, mut writer, ids) = room_with(10).await;
    redis.ask(&["XTRIM", "rl:{room}:log", "MAXLEN", "=", "4"]);
    let mut client = Client::connect(&server, &everything("bob")).await;
    let answer = client.subscribe("room", json!({ "since": ids[1] })).await;
    assert_eq!(answer["position"], json!(ids[1]));
    let gap = json!({ "op": "gap", "room": "room", "after": ids[1], "next": ids[6], "reason": "trimmed" });
    assert_eq!(client.next().await, gap);
    assert_eq!(seqs(&client.until("live").await), [7, 8, 9, 10]);

    // From the oldest retained message on, nothing is missing.
    client.subscribe("room", json!({ "since": "0" })).await;
    assert_eq!(seqs(&client.until("live").await), [7, 8, 9, 10]);

    // Everything is removed. Delivery continues with the next message, whose number is already known.
    redis.ask(&["XTRIM", "rl:{room}:log", "MAXLEN", "=", "0"]);
    let mut client = Client::connect(&server, &everything("cia")).await;
    client.subscribe("room", json!({ "since": ids[1] })).await;
    let gap = client.expect("gap").await;
    assert_eq!((&gap["after"], &gap["reason"]), (&json!(ids[1]), &json!("trimmed")));
    assert_eq!(gap["next"], json!(ids[9].replace("-10", "-11")), "the smallest id that it can have");
    client.expect("live").await;
    writer.publish("room", json!(11)).await;
    assert_eq!(seqs(&client.messages(1).await), [11]);
}

/// Rules: out-4, sub-3.
#[tokio::test]
async fn a_message_deleted_from_the_middle_is_a_gap() {
    let (redis, server, _writer, ids) = room_with(6).await;
    redis.ask(&["XDEL", "rl:{room}:log", &ids[2], &ids[3]]);
    let mut client = Client::connect_msgpack(&server, &everything("bob")).await;
    client.subscribe("room", json!({ "since": "0" })).await;
    assert_eq!(seqs(&client.messages(2).await), [1, 2]);
    let gap = json!({ "op": "gap", "room": "room", "after": ids[1], "next": ids[4], "reason": "trimmed" });
    assert_eq!(client.next().await, gap);
    assert_eq!(seqs(&client.until("live").await), [5, 6]);
}

/// Redis comes back in an older state, as after a failover to a replica that was behind.
/// Rules: out-4, sub-2, sub-3.
#[tokio::test]
async fn lost_writes_are_always_a_gap() {
    let (redis, server, mut writer, _ids) = room_with(3).await;
    let keys = ["rl:{room}:log", "rl:{room}:head"];
    let older = keys.map(|key| match redis.ask(&["DUMP", key]) {
        crate::harness::Reply::Bytes(bytes) => bytes,
        other => panic!("{other:?}"),
    });
    let mut live = Client::connect(&server, &everything("bob")).await;
    live.subscribe("room", json!({ "since": "0" })).await;
    let lost = writer.publish_many("room", 2, 10).await;
    let mut seen = live.until("live").await;
    seen.extend(live.messages(5 - seen.len()).await);
    assert_eq!(seqs(&seen), [1, 2, 3, 4, 5]);

    for (key, value) in keys.iter().zip(&older) {
        redis.ask(&[&b"RESTORE"[..], key.as_bytes(), b"0", value, b"REPLACE"]);
    }
    let new = writer.publish_many("room", 2, 10).await;
    assert_eq!(new.iter().map(|id| seq(id)).collect::<Vec<_>>(), [4, 5]);
    let gap = json!({ "op": "gap", "room": "room", "after": lost[1], "next": new[0], "reason": "rewound" });
    assert_eq!(live.next().await, gap);
    assert_eq!(ids(&live.messages(2).await), new);

    let mut resumed = Client::connect(&server, &everything("cia")).await;
    resumed.subscribe("room", json!({ "since": lost[1] })).await;
    assert_eq!(resumed.next().await, gap);
    assert_eq!(ids(&resumed.until("live").await), new);
}

/// Rules: out-4.
#[tokio::test]
async fn a_redis_that_lost_everything_is_a_gap() {
    let (redis, _server, mut client, ids) = room_with(3).await;
    client.subscribe("room", json!({ "last": 1 })).await;
    assert_eq!(seqs(&client.until("live").await), [3]);
    redis.ask(&["FLUSHALL"]);
    let id = client.publish("room", json!("anew")).await;
    assert_eq!(seq(&id), 1);
    let gap = json!({ "op": "gap", "room": "room", "after": ids[2], "next": id, "reason": "rewound" });
    assert_eq!(client.next().await, gap);
    assert_eq!(seqs(&client.messages(1).await), [1]);
}

/// Rules: sub-1.
#[tokio::test]
async fn a_failed_subscribe_leaves_the_previous_subscription_unchanged() {
    let mut redis = Redis::durable().await;
    let server = Server::on(&redis.url()).await;
    let mut client = Client::connect(&server, &everything("bob")).await;
    let mut writer = Client::connect(&server, &everything("ann")).await;
    for room in ["plain", "durable", "other"] {
        writer.publish(room, json!(1)).await;
        let fields = if room == "plain" { json!({}) } else { json!({ "durable": "phone" }) };
        client.subscribe(room, fields).await;
        client.until("live").await;
    }
    redis.stop();
    for (room, fields) in [
        ("plain", json!({ "since": "0" })),
        ("durable", json!({ "durable": "phone" })),
        ("other", json!({ "durable": "desk" })),
    ] {
        let mut frame = json!({ "op": "subscribe", "room": room });
        frame.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        assert_eq!(client.error(frame).await, "unavailable", "{room}");
    }
    redis.start_again().await;
    for room in ["plain", "durable", "other"] {
        let frame = json!({ "op": "publish", "room": room, "data": 2 });
        crate::harness::eventually("Redis is found again", async || {
            writer.request(frame.clone()).await["op"] == "ok"
        })
        .await;
        let message = client.expect("message").await;
        assert_eq!((&message["room"], &message["data"]), (&json!(room), &json!(2)));
        if room != "plain" {
            client.ok(json!({ "op": "ack", "room": room, "id": message["id"] })).await;
        }
    }
}

/// Rules: sub-1.
#[tokio::test]
async fn taking_a_durable_subscription_again_is_no_takeover() {
    let (redis, server, _writer, ids) = room_with(3).await;
    let mut client = Client::connect(&server, &everything("bob")).await;
    client.subscribe("room", json!({ "durable": "phone", "since": "0" })).await;
    assert_eq!(client.until("live").await.len(), 3);
    // Earlier acknowledgements are written first.
    client.send(json!({ "op": "ack", "room": "room", "id": ids[1] })).await;
    let answer = client.subscribe("room", json!({ "durable": "phone" })).await;
    assert_eq!(answer["position"], json!(ids[1]));
    assert_eq!(client.until("live").await.len(), 1);
    // Released for another subscription, or for none, it is free.
    client.send(json!({ "op": "ack", "room": "room", "id": ids[2] })).await;
    client.subscribe("room", json!({})).await;
    assert_eq!(client.until("live").await, Vec::<Value>::new());
    let stored = redis.ask(&["HGET", "rl:{room}:subs", "bob/phone"]).text();
    assert!(stored.starts_with(&ids[2]) && stored.ends_with(" -"), "{stored}");
    assert_eq!(client.settled().await, Vec::<Value>::new(), "nothing is told of the ones before");
}
