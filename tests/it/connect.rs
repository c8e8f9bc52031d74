//! Opening a connection: tokens, subprotocols, origins, and silent clients.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};

use crate::harness::{Client, Redis, Server, Upgrade, everything, now, redis_and_server, sign, token_for};

/// Connects with a token that must be refused. Returns the codes of the error and the goodbye, and the close
/// code.
async fn refused(server: &Server, token: &str) -> (String, String, u16) {
    let mut client = Client::open(server, Upgrade::default()).await.unwrap();
    let error = client.error(json!({ "op": "connect", "token": token })).await;
    let goodbye = client.expect("goodbye").await;
    (error, goodbye["code"].as_str().unwrap().to_owned(), client.closed().await)
}

/// Rules: op-1, ws-1.
#[tokio::test]
async fn the_answer_says_what_a_client_needs_to_know() {
    let (_redis, server) = redis_and_server().await;
    let mut client = Client::open(&server, Upgrade::default()).await.unwrap();
    assert_eq!(client.protocol, None);

    let before = now();
    let answer = client.ok(json!({ "op": "connect", "token": everything("ann") })).await;
    assert_eq!(answer["user"], "ann");
    assert_eq!(answer["ping"], 25);
    assert_eq!(answer["max_message"], 65536);
    let expires = answer["expires"].as_u64().unwrap();
    assert!((before + 3590..=now() + 3600).contains(&expires), "{expires}");
    assert!(uuid::Uuid::try_parse(answer["session"].as_str().unwrap()).is_ok());

    let mut other = Client::open(&server, Upgrade::default()).await.unwrap();
    let second = other.ok(json!({ "op": "connect", "token": everything("ann") })).await;
    assert_ne!(answer["session"], second["session"]);
}

/// Rules: op-1, conn-1.
#[tokio::test]
async fn the_token_may_come_with_the_upgrade() {
    let (_redis, server) = redis_and_server().await;
    let headers = vec![("Authorization", format!("Bearer {}", everything("ann")))];
    let upgrade = Upgrade { headers, ..Upgrade::default() };
    let mut client = Client::open(&server, upgrade.clone()).await.unwrap();
    let answer = client.ok(json!({ "op": "connect" })).await;
    assert_eq!(answer["user"], "ann");
    client.publish("room", json!(1)).await;

    // It replaces the token of a `connect`, and not the `connect`.
    let mut client = Client::open(&server, upgrade).await.unwrap();
    assert_eq!(client.error(json!({ "op": "ping" })).await, "unauthenticated");
    client.until("goodbye").await;
    assert_eq!(client.closed().await, 4501);
}

/// Rules: ws-3.
#[tokio::test]
async fn a_connect_without_a_ref_is_not_answered() {
    let (_redis, server) = redis_and_server().await;
    let mut client = Client::open(&server, Upgrade::default()).await.unwrap();
    client.send(json!({ "op": "connect", "token": everything("ann") })).await;
    assert_eq!(client.settled().await, Vec::<Value>::new());
}

/// Rules: op-1, conn-2, conn-5, close-4501.
#[tokio::test]
async fn connect_must_come_first_and_only_once() {
    let (redis, server) = redis_and_server().await;
    for first in [
        json!({ "op": "publish", "room": "room", "data": 1 }),
        // Its other fields are not looked at.
        json!({ "op": "publish", "room": 5 }),
        json!({ "op": "ping" }),
        json!({ "op": "nonsense" }),
        json!({ "op": "connect" }),
    ] {
        let mut client = Client::open(&server, Upgrade::default()).await.unwrap();
        assert_eq!(client.error(first).await, "unauthenticated");
        client.until("goodbye").await;
        assert_eq!(client.closed().await, 4501);
    }

    let mut client = Client::connect(&server, &everything("ann")).await;
    client.error(json!({ "op": "connect", "token": everything("bob") })).await;
    client.publish("room", json!(1)).await;
    assert_eq!(redis.ask(&["XLEN", "rl:{room}:log"]).number(), 1);
}

/// Rules: ws-2, ws-4, conn-2.
#[tokio::test]
async fn a_frame_in_the_same_message_as_connect_waits_for_it() {
    let (_redis, server) = redis_and_server().await;
    let mut client = Client::open(&server, Upgrade::default()).await.unwrap();
    let publish = json!({ "op": "publish", "ref": 2, "room": "room", "data": 1 });
    client.send(json!([{ "op": "connect", "ref": 1, "token": everything("ann") }, publish])).await;
    assert_eq!(client.answer(1).await["op"], "ok");
    assert_eq!(client.answer(2).await["op"], "ok");
}

/// Rules: op-9, conn-4.
#[tokio::test]
async fn a_ping_is_answered_by_a_pong() {
    let (_redis, server) = redis_and_server().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    client.send(json!([{ "op": "ping", "ref": 7 }, { "op": "ping" }])).await;
    assert_eq!(client.next().await, json!({ "op": "pong", "ref": 7 }));
    assert_eq!(client.next().await, json!({ "op": "pong" }));
}

/// Rules: token-3, token-4, conn-5, conn-8, code-4, close-4501.
#[tokio::test]
async fn tokens_that_do_not_verify_are_refused() {
    let (_redis, server) = redis_and_server().await;
    let good = everything("ann");
    let (signed, _signature) = good.rsplit_once('.').unwrap();
    let other = sign(&json!({ "sub": "eve", "exp": now() + 60 }));
    let bad = [
        "nonsense".to_owned(),
        String::new(),
        format!("{signed}.{}", other.rsplit_once('.').unwrap().1),
        sign(&json!({ "sub": "ann" })),
        sign(&json!({ "exp": now() + 60 })),
        sign(&json!({ "sub": "ann", "exp": "soon" })),
        sign(&json!({ "sub": "ann", "exp": now() + 60, "nbf": now() + 30 })),
        // {"alg":"none"} and {"sub":"ann","exp":9999999999}
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4iLCJleHAiOjk5OTk5OTk5OTl9.".to_owned(),
    ];
    for token in bad {
        let unauthenticated = || "unauthenticated".to_owned();
        assert_eq!(refused(&server, &token).await, (unauthenticated(), unauthenticated(), 4501), "{token}");
    }
}

/// Rules: token-3, conn-5, close-4001.
#[tokio::test]
async fn an_expired_token_closes_with_a_code_that_asks_for_a_new_one() {
    let (_redis, server) = redis_and_server().await;
    let token = sign(&json!({ "sub": "ann", "exp": now() - 10 }));
    let expired = || "token_expired".to_owned();
    assert_eq!(refused(&server, &token).await, (expired(), expired(), 4001));
    // Clocks may differ by some seconds.
    Client::connect(&server, &token_for("ann", json!({}), Duration::from_secs(1))).await;
}

/// Rules: frame-5.
#[tokio::test]
async fn a_user_is_1_to_256_bytes_of_text_without_control_characters() {
    let (_redis, server) = redis_and_server().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    let signal = |to: &str| json!({ "op": "signal", "room": "room", "type": "t", "data": 1, "to": to });
    let longest = "ä".repeat(128);
    client.ok(signal(&longest)).await;
    Client::connect(&server, &everything(&longest)).await.settled().await;
    for user in ["", &format!("{longest}x"), "a\nb", "a\u{7f}"] {
        assert_eq!(client.error(signal(user)).await, "bad_request", "{user:?}");
        assert_eq!(refused(&server, &everything(user)).await.0, "unauthenticated", "{user:?}");
    }
    // Its name is not valid in a room's name, so this user has no inbox.
    assert_eq!(client.error(json!({ "op": "subscribe", "room": "@änn" })).await, "bad_request");
}

/// Rules: ws-1.
#[tokio::test]
async fn the_subprotocol_selects_the_encoding() {
    let (_redis, server) = redis_and_server().await;
    for (asked, chosen) in [
        ("roomlog.v1.json", "roomlog.v1.json"),
        ("roomlog.v1.msgpack", "roomlog.v1.msgpack"),
        ("chat, roomlog.v1.msgpack", "roomlog.v1.msgpack"),
        ("roomlog.v9.json, roomlog.v1.json", "roomlog.v1.json"),
    ] {
        let upgrade = Upgrade { protocols: Some(asked), ..Upgrade::default() };
        let mut client = Client::connect_with(&server, &everything("ann"), upgrade).await;
        assert_eq!(client.protocol.as_deref(), Some(chosen), "{asked}");
        client.publish("room", json!(asked)).await;
    }
    for unknown in ["chat", "roomlog.v2.json, chat"] {
        let upgrade = Upgrade { protocols: Some(unknown), ..Upgrade::default() };
        assert_eq!(Client::open(&server, upgrade).await.err(), Some(400), "{unknown}");
    }
}

/// Rules: rest-8.
#[tokio::test]
async fn pages_of_foreign_origins_are_refused() {
    let redis = Redis::start().await;
    let allowed = "https://app.example.com";
    let server = Server::with(&redis.url(), &[("ROOMLOG_SERVER__ALLOWED_ORIGINS", allowed)]).await;
    let open = |origin: String| {
        Client::open(&server, Upgrade { headers: vec![("Origin", origin)], ..Upgrade::default() })
    };
    for foreign in
        ["https://evil.example.com", "http://app.example.com", "https://app.example.com.evil", "null"]
    {
        assert_eq!(open(foreign.into()).await.err(), Some(403), "{foreign}");
    }
    for welcome in [allowed.to_owned(), server.url()] {
        assert!(open(welcome.clone()).await.is_ok(), "{welcome}");
    }

    let open_to_all = Server::with(&redis.url(), &[("ROOMLOG_SERVER__ALLOWED_ORIGINS", "*")]).await;
    let headers = vec![("Origin", "https://anywhere.example.org".to_owned())];
    assert!(Client::open(&open_to_all, Upgrade { headers, ..Upgrade::default() }).await.is_ok());
}

/// Reads from the bare connection, answering nothing, until this WebSocket close code. A goodbye with this
/// name must come before it.
async fn closed_with(client: &mut Client, code: u16, name: &str) {
    let [high, low] = code.to_be_bytes();
    let close = [0x88, 2, high, low];
    let mut seen = Vec::new();
    while !seen.windows(4).any(|window| window == close) {
        let read = client.stream().read_buf(&mut seen).await.unwrap();
        assert!(read > 0, "the connection ended without {code}: {}", String::from_utf8_lossy(&seen));
    }
    let seen = String::from_utf8_lossy(&seen);
    assert!(seen.contains(&format!(r#"{{"op":"goodbye","code":"{name}""#)), "no goodbye in {seen}");
}

/// All cases in parallel, since each takes its time.
/// Rules: op-1, err-2, err-3, conn-7, close-4002, close-4003.
#[tokio::test]
async fn silent_connections_are_closed() {
    let (_redis, server) = redis_and_server().await;
    let no_connect = async {
        let mut client = Client::open(&server, Upgrade::default()).await.unwrap();
        let started = Instant::now();
        let goodbye = client.expect("goodbye").await;
        assert_eq!((&goodbye["code"], client.closed().await), (&json!("no_connect"), 4003));
        assert!(started.elapsed().as_secs() >= 9, "{:?}", started.elapsed());
    };
    let mut talks = Client::connect(&server, &everything("bob")).await;
    let no_pong = async {
        let mut client = Client::connect(&server, &everything("ann")).await;
        let started = Instant::now();
        let closed = closed_with(&mut client, 4002, "no_pong");
        let closed = timeout(Duration::from_secs(60), closed);
        // Another client answers no ping either, but sends messages.
        let mut ticks = interval(Duration::from_secs(5));
        let talking = async {
            loop {
                ticks.tick().await;
                let ping = [&[0x81, 0x8d, 0, 0, 0, 0][..], br#"{"op":"ping"}"#].concat();
                talks.stream().write_all(&ping).await.unwrap();
            }
        };
        tokio::select! {
            closed = closed => closed.expect("closed for want of a pong"),
            () = talking => {}
        }
        assert!(started.elapsed().as_secs() >= 30, "{:?}", started.elapsed());
        talks.settled().await;
    };
    let no_request = async {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost").await.unwrap();
        let mut answer = Vec::new();
        let end = timeout(Duration::from_secs(100), stream.read_to_end(&mut answer)).await;
        let _ = end.expect("an end"); // It may be a reset.
    };
    tokio::join!(no_connect, no_pong, no_request);
}
