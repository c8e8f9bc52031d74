//! Many durable subscriptions: the limit per user, the cost of an empty room, and that nothing reads all
//! subscriptions of a room.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Client, Redis, Rest, Server, admin, eventually, everything, now, redis_and_server, seq, token,
};

/// Rules: code-13.
#[tokio::test]
async fn durable_subscriptions_of_a_user_in_a_room_are_limited() {
    let redis = Redis::start().await;
    let server = Server::with(&redis.url(), &[("ROOMLOG_LIMITS__DURABLE_SUBSCRIPTIONS", "3")]).await;
    let (ann, bob) = (Rest::new(&server, &token("ann", json!({}))), Rest::new(&server, &everything("bob")));
    let take = async |rest: &Rest, room: &str, name: &str| {
        rest.post(&format!("/v1/rooms/{room}/subscriptions"), &json!({ "durable": name })).await
    };
    for name in ["a", "b", "c"] {
        take(&ann, "@ann", name).await.with(200);
        take(&bob, "room", name).await.with(200);
    }
    take(&ann, "@ann", "d").await.problem(429, "too_many");
    take(&bob, "room", "d").await.problem(429, "too_many");
    let mut client = Client::connect(&server, &everything("bob")).await;
    let refused = client.request(json!({ "op": "subscribe", "room": "room", "durable": "d" })).await;
    assert_eq!(refused["code"], "too_many", "{refused}");
    // An existing subscription can be taken again. Other users have limits of their own. Deleting one makes
    // room for another.
    take(&bob, "room", "c").await.with(200);
    take(&bob, "another", "d").await.with(200);
    let admin = Rest::new(&server, &admin());
    take(&admin, "room", "d").await.with(200);
    admin.delete("/v1/rooms/room/subscriptions/bob/a").await.with(204);
    take(&bob, "room", "d").await.with(200);
    take(&bob, "room", "e").await.problem(429, "too_many");
}

fn keys_of(redis: &Redis, room: &str) -> BTreeSet<String> {
    let keys = redis.ask(&["KEYS", &format!("rl:{{{room}}}:*")]);
    keys.list().iter().map(|key| key.text().rsplit_once("}:").unwrap().1.to_owned()).collect()
}

/// Rules: word-1.
#[tokio::test]
async fn a_room_without_messages_stores_only_positions() {
    let (redis, server) = redis_and_server().await;
    let mut client = Client::connect(&server, &everything("bob")).await;
    client.subscribe("room", json!({ "durable": "phone" })).await;
    client.expect("live").await;
    assert!(
        keys_of(&redis, "room").iter().all(|key| key.starts_with("subs")),
        "{:?}",
        keys_of(&redis, "room")
    );
    let rest = Rest::new(&server, &admin());
    assert_eq!(rest.get("/v1/rooms").await.with(200)["rooms"], json!(["room"]));
    assert_eq!(rest.get("/v1/rooms/room").await.with(200)["subscriptions"], 1);
    assert_eq!(rest.get("/v1/rooms/room/subscriptions").await.with(200)[0]["position"], "0-0");

    // With the first message, Redis's own lag exists, and is exact.
    let ids = client.publish_many("room", 3, 10).await;
    client.messages(3).await;
    let lag = || {
        let groups = redis.ask(&["XINFO", "GROUPS", "rl:{room}:log"]);
        let [group] = groups.list() else { panic!("{groups:?}") };
        assert_eq!(group.field("name").text(), "bob/phone");
        group.field("lag").number()
    };
    assert_eq!(lag(), 3);
    client.ok(json!({ "op": "ack", "room": "room", "id": ids[1] })).await;
    assert_eq!(lag(), 1);
    rest.delete("/v1/rooms/room").await.with(204);
    assert!(
        keys_of(&redis, "room").iter().all(|key| !key.starts_with("subs")),
        "{:?}",
        keys_of(&redis, "room")
    );
}

#[tokio::test]
async fn an_impossible_position_does_not_break_the_subscription() {
    let (_redis, server) = redis_and_server().await;
    let rest = Rest::new(&server, &everything("bob"));
    let take = async |body: Value| rest.post("/v1/rooms/room/subscriptions", &body).await;
    for seq in ["9223372036854775808", "18446744073709551615"] {
        take(json!({ "durable": "phone", "since": format!("5-{seq}") })).await.problem(400, "bad_request");
    }
    assert_eq!(take(json!({ "durable": "phone" })).await.with(200)["position"], "0-0");
}

/// Subscriptions as an earlier version has left them: without indexes.
const COUNT: usize = 20_000;

fn subscribe_many(redis: &Redis, room: &str) {
    let (subs, used) = (format!("rl:{{{room}}}:subs"), (now() * 1000).to_string());
    for part in 0..COUNT / 1000 {
        let mut command = vec!["HSET".to_owned(), subs.clone()];
        for n in part * 1000..(part + 1) * 1000 {
            command.extend([format!("user.{n}/phone"), format!("{}-{} {used} -", n + 1, n + 1)]);
        }
        redis.ask(&command);
    }
}

/// Rules: api-10.
#[tokio::test]
async fn no_operation_reads_all_durable_subscriptions_of_a_room() {
    let redis = Redis::start().await;
    let env = [
        ("ROOMLOG_RETENTION__INTERVAL", "200ms"),
        ("ROOMLOG_ROOMS", r#"[{ match = "*", max_length = 30 }]"#),
    ];
    let server = Server::with(&redis.url(), &env).await;
    let rest = Rest::new(&server, &admin());
    let mut client = Client::connect(&server, &everything("ann")).await;
    subscribe_many(&redis, "room");
    client.publish_many("room", 10, 10).await;
    // The first access builds the indexes.
    let described = rest.get("/v1/rooms/room").await.with(200);
    assert_eq!((&described["subscriptions"], &described["length"]), (&json!(COUNT), &json!(10)));

    redis.ask(&["CONFIG", "RESETSTAT"]);
    client.publish_many("room", 80, 10).await;
    // Nothing is kept beyond twice the limits, although the lowest position is 1.
    eventually("it is trimmed", async || rest.get("/v1/rooms/room").await.with(200)["length"] == 60).await;
    let first = rest.get("/v1/rooms/room").await.with(200)["first"].as_str().map(seq);
    assert_eq!(first, Some(31));
    for command in ["hgetall", "hvals", "hkeys", "memory|usage", "xinfo|groups"] {
        assert_eq!(redis.calls(command), 0, "{command}");
    }

    let mut path = Some("/v1/rooms/room/subscriptions?limit=500".to_owned());
    let mut seen = BTreeSet::new();
    while let Some(next) = path {
        let page = rest.request(Method::GET, &next).send().await.unwrap();
        let link = page.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        let page: Vec<Value> = page.json().await.unwrap();
        assert!(page.len() < 1000, "{}", page.len());
        seen.extend(page.iter().map(|info| info["user"].as_str().unwrap().to_owned()));
        path = link.map(|link| link.split(['<', '>']).nth(1).unwrap().to_owned());
    }
    assert_eq!(seen.len(), COUNT);
    let default = rest.get("/v1/rooms/room/subscriptions").await.with(200);
    assert!((1000..2000).contains(&default.as_array().unwrap().len()));
    for limit in ["0", "1001", "x"] {
        rest.get(&format!("/v1/rooms/room/subscriptions?limit={limit}")).await.problem(400, "bad_request");
    }
}
