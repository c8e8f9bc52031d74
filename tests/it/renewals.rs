//! Durable subscriptions that are held stay in use, with few calls.

use serde_json::json;

use crate::harness::{Client, Redis, Rest, Server, admin, eventually, everything};

#[tokio::test]
async fn held_subscriptions_are_renewed_by_room_and_not_one_by_one() {
    const CONNECTIONS: usize = 300;
    let redis = Redis::start().await;
    let server = Server::with(&redis.url(), &[("ROOMLOG_RETENTION__SUBSCRIPTION_TTL", "24s")]).await;
    let mut clients = Vec::new();
    for n in 0..CONNECTIONS {
        let mut client = Client::connect(&server, &everything("bob")).await;
        client.subscribe("room", json!({ "durable": format!("phone.{n}") })).await;
        clients.push(client);
    }
    let used = |n: usize| -> u64 {
        let value = redis.ask(&["HGET", "rl:{room}:subs", &format!("bob/phone.{n}")]).text();
        value.split(' ').nth(1).unwrap().parse().unwrap()
    };
    let rest = Rest::new(&server, &admin());
    let calls = async || rest.metric(r#"roomlog_redis_calls_total{call="attach",outcome="ok"}"#).await;
    let (before, at_first) = (calls().await, [0, CONNECTIONS - 1].map(used));
    eventually("all are noted as in use", async || {
        [0, CONNECTIONS - 1].map(used).iter().zip(at_first).all(|(now, first)| *now > first)
    })
    .await;
    let calls = calls().await - before;
    assert!(calls < 20.0, "{calls} calls for {CONNECTIONS} subscriptions");
}
