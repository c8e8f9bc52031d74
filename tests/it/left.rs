//! Clients that leave while the server waits for Redis on their behalf leave nothing behind. A Redis that
//! fails many commands causes few log lines.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Client, Redis, Rest, Server, admin, eventually, everything, redis_and_server};

#[tokio::test]
async fn a_stream_that_is_abandoned_while_it_opens_leaves_no_subscription() {
    let redis = Redis::start().await;
    let env = [("ROOMLOG_HUB__LINGER", "1s"), ("ROOMLOG_HUB__CHECK_INTERVAL", "500ms")];
    let server = Server::with(&redis.url(), &env).await;
    let rest = Rest::new(&server, &admin());
    let channels = || redis.ask(&["PUBSUB", "SHARDCHANNELS"]).list().len();
    eventually("the probes' bell is heard", async || channels() == 1).await;

    redis.pause();
    let paths: Vec<String> = (0..100).map(|number| format!("/v1/rooms/left.{number}/events")).collect();
    let opening =
        paths.iter().map(|path| tokio::time::timeout(Duration::from_millis(300), rest.events(path, &[])));
    let opened = futures_util::future::join_all(opening).await;
    assert!(opened.iter().all(Result::is_err), "none opens while Redis is silent");
    redis.resume();
    // The request was sent before they left, and a silent Redis executes it when it is back.
    let mut client = Client::connect(&server, &everything("ann")).await;
    eventually("Redis is back", async || {
        client.request(json!({ "op": "subscribe", "room": "stays" })).await["op"] == "ok"
    })
    .await;
    eventually("all but two bells are left", async || channels() == 2).await;
    eventually("all but one room are left", async || rest.metric("roomlog_active_rooms").await == 1.0).await;
}

#[tokio::test]
async fn many_failed_commands_log_few_warnings() {
    let (redis, server) = redis_and_server().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    for number in 0..300 {
        client.publish(&format!("room.{number}"), json!(1)).await;
    }
    redis.pause();
    let mut asked = Vec::new();
    for number in 0..300 {
        asked.push(client.ask(json!({ "op": "publish", "room": format!("room.{number}"), "data": 2 })).await);
    }
    for reference in asked {
        assert_eq!(client.answer(reference).await["code"], "unavailable");
    }
    redis.resume();
    let failed =
        server.log().into_iter().filter(|line| line.contains("Redis failed a command")).collect::<Vec<_>>();
    assert!((1..100).contains(&failed.len()), "{failed:#?}");
}
