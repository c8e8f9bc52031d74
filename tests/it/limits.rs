//! Limits of a node's connections, and of the time that a request may take to arrive.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{
    Client, Redis, Rest, Server, Upgrade, admin, eventually, everything, redis_and_server, sign, soon,
    token_with_id, within,
};

/// Opens connections that send these bytes, and no more.
async fn connections(server: &Server, count: usize, sent: &[u8]) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut stream = soon("a connection", TcpStream::connect(server.address)).await.unwrap();
        stream.write_all(sent).await.unwrap();
        streams.push(stream);
    }
    streams
}

/// Reads from a connection until it ends. Returns the text and the time that took.
async fn until_the_end(mut stream: TcpStream) -> (String, Duration) {
    let (started, mut seen) = (Instant::now(), Vec::new());
    let end = timeout(Duration::from_secs(100), stream.read_to_end(&mut seen)).await;
    let _ = end.expect("an end"); // It may be a reset.
    (String::from_utf8_lossy(&seen).into_owned(), started.elapsed())
}

#[tokio::test]
async fn connections_without_a_token_have_a_small_share_and_make_way() {
    let redis = Redis::start().await;
    let server = Server::with(&redis.url(), &[("ROOMLOG_LIMITS__CONNECTIONS", "10")]).await;
    let mut known = Client::connect(&server, &everything("ann")).await;
    let before = (server.open_files(), server.memory());
    let half = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Filler: {}", "x".repeat(12_000));
    let strangers = connections(&server, 300, half.as_bytes()).await;
    // A client with a token gets in although more connections than allowed wait, and existing clients are not
    // affected.
    for _ in 0..3 {
        let mut client = Client::connect(&server, &everything("bob")).await;
        client.publish("room", json!(1)).await;
        known.settled().await;
        let files = server.open_files();
        assert!(files <= before.0 + 34, "{} files before, {files} now", before.0);
    }
    let grown = server.memory().saturating_sub(before.1) / 1024 / 1024;
    assert!(grown < 16, "{grown} MiB more");
    drop(strangers);
    let rest = Rest::new(&server, &everything("ann"));
    eventually("they are gone", async || rest.metric("roomlog_sockets").await <= 3.0).await;
    known.settled().await;
}

/// A WebSocket that does not send `connect` counts as unauthenticated too. It is told why it is closed.
/// Rules: close-4004.
#[tokio::test]
async fn a_websocket_without_a_token_makes_way() {
    let redis = Redis::start().await;
    let server = Server::with(&redis.url(), &[("ROOMLOG_LIMITS__CONNECTIONS", "50")]).await;
    let mut oldest = Client::open(&server, Upgrade::default()).await.unwrap();
    let others = connections(&server, 60, b"GET").await;
    let started = Instant::now();
    assert_eq!(oldest.expect("goodbye").await["code"], "overloaded");
    assert_eq!(oldest.closed().await, 4004);
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    drop(others);
}

#[tokio::test]
async fn the_limit_of_open_files_is_raised_and_some_stay_in_reserve() {
    let redis = Redis::start().await;
    let server = Server::with_open_files(&redis.url(), 80, 200).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let files: Vec<_> = files.split_whitespace().skip(3).take(2).collect();
    assert_eq!(files, ["200", "200"]);
    assert!(server.log().iter().any(|line| line.contains("limits.connections")), "{:?}", server.log());

    let mut known = Client::connect(&server, &everything("ann")).await;
    let silent = connections(&server, 300, b"").await;
    // Connections to Redis and new clients need open files. Both still succeed.
    redis.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
    redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    within(Duration::from_secs(20), "publishes are stored again", async || {
        known.request(json!({ "op": "publish", "room": "room", "data": 1 })).await["op"] == "ok"
    })
    .await;
    Client::connect(&server, &everything("bob")).await.settled().await;
    assert!(server.open_files() <= 200 - 32, "{}", server.open_files());
    drop(silent);
}

/// Slow requests, in parallel.
#[tokio::test]
async fn incomplete_requests_time_out() {
    let (_redis, server) = redis_and_server().await;
    let authorization = format!("Authorization: Bearer {}", everything("ann"));
    let post = |length: usize| {
        format!(
            "POST /v1/rooms/room/messages HTTP/1.1\r\nHost: x\r\n{authorization}\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let mut opened = connections(&server, 1, b"").await;
    opened.extend(connections(&server, 1, b"GET /healthz HTTP/1.1\r\nHost").await);
    opened.extend(connections(&server, 1, post(1000).as_bytes()).await);
    let once = connections(&server, 1, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.remove(0);
    let drip = async {
        let mut stream = connections(&server, 1, post(100_000).as_bytes()).await.remove(0);
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(60) && stream.write_all(b" ").await.is_ok() {
            let mut answer = [0; 12];
            if timeout(Duration::from_millis(500), stream.read_exact(&mut answer)).await.is_ok() {
                assert_eq!(&answer, b"HTTP/1.1 400");
                break;
            }
        }
        started.elapsed()
    };
    let reused = async {
        let mut once = once;
        let mut buffer = [0; 4096];
        let read = once.read(&mut buffer).await.unwrap();
        assert!(buffer[..read].starts_with(b"HTTP/1.1 200"));
        let idle = timeout(Duration::from_secs(20), once.read(&mut buffer)).await;
        assert!(idle.is_err(), "closed before a proxy would");
        once.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let read = once.read(&mut buffer).await.unwrap();
        assert!(buffer[..read].starts_with(b"HTTP/1.1 200"));
    };
    let body = opened.pop().unwrap();
    let (header, silent) = (opened.pop().unwrap(), opened.pop().unwrap());
    let (silent, header, body, drip, ()) =
        tokio::join!(until_the_end(silent), until_the_end(header), until_the_end(body), drip, reused);
    assert!(body.0.starts_with("HTTP/1.1 400"), "{body:?}");
    for (what, took) in [("silent", silent.1), ("header", header.1), ("body", body.1), ("drip", drip)] {
        assert!((9..25).contains(&took.as_secs()), "{what}: {took:?}");
    }
}

/// Rules: hist-4, code-13.
#[tokio::test]
async fn a_long_poll_counts_as_a_connection_and_can_be_ended() {
    let redis = Redis::start().await;
    let server = Server::with(&redis.url(), &[("ROOMLOG_LIMITS__CONNECTIONS", "2")]).await;
    let poll = |token: &str| {
        let rest = Rest::new(&server, token);
        tokio::spawn(async move {
            let started = Instant::now();
            (rest.get("/v1/rooms/room/messages?wait=60").await, started.elapsed())
        })
    };
    let read = json!({ "*": ["read"] });
    let revoked = poll(&token_with_id("mallory", read.clone(), "their-token"));
    // The server's leeway for `exp` applies when a token is presented, not to how long it stays valid.
    let expired = poll(&sign(&json!({ "sub": "eve", "exp": crate::harness::now() + 3, "rooms": read })));
    let others = Rest::new(&server, &everything("ann"));
    eventually("both wait", async || others.connections("poll").await == 2).await;
    others.get("/v1/rooms/room/messages?wait=1").await.problem(429, "too_many");
    others.get("/v1/rooms/room/messages").await.with(200);
    assert_eq!(others.events("/v1/rooms/room/events", &[]).await.unwrap_err().status, 429);

    let revocation: Value = json!({ "jti": "their-token" });
    assert_eq!(Rest::new(&server, &admin()).post("/v1/revocations", &revocation).await.status, 204);
    let (answer, took) = soon("the revoked poll ends", revoked).await.unwrap();
    answer.problem(401, "token_revoked");
    assert!(took < Duration::from_secs(10), "{took:?}");
    let (answer, took) = soon("the expired poll ends", expired).await.unwrap();
    answer.problem(401, "token_expired");
    assert!(took < Duration::from_secs(10), "{took:?}");
    eventually("none is left", async || others.connections("poll").await == 0).await;
}

/// A control character takes six bytes of JSON: the encoded frames that the ring keeps for its readers are
/// larger than the messages.
#[tokio::test]
async fn encoded_recent_messages_count_in_the_budget() {
    let redis = Redis::start().await;
    let server = Server::with(&redis.url(), &[("ROOMLOG_HUB__RING_BUDGET", "16MiB")]).await;
    let text = "\u{1}".repeat(4000);
    let mut reader = Client::connect(&server, &everything("ann")).await;
    let mut writer = Client::connect_msgpack(&server, &everything("bob")).await;
    let before = server.memory();
    for room in 0..50 {
        let room = format!("room{room}");
        reader.join(&room).await;
        let frames: Vec<Value> =
            (0..60).map(|_| json!({ "op": "publish", "room": room, "data": text })).collect();
        writer.send(json!(frames)).await;
        assert_eq!(reader.messages(60).await.len(), 60);
    }
    let grown = server.memory().saturating_sub(before) / 1024 / 1024;
    assert!(grown < 48, "{grown} MiB more");
    let rest = Rest::new(&server, &everything("ann"));
    let counted = rest.metric("roomlog_ring_bytes").await;
    assert!(counted < 18.0 * 1024.0 * 1024.0, "{counted}");
}
