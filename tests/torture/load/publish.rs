//! Publishers, which send unconfirmed messages again with the same key.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use uuid::Uuid;

use super::socket::{Lost, Socket};
use super::{PATIENCE, any_node, id, refusal};
use crate::harness::Dice;
use crate::model::record::{Event, Ms, Outcome, Publish};
use crate::world::{Phase, World};

/// Maximum number of unconfirmed messages before no new ones are made.
const PENDING: usize = 40;

/// Time for which a publisher tries to get its last messages confirmed.
const AFTERWARDS: Duration = Duration::from_secs(60);

/// An unconfirmed message.
#[derive(Debug, Clone)]
struct Letter {
    room: &'static str,
    key: Uuid,
    data: String,
}

/// A publisher: its unconfirmed messages, and its part of the record.
struct Publisher {
    world: Arc<World>,
    user: String,
    dice: Dice,
    count: u64,
    pending: Vec<Letter>,
}

impl Publisher {
    fn new(world: Arc<World>, user: String) -> Self {
        let dice = Dice::fork(world.plan.seed, &user);
        Self { world, user, dice, count: 0, pending: Vec::new() }
    }

    /// Adds new messages for the rooms in turn, if it is time for them. Returns whether there is more to do.
    fn prepare(&mut self, new: usize) -> bool {
        if self.world.phase() == Phase::Load && self.pending.len() < PENDING {
            for _ in 0..new {
                let room = self.world.rooms[self.count as usize % self.world.rooms.len()];
                self.count += 1;
                let filler = if self.dice.roll(20) == 0 { 4000 } else { self.dice.roll(200) };
                let data = format!("{} {}", self.count, "x".repeat(filler as usize));
                let key = uuid::Builder::from_random_bytes(
                    (u128::from(self.dice.next()) << 64 | u128::from(self.dice.next())).to_be_bytes(),
                );
                self.pending.push(Letter { room, key: key.into_uuid(), data });
            }
        }
        self.world.phase() == Phase::Load || !self.pending.is_empty()
    }

    /// Records the end of an attempt, and keeps the message if it should be sent again.
    fn ended(&mut self, letter: Letter, node: usize, at: Ms, outcome: Outcome) {
        let again = matches!(outcome, Outcome::Unknown(_)) && self.dice.roll(20) != 0;
        self.world.record.add(Event::Publish(Publish {
            at,
            till: self.world.record.now(),
            room: letter.room.to_owned(),
            node,
            key: letter.key,
            sent: format!("{} {}", self.user, letter.data),
            outcome,
        }));
        if again {
            self.pending.push(letter);
        }
    }

    fn gives_up(&self, drained: &mut Option<Instant>) -> bool {
        if self.world.phase() > Phase::Load {
            return drained.get_or_insert_with(Instant::now).elapsed() > AFTERWARDS;
        }
        false
    }

    async fn pause(&mut self) {
        sleep(Duration::from_millis(self.dice.between(40, 120))).await;
    }
}

/// Publishes to all rooms through one node, a few messages at a time.
pub async fn over_websocket(world: Arc<World>, node: usize) {
    let mut publisher = Publisher::new(Arc::clone(&world), format!("writer{node}"));
    let token = World::token(&publisher.user);
    let (mut socket, mut drained) = (None, None);
    while publisher.prepare(world.rooms.len()) && !publisher.gives_up(&mut drained) {
        if socket.is_none() {
            socket = Socket::open(world.nodes[node].address(), &token, None).await.ok();
        }
        match &mut socket {
            Some(open) => {
                if send(&mut publisher, open, node).await.is_err() {
                    socket = None;
                }
                publisher.pause().await;
            }
            None => sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Sends everything pending, and handles the answers.
async fn send(publisher: &mut Publisher, socket: &mut Socket, node: usize) -> Result<(), Lost> {
    let at = publisher.world.record.now();
    let mut letters = HashMap::new();
    let mut frames = Vec::new();
    for letter in std::mem::take(&mut publisher.pending) {
        let reference = socket.reference();
        let Letter { room, key, data } = &letter;
        frames.push(json!({ "op": "publish", "ref": reference, "room": room, "data": data, "key": key }));
        letters.insert(reference, letter);
    }
    let mut outcome = socket.send(&Value::Array(frames)).await;
    let deadline = Instant::now() + PATIENCE;
    while outcome.is_ok() && !letters.is_empty() {
        match timeout_at(deadline, socket.next()).await {
            Ok(Ok(frame)) => {
                let letter = frame["ref"].as_u64().and_then(|reference| letters.remove(&reference));
                if let Some(letter) = letter {
                    let outcome = answered(&publisher.world, &frame);
                    publisher.ended(letter, node, at, outcome);
                }
            }
            Ok(Err(lost)) => outcome = Err(lost),
            Err(_) => outcome = Err("no answer".to_owned()),
        }
    }
    let mut rest: Vec<_> = letters.into_iter().collect();
    rest.sort_unstable_by_key(|(reference, _)| *reference);
    for (_, letter) in rest {
        let lost = outcome.clone().err().unwrap_or_default();
        publisher.ended(letter, node, at, Outcome::Unknown(lost));
    }
    outcome
}

fn answered(world: &World, answer: &Value) -> Outcome {
    match (id(&answer["id"]), answer["code"].as_str().or_else(|| answer["error"]["code"].as_str())) {
        (Some(id), _) => Outcome::Ok(id),
        (None, Some(code)) => refusal(world, code),
        (None, None) => Outcome::Unknown(answer.to_string()),
    }
}

/// Publishes through any node with HTTP requests, of one message each or several.
pub async fn over_http(world: Arc<World>, number: usize) {
    let mut publisher = Publisher::new(Arc::clone(&world), format!("poster{number}"));
    let token = World::token(&publisher.user);
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let mut drained = None;
    while publisher.prepare(1) && !publisher.gives_up(&mut drained) {
        let node = any_node(&world, &mut publisher.dice);
        let base = format!("http://{}/v1", world.nodes[node].address());
        let at = world.record.now();
        let mut letters = std::mem::take(&mut publisher.pending);
        let request = if let [letter] = &letters[..] {
            let Letter { room, key, data } = letter;
            let request = client.post(format!("{base}/rooms/{room}/messages"));
            request.header("Idempotency-Key", key.to_string()).json(&json!({ "data": data }))
        } else {
            // Messages of one room are stored in the order of the batch, which is the order that others see.
            let batch = letters
                .iter()
                .map(|Letter { room, key, data }| json!({ "room": room, "key": key, "data": data }));
            client.post(format!("{base}/messages")).json(&batch.collect::<Value>())
        };
        let answer = async { request.bearer_auth(&token).send().await?.json::<Value>().await };
        let outcomes = match timeout(PATIENCE, answer).await {
            Ok(Ok(Value::Array(each))) => each.iter().map(|one| answered(&world, one)).collect(),
            Ok(Ok(one)) => vec![answered(&world, &one); letters.len()],
            Ok(Err(error)) => vec![Outcome::Unknown(error.to_string()); letters.len()],
            Err(_) => vec![Outcome::Unknown("no answer".to_owned()); letters.len()],
        };
        let failed = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Unknown(_)));
        for (letter, outcome) in letters.drain(..).zip(outcomes) {
            publisher.ended(letter, node, at, outcome);
        }
        publisher.pause().await;
        if failed {
            sleep(Duration::from_millis(200)).await;
        }
    }
}
