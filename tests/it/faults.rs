//! Failures, and their effect on users: Redis away or frozen, a node killed, functions flushed, a reader that
//! stops.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::{interval, timeout};
use uuid::Uuid;

use crate::harness::{
    Client, DEADLINE, NO_CHECKS, Redis, Rest, Server, Upgrade, eventually, everything, id_of, ids,
    redis_and_server, redis_and_servers, seq, seqs,
};

fn publish(key: &str, data: Value) -> Value {
    json!({ "op": "publish", "room": "room", "data": data, "key": key })
}

/// Publishes for ten seconds while Redis is away, then brings it back. No WebSocket is closed, and each
/// publish fails before Redis is back. Afterwards publishing and delivery continue without a hole, with each
/// key delivered once.
async fn redis_goes_away(mut redis: Redis, leave: impl Fn(&mut Redis), come_back: impl AsyncFn(&mut Redis)) {
    let (one, two) = (Server::on(&redis.url()).await, Server::on(&redis.url()).await);
    let mut writer = Client::connect(&one, &everything("ann")).await;
    let mut near = Client::connect(&one, &everything("bob")).await;
    let mut far = Client::connect(&two, &everything("cia")).await;
    near.join("room").await;
    far.join("room").await;
    writer.publish_many("room", 20, 100).await;

    leave(&mut redis);
    let mut failed = Vec::new();
    let mut ticks = interval(Duration::from_millis(500));
    let away = Instant::now();
    while away.elapsed() < Duration::from_secs(10) {
        let key = Uuid::new_v4().to_string();
        let answer = writer.request(publish(&key, json!("away"))).await;
        assert_eq!(answer["code"], "unavailable", "{answer}");
        failed.push(key);
        ticks.tick().await;
    }
    come_back(&mut redis).await;

    let back = Instant::now();
    let mut confirmed = HashMap::new();
    for key in &failed {
        // With the same key, so that a publish that did reach Redis is not stored twice.
        let id = loop {
            let answer = writer.request(publish(key, json!("again"))).await;
            if answer["op"] == "ok" {
                break id_of(&answer);
            }
            assert_eq!(answer["code"], "unavailable");
            assert!(back.elapsed() < DEADLINE, "publishing does not go on");
            ticks.tick().await;
        };
        confirmed.insert(key.clone(), id);
    }
    let last = writer.publish("room", json!("last")).await;
    for reader in [&mut near, &mut far] {
        let mut seen = HashMap::new();
        for expected in 1..=seq(&last) {
            let message = reader.expect("message").await;
            assert_eq!(seq(&id_of(&message)), expected);
            let twice = seen.insert(message["key"].as_str().unwrap().to_owned(), id_of(&message));
            assert_eq!(twice, None, "a key came twice");
        }
        for (key, id) in &confirmed {
            assert_eq!(seen.get(key), Some(id));
        }
        assert_eq!(reader.settled().await, Vec::<Value>::new());
    }
}

/// Rules: pub-4.
#[tokio::test]
async fn redis_is_killed_and_comes_back_after_ten_seconds() {
    let redis = Redis::durable().await;
    redis_goes_away(redis, Redis::stop, Redis::start_again).await;
}

/// Rules: pub-4.
#[tokio::test]
async fn redis_is_frozen_for_ten_seconds() {
    let redis = Redis::start().await;
    redis_goes_away(redis, |redis| redis.pause(), async |redis| redis.resume()).await;
}

/// The live copies of another node's messages arrive again too, not only what position checks find.
#[tokio::test]
async fn notifications_arrive_again_after_redis_was_frozen() {
    let redis = Redis::start().await;
    let (one, two) = (Server::on(&redis.url()).await, Server::with(&redis.url(), &NO_CHECKS).await);
    let mut writer = Client::connect(&one, &everything("ann")).await;
    let mut far = Client::connect(&two, &everything("bob")).await;
    far.join("room").await;
    writer.deliver("room", &mut far).await;
    for server in [&one, &two] {
        let rest = Rest::anonymous(server);
        eventually("it is ready", async || rest.get("/readyz").await.status == 200).await;
    }
    redis.pause();
    for server in [&one, &two] {
        let rest = Rest::anonymous(server);
        eventually("it is not ready", async || rest.get("/readyz").await.status == 503).await;
    }
    redis.resume();
    for server in [&one, &two] {
        let rest = Rest::anonymous(server);
        eventually("it is ready again", async || rest.get("/readyz").await.status == 200).await;
    }
    for _ in 0..10 {
        writer.deliver("room", &mut far).await;
    }
}

/// Rules: err-1, code-14.
#[tokio::test]
async fn requests_fail_without_redis_and_work_again_with_it() {
    let mut redis = Redis::durable().await;
    let server = Server::on(&redis.url()).await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    client.publish_many("room", 3, 10).await;
    redis.stop();
    for frame in [
        json!({ "op": "history", "room": "room", "after": "0" }),
        json!({ "op": "subscribe", "room": "room", "durable": "phone" }),
        json!({ "op": "publish", "room": "room", "data": 1 }),
    ] {
        // While Redis is away, not once it is back.
        let answer = client.request(frame.clone()).await;
        assert_eq!(answer["code"], "unavailable", "{frame}: {answer}");
    }
    redis.start_again().await;
    for frame in [
        json!({ "op": "history", "room": "room", "after": "0" }),
        json!({ "op": "subscribe", "room": "room", "since": "0" }),
    ] {
        eventually("Redis is found again", async || client.request(frame.clone()).await["op"] == "ok").await;
    }
    assert_eq!(seqs(&client.until("live").await), [1, 2, 3]);
}

/// A publisher and a subscriber lose their node in the midst of 3,000 messages, and continue on the other
/// node.
#[tokio::test]
async fn a_node_is_killed_under_load_and_nothing_is_missing() {
    const COUNT: usize = 3000;
    let (redis, [mut one, two]) = redis_and_servers().await;
    let mut writer = Client::connect(&one, &everything("ann")).await;
    let mut reader = Client::connect(&one, &everything("bob")).await;
    reader.subscribe("room", json!({ "since": "0" })).await;
    reader.expect("live").await;

    let keys: Vec<String> = (0..COUNT).map(|_| Uuid::new_v4().to_string()).collect();
    let sending = async {
        for key in &keys {
            writer.send(publish(key, json!("x".repeat(100)))).await;
        }
    };
    // After some messages were delivered, and before all were appended. Some have not even been sent at that
    // moment.
    let mut seen = {
        let mut reading = std::pin::pin!(reader.messages(200));
        tokio::select! {
            biased;
            seen = &mut reading => seen,
            () = sending => reading.await,
        }
    };
    one.kill();
    let stored = redis.ask(&["XLEN", "rl:{room}:log"]).number();
    assert!(stored < COUNT as i64, "the node was killed too late: {stored}");
    while let Some(frame) = reader.next_or_closed().await {
        seen.push(frame);
    }
    let last = id_of(seen.last().unwrap());

    let mut writer = Client::connect(&two, &everything("ann")).await;
    let mut reader = Client::connect(&two, &everything("bob")).await;
    reader.subscribe("room", json!({ "since": last })).await;
    let mut confirmed = HashSet::new();
    for keys in keys.chunks(100) {
        let mut refs = Vec::new();
        for key in keys {
            refs.push(writer.ask(publish(key, json!("again"))).await);
        }
        for reference in refs {
            let answer = writer.answer(reference).await;
            assert_eq!(answer["op"], "ok", "{answer}");
            assert!(confirmed.insert(id_of(&answer)));
        }
    }
    while seen.len() < COUNT {
        match reader.next().await {
            message if message["op"] == "message" => seen.push(message),
            live => assert_eq!(live["op"], "live"),
        }
    }
    assert_eq!(seqs(&seen), (1..=COUNT as u64).collect::<Vec<_>>());
    assert_eq!(ids(&seen).into_iter().collect::<HashSet<_>>(), confirmed);
    let delivered: HashSet<&str> = seen.iter().map(|message| message["key"].as_str().unwrap()).collect();
    assert_eq!(delivered, keys.iter().map(String::as_str).collect(), "each message is there once");
}

#[tokio::test]
async fn flushing_the_functions_goes_unnoticed() {
    let (redis, server) = redis_and_server().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    client.subscribe("room", json!({ "durable": "phone" })).await;
    client.expect("live").await;
    for expected in 1..=3 {
        redis.ask(&["FUNCTION", "FLUSH"]);
        redis.ask(&["SCRIPT", "FLUSH"]);
        let id = client.publish("room", json!(expected)).await;
        assert_eq!(id_of(&client.expect("message").await), id);
        redis.ask(&["FUNCTION", "FLUSH"]);
        client.ok(json!({ "op": "ack", "room": "room", "id": id })).await;
    }
    redis.ask(&["FUNCTION", "FLUSH"]);
    client.publish_many("room", 200, 10).await;
    assert_eq!(client.messages(200).await.len(), 200);
}

#[tokio::test]
async fn lost_redis_connections_go_unnoticed_by_subscribers() {
    let (redis, [one, two]) = redis_and_servers().await;
    let mut reader = Client::connect(&one, &everything("ann")).await;
    let mut writer = Client::connect(&two, &everything("bob")).await;
    for room in ["a", "b", "c"] {
        reader.join(room).await;
    }
    let mut expected = HashSet::new();
    for kind in ["pubsub", "normal", "pubsub"] {
        redis.ask(&["CLIENT", "KILL", "TYPE", kind]);
        for room in ["a", "b", "c"] {
            let key = Uuid::new_v4().to_string();
            let frame = json!({ "op": "publish", "room": room, "data": kind, "key": key });
            eventually("publishing goes on", async || writer.request(frame.clone()).await["op"] == "ok")
                .await;
            expected.insert(key);
        }
    }
    let seen: HashSet<String> =
        reader.messages(9).await.iter().map(|message| message["key"].as_str().unwrap().to_owned()).collect();
    assert_eq!(seen, expected);
    for room in ["a", "b", "c"] {
        eventually("messages come at once again", async || {
            writer.deliver(room, &mut reader).await < Duration::from_millis(200)
        })
        .await;
    }
}

/// Publishes 10,000 messages of 1 KB, which the member receives meanwhile. Returns their ids.
async fn fill(writer: &mut Client, member: &mut Client) -> Vec<String> {
    let mut all = Vec::new();
    for _ in 0..100 {
        let published = writer.publish_many("room", 100, 1000).await;
        assert_eq!(ids(&member.messages(100).await), published);
        all.extend(published);
    }
    all
}

/// Rules: out-8, sub-4.
#[tokio::test]
async fn a_stalled_reader_costs_little_and_misses_nothing() {
    let (_redis, server) = redis_and_server().await;
    let mut writer = Client::connect(&server, &everything("ann")).await;
    let mut member = Client::connect(&server, &everything("bob")).await;
    member.join("room").await;
    fill(&mut writer, &mut member).await;
    let before = server.memory();

    let upgrade = Upgrade { buffer: Some(4096), ..Upgrade::default() };
    let mut slow = Client::connect_with(&server, &everything("slow"), upgrade).await;
    slow.join("room").await;
    let ids = fill(&mut writer, &mut member).await;
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 2_000_000, "{grown} bytes more");

    let id = writer.publish("room", json!("live again")).await;
    let reading = async {
        let mut seen = Vec::new();
        while seen.len() <= ids.len() {
            // No frame says that it fell behind or has caught up, and a gap would be a loss.
            seen.push(slow.expect("message").await);
        }
        seen
    };
    let seen = timeout(2 * DEADLINE, reading).await.expect("all 10,000 messages");
    assert_eq!(crate::harness::ids(&seen), [ids, vec![id]].concat());
}

/// Rules: out-4, sub-4.
#[tokio::test]
async fn a_slow_reader_gets_a_gap_for_trimmed_messages() {
    let (redis, server) = redis_and_server().await;
    let mut writer = Client::connect(&server, &everything("ann")).await;
    let upgrade = Upgrade { buffer: Some(4096), ..Upgrade::default() };
    let mut slow = Client::connect_with(&server, &everything("slow"), upgrade).await;
    slow.join("room").await;
    let all = writer.publish_many("room", 6000, 2000).await;
    redis.ask(&["XTRIM", "rl:{room}:log", "MAXLEN", "=", "300"]);
    let (mut last, mut gaps) = (0, 0);
    while last < all.len() as u64 {
        let frame = slow.next().await;
        match frame["op"].as_str() {
            Some("message") => {
                assert_eq!(seq(&id_of(&frame)), last + 1);
                last += 1;
            }
            Some("gap") => {
                assert_eq!(frame["reason"], "trimmed");
                assert_eq!(seq(frame["after"].as_str().unwrap()), last);
                last = seq(frame["next"].as_str().unwrap()) - 1;
                assert!(last <= 5700, "{frame}");
                gaps += 1;
            }
            _ => panic!("{frame}"),
        }
    }
    assert_eq!(gaps, 1);
}
