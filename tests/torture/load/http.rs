//! Subscribers without a WebSocket: event streams, long polling, and durable subscriptions with
//! acknowledgements.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Response};
use roomlog_protocol::MessageId;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{Asked, PATIENCE, Session, any_node, id, refusal};
use crate::harness::{Dice, Events};
use crate::model::record::Outcome;
use crate::world::{Phase, World};

/// Seconds that a poll waits for a message.
const WAIT: u64 = 2;

/// The HTTP client of a subscriber.
struct Http {
    world: Arc<World>,
    client: Client,
    room: &'static str,
    name: String,
    token: String,
    dice: Dice,
}

impl Http {
    fn new(world: Arc<World>, room: &'static str, kind: &str) -> Self {
        let name = format!("{kind}-{room}");
        let client = Client::builder().no_proxy().connect_timeout(PATIENCE).build().unwrap();
        let dice = Dice::fork(world.plan.seed, &name);
        Self { token: World::token(&name), world, client, room, name, dice }
    }

    fn url(&self, node: usize, path: &str) -> String {
        format!("http://{}/v1/rooms/{}/{path}", self.world.nodes[node].address(), self.room)
    }

    fn asked(&self, node: usize, since: Option<MessageId>) -> Asked<'_> {
        let at = self.world.record.now();
        let durable = since.is_none();
        Asked { reader: &self.name, room: self.room, node, durable, by_request: true, since, at }
    }

    /// Returns the answer to a request, or `None` if there is none or it is an error.
    async fn get(&self, node: usize, path: &str) -> Option<Value> {
        let request = self.client.get(self.url(node, path)).bearer_auth(&self.token).timeout(PATIENCE);
        let answer = request.send().await.ok()?;
        let answer = answer.error_for_status().ok()?;
        answer.json().await.ok()
    }

    async fn post(&self, node: usize, path: &str, body: &Value) -> Option<(u16, Value)> {
        let request = self.client.post(self.url(node, path)).bearer_auth(&self.token).timeout(PATIENCE);
        let answer = request.json(body).send().await.ok()?;
        Some((answer.status().as_u16(), answer.json().await.unwrap_or_default()))
    }

    async fn page(&self, node: usize, after: MessageId) -> Option<Value> {
        self.get(node, &format!("messages?after={after}&wait={WAIT}&limit=200")).await
    }

    async fn pause(&mut self) {
        sleep(Duration::from_millis(self.dice.between(50, 300))).await;
    }
}

/// Reads a room as an event stream.
pub async fn events(world: Arc<World>, room: &'static str) {
    let mut http = Http::new(Arc::clone(&world), room, "events");
    let mut position = MessageId::ZERO;
    loop {
        let node = any_node(&world, &mut http.dice);
        let reader = http.name.clone();
        let asked = Asked { reader: &reader, by_request: false, ..http.asked(node, Some(position)) };
        let request = http.client.get(http.url(node, "events")).bearer_auth(&http.token);
        let request = request.header("Last-Event-ID", position.to_string()).send();
        let answer = timeout(PATIENCE, request).await.ok().and_then(Result::ok);
        let Some(stream) = answer.filter(|answer| answer.status().is_success()) else {
            http.pause().await;
            continue;
        };
        let mut session = Session::open(&world, &asked, position);
        let leave_after = http.dice.between(20, 600);
        if stream_to_end(&mut session, stream, leave_after).await {
            return;
        }
        position = session.position;
    }
}

/// Reads a stream until it ends, or for at most `events` events. Returns whether the subscriber is done.
async fn stream_to_end(session: &mut Session<'_>, stream: Response, events: u64) -> bool {
    let mut stream = Events::new(stream);
    let mut left = events;
    while !session.is_done() {
        let is_quiet = session.world.phase() == Phase::Quiet;
        if left == 0 && !is_quiet {
            return false;
        }
        let patience = if is_quiet { PATIENCE / 6 } else { PATIENCE };
        let Ok(event) = timeout(patience, stream.block()).await else {
            if is_quiet && session.is_done() {
                return true;
            }
            return false;
        };
        let Some(event) = event else { return false };
        left -= 1;
        match event.name.as_deref() {
            _ if event.id.is_some() => session.message(&event.data),
            Some("gap") => session.gap(&event.data),
            Some("unsubscribed") => return false,
            _ => left += 1,
        }
    }
    true
}

/// Reads a room page by page, waiting for the next message.
pub async fn poll(world: Arc<World>, room: &'static str) {
    let mut http = Http::new(Arc::clone(&world), room, "poll");
    let mut position = MessageId::ZERO;
    loop {
        let node = any_node(&world, &mut http.dice);
        let reader = http.name.clone();
        let asked = Asked { reader: &reader, ..http.asked(node, Some(position)) };
        let mut session = Session::open(&world, &asked, position);
        for _ in 0..http.dice.between(1, 20) {
            if session.is_done() {
                return;
            }
            let Some(page) = http.page(node, session.position).await else { break };
            session.page(&page);
        }
        position = session.position;
        http.pause().await;
    }
}

/// Reads a durable subscription page by page, and acknowledges.
pub async fn durable(world: Arc<World>, room: &'static str) {
    let mut http = Http::new(Arc::clone(&world), room, "http");
    loop {
        let node = any_node(&world, &mut http.dice);
        let reader = http.name.clone();
        let asked = Asked { reader: &reader, ..http.asked(node, None) };
        let taken = http.post(node, "subscriptions", &json!({ "durable": "torture", "last": 1000 })).await;
        let Some((200, taken)) = taken else {
            http.pause().await;
            continue;
        };
        let (Some(position), Some(holder)) = (id(&taken["position"]), taken["holder"].as_str()) else {
            world.record.broken("a holder has a position", taken.to_string());
            return;
        };
        let mut session = Session::open(&world, &asked, position);
        for _ in 0..http.dice.between(2, 30) {
            let node = any_node(&world, &mut http.dice);
            let done = session.is_done();
            if !done {
                match http.page(node, session.position).await {
                    Some(page) => session.page(&page),
                    None => http.pause().await,
                }
            }
            if done || (session.position > position && http.dice.roll(2) == 0) {
                let (at, id) = (world.record.now(), session.position);
                let ack = json!({ "durable": "torture", "holder": holder, "id": id });
                let answer = http.post(node, "acks", &ack).await;
                let outcome = match &answer {
                    Some((204, _)) => Outcome::Ok(id),
                    Some((_, problem)) => refusal(&world, problem["code"].as_str().unwrap_or("unavailable")),
                    None => Outcome::Unknown("no answer".into()),
                };
                let confirmed = matches!(outcome, Outcome::Ok(_));
                session.ack(at, id, outcome);
                if confirmed && done {
                    return;
                }
                if matches!(answer, Some((409, _))) {
                    break;
                }
            }
        }
    }
}
