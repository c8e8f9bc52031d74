//! Requested shutdowns of a server: every client is notified, and nothing confirmed is lost.

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::{
    Client, Redis, Rest, Server, Upgrade, eventually, everything, ids, redis_and_server, seqs,
};

/// Rules: out-7, close-1012.
#[tokio::test]
async fn a_shutdown_asks_clients_to_reconnect_and_loses_nothing() {
    let redis = Redis::start().await;
    // Longer than any wait in this test: a client that reads does not delay the shutdown.
    let patient = [("ROOMLOG_SERVER__SHUTDOWN_GRACE", "5m")];
    let (mut one, two) = (Server::with(&redis.url(), &patient).await, Server::on(&redis.url()).await);
    let mut readers = Vec::new();
    for name in ["ann", "bob", "cia"] {
        let mut reader = Client::connect(&one, &everything(name)).await;
        reader.join("room").await;
        readers.push(reader);
    }
    let mut writer = Client::connect(&one, &everything("writer")).await;
    let published = writer.publish_many("room", 50, 10).await;
    let events = Rest::new(&one, &everything("ann")).events("/v1/rooms/room/events", &[]).await.unwrap();
    let status = one.terminate().await;
    assert!(status.success(), "{status}");
    events.ended().await;

    for reader in &mut readers {
        assert_eq!(ids(&reader.messages(50).await), published);
        let goodbye = reader.expect("goodbye").await;
        assert!(goodbye["code"] == "restarting" && goodbye["retry_after_ms"].is_u64(), "{goodbye}");
        assert_eq!(reader.closed().await, 1012);
    }
    assert!(TcpStream::connect(one.address).await.is_err(), "it listens no more");
    let mut reader = Client::connect(&two, &everything("ann")).await;
    reader.subscribe("room", json!({ "since": published[9] })).await;
    assert_eq!(seqs(&reader.until("live").await), (11..=50).collect::<Vec<_>>());
}

#[tokio::test]
async fn requests_in_progress_are_answered_first() {
    let (redis, mut server) = redis_and_server().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    let mut refs = Vec::new();
    for number in 0..200 {
        refs.push(client.ask(json!({ "op": "publish", "room": "room", "data": number })).await);
    }
    // Some of them have been read, and others not yet. Each is answered, or certainly not stored.
    client.answer(refs[0]).await;
    let (status, code) = tokio::join!(server.terminate(), client.closed());
    assert!(status.success());
    assert_eq!(code, 1012);
    let mut confirmed = 1;
    while let Some(frame) = client.next_or_closed().await {
        confirmed += i64::from(frame["op"] == "ok");
    }
    assert_eq!(redis.ask(&["XLEN", "rl:{room}:log"]).number(), confirmed);
}

#[tokio::test]
async fn a_second_signal_ends_the_process_immediately() {
    let redis = Redis::start().await;
    // Longer than any wait in this test.
    let env = [("ROOMLOG_SERVER__SHUTDOWN_GRACE", "5m")];
    let mut server = Server::with(&redis.url(), &env).await;
    // A client that never accepts its goodbye.
    let upgrade = Upgrade { buffer: Some(4096), ..Upgrade::default() };
    let mut stuck = Client::connect_with(&server, &everything("ann"), upgrade).await;
    stuck.join("room").await;
    let mut writer = Client::connect(&server, &everything("bob")).await;
    writer.publish_many("room", 2000, 1000).await;
    // Frozen, so that there is something to wait for.
    redis.pause();
    writer.send(json!({ "op": "publish", "room": "room", "data": 1 })).await;
    server.signal(Signal::SIGTERM);
    eventually("it listens no more", async || TcpStream::connect(server.address).await.is_err()).await;
    server.signal(Signal::SIGINT);
    server.ended().await;
    redis.resume();
}

/// Rules: hist-4.
#[tokio::test]
async fn endless_requests_do_not_delay_a_shutdown() {
    let redis = Redis::start().await;
    let mut server = Server::with(&redis.url(), &[("ROOMLOG_SERVER__SHUTDOWN_GRACE", "2s")]).await;
    let rest = Rest::new(&server, &everything("ann"));
    let events = rest.events("/v1/rooms/room/events", &[]).await.unwrap();
    let mut half = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /v1/rooms/room/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n";
    let head = format!("{head}Authorization: Bearer {}\r\n\r\n{{", everything("ann"));
    half.write_all(head.as_bytes()).await.unwrap();
    let mut unread = TcpStream::connect(server.address).await.unwrap();
    unread.write_all(b"GET /v1/ws HTTP/1.1\r\n").await.unwrap();
    let poll = tokio::spawn(async move { rest.get("/v1/rooms/room/messages?wait=60").await });
    let others = Rest::anonymous(&server);
    eventually("the poll waits", async || others.connections("poll").await == 1).await;

    // The poll would delay the shutdown for longer than this test waits.
    server.terminate().await;
    events.ended().await;
    assert_eq!(poll.await.unwrap().with(200)["messages"], json!([]));
}

/// Rules: close-4004.
#[tokio::test]
async fn a_full_node_refuses_connections() {
    let redis = Redis::start().await;
    let server = Server::with(&redis.url(), &[("ROOMLOG_LIMITS__CONNECTIONS", "2")]).await;
    let first = Client::connect(&server, &everything("ann")).await;
    let mut second = Client::connect(&server, &everything("bob")).await;
    let mut third = Client::open(&server, Upgrade::default()).await.unwrap();
    let goodbye = third.expect("goodbye").await;
    assert!(goodbye["code"] == "overloaded" && goodbye["retry_after_ms"].is_u64(), "{goodbye}");
    assert_eq!(third.closed().await, 4004);
    second.settled().await;
    first.close().await;
    eventually("there is room again", async || {
        let mut client = Client::open(&server, Upgrade::default()).await.unwrap();
        client
            .try_send(json!({ "op": "connect", "ref": 1, "token": everything("cia") }).to_string().into())
            .await;
        client.next_or_closed().await.is_some_and(|frame| frame["op"] == "ok")
    })
    .await;
}
