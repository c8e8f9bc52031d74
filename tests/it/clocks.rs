//! Wall clocks that step, of Redis and of nodes.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Client, Clock, Redis, Server, Upgrade, everything, token_for};

const HOUR: u64 = 3_600_000;

/// Keys are remembered in windows of Redis's clock. One that was used right after the edge of a window is still known when
/// the clock has stepped back before it, as it may by a failover, and once it is forward again.
#[tokio::test]
async fn a_key_is_known_after_the_clock_of_redis_stepped_back() {
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

/// The time of day ends tokens; all else that a connection is bound by is elapsed time.
#[tokio::test]
async fn a_step_of_a_nodes_clock_ends_tokens_and_nothing_else() {
    let (clock, redis) = (Clock::new(), Redis::start().await);
    let env = clock.env();
    let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let server = Server::with(&redis.url(), &env).await;
    let mut says_nothing_yet = Client::open(&server, Upgrade::default()).await.unwrap();
    let mut short = Client::connect(&server, &token_for("bob", json!({}), Duration::from_secs(30))).await;
    let mut long = Client::connect(&server, &everything("cia")).await;
    clock.shift(60_000);
    // By the same look at all connections the others would be closed too.
    assert_eq!(short.closed().await, 4001);
    says_nothing_yet.ok(json!({ "op": "connect", "token": everything("ann") })).await;
    clock.shift(-60_000);
    long.settled().await;
}
