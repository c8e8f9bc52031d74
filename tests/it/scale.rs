//! Ten thousand rooms with one subscriber each, on one node.

use std::collections::HashSet;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Client, Rest, everything, id_of, redis_and_servers};

const CONNECTIONS: usize = 10;
const ROOMS: usize = 1000;

#[tokio::test]
async fn ten_thousand_rooms_with_one_subscriber_each_work() {
    let (_redis, [one, two]) = redis_and_servers().await;
    let room = |connection: usize, n: usize| format!("room.{connection}.{n}");
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(Client::connect(&one, &everything("ann")).await);
    }
    let subscribe = async |connection: usize, client: &mut Client| {
        let frame = |n| json!({ "op": "subscribe", "ref": 10_000 + n, "room": room(connection, n) });
        client.send((0..ROOMS).map(frame).collect()).await;
        for n in 0..ROOMS {
            let answer = client.answer(10_000 + n as u64).await;
            assert_eq!(answer["op"], "ok", "{answer}");
        }
        for _ in 0..ROOMS {
            client.expect("live").await;
        }
    };
    join_all(clients.iter_mut().enumerate().map(|(index, client)| subscribe(index, client))).await;

    // Published on the other node, so that each message passes through Redis.
    let rest = Rest::new(&two, &everything("bob"));
    let mut published: Vec<HashSet<String>> = Vec::new();
    for connection in 0..CONNECTIONS {
        let messages: Vec<Value> =
            (0..ROOMS).map(|n| json!({ "room": room(connection, n), "data": n })).collect();
        let results = rest.post("/v1/messages", &json!(messages)).await.with(200);
        published.push(results.as_array().unwrap().iter().map(id_of).collect());
    }
    for (connection, client) in clients.iter_mut().enumerate() {
        let messages = client.messages(ROOMS).await;
        let rooms: HashSet<&str> = messages.iter().map(|message| message["room"].as_str().unwrap()).collect();
        assert_eq!(rooms.len(), ROOMS);
        assert!(messages.iter().all(|message| published[connection].contains(&id_of(message))));
        assert_eq!(client.settled().await, Vec::<Value>::new());
    }
}
