//! Tests of the handshake, of requests, rates and leases, on a scripted Redis.
#![allow(clippy::unwrap_used)]

use std::io::{self, IoSlice};

use futures_util::future::{BoxFuture, FutureExt, ready};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::auth::{Permission, RoomGrants, mint};
use crate::config::{AuthConfig, Config};
use crate::connections::ConnectionGuard;
use crate::hub::send_queue::{SendQueue, Sink};
use crate::log::{DurableId, Lease};
use crate::node::{SECRET, Simulated};
use crate::protocol::decode::Frames;
use crate::redis::scripted::{Call, Reply, Script};
use crate::redis::{Notification, PubSubEvent};
use crate::service::access::Revoked;
use crate::telemetry::{Timed, Transport};

#[derive(Clone, Default)]
struct Wire(Arc<Mutex<Vec<u8>>>);

impl Sink for Wire {
    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        parts.iter().for_each(|part| self.0.lock().extend_from_slice(part));
        Ok(parts.iter().map(|part| part.len()).sum())
    }

    fn writable(&self) -> BoxFuture<'_, io::Result<()>> {
        ready(Ok(())).boxed()
    }

    fn shut(&self) {}

    fn delivered(&self, _: Timed) {}
}

struct Client {
    connection: ConnectionGuard,
    wire: Wire,
    handshake: Option<Unauthenticated>,
    session: Option<Session>,
}

impl Client {
    fn open(node: &Simulated) -> Self {
        let wire = Wire::default();
        let queue = Arc::new(SendQueue::to(wire.clone(), 1 << 20, 100));
        let registry = &node.shared.registry;
        let connection =
            Registry::enter(registry, Transport::WebSocket, Encoding::Json, queue, None).unwrap();
        let (shared, of) = (node.shared.clone(), Arc::clone(&connection));
        let handshake = Some(Unauthenticated::new(shared, of, Encoding::Json, None));
        Self { connection, wire, handshake, session: None }
    }

    async fn connect(node: &Simulated, user: &str) -> Self {
        let mut client = Self::open(node);
        let answer = client.ask(json!({"op": "connect", "ref": 1, "token": token(user)})).await;
        assert_eq!(answer["op"], "ok", "{answer}");
        client
    }

    async fn ask(&mut self, frame: Value) -> Value {
        self.tell(frame).await;
        self.next().await
    }

    async fn tell(&mut self, frame: Value) {
        let frame = Frames::of(Encoding::Json, frame.to_string().into()).unwrap().next().unwrap().unwrap();
        let permit = self.connection.queue.has_room().await.unwrap();
        match (self.handshake.take(), &mut self.session) {
            (Some(handshake), _) => self.session = handshake.connect(frame, permit).await,
            (None, Some(session)) => session.handle(frame, permit).await,
            (None, None) => panic!("the handshake has failed"),
        }
    }

    async fn next(&mut self) -> Value {
        loop {
            if let Some(frame) = self.received() {
                return frame;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    fn received(&mut self) -> Option<Value> {
        let mut bytes = self.wire.0.lock();
        let (header, length) = match *bytes.get(1)? {
            126 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
            length => (2, usize::from(length)),
        };
        let message: Vec<u8> = bytes.drain(..header + length).collect();
        Some(serde_json::from_slice(&message[header..]).unwrap())
    }
}

fn token(user: &str) -> String {
    let secret = ("auth.hs256_secret".to_owned(), toml::Value::String(SECRET.into()));
    let config: AuthConfig = Config::load(None, std::iter::empty(), vec![secret]).unwrap().auth;
    let all = [("*".parse().unwrap(), vec![Permission::Read, Permission::Write])];
    let hour = std::time::Duration::from_secs(3600);
    mint(&config, &user.parse().unwrap(), &RoomGrants::from(all), hour, Some("the token")).unwrap()
}

/// A room with one message, in which everything succeeds.
fn room(call: &Call) -> Reply {
    match call.name.as_str() {
        "HMGET" => Reply::from(["1", "1", "1", "0"]),
        "append" => Reply::from(["1", "1-1", "1-2"]),
        "attach" => Reply::List(vec!["1-1".into(), "1-1".into(), Reply::Int(1)]),
        _ => Reply::Int(1),
    }
}

#[tokio::test(start_paused = true)]
async fn only_connect_begins_a_session() {
    let node = Simulated::scripted(&Script::new(room), &[]).await;
    for (frame, code) in [
        (json!({"op": "ping", "ref": 1}), CloseCode::Unauthenticated),
        (json!({"op": "connect", "ref": 1}), CloseCode::Unauthenticated),
        (json!({"op": "connect", "ref": 1, "token": "a.b.c"}), CloseCode::Unauthenticated),
    ] {
        let mut client = Client::open(&node);
        let answer = client.ask(frame).await;
        assert_eq!((&answer["op"], &answer["code"]), (&json!("error"), &json!("unauthenticated")));
        assert_eq!(client.connection.farewell(), Some(code));
        assert!(client.session.is_none() && client.connection.claims().is_none());
    }
    let mut client = Client::connect(&node, "ann").await;
    assert_eq!(client.connection.claims().unwrap().user.as_str(), "ann");
    let again = client.ask(json!({"op": "connect", "ref": 2, "token": token("ann")})).await;
    assert_eq!((&again["code"], client.connection.farewell()), (&json!("bad_request"), None));
}

#[tokio::test(start_paused = true)]
async fn a_revoked_token_ends_its_connection_and_opens_no_other() {
    let node = Simulated::scripted(&Script::new(room), &[]).await;
    let client = Client::connect(&node, "ann").await;
    let all = [("*".parse().unwrap(), vec![Permission::Manage])];
    let manager =
        Claims { grants: RoomGrants::from(all).into(), ..(*client.connection.claims().unwrap()).clone() };
    let revoked = Revoked::Token { jti: "the token".into(), expires: None };
    node.shared.services.access.revoke(&manager, revoked).await.unwrap();
    assert_eq!(client.connection.farewell(), Some(CloseCode::TokenRevoked));
    let mut another = Client::open(&node);
    let answer = another.ask(json!({"op": "connect", "ref": 1, "token": token("ann")})).await;
    assert_eq!(answer["code"], "token_revoked");
    assert_eq!(another.connection.farewell(), Some(CloseCode::TokenRevoked));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_ignores_the_rate_is_disconnected() {
    let node = Simulated::scripted(&Script::new(room), &[("limits.publish_rate", "2")]).await;
    let mut client = Client::connect(&node, "ann").await;
    let publish = json!({"op": "publish", "ref": 2, "room": "chat", "data": 1});
    for _ in 0..2 {
        assert_eq!(client.ask(publish.clone()).await["op"], "ok");
    }
    let mut refused = 0;
    while client.connection.farewell().is_none() {
        assert_eq!(client.ask(publish.clone()).await["code"], "rate_limited");
        refused += 1;
    }
    assert_eq!((refused, client.connection.farewell()), (100, Some(CloseCode::LimitsIgnored)));
}

#[tokio::test(start_paused = true)]
async fn a_takeover_notifies_the_former_holder_and_voids_its_acks() {
    let script = Script::new(room);
    let node = Simulated::scripted(&script, &[]).await;
    let mut client = Client::connect(&node, "ann").await;
    let subscribed =
        client.ask(json!({"op": "subscribe", "ref": 2, "room": "chat", "durable": "phone"})).await;
    assert_eq!((&subscribed["position"], &subscribed["created"]), (&json!("1-1"), &json!(true)));
    assert_eq!(client.next().await["op"], "live");
    let holder = script.calls("attach")[0].args[1].clone();
    let lease = Lease { durable: DurableId::from("ann/phone".to_owned()), holder };
    let taken = PubSubEvent::Notification("chat".parse().unwrap(), Notification::LeaseTaken(lease));
    node.hub.on_event(taken);
    let ended = client.next().await;
    assert_eq!((&ended["op"], &ended["code"]), (&json!("unsubscribed"), &json!("replaced")));
    let ack = client.ask(json!({"op": "ack", "ref": 3, "room": "chat", "id": "1-1"})).await;
    assert_eq!((&ack["code"], script.calls("ack").len()), (&json!("not_subscribed"), 0));
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_cannot_be_opened_leaves_nothing_behind() {
    let lost = |call: &Call| if call.name == "attach" { Reply::Lost } else { room(call) };
    let node = Simulated::scripted(&Script::new(lost), &[]).await;
    let mut client = Client::connect(&node, "ann").await;
    let plain = client.ask(json!({"op": "subscribe", "ref": 2, "room": "chat"})).await;
    assert_eq!((&plain["op"], client.next().await["op"].as_str()), (&json!("ok"), Some("live")));
    let durable = client.ask(json!({"op": "subscribe", "ref": 3, "room": "chat", "durable": "phone"})).await;
    assert_eq!(durable["code"], "unavailable");
    // The former subscription continues.
    assert_eq!(node.hub.subscribers(&"chat".parse().unwrap()), 1);
    let session = client.session.take().unwrap();
    session.end().await;
    assert_eq!(node.hub.subscribers(&"chat".parse().unwrap()), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_session_writes_its_acks_and_releases_its_leases() {
    let script = Script::new(room);
    let node = Simulated::scripted(&script, &[]).await;
    let mut client = Client::connect(&node, "ann").await;
    client.ask(json!({"op": "subscribe", "ref": 2, "room": "chat", "durable": "phone"})).await;
    client.tell(json!({"op": "ack", "room": "chat", "id": "1-1"})).await;
    drop(client.session.take());
    while script.calls("detach").is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(script.calls("detach")[0].args[0], "ann/phone");
    assert_eq!(script.calls("ack")[0].args[2], "1-1");
    assert_eq!(node.hub.subscribers(&"chat".parse().unwrap()), 0);
}
