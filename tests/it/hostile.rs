//! Malicious or broken clients: each costs the server little, and leaves nothing behind.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{
    Client, Redis, Rest, Server, Upgrade, admin, eventually, everything, now, redis_and_server, sign, soon,
    token_with_id, within,
};

const MIB: u64 = 1024 * 1024;

/// Time limit for closing a connection whose token has ended. The documentation says 5 s, and the rest is for
/// a busy machine.
const GONE_WITHIN: Duration = Duration::from_secs(8);

/// A client that reads nothing.
const DEAF: Upgrade<'static> = Upgrade { protocols: None, headers: Vec::new(), buffer: Some(4096) };

async fn start() -> (Redis, Server, Rest) {
    let (redis, server) = redis_and_server().await;
    let rest = Rest::new(&server, &everything("ann"));
    (redis, server, rest)
}

/// A server's open resources, and its operations in progress.
#[derive(Debug)]
struct Usage {
    files: usize,
    tasks: f64,
}

impl Usage {
    async fn of(server: &Server, rest: &Rest) -> Self {
        Self { tasks: rest.metric("roomlog_tasks").await, files: server.open_files() }
    }

    /// Waits until a server uses no more than this again.
    async fn again(&self, limit: Duration, server: &Server, rest: &Rest) {
        within(limit, "files and tasks are as before", async || {
            let now = Self::of(server, rest).await;
            now.files <= self.files + 1 && now.tasks <= self.tasks + 2.0
        })
        .await;
    }
}

/// Fills a room with more than a socket accepts.
async fn fill(server: &Server, room: &str) {
    let mut writer = Client::connect(server, &everything("writer")).await;
    writer.publish_many(room, 1500, 9_000).await;
    writer.close().await;
}

/// Waits until more than `bytes` bytes wait for clients that do not read, and no more arrive.
async fn stuck(rest: &Rest, bytes: f64) {
    let mut last = 0.0;
    eventually("the clients are stuck", async || {
        let waiting = rest.metric("roomlog_outbox_bytes").await;
        let before = std::mem::replace(&mut last, waiting);
        tokio::time::sleep(Duration::from_millis(50)).await;
        waiting > bytes && waiting == before
    })
    .await;
}

/// Opens a bare connection with a small receive buffer, and writes these bytes.
async fn raw(server: &Server, bytes: &[u8]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = soon("a connection", socket.connect(server.address)).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

fn get(path: &str, token: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n").into_bytes()
}

/// Returns a WebSocket frame with a mask of zeros.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let header = match payload.len() {
        length @ ..126 => vec![0x80 | opcode, 0x80 | length as u8],
        length => [&[0x80 | opcode, 0xff][..], &(length as u64).to_be_bytes()].concat(),
    };
    [&header, &[0; 4][..], payload].concat()
}

/// Rules: frame-1.
#[tokio::test]
async fn a_message_with_very_many_frames_takes_little_memory() {
    let (_redis, server, rest) = start().await;
    let nils = [&[0xdd, 0, 0x0f, 0xff, 0xf0][..], &vec![0xc0; 0xf_fff0]].concat();
    let ones = format!("[{}1]", "1,".repeat(500_000));
    let mut msgpack = Client::connect_msgpack(&server, &everything("ann")).await;
    let mut json = Client::connect(&server, &everything("ann")).await;
    let before = server.peak_memory();
    for _ in 0..3 {
        msgpack.send_message(Message::Binary(nils.clone().into())).await;
        assert_eq!(msgpack.expect("error").await["code"], "bad_frame");
        json.send_message(Message::Text(ones.clone().into())).await;
        assert_eq!(json.expect("error").await["code"], "bad_frame");
        for body in [(&nils[..], "application/msgpack"), (ones.as_bytes(), "application/json")] {
            let request = rest.request(reqwest::Method::POST, "/v1/messages").header("Content-Type", body.1);
            let answer = crate::harness::answer(request.body(body.0.to_vec())).await;
            answer.problem(400, "bad_request");
        }
    }
    let grown = (server.peak_memory() - before) / MIB;
    assert!(grown < 48, "{grown} MiB more");
    // Neither has done anything that closes its connection.
    msgpack.settled().await;
    json.settled().await;
}

/// Rules: conn-2.
#[tokio::test]
async fn before_connect_only_one_small_message_is_accepted() {
    let (_redis, server, _rest) = start().await;
    let token = everything("ann");
    // The header of a larger frame is enough to be refused.
    for length in [16 * 1024 + 1u64, 1024 * 1024] {
        let mut client = Client::open(&server, Upgrade::default()).await.unwrap();
        let header = [&[0x81, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat();
        client.stream().write_all(&header).await.unwrap();
        assert_eq!(client.closed().await, 1009);
    }
    let mut client = Client::open(&server, Upgrade::default()).await.unwrap();
    let connect = json!({ "op": "connect", "ref": 1, "token": token }).to_string();
    let padded = format!("{connect}{}", " ".repeat(16 * 1024 - connect.len()));
    client.send_message(Message::Text(padded.into())).await;
    assert_eq!(client.answer(1).await["op"], "ok");

    // Later frames need not wait for the answer, and the larger limits apply to them.
    let mut client = Client::open(&server, Upgrade::default()).await.unwrap();
    let publish = json!({ "op": "publish", "ref": 2, "room": "room", "data": "x".repeat(60_000) });
    let many: Vec<Value> = (3..203).map(|number| json!({ "op": "ping", "ref": number })).collect();
    let mut all = frame(1, connect.as_bytes());
    all.extend(frame(1, publish.to_string().as_bytes()));
    all.extend(frame(9, b"there?"));
    all.extend(frame(1, json!(many).to_string().as_bytes()));
    client.stream().write_all(&all).await.unwrap();
    for reference in 1..203 {
        let answer = client.answer(reference).await;
        assert!(answer["op"] == "ok" || answer["op"] == "pong", "{answer}");
    }
    assert_eq!(client.pongs, [b"there?".to_vec()]);
}

#[tokio::test]
async fn half_received_messages_before_connect_hold_little_memory() {
    let (_redis, server, _rest) = start().await;
    let before = server.memory();
    let mut strangers = Vec::new();
    for _ in 0..100 {
        let mut client = Client::open(&server, DEAF).await.unwrap();
        let header = [&[0x81, 0xff][..], &(1024 * 1024u64).to_be_bytes(), &[0; 4]].concat();
        client.stream().write_all(&header).await.unwrap();
        let most_of_it = vec![b' '; 1_000_000];
        // The server may refuse it.
        let _ = timeout(Duration::from_millis(100), client.stream().write_all(&most_of_it)).await;
        strangers.push(client);
    }
    let grown = server.memory().saturating_sub(before) / MIB;
    assert!(grown < 24, "{grown} MiB more for 100 strangers");
}

/// Writes pings and reads nothing, until `bytes` bytes are written or no more are accepted.
async fn ping_without_reading(stream: &mut TcpStream, bytes: usize) {
    let pings = frame(9, &[b'p'; 125]).repeat(500);
    let mut written = 0;
    while written < bytes {
        match timeout(Duration::from_secs(2), stream.write_all(&pings)).await {
            Ok(outcome) => outcome.unwrap(),
            Err(_it_takes_no_more) => return,
        }
        written += pings.len();
    }
}

/// Rules: conn-3.
#[tokio::test]
async fn only_one_pong_waits_for_a_client_that_does_not_read() {
    let (_redis, server, rest) = start().await;
    let before = server.memory();
    let mut stranger = Client::open(&server, DEAF).await.unwrap();
    let mut known = Client::connect_with(&server, &everything("ann"), DEAF).await;
    for client in [&mut stranger, &mut known] {
        ping_without_reading(client.stream(), 40 * MIB as usize).await;
        let waiting = rest.metric("roomlog_outbox_bytes").await;
        assert!(waiting < 1024.0, "{waiting} bytes of pongs wait");
    }
    let grown = server.memory().saturating_sub(before) / MIB;
    assert!(grown < 16, "{grown} MiB more");
    // The newest ping is answered once the client reads again.
    known.send_message(Message::Ping(b"newest"[..].into())).await;
    known.settled().await;
    assert_eq!(known.pongs.last().map(Vec::as_slice), Some(&b"newest"[..]));
}

/// Rules: conn-3.
#[tokio::test]
async fn pings_are_answered_while_a_request_waits() {
    let (redis, server, _rest) = start().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    client.settled().await;
    redis.pause();
    let subscribed = client.ask(json!({ "op": "subscribe", "room": "room" })).await;
    let published = client.ask(json!({ "op": "publish", "room": "room", "data": 1 })).await;
    client.send_message(Message::Ping(b"waiting"[..].into())).await;
    let mut pong = Vec::new();
    let expected = [&[0x8a, 7][..], b"waiting"].concat();
    let answered = async {
        while !pong.windows(9).any(|window| window == expected) {
            assert!(client.stream().read_buf(&mut pong).await.unwrap() > 0, "closed");
        }
    };
    timeout(Duration::from_secs(1), answered).await.expect("a pong while Redis is silent");
    assert_eq!(pong, expected, "nothing was answered before it");
    redis.resume();
    // After that, all messages arrive in order.
    let subscribed = client.answer(subscribed).await;
    let published = client.answer(published).await;
    assert_ne!((&subscribed["op"], &published["op"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn frames_before_a_close_take_effect() {
    let (redis, server, _rest) = start().await;
    let mut client = Client::connect(&server, &everything("ann")).await;
    client.settled().await;
    redis.pause();
    client.ask(json!({ "op": "history", "room": "room" })).await;
    for number in 0..20 {
        client.send(json!({ "op": "publish", "room": "room", "data": number })).await;
    }
    client.stream().write_all(&frame(8, &1000u16.to_be_bytes())).await.unwrap();
    redis.resume();
    assert_eq!(client.closed().await, 1000);
    eventually("all are stored", async || redis.ask(&["XLEN", "rl:{room}:log"]).number() == 20).await;
}

#[tokio::test]
async fn clients_that_half_close_and_do_not_read_are_cleaned_up() {
    let (_redis, server, rest) = start().await;
    fill(&server, "room").await;
    let before = Usage::of(&server, &rest).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = Client::connect_with(&server, &everything("ann"), DEAF).await;
        client.send(json!({ "op": "subscribe", "room": "room", "since": "0" })).await;
        clients.push(client);
    }
    stuck(&rest, 20.0 * 60_000.0).await;
    for client in &mut clients {
        client.stream().shutdown().await.unwrap();
    }
    eventually("the sessions end", async || rest.connections("websocket").await == 0).await;
    before.again(GONE_WITHIN, &server, &rest).await;
    drop(clients);
}

/// Opens clients of each kind that request much and read nothing: a subscription, pages of history, events.
async fn deaf_clients(server: &Server, token: &str) -> (Vec<Client>, Vec<TcpStream>) {
    let mut subscriber = Client::connect_with(server, token, DEAF).await;
    subscriber.send(json!({ "op": "subscribe", "room": "room", "since": "0" })).await;
    let mut asks = Client::connect_with(server, token, DEAF).await;
    for _ in 0..50 {
        asks.send(json!({ "op": "history", "ref": 9, "room": "room", "after": "0", "limit": 1000 })).await;
    }
    let events = raw(server, &get("/v1/rooms/room/events?since=0", token)).await;
    (vec![subscriber, asks], vec![events])
}

async fn counted(rest: &Rest) -> usize {
    rest.connections("websocket").await + rest.connections("sse").await
}

/// Rules: token-3, sse-5.
#[tokio::test]
async fn clients_that_do_not_read_end_with_their_token() {
    let (_redis, server, rest) = start().await;
    fill(&server, "room").await;
    let before = Usage::of(&server, &rest).await;
    let expires = now() + 8;
    let expiring = sign(&json!({ "sub": "eve", "exp": expires, "rooms": { "*": ["read"] } }));
    let revoked = token_with_id("mallory", json!({ "*": ["read"] }), "their-token");
    let one = deaf_clients(&server, &expiring).await;
    let two = deaf_clients(&server, &revoked).await;
    eventually("all are there", async || counted(&rest).await == 6).await;
    stuck(&rest, 600_000.0).await;
    let revoke = Rest::new(&server, &admin()).post("/v1/revocations", &json!({ "jti": "their-token" })).await;
    assert_eq!(revoke.status, 204);
    let started = Instant::now();
    within(GONE_WITHIN, "revoked", async || counted(&rest).await <= 3).await;
    eventually("expired", async || now() > expires).await;
    within(GONE_WITHIN, "expired too", async || counted(&rest).await == 0).await;
    before.again(GONE_WITHIN, &server, &rest).await;
    assert!(started.elapsed() < 3 * GONE_WITHIN);
    drop((one, two));
}

#[tokio::test]
async fn clients_that_do_not_read_do_not_delay_a_shutdown() {
    let redis = Redis::start().await;
    // Longer than any wait in this test.
    let mut server = Server::with(&redis.url(), &[("ROOMLOG_SERVER__SHUTDOWN_GRACE", "5m")]).await;
    fill(&server, "room").await;
    let rest = Rest::new(&server, &everything("ann"));
    let clients = deaf_clients(&server, &everything("eve")).await;
    let page = raw(&server, &get("/v1/rooms/room/messages?limit=1000", &everything("eve"))).await;
    eventually("all are there", async || counted(&rest).await == 3).await;
    stuck(&rest, 300_000.0).await;
    let started = Instant::now();
    server.terminate().await;
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
    drop((clients, page));
}
