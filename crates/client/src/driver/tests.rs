//! Connections to a server that is played by the test, on a clock that only moves when everybody waits.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Bytes, Message as Payload};

use super::super::connection::{ConnectOptions, Connection, State};
use super::super::{Error, Event, PublishError, TailOptions};
use super::*;

const URL: &str = "http://server";

fn room(name: &str) -> RoomName {
    name.parse().unwrap()
}

/// The server's end of a connection.
struct Peer(WebSocketStream<DuplexStream>);

impl Peer {
    /// Returns the next frame.
    async fn frame(&mut self) -> Value {
        loop {
            match self.0.next().await.expect("a frame").unwrap() {
                Payload::Text(text) => return serde_json::from_str(&text).unwrap(),
                Payload::Ping(_) | Payload::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn send(&mut self, frame: Value) {
        self.0.send(Payload::text(frame.to_string())).await.unwrap();
    }

    /// Takes a request of this kind, and answers it.
    async fn answer(&mut self, op: &str, mut answer: Value) -> Value {
        let request = self.frame().await;
        assert_eq!(request["op"], op, "{request}");
        answer["ref"] = request["ref"].clone();
        self.send(answer).await;
        request
    }

    async fn welcome(&mut self) {
        self.answer("connect", json!({ "op": "ok", "ping": 25, "max_message": 65536 })).await;
    }

    async fn close(mut self, code: u16, goodbye: Value) {
        self.send(goodbye).await;
        let frame = CloseFrame { code: code.into(), reason: "".into() };
        self.0.close(Some(frame)).await.unwrap();
        while self.0.next().await.is_some_and(|payload| payload.is_ok()) {}
    }
}

/// The server: gets the connections that a client makes, with their times. `None` refuses them.
struct Server(mpsc::Receiver<(Instant, Option<DuplexStream>)>);

impl Server {
    async fn accept(&mut self) -> (Instant, Peer) {
        let (at, stream) = self.0.recv().await.unwrap();
        (at, Peer(WebSocketStream::from_raw_socket(stream.unwrap(), Role::Server, None).await))
    }
}

fn unreachable() -> Error {
    Error::Unreachable { url: URL.into(), cause: "refused".into() }
}

/// Returns a connection to a server, which listens or not.
fn connection(is_listening: bool) -> (Connection, Server) {
    let (dialed, accepting) = mpsc::channel(100);
    let dial = Box::new(move || -> Dialing {
        let dialed = dialed.clone();
        Box::pin(async move {
            let (own, other) = duplex(1 << 20);
            dialed.send((Instant::now(), is_listening.then_some(other))).await.unwrap();
            if !is_listening {
                return Err(Lost::retry(unreachable()));
            }
            let wire = WebSocketStream::from_raw_socket(own, Role::Client, None).await;
            Socket::introduce(Box::new(wire), Some("token"), URL.into()).await
        })
    });
    let remote = Remote { dial, tokens: Tokens::fixed(Some("token")).unwrap(), url: URL.into() };
    (Connection::to(remote, ConnectOptions::default(), true), Server(accepting))
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_is_asked_more_and_more_rarely() {
    let (connection, mut server) = connection(false);
    let (mut before, _) = server.0.recv().await.unwrap();
    for longest in [500, 1000, 2000, 4000, 8000, 16_000, 20_000, 20_000] {
        let (at, _) = server.0.recv().await.unwrap();
        let pause = (at - before).as_millis();
        assert!((longest / 2..=longest + 1).contains(&pause), "{pause} ms of {longest}");
        before = at;
    }
    // The last handle is gone, and nothing waits: it gives up.
    drop(connection);
    assert!(
        timeout(Duration::from_secs(60), async { while server.0.recv().await.is_some() {} }).await.is_ok()
    );
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_says_when_to_come_back() {
    let (connection, mut server) = connection(true);
    let (_, mut peer) = server.accept().await;
    peer.welcome().await;
    connection.connected().await.unwrap();
    let goodbye = json!({ "op": "goodbye", "code": "restarting", "message": "x", "retry_after_ms": 7000 });
    let left = Instant::now();
    peer.close(1012, goodbye).await;
    let (at, mut peer) = server.accept().await;
    assert_eq!((at - left).as_secs(), 7);
    peer.welcome().await;
    connection.connected().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_final_close_ends_it() {
    let (connection, mut server) = connection(true);
    let (_, mut peer) = server.accept().await;
    peer.welcome().await;
    let publication = connection.room(room("a")).publish(1);
    assert_eq!(peer.frame().await["op"], "publish");
    let goodbye = json!({ "op": "goodbye", "code": "token_revoked", "message": "no" });
    peer.close(4502, goodbye).await;
    let error = Error::Ended { code: "token_revoked".into(), message: "no".into() };
    assert_eq!(publication.await, Err(PublishError::Unconfirmed(error.clone())));
    assert_eq!(connection.state(), State::Ended(error));
    assert_eq!(connection.close(Duration::ZERO).await.len(), 1);
    assert!(timeout(Duration::from_secs(100), server.0.recv()).await.is_err(), "it does not connect again");
}

#[tokio::test(start_paused = true)]
async fn silence_is_questioned_and_then_taken_for_the_end() {
    let (connection, mut server) = connection(true);
    let (_, mut peer) = server.accept().await;
    peer.welcome().await;
    connection.connected().await.unwrap();
    // A peer that reads answers pings.
    assert!(timeout(Duration::from_secs(100), peer.0.next()).await.is_ok(), "a ping");
    assert!(timeout(Duration::from_secs(10), peer.0.next()).await.is_err());
    assert_eq!(connection.state(), State::Connected);
    let silent = Instant::now();
    let (at, _peer) = server.accept().await;
    // Each time counts from the last sign of life, 10 s ago.
    let noticed = (at - silent).as_secs_f64();
    assert!((25.0..26.0).contains(&noticed), "{noticed}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_is_temporary_is_waited_for() {
    let (connection, mut server) = connection(true);
    let (_, mut peer) = server.accept().await;
    peer.welcome().await;
    let publication = connection.room(room("a")).publish(1);
    for (code, ms) in [("rate_limited", 3000), ("unavailable", 5000)] {
        let refusal = json!({ "op": "error", "code": code, "message": "x", "retry_after_ms": ms });
        peer.answer("publish", refusal).await;
        let refused = Instant::now();
        // Pings come meanwhile.
        let next = peer.frame().await;
        let waited = refused.elapsed().as_millis();
        assert!((ms..ms + ms / 4 + 10).contains(&waited), "{waited} ms for {next}");
        peer.send(json!({ "op": "error", "ref": next["ref"], "code": "unavailable", "message": "x", "retry_after_ms": 0 })).await;
    }
    peer.answer("publish", json!({ "op": "ok", "id": "5-1", "duplicate": true })).await;
    assert!(publication.await.unwrap().duplicate);
}

#[tokio::test(start_paused = true)]
async fn closing_waits_as_long_as_it_may() {
    let (connection, _server) = connection(false);
    drop(connection.room(room("a")).publish(1));
    let began = Instant::now();
    let unconfirmed = connection.close(Duration::from_secs(5)).await;
    assert_eq!((unconfirmed.len(), began.elapsed().as_secs()), (1, 5));
    assert_eq!(connection.connected().await, Err(Error::closed()));
}

#[tokio::test(start_paused = true)]
async fn what_may_be_stored_is_looked_for_where_a_tail_has_read() {
    let (connection, mut server) = connection(true);
    let (_, mut peer) = server.accept().await;
    peer.welcome().await;
    let subscribed = json!({ "op": "ok", "position": "5-7", "head": "5-7" });
    let opening = connection.tail(TailOptions::new(room("a")));
    let (tail, _) = tokio::join!(opening, peer.answer("subscribe", subscribed.clone()));
    let mut tail = tail.unwrap();
    let publication = connection.room(room("a")).publish(1);
    let sent = peer.frame().await;
    drop(peer);

    let (_, mut peer) = server.accept().await;
    peer.welcome().await;
    let again = peer.answer("subscribe", subscribed).await;
    assert_eq!(again["since"], "5-7");
    let own = json!({ "id": "5-9", "key": sent["key"] });
    let page = json!({ "op": "ok", "messages": [own], "more": false, "head": "5-9" });
    assert_eq!(peer.answer("history", page).await["after"], "5-7");
    let published = publication.await.unwrap();
    assert_eq!((published.id.seq, published.duplicate), (9, true));
    let mut events = Vec::new();
    while events.len() < 3 {
        events.push(tail.next().await.unwrap());
    }
    assert!(
        matches!(&events[..], [Event::Subscribed { .. }, Event::Lost { .. }, Event::Subscribed { .. }]),
        "{events:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_frame_too_large_for_the_server_is_not_sent() {
    let (connection, mut server) = connection(true);
    let (_, mut peer) = server.accept().await;
    peer.answer("connect", json!({ "op": "ok", "ping": 25, "max_message": 10 })).await;
    let huge = connection.room(room("a")).publish("x".repeat(200));
    let small = connection.room(room("a")).publish(1);
    assert!(matches!(huge.await, Err(PublishError::Refused(_))));
    peer.answer("publish", json!({ "op": "ok", "id": "5-1" })).await;
    small.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn pings_of_the_server_are_answered_while_nobody_asks() {
    let (connection, mut server) = connection(true);
    let (_, mut peer) = server.accept().await;
    peer.welcome().await;
    peer.0.send(Payload::Ping(Bytes::from_static(b"7"))).await.unwrap();
    assert_eq!(peer.0.next().await.unwrap().unwrap(), Payload::Pong(Bytes::from_static(b"7")));
    drop(connection);
}
