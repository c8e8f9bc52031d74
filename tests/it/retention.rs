//! Retention: the messages that rooms keep, by their limits and for their durable subscriptions.

use serde_json::{Value, json};

use crate::harness::{Client, Redis, Rest, Server, admin, eventually, everything, seq, seqs};

/// Starts a server with these rooms, which the janitor inspects often.
async fn with_rooms(redis: &Redis, rooms: &str) -> Server {
    let env = [("ROOMLOG_ROOMS", rooms), ("ROOMLOG_RETENTION__INTERVAL", "200ms")];
    Server::with(&redis.url(), &env).await
}

/// Returns the counter of a room's oldest message, and the number of its messages.
async fn kept(rest: &Rest, room: &str) -> (u64, u64) {
    let room = rest.get(&format!("/v1/rooms/{room}")).await.with(200);
    (room["first"].as_str().map_or(0, seq), room["length"].as_u64().unwrap())
}

#[tokio::test]
async fn the_first_matching_pattern_sets_the_limits_of_a_room() {
    let redis = Redis::start().await;
    let rooms = r#"[{ match = "few.*", max_length = 10 }, { match = "small", max_bytes = "10KB" },
                    { match = "brief", max_age = "1s" }]"#;
    let server = with_rooms(&redis, rooms).await;
    let rest = Rest::new(&server, &admin());
    let mut client = Client::connect(&server, &everything("ann")).await;
    client.publish_many("brief", 5, 10).await;
    for room in ["few.a", "small", "large"] {
        client.publish_many(room, 100, 500).await;
    }
    eventually("the newest ten are left", async || kept(&rest, "few.a").await == (91, 10)).await;
    eventually("the small room is small", async || (5..=25).contains(&kept(&rest, "small").await.1)).await;
    eventually("the brief room is empty", async || kept(&rest, "brief").await.1 == 0).await;
    assert_eq!(kept(&rest, "large").await, (1, 100));

    // The count continues, and absent readers are notified.
    assert_eq!(seq(&client.publish("brief", json!(1)).await), 6);
    client.subscribe("few.a", json!({ "since": "0-0" })).await;
    let backlog = client.until("live").await;
    let messages: Vec<Value> = backlog.into_iter().filter(|frame| frame["op"] == "message").collect();
    assert_eq!(seqs(&messages), (91..=100).collect::<Vec<_>>());
}

#[tokio::test]
async fn unacknowledged_messages_are_kept_up_to_twice_the_limit() {
    let redis = Redis::start().await;
    let rooms =
        r#"[{ match = "kept", max_length = 10 }, { match = "not", max_length = 10, keep_unacked = false }]"#;
    let server = with_rooms(&redis, rooms).await;
    let rest = Rest::new(&server, &admin());
    let mut writer = Client::connect(&server, &everything("ann")).await;
    let mut reader = Client::connect(&server, &everything("bob")).await;
    for room in ["kept", "not"] {
        reader.subscribe(room, json!({ "durable": "phone" })).await;
        reader.until("live").await;
    }
    reader.close().await;
    writer.publish_many("kept", 15, 10).await;
    writer.publish_many("not", 15, 10).await;
    // The other room proves that the janitor has run.
    eventually("the newest ten are left", async || kept(&rest, "not").await == (6, 10)).await;
    assert_eq!(kept(&rest, "kept").await, (1, 15));

    let ids = writer.publish_many("kept", 35, 10).await;
    eventually("the hard limit holds", async || kept(&rest, "kept").await == (31, 20)).await;
    let mut reader = Client::connect(&server, &everything("bob")).await;
    let answer = reader.subscribe("kept", json!({ "durable": "phone" })).await;
    assert_eq!(answer["position"], "0-0");
    let gap = reader.expect("gap").await;
    assert_eq!((&gap["after"], &gap["next"]), (&json!("0-0"), &json!(ids[15])));
    assert_eq!(gap["reason"], "trimmed");
    assert_eq!(seqs(&reader.until("live").await), (31..=50).collect::<Vec<_>>());

    reader.ok(json!({ "op": "ack", "room": "kept", "id": ids[34] })).await;
    // The janitor inspects a room again when it has new messages, or after a while.
    writer.publish("kept", json!(51)).await;
    eventually("what is acknowledged may go", async || kept(&rest, "kept").await == (42, 10)).await;
}

#[tokio::test]
async fn a_live_reader_does_not_notice_trimming() {
    let redis = Redis::start().await;
    let server = with_rooms(&redis, r#"[{ match = "*", max_length = 5 }]"#).await;
    let rest = Rest::new(&server, &admin());
    let mut client = Client::connect(&server, &everything("ann")).await;
    client.join("room").await;
    for round in 0..5 {
        client.publish_many("room", 20, 10).await;
        let messages = client.messages(20).await;
        assert_eq!(seqs(&messages), (20 * round + 1..=20 * round + 20).collect::<Vec<_>>());
        eventually("it is trimmed", async || kept(&rest, "room").await.1 == 5).await;
    }
}

#[tokio::test]
async fn an_unused_position_expires_and_then_its_room() {
    let redis = Redis::start().await;
    let env = [
        ("ROOMLOG_ROOMS", r#"[{ match = "*", max_age = "1s" }]"#),
        ("ROOMLOG_RETENTION__INTERVAL", "200ms"),
        ("ROOMLOG_RETENTION__SUBSCRIPTION_TTL", "3s"),
        ("ROOMLOG_RETENTION__DEDUPLICATION_WINDOW", "1s"),
    ];
    let server = Server::with(&redis.url(), &env).await;
    let rest = Rest::new(&server, &admin());
    let mut client = Client::connect(&server, &everything("ann")).await;
    client.subscribe("room", json!({ "durable": "phone" })).await;
    client.publish("room", json!(1)).await;
    client.close().await;
    let path = "/v1/rooms/room/subscriptions";
    assert_eq!(rest.get(path).await.with(200)[0]["name"], "phone");
    eventually("the position is gone", async || {
        let listed = rest.get(path).await;
        listed.status == 404 || listed.body == json!([])
    })
    .await;
    eventually("the room is gone", async || rest.get("/v1/rooms/room").await.status == 404).await;
}

/// Returns the number of commands that Redis has executed.
fn commands(redis: &Redis) -> u64 {
    let stats = redis.ask(&["INFO", "stats"]).text();
    let count = stats.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
    count.unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn idle_rooms_cost_nothing() {
    const ROOMS: usize = 5000;
    let redis = Redis::start().await;
    let make = format!(
        "for n = 1, {ROOMS} do local room = 'rl:{{idle.' .. n .. '}}:' local id = ARGV[1] .. '-1' \
         redis.call('XADD', room .. 'log', id, 'key', '0123456789abcdef', 'from', 'a', 'type', 'm', 'data', '\\192') \
         redis.call('HSET', room .. 'head', 'ms', ARGV[1], 'seq', '1') end"
    );
    let now = (crate::harness::now() * 1000).to_string();
    redis.ask(&["EVAL", &make, "0", &now]);
    let _server = with_rooms(&redis, "[]").await;
    eventually("each room was looked at, and is due much later", async || {
        let soon = (crate::harness::now() * 1000 + 3_600_000).to_string();
        let due = |from: &str, to: &str| redis.ask(&["ZCOUNT", "rl:due", from, to]).number();
        due("-inf", &soon) == 0 && due(&soon, "+inf") == ROOMS as i64
    })
    .await;
    eventually("hardly anything is asked of Redis", async || {
        let before = commands(&redis);
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        commands(&redis) - before < 2 * 50
    })
    .await;
}
