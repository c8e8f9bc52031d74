//! The rate limits of one user's publishes, signals and new durable subscriptions, over any transport.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Redis, Rest, Server, everything, redis_and_server, token};

const SIGNALS: &str = "/v1/rooms/room/signals";
const MESSAGES: &str = "/v1/rooms/room/messages";

fn is_limited(answer: &Answer) -> bool {
    let limited = answer.status == 429;
    if limited {
        assert_eq!(answer.body["code"], "rate_limited");
        assert!(answer.body["retry_after_ms"].is_u64(), "{answer:?}");
    }
    limited
}

/// Rules: pub-7, http-12, code-12.
#[tokio::test]
async fn all_transports_share_the_rate_of_a_user() {
    let redis = Redis::start().await;
    // A bucket that does not refill during the test. This tests not the rate, but which operations share the
    // bucket.
    let server = Server::with(&redis.url(), &[("ROOMLOG_LIMITS__PUBLISH_RATE", "20")]).await;
    let [ann, bob] = ["ann", "bob"].map(|user| Rest::new(&server, &everything(user)));
    let mut sockets = [
        Client::connect(&server, &everything("ann")).await,
        Client::connect(&server, &everything("ann")).await,
    ];
    let (message, signal) = (json!({ "data": 1 }), json!({ "type": "t", "data": 1 }));
    let batch: Vec<Value> = (0..100).map(|n| json!({ "room": "room", "data": n })).collect();
    let items = ann.post("/v1/messages", &json!(batch)).await.with(200);
    let items = items.as_array().unwrap();
    let refused: Vec<&Value> = items.iter().filter(|item| item.get("error").is_some()).collect();
    assert!(refused.len() > 50, "{} of {} refused", refused.len(), items.len());
    for item in &refused {
        assert_eq!(item["error"]["code"], "rate_limited");
        assert!(item["error"]["retry_after_ms"].is_u64(), "{item}");
    }
    // Every publish is refused while the bucket is empty.
    assert!(join_all((0..60).map(|_| ann.post(MESSAGES, &message))).await.iter().any(is_limited));
    assert!(join_all((0..60).map(|_| ann.post(SIGNALS, &signal))).await.iter().any(is_limited));
    for socket in &mut sockets {
        let mut asked = Vec::new();
        for n in 0..60 {
            let publish = json!({ "op": "publish", "room": "room", "data": n });
            let signal = json!({ "op": "signal", "room": "room", "type": "t", "data": n });
            asked.push(socket.ask(if n % 2 == 0 { publish } else { signal }).await);
        }
        let mut limited = 0;
        for reference in asked {
            limited += u32::from(socket.answer(reference).await["code"] == "rate_limited");
        }
        assert!(limited > 0);
    }
    bob.post(MESSAGES, &message).await.with(201);
}

async fn take(rest: &Rest, room: usize, name: &str) -> Answer {
    let path = format!("/v1/rooms/room{room}/subscriptions");
    rest.post(&path, &json!({ "durable": name })).await
}

/// Rules: sub-7.
#[tokio::test]
async fn new_durable_subscriptions_share_one_rate_over_all_transports() {
    let (redis, server) = redis_and_server().await;
    // A token with as few permissions as possible: reading.
    let token = token("ann", json!({ "*": ["read"] }));
    let ann = Rest::new(&server, &token);
    let mut socket = Client::connect(&server, &token).await;
    let (mut made, mut refused) = (0, 0);
    for round in 0..5 {
        let name = format!("n{round}");
        let answers = join_all((0..250).map(|room| take(&ann, room, &name))).await;
        refused += answers.iter().filter(|answer| is_limited(answer)).count();
        made += answers.iter().filter(|answer| answer.status == 200).count();
    }
    assert!((1000..1200).contains(&made) && made + refused == 1250, "{made} made, {refused} refused");
    let stored: i64 = (0..250).map(|n| redis.ask(&["HLEN", &format!("rl:{{room{n}}}:subs")]).number()).sum();
    assert_eq!(stored, made as i64, "what is refused leaves nothing");
    let mut refused = 0;
    for n in 0..30 {
        let frame = json!({ "op": "subscribe", "room": "other", "durable": format!("n{n}") });
        refused += u32::from(socket.request(frame).await["code"] == "rate_limited");
    }
    assert!(refused > 0);
    // Existing subscriptions are taken as usual, and other users are not affected.
    for round in 0..2 {
        let name = format!("n{round}");
        for answer in join_all((0..250).map(|room| take(&ann, room, &name))).await {
            answer.with(200);
        }
    }
    take(&Rest::new(&server, &everything("bob")), 0, "n").await.with(200);
}

/// Rules: sub-6.
#[tokio::test]
async fn the_answer_says_that_a_durable_subscription_is_new() {
    let (redis, server) = redis_and_server().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    let rest = Rest::new(&server, &everything("ann"));
    for created in [json!(true), Value::Null] {
        let answer = client.subscribe("room0", json!({ "durable": "phone" })).await;
        assert_eq!(answer["created"], created);
        assert_eq!(take(&rest, 0, "desk").await.with(200)["created"], created);
    }
    assert_eq!(client.subscribe("room0", json!({})).await["created"], Value::Null);
    // The state of a Redis that came back without it.
    redis.ask(&["DEL", "rl:{room0}:subs"]);
    assert_eq!(client.subscribe("room0", json!({ "durable": "phone" })).await["created"], true);
}
