//! Steps of the wall clocks of Redis and of nodes.

use std::time::Duration;

use serde_json::json;

use crate::harness::{
    Client, Clock, Redis, Rest, Server, Upgrade, eventually, everything, ids, served_again, token_for,
};

const HOUR: u64 = 3_600_000;

/// Keys are remembered in windows of Redis's clock. A key that was used right after the edge of a window is
/// still known when the clock has stepped back before it, as in a failover, and once it is forward again.
/// Rules: pub-3.
#[tokio::test]
async fn keys_are_remembered_after_the_clock_of_redis_stepped_back() {
    let clock = Clock::new();
    let past_the_edge = (HOUR - crate::harness::now() * 1000 % HOUR) as i64 + 2000;
    clock.shift(past_the_edge);
    let redis = Redis::on_clock(&clock, &["--appendonly", "no"]).await;
    let server = Server::on(&redis.url()).await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    let publish =
        json!({ "op": "publish", "room": "room", "data": 1, "key": "8c1f0c50-5f0c-4f5c-8d6e-0a1b2c3d4e5f" });
    let first = client.ok(publish.clone()).await;
    for shift in [past_the_edge - 4000, past_the_edge] {
        clock.shift(shift);
        let again = client.ok(publish.clone()).await;
        assert_eq!((&again["id"], &again["duplicate"]), (&first["id"], &json!(true)), "{again}");
    }
}

/// Rules: word-4, pub-3.
#[tokio::test]
async fn a_key_is_remembered_for_one_to_two_windows() {
    let clock = Clock::new();
    let redis = Redis::on_clock(&clock, &["--appendonly", "no"]).await;
    let server = Server::on(&redis.url()).await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    let publish =
        json!({ "op": "publish", "room": "room", "data": 1, "key": "8c1f0c50-5f0c-4f5c-8d6e-0a1b2c3d4e5f" });
    let first = client.ok(publish.clone()).await;
    clock.shift(HOUR as i64 - 60_000);
    assert_eq!(client.ok(publish.clone()).await["id"], first["id"]);
    clock.shift(2 * HOUR as i64 + 60_000);
    let new = client.ok(publish).await;
    assert_eq!((new.get("duplicate"), new["id"] == first["id"]), (None, false), "{new}");
}

/// If the clock is behind the log, ids continue from the newest one, whatever the time is. Ids that Redis
/// lost are not given to other messages: readers that have read up to them are notified.
/// Rules: sub-2.
#[tokio::test]
async fn lost_ids_are_not_reused_after_a_clock_stepped_back() {
    let clock = Clock::new();
    clock.shift(60_000);
    let mut redis = Redis::on_clock(&clock, &["--appendonly", "no"]).await;
    let server = Server::on(&redis.url()).await;
    let mut writer = Client::connect(&server, &everything("ann")).await;
    writer.publish_many("room", 3, 10).await;
    clock.shift(0);
    redis.ask(&["SAVE"]);
    let lost = writer.publish_many("room", 2, 10).await;
    redis.stop();
    redis.start_again().await;
    served_again(&server, "room").await;
    let new = writer.publish_many("room", 2, 10).await;
    for id in &lost {
        assert!(!new.contains(id), "{new:?} after {lost:?}");
        let mut late = Client::connect(&server, &everything("late")).await;
        late.subscribe("room", json!({ "since": id })).await;
        let gap = late.expect("gap").await;
        assert_eq!(
            (&gap["reason"], gap["next"].as_str()),
            (&json!("rewound"), Some(new[0].as_str())),
            "{gap}"
        );
        assert_eq!(ids(&late.messages(2).await), new);
    }
}

/// Only the expiry of tokens depends on the time of day. Every other limit of a connection is elapsed time.
/// Rules: token-3.
#[tokio::test]
async fn a_step_of_a_nodes_clock_affects_only_tokens() {
    let (clock, redis) = (Clock::new(), Redis::start().await);
    let env = clock.env();
    let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let server = Server::with(&redis.url(), &env).await;
    let mut says_nothing_yet = Client::open(&server, Upgrade::default()).await.unwrap();
    let mut short = Client::connect(&server, &token_for("bob", json!({}), Duration::from_secs(30))).await;
    let mut long = Client::connect(&server, &everything("cia")).await;
    clock.shift(60_000);
    // The same inspection of all connections would have closed the others too.
    assert_eq!(short.closed().await, 4001);
    says_nothing_yet.ok(json!({ "op": "connect", "token": everything("ann") })).await;
    clock.shift(-60_000);
    long.settled().await;
}

/// A month, in ms.
const MONTH: i64 = 31 * 24 * 3_600_000;

/// Waits until the janitor, which looks all the time, has trimmed another room by its length.
async fn janitor_works(client: &mut Client, rest: &Rest) {
    client.publish_many("short", 20, 10).await;
    eventually("the janitor trims", async || {
        rest.get("/v1/rooms/short").await.with(200)["length"].as_u64().is_some_and(|length| length <= 10)
    })
    .await;
}

fn settings(clock: Option<&Clock>) -> Vec<(&'static str, String)> {
    let rooms = r#"[{ match = "short", max_length = 10 }, { match = "*", max_age = "1d" }]"#;
    let mut env =
        vec![("ROOMLOG_RETENTION__INTERVAL", "100ms".to_owned()), ("ROOMLOG_ROOMS", rooms.to_owned())];
    env.extend(clock.map(Clock::env).into_iter().flatten());
    env
}

async fn server(redis: &Redis, clock: Option<&Clock>) -> Server {
    let env = settings(clock);
    let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Server::with(&redis.url(), &env).await
}

#[tokio::test]
async fn a_node_with_a_wrong_clock_deletes_nothing() {
    let (clock, redis) = (Clock::new(), Redis::start().await);
    clock.shift(MONTH);
    let server = server(&redis, Some(&clock)).await;
    // Tokens are checked against the node's clock.
    let token = token_for("ann", json!({ "*": ["read", "write"] }), Duration::from_secs(40 * 24 * 3600));
    let mut client = Client::connect(&server, &token).await;
    client.publish_many("room", 5, 10).await;
    client.subscribe("room", json!({ "durable": "phone" })).await;
    let rest = Rest::new(&server, &token);
    janitor_works(&mut client, &rest).await;
    let room = rest.get("/v1/rooms/room").await.with(200);
    assert_eq!((&room["length"], &room["subscriptions"]), (&json!(5), &json!(1)));
}

#[tokio::test]
async fn a_clock_of_redis_that_jumps_ahead_deletes_nothing() {
    let clock = Clock::new();
    let redis = Redis::on_clock(&clock, &["--appendonly", "no"]).await;
    let server = server(&redis, None).await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    let rest = Rest::new(&server, &everything("ann"));
    client.publish_many("room", 5, 10).await;
    janitor_works(&mut client, &rest).await;
    clock.shift(MONTH);
    client.publish("room", json!("later")).await;
    eventually("the brake holds", async || rest.metric("roomlog_retention_held").await == 1.0).await;
    janitor_works(&mut client, &rest).await;
    assert_eq!(rest.get("/v1/rooms/room").await.with(200)["length"], 6);
    clock.shift(0);
    eventually("the brake is off", async || rest.metric("roomlog_retention_held").await == 0.0).await;
}
