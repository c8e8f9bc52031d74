//! The clients of a run, which publish and read while faults happen.

mod http;
mod publish;
mod socket;
mod websocket;

use std::sync::Arc;

use roomlog_protocol::MessageId;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::harness::Dice;
use crate::model::record::{Event, Opened, Outcome, Reason, Stored};
use crate::world::World;

/// Time limit for an answer.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(6);

/// Starts all publishers.
pub fn publishers(world: &Arc<World>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for node in 0..world.nodes.len() {
        tasks.spawn(publish::over_websocket(Arc::clone(world), node));
    }
    for number in 0..2 {
        tasks.spawn(publish::over_http(Arc::clone(world), number));
    }
    tasks
}

/// Starts all readers.
pub fn readers(world: &Arc<World>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (index, room) in world.rooms.iter().enumerate() {
        for node in 0..world.nodes.len() {
            tasks.spawn(websocket::read(Arc::clone(world), room, websocket::Kind::Live { node }));
        }
        tasks.spawn(websocket::read(Arc::clone(world), room, websocket::Kind::Resuming));
        tasks.spawn(http::events(Arc::clone(world), room));
        match index % 3 {
            0 => {
                tasks.spawn(websocket::read(Arc::clone(world), room, websocket::Kind::Durable));
                tasks.spawn(http::poll(Arc::clone(world), room));
            }
            1 => {
                tasks.spawn(http::durable(Arc::clone(world), room));
                tasks.spawn(websocket::read(Arc::clone(world), room, websocket::Kind::Slow));
            }
            _ => {
                for lasting in [true, false] {
                    let kind = websocket::Kind::Contender { lasting };
                    tasks.spawn(websocket::read(Arc::clone(world), room, kind));
                }
            }
        }
    }
    tasks
}

/// A confirmed subscription, and its reader's position.
struct Session<'a> {
    world: &'a World,
    number: u64,
    room: &'static str,
    position: MessageId,
}

/// The parameters of a subscription.
struct Asked<'a> {
    reader: &'a str,
    room: &'static str,
    node: usize,
    durable: bool,
    by_request: bool,
    since: Option<MessageId>,
    at: u64,
}

impl<'a> Session<'a> {
    /// Records that a subscription is confirmed at this position.
    fn open(world: &'a World, asked: &Asked<'_>, position: MessageId) -> Self {
        let number = world.record.session();
        world.record.add(Event::Opened(Opened {
            at: asked.at,
            till: world.record.now(),
            session: number,
            reader: asked.reader.to_owned(),
            room: asked.room.to_owned(),
            node: asked.node,
            durable: asked.durable,
            by_request: asked.by_request,
            since: asked.since,
            position,
        }));
        Self { world, number, room: asked.room, position }
    }

    /// Records a message, and advances the position to it.
    fn message(&mut self, frame: &Value) {
        let Some(message) = stored(frame) else {
            return self.world.record.broken("messages are complete", frame.to_string());
        };
        self.position = message.id;
        self.world.record.add(Event::Message { at: self.world.record.now(), session: self.number, message });
    }

    /// Records a gap, and advances the position past it.
    fn gap(&mut self, frame: &Value) {
        let reason = match frame["reason"].as_str() {
            Some("trimmed") => Reason::Trimmed,
            _ => Reason::Rewound,
        };
        let (Some(after), Some(next)) = (id(&frame["after"]), id(&frame["next"])) else {
            return self.world.record.broken("gaps are complete", frame.to_string());
        };
        self.position = next.predecessor();
        let at = self.world.record.now();
        self.world.record.add(Event::Gap { at, session: self.number, after, next, reason });
    }

    /// Records a page of messages that has a gap somewhere in it.
    fn page(&mut self, page: &Value) {
        let mut gap = page.get("gap").filter(|gap| !gap.is_null());
        for message in page["messages"].as_array().into_iter().flatten() {
            let reached = |gap: &&Value| id(&gap["after"]).is_none_or(|after| after.seq == self.position.seq);
            if let Some(gap) = gap.take_if(|gap| reached(gap)) {
                self.gap(gap);
            }
            self.message(message);
        }
        if let Some(gap) = gap {
            self.gap(gap);
        }
    }

    /// Records that the subscription is live.
    fn live(&self, id: MessageId) {
        self.world.record.add(Event::Live { at: self.world.record.now(), session: self.number, id });
    }

    /// Records an acknowledgement.
    fn ack(&self, at: u64, id: MessageId, outcome: Outcome) {
        let till = self.world.record.now();
        self.world.record.add(Event::Ack { at, till, session: self.number, id, outcome });
    }

    /// Returns whether the run is quiet and the reader has reached the end.
    fn is_done(&self) -> bool {
        self.world.end_of(self.room) == Some(self.position)
    }
}

/// Parses the message in a frame.
pub fn stored(frame: &Value) -> Option<Stored> {
    let sent = format!("{} {}", frame["from"].as_str()?, frame["data"].as_str()?);
    Some(Stored { id: id(&frame["id"])?, key: frame["key"].as_str()?.parse().ok()?, sent })
}

/// Parses the id in a frame.
pub fn id(value: &Value) -> Option<MessageId> {
    value.as_str()?.parse().ok()
}

/// Returns the outcome of an operation that failed with this code.
fn refusal(world: &World, code: &str) -> Outcome {
    match code {
        "internal" | "bad_frame" | "unauthenticated" | "forbidden" => {
            world.record.broken("no error of the server", code.to_owned());
            Outcome::Unknown(code.to_owned())
        }
        "unavailable" | "rate_limited" | "too_many" => Outcome::Unknown(code.to_owned()),
        code => Outcome::Failed(code.to_owned()),
    }
}

/// Draws a node.
fn any_node(world: &World, dice: &mut Dice) -> usize {
    dice.roll(world.nodes.len() as u64) as usize
}
