//! A soak: clients of all kinds connect, use every feature, and leave, cleanly or not. Afterwards memory,
//! open files, connections, keys and channels are back at their initial values. Runs for five seconds, or
//! `ROOMLOG_SOAK_SECONDS`. `make soak` runs it for an hour.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Client, DEADLINE, Redis, Rest, Server, admin, everything, within};

const ROOMS: usize = 10;

/// The figures that must not grow.
#[derive(Debug, Clone, PartialEq)]
struct State {
    files: usize,
    connections: usize,
    channels: usize,
    /// The keys of rooms. Keys that nodes keep for themselves are left out.
    keys: Vec<String>,
}

async fn state(redis: &Redis, server: &Server, rest: &Rest) -> State {
    let keys = redis.ask(&["KEYS", "rl:{[^.]*"]).list().iter().map(|key| key.text()).collect();
    let channels = redis.ask(&["PUBSUB", "SHARDCHANNELS", "rl:{[^.]*"]).list().len();
    let connections = rest.connections("websocket").await + rest.connections("sse").await;
    State { files: server.open_files(), connections, channels, keys }
}

async fn round(server: &Server, rest: &Rest, number: usize) {
    let room = format!("soak.{}", number % ROOMS);
    let mut clients = Vec::new();
    for n in 0..10 {
        let token = everything(&format!("user{n}"));
        let mut client = match n % 2 {
            0 => Client::connect(server, &token).await,
            _ => Client::connect_msgpack(server, &token).await,
        };
        client.subscribe(&room, json!({ "durable": "phone", "since": "$" })).await;
        client.expect("live").await;
        clients.push(client);
    }
    let events = rest.events(&format!("/v1/rooms/{room}/events"), &[]).await.unwrap();
    let ids = clients[0].publish_many(&room, 20, 500).await;
    for client in &mut clients {
        client.until("message").await;
        // Answered only when Redis holds it, which takes a while, so the answers are not awaited one by one.
        client.send(json!({ "op": "ack", "room": room, "id": ids[9] })).await;
        client.ok(json!({ "op": "history", "room": room, "limit": 5 })).await;
    }
    clients[1].ok(json!({ "op": "signal", "room": room, "type": "t", "data": 1 })).await;
    drop(events);
    for (n, mut client) in clients.into_iter().enumerate() {
        match n % 3 {
            0 => {
                client.ok(json!({ "op": "unsubscribe", "room": room, "forget": true })).await;
                client.close().await;
            }
            1 => client.close().await,
            _ => drop(client),
        }
    }
    rest.delete(&format!("/v1/rooms/{room}")).await.with(204);
}

#[tokio::test]
async fn clients_that_come_and_go_leak_nothing() {
    let seconds = std::env::var("ROOMLOG_SOAK_SECONDS").map_or(5, |text| text.parse().unwrap());
    let redis = Redis::start().await;
    // The same users subscribe anew in each round, as fast as the machine allows.
    let env = [
        ("ROOMLOG_HUB__LINGER", "1s"),
        ("ROOMLOG_RETENTION__INTERVAL", "1s"),
        ("ROOMLOG_LIMITS__CREATE_RATE", "0"),
    ];
    let server = Server::with(&redis.url(), &env).await;
    let rest = Rest::new(&server, &admin());
    // Anything that is created once exists after a few rounds.
    for number in 0..ROOMS {
        round(&server, &rest, number).await;
    }
    let settled = async |wanted: Option<&State>| {
        let mut found = state(&redis, &server, &rest).await;
        within(DEADLINE, "all of the clients are forgotten", async || {
            found = state(&redis, &server, &rest).await;
            found.connections == 0
                && found.channels == 0
                && wanted.is_none_or(|wanted| found.files <= wanted.files)
        })
        .await;
        found
    };
    let (before, memory) = (settled(None).await, server.memory());
    assert_eq!(before.keys, Vec::<String>::new());
    let (start, mut rounds, mut told) = (Instant::now(), 0, Instant::now());
    while start.elapsed() < Duration::from_secs(seconds) {
        round(&server, &rest, rounds).await;
        rounds += 1;
        if told.elapsed() > Duration::from_secs(30) {
            told = Instant::now();
            println!("{:>5} s  {rounds:>6} rounds  {:>9} bytes", start.elapsed().as_secs(), server.memory());
        }
    }
    let (after, grown) = (settled(Some(&before)).await, server.memory());
    println!("{rounds} rounds   before   after");
    println!("memory    {memory} {grown}");
    println!("files     {} {}", before.files, after.files);
    println!("channels  {} {}", before.channels, after.channels);
    println!("room keys {} {}", before.keys.len(), after.keys.len());
    assert_eq!((after.keys, after.channels), (before.keys, before.channels));
    // Allocators keep some of the memory that was in use at once.
    assert!(grown < memory + memory / 4 + 16_000_000, "memory: {memory} bytes before, {grown} after");
}
