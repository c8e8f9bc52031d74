//! Input that no client should send: the protocol's answer to it. It never harms more than its own
//! connection.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::harness::{Client, Redis, Rest, Server, Upgrade, eventually, everything, redis_and_server, soon};

async fn start() -> (Redis, Server) {
    let (redis, server) = redis_and_server().await;
    (redis, server)
}

fn text(text: &str) -> Message {
    Message::Text(text.into())
}

fn bytes(bytes: &[u8]) -> Message {
    Message::Binary(bytes.to_vec().into())
}

/// Rules: err-4, close-1007.
#[tokio::test]
async fn undecodable_payloads_close_the_connection() {
    let (_redis, server) = start().await;
    let mut bystander = Client::connect(&server, &everything("bob")).await;
    bystander.join("room").await;
    for payload in
        ["", "nonsense", "{", "{\"op\":\"ping\"} {}", "[{\"op\":\"ping\"},", "{'op':'ping'}", "NaN"]
    {
        let mut client = Client::connect(&server, &everything("ann")).await;
        client.send_message(text(payload)).await;
        assert_eq!(client.closed().await, 1007, "{payload}");
    }
    for payload in
        [&b""[..], b"\xc1", b"\x81", b"\x81\xa2op\xa4pi", b"\x81\xa2op\xa4ping\xc0", b"\xdd\xff\xff\xff\xff"]
    {
        let mut client = Client::connect_msgpack(&server, &everything("ann")).await;
        client.send_message(bytes(payload)).await;
        assert_eq!(client.closed().await, 1007, "{payload:?}");
    }
    bystander.publish("room", json!(1)).await;
    bystander.expect("message").await;
}

/// Rules: close-1000, close-1002.
#[tokio::test]
async fn a_goodbye_names_the_violation_and_a_close_by_the_client_gets_none() {
    let (_redis, server) = start().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    let reserved_opcode = [0x83, 0x80, 0, 0, 0, 0];
    client.stream().write_all(&reserved_opcode).await.unwrap();
    assert_eq!(client.expect("goodbye").await["code"], "protocol_error");
    assert_eq!(client.closed().await, 1002);

    let mut client = Client::connect(&server, &everything("ann")).await;
    let close_1000 = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];
    client.stream().write_all(&close_1000).await.unwrap();
    assert_eq!((client.next_or_closed().await, client.closed().await), (None, 1000));
}

/// Rules: close-1007.
#[tokio::test]
async fn invalid_utf8_closes_the_connection() {
    let (_redis, server) = start().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    let payload = b"{\"op\":\"publish\",\"room\":\"r\",\"data\":\"\xff\xfe\"}";
    let frame = Frame::message(payload.to_vec(), OpCode::Data(Data::Text), true);
    client.send_message(Message::Frame(frame)).await;
    assert_eq!(client.closed().await, 1007);
}

/// Rules: err-4, frame-8, frame-9, close-1007.
#[tokio::test]
async fn messages_of_the_wrong_kind_close_only_their_connection() {
    let (_redis, server) = start().await;
    let mut json = Client::connect(&server, &everything("ann")).await;
    json.send_message(bytes(b"\x81\xa2op\xa4ping")).await;
    let mut packed = Client::connect_msgpack(&server, &everything("ann")).await;
    packed.send_message(text("\u{81}x")).await;
    // One of the frame's own keys is a number.
    let mut numbered = Client::connect_msgpack(&server, &everything("ann")).await;
    numbered.send_message(bytes(b"\x82\xa2op\xa4ping\x01\x02")).await;
    for mut client in [json, packed, numbered] {
        assert_eq!(client.expect("error").await["code"], "bad_frame");
        assert_eq!(client.expect("goodbye").await["code"], "bad_frame");
        assert_eq!(client.closed().await, 1007);
    }
    Client::connect(&server, &everything("ann")).await.settled().await;
}

#[tokio::test]
async fn fragments_of_a_message_may_have_a_ping_between_them() {
    let (_redis, server) = start().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    let fragment = |payload: &str, kind, last| {
        Message::Frame(Frame::message(payload.as_bytes().to_vec(), OpCode::Data(kind), last))
    };
    client.send_message(fragment("{\"op\":\"pi", Data::Text, false)).await;
    client.send_message(Message::Ping(b"are you there"[..].into())).await;
    client.send_message(fragment("ng\",\"re", Data::Continue, false)).await;
    client.send_message(fragment("f\":5}", Data::Continue, true)).await;
    assert_eq!(client.answer(5).await["op"], "pong");
    assert_eq!(client.pongs, [b"are you there".to_vec()]);
}

/// Rules: op-1, close-1009.
#[tokio::test]
async fn huge_messages_close_the_connection() {
    let (_redis, server) = start().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    // Sixteen times the maximum of one message's data is allowed.
    let padding = " ".repeat(1_000_000);
    client.send_message(text(&format!("{{\"op\":\"ping\",\"ref\":77}}{padding}"))).await;
    assert_eq!(client.answer(77).await["op"], "pong");
    // The rest of the message may be refused before it is sent.
    let mut client = Client::connect(&server, &everything("ann")).await;
    let header = [&[0x81, 0xff][..], &(1u64 << 40).to_be_bytes(), &[0; 4], &[b' '; 1000]].concat();
    client.stream().write_all(&header).await.unwrap();
    assert_eq!(client.closed().await, 1009);
    let mut client = Client::connect(&server, &everything("ann")).await;
    let header = [&[0x81, 0xff][..], &(16 * 65536 + 1u64).to_be_bytes(), &[0; 4]].concat();
    client.stream().write_all(&header).await.unwrap();
    assert_eq!(client.expect("goodbye").await["code"], "too_large");
    assert_eq!(client.closed().await, 1009);
    client.stream().write_all(&[b' '; 10_000]).await.ok();
    drop(client);
    let rest = Rest::new(&server, &everything("ann"));
    eventually("only the first is left", async || rest.connections("websocket").await == 1).await;
}

/// Rules: frame-7, code-1.
#[tokio::test]
async fn a_value_that_is_not_a_frame_is_answered_and_the_connection_stays_open() {
    let (_redis, server) = start().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    for payload in
        ["5", "null", "\"ping\"", "{}", "{\"op\":5}", "[[]]", "[5]", "{\"op\":\"ping\",\"ref\":-1}"]
    {
        client.send_message(text(payload)).await;
        let error = client.expect("error").await;
        assert_eq!(error["code"], "bad_frame", "{payload}");
        assert_eq!(error.get("ref"), None, "{payload}");
    }
    for reference in [json!("1"), json!(1.5), json!([]), json!(-7)] {
        client.send(json!({ "op": "publish", "ref": reference, "room": "room", "data": 1 })).await;
        assert_eq!(client.expect("error").await["code"], "bad_frame", "{reference}");
    }
    client.send_message(text("[]")).await;
    assert_eq!(client.settled().await, Vec::<Value>::new());
    let great = json!({ "op": "ping", "ref": u64::MAX });
    client.send(great).await;
    assert_eq!(client.next().await["ref"], json!(u64::MAX));
}

/// Rules: frame-6.
#[tokio::test]
async fn null_is_the_same_as_a_missing_field() {
    let (_redis, server) = start().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    for frame in [
        json!({ "op": "publish", "room": "room", "data": null, "type": null, "key": null }),
        json!({ "op": "signal", "room": "room", "type": "t", "data": null, "to": null }),
        json!({ "op": "history", "room": "room", "after": null, "before": null, "limit": null }),
        json!({ "op": "subscribe", "room": "room", "since": null, "last": 1, "durable": null }),
    ] {
        client.ok(frame).await;
    }
    let message = client.expect("message").await;
    assert_eq!((&message["type"], &message["data"]), (&json!("message"), &Value::Null));
    client.expect("live").await;
    client.ok(json!({ "op": "unsubscribe", "room": "room", "forget": null })).await;
    client.send(json!({ "op": "ping", "ref": null })).await;
    assert_eq!(client.expect("error").await["code"], "bad_frame");
}

/// Rules: frame-1.
#[tokio::test]
async fn a_message_holds_at_most_4096_frames() {
    let (redis, server) = start().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    let publish = |n| json!({ "op": "publish", "ref": n, "room": "room", "data": n });
    client.send((0..4097).map(publish).collect()).await;
    let error = client.expect("error").await;
    assert_eq!((&error["code"], error.get("ref")), (&json!("bad_frame"), None));
    assert_eq!(client.settled().await, Vec::<Value>::new());
    assert_eq!(redis.ask(&["EXISTS", "rl:{room}:log"]).number(), 0, "none takes effect");
    client.send((0..4096).map(publish).collect()).await;
    for reference in 0..4096 {
        assert_eq!(client.answer(reference).await["op"], "ok");
    }
}

/// Rules: ws-5, code-3.
#[tokio::test]
async fn unknown_ops_are_errors_and_unknown_fields_are_ignored() {
    let (_redis, server) = start().await;
    for mut client in [
        Client::connect(&server, &everything("ann")).await,
        Client::connect_msgpack(&server, &everything("ann")).await,
    ] {
        for op in ["shout", "", "PING", "message", "ok"] {
            assert_eq!(client.error(json!({ "op": op, "room": "room" })).await, "unknown_op", "{op}");
        }
        client.send(json!({ "op": "shout" })).await;
        assert_eq!(client.expect("error").await["code"], "unknown_op");
        let frame =
            json!({ "op": "publish", "room": "room", "data": 1, "color": { "deep": [[1]] }, "x": null });
        client.ok(frame).await;
    }
}

/// Rules: ws-2, ws-3.
#[tokio::test]
async fn a_bad_frame_in_an_array_does_not_affect_the_others() {
    let (_redis, server) = start().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    client
        .send(json!([
            { "op": "publish", "ref": 1001, "room": "room", "data": 1 },
            { "op": "shout", "ref": 1002 },
            7,
            { "op": "publish", "ref": 1003, "room": "no room", "data": 1 },
            { "op": "publish", "ref": 1004, "room": "room", "data": 2 },
        ]))
        .await;
    for (reference, op, code) in [
        (1001, "ok", Value::Null),
        (1002, "error", json!("unknown_op")),
        (1003, "error", json!("bad_request")),
        (1004, "ok", Value::Null),
    ] {
        let answer = client.answer(reference).await;
        assert_eq!((&answer["op"], &answer["code"]), (&json!(op), &code), "{answer}");
    }
    assert_eq!(client.expect("error").await["code"], "bad_frame");
}

/// Rules: frame-4.
#[tokio::test]
async fn nesting_has_a_bound() {
    let (_redis, server) = start().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    let frame = |reference: u64, depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        format!("{{\"op\":\"publish\",\"ref\":{reference},\"room\":\"room\",\"data\":{open}{close}}}")
    };
    client.send_message(text(&frame(901, 32))).await;
    assert_eq!(client.answer(901).await["op"], "ok");
    client.send_message(text(&frame(902, 33))).await;
    assert_eq!(client.answer(902).await["code"], "bad_request");

    // Deeper than any decoder goes: refused in any way, and the server survives.
    for depth in [10_000, 400_000] {
        let mut client = Client::connect(&server, &everything("ann")).await;
        client.send_message(text(&frame(903, depth))).await;
        client.send(json!({ "op": "ping" })).await;
        client.next_or_closed().await;
        let mut client = Client::connect(&server, &everything("ann")).await;
        client.send_message(text(&"[".repeat(depth))).await;
        assert_eq!(client.closed().await, 1007);
        let mut packed = Client::connect_msgpack(&server, &everything("ann")).await;
        packed.send_message(bytes(&vec![0x91; depth])).await;
        assert_eq!(packed.closed().await, 1007);
    }
    client.publish("room", json!(1)).await;
}

/// Rules: err-4.
#[tokio::test]
async fn garbage_instead_of_http_or_websocket_does_no_harm() {
    let (_redis, server) = start().await;
    let requests: [&[u8]; 6] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET /v1/ws HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"POST /v1/ws HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"GET /%ff%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ];
    for request in requests {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = soon("an answer", stream.read_to_end(&mut answer)).await; // It may be a reset.
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    // After the upgrade: a frame without a mask, a reserved opcode, a stray continuation, an oversized
    // control frame.
    let long_ping = [&[0x89, 0xfe, 1, 0, 0, 0, 0, 0][..], &[0; 256]].concat();
    for frame in
        [&[0x81, 2, b'{', b'}'][..], &[0x83, 0x80, 0, 0, 0, 0], &[0x80, 0x80, 0, 0, 0, 0], &long_ping]
    {
        let mut client = Client::connect(&server, &everything("ann")).await;
        client.stream().write_all(frame).await.unwrap();
        assert_ne!(client.closed().await, 1000, "{frame:?}");
    }
    Client::connect(&server, &everything("ann")).await.settled().await;
}

/// Generates JSON that is usually a frame, with fields of any type.
fn almost_a_frame() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just("null".to_owned()),
        Just("\"room\"".to_owned()),
        Just("\"0\"".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        Just("1e400".to_owned()),
        Just("{\"a\":[{}]}".to_owned()),
        Just("true".to_owned()),
        "\"\\PC{0,20}\"",
    ];
    const NAMES: [&str; 13] = [
        "room", "ref", "data", "since", "last", "durable", "key", "id", "limit", "to", "type", "token",
        "after",
    ];
    let field =
        (prop::sample::select(&NAMES[..]), value).prop_map(|(name, value)| format!("\"{name}\":{value}"));
    const OPS: [&str; 10] =
        ["connect", "subscribe", "unsubscribe", "publish", "ack", "history", "signal", "auth", "ping", "x"];
    let op = prop::sample::select(&OPS[..]).prop_map(|op| format!("\"op\":\"{op}\""));
    let fields = prop::collection::vec(field, 0..6);
    (op, fields).prop_map(|(op, fields)| format!("{{{}}}", [vec![op], fields].concat().join(",")))
}

#[derive(Debug, Clone)]
enum Sent {
    Text(String),
    Binary(Vec<u8>),
    Raw(Vec<u8>),
}

/// Rules: err-4.
#[test]
fn no_input_crashes_the_server() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (redis, server) = runtime.block_on(start());
    let witness = runtime.block_on(async {
        let mut witness = Client::connect(&server, &everything("witness")).await;
        witness.join("witnessed").await;
        Mutex::new(witness)
    });
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    let sent = prop_oneof![
        4 => almost_a_frame().prop_map(Sent::Text),
        1 => "\\PC{0,100}".prop_map(Sent::Text),
        2 => bytes.clone().prop_map(Sent::Binary),
        1 => bytes.prop_map(Sent::Raw),
    ];
    let connection = (any::<bool>(), any::<bool>(), prop::collection::vec(sent, 1..8));
    let config = Config { cases: 150, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&connection, |(msgpack, connected, sent)| {
            runtime.block_on(async {
                let protocols = msgpack.then_some("roomlog.v1.msgpack");
                let upgrade = Upgrade { protocols, ..Upgrade::default() };
                let mut client = match connected {
                    true => Client::connect_with(&server, &everything("ann"), upgrade).await,
                    false => Client::open(&server, upgrade).await.unwrap(),
                };
                for sent in sent {
                    // The server may have closed the connection.
                    let _ = match sent {
                        Sent::Text(payload) => client.try_send(text(&payload)).await,
                        Sent::Binary(payload) => client.try_send(Message::Binary(payload.into())).await,
                        Sent::Raw(payload) => client.stream().write_all(&payload).await.is_ok(),
                    };
                }
                drop(client);
                let mut witness = witness.lock().await;
                witness.publish("witnessed", json!("alive")).await;
                witness.expect("message").await;
            });
            Ok(())
        })
        .unwrap();
    assert_eq!(redis.ask(&["PING"]).text(), "PONG");
}
