//! Errors over HTTP: their form and headers, foreign pages, and the limits of batches and bodies.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Client, Redis, Rest, Server, answer, everything, id_of, redis_and_server, seq, token};

const PATH: &str = "/v1/rooms/room/messages";

/// Rules: rest-7.
#[tokio::test]
async fn errors_are_json_and_have_headers_for_clients() {
    let redis = Redis::start().await;
    let server = Server::with(&redis.url(), &[("ROOMLOG_LIMITS__PUBLISH_RATE", "1")]).await;
    let rest = Rest::new(&server, &everything("ann"));
    rest.get_msgpack(&format!("{PATH}?limit=0")).await.problem(400, "bad_request");

    let anonymous = Rest::anonymous(&server).request(Method::GET, PATH).send().await.unwrap();
    assert_eq!(anonymous.status(), 401);
    assert_eq!(anonymous.headers()["www-authenticate"], "Bearer");
    let limited = loop {
        let answer = rest.request(Method::POST, PATH).json(&json!({ "data": 1 })).send().await.unwrap();
        if answer.status() != 201 {
            break answer;
        }
    };
    let seconds: u64 = limited.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    let body: Value = limited.json().await.unwrap();
    assert_eq!(seconds, body["retry_after_ms"].as_u64().unwrap().div_ceil(1000), "{body}");
}

/// Rules: rest-8, code-7.
#[tokio::test]
async fn foreign_pages_are_refused_over_http_too() {
    let redis = Redis::start().await;
    let listed = "https://app.example";
    let server = Server::with(&redis.url(), &[("ROOMLOG_SERVER__ALLOWED_ORIGINS", listed)]).await;
    let rest = Rest::new(&server, &everything("ann"));
    let ask = async |origin: &str| answer(rest.request(Method::GET, PATH).header("Origin", origin)).await;
    ask("https://evil.example").await.problem(403, "forbidden");
    for welcome in [listed, &server.url()] {
        ask(welcome).await.with(200);
    }
}

/// Rules: rest-1, code-11.
#[tokio::test]
async fn batches_and_bodies_have_a_limit() {
    let (redis, server) = redis_and_server().await;
    let rest = Rest::new(&server, &everything("ann"));
    let batch = |count| (0..count).map(|n| json!({ "room": "room", "data": n })).collect::<Value>();
    rest.post("/v1/messages", &batch(1001)).await.problem(400, "bad_request");
    let results = rest.post("/v1/messages", &batch(1000)).await.with(200);
    assert_eq!(seq(&id_of(&results[999])), 1000);

    let server = Server::with(&redis.url(), &[("ROOMLOG_LIMITS__MAX_MESSAGE", "1000")]).await;
    let rest = Rest::new(&server, &everything("ann"));
    let post = async |bytes: usize| {
        let request = rest.request(Method::POST, "/v1/messages").header("Content-Type", "application/json");
        answer(request.body(format!("[]{}", " ".repeat(bytes - 2)))).await
    };
    post(16_000).await.with(200);
    post(16_001).await.problem(413, "too_large");
}

/// Rules: rest-2.
#[tokio::test]
async fn describing_a_room_needs_read_or_manage() {
    let (_redis, server) = redis_and_server().await;
    Client::connect(&server, &everything("ann")).await.publish("room", json!(1)).await;
    for (permission, is_enough) in [("read", true), ("manage", true), ("write", false)] {
        let rest = Rest::new(&server, &token("bob", json!({ "room": [permission] })));
        for path in ["/v1/rooms/room", "/v1/rooms/room/subscriptions"] {
            let answer = rest.get(path).await;
            match is_enough {
                true => drop(answer.with(200)),
                false => answer.problem(403, "forbidden"),
            }
        }
    }
}
