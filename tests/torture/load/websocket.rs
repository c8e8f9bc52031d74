//! Subscribers over WebSocket: live, resuming, slow, and durable ones with acknowledgements.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use roomlog_protocol::MessageId;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::socket::{Lost, Socket};
use super::{Asked, PATIENCE, Session, any_node, id, refusal};
use crate::harness::Dice;
use crate::model::record::{Ms, Outcome};
use crate::world::{Phase, World};

/// The behaviour of a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Stays on one node, and resumes there when necessary.
    Live { node: usize },
    /// Leaves often, and resumes on any node.
    Resuming,
    /// Reads slowly, with a small buffer.
    Slow,
    /// Continues at the position that it acknowledged.
    Durable,
    /// One of two that take a durable subscription from each other. The `lasting` one reads on to the end.
    Contender { lasting: bool },
}

/// Size of a slow subscriber's buffer in bytes.
const SMALL: u32 = 4096;

struct Reader {
    world: Arc<World>,
    kind: Kind,
    room: &'static str,
    name: String,
    dice: Dice,
    /// The position to resume from. `None` before the first subscription of a reader that starts with new
    /// messages.
    position: Option<MessageId>,
}

/// Acknowledgements that wait for their answers.
type Acks = HashMap<u64, (Ms, MessageId)>;

/// Reads a room until the run is quiet and all messages were seen.
pub async fn read(world: Arc<World>, room: &'static str, kind: Kind) {
    let name = match kind {
        Kind::Live { node } => format!("live{node}-{room}"),
        Kind::Resuming => format!("resuming-{room}"),
        Kind::Slow => format!("slow-{room}"),
        Kind::Durable => format!("durable-{room}"),
        Kind::Contender { .. } => format!("contended-{room}"),
    };
    let dice = Dice::fork(world.plan.seed, &format!("{name} {kind:?}"));
    let position = (room != "t0").then_some(MessageId::ZERO);
    let mut reader = Reader { world: Arc::clone(&world), kind, room, name, dice, position };
    while reader.world.phase() != Phase::Quiet || kind != (Kind::Contender { lasting: false }) {
        match reader.connection().await {
            Ok(true) => return,
            Ok(false) => {}
            Err(_) => sleep(Duration::from_millis(reader.dice.between(50, 300))).await,
        }
    }
}

impl Reader {
    fn is_durable(&self) -> bool {
        matches!(self.kind, Kind::Durable | Kind::Contender { .. })
    }

    /// Reads over one connection. Returns whether the reader is done.
    async fn connection(&mut self) -> Result<bool, Lost> {
        let node = match self.kind {
            Kind::Live { node } => node,
            _ => any_node(&self.world, &mut self.dice),
        };
        let buffer = (self.kind == Kind::Slow).then_some(SMALL);
        let token = World::token(&self.name);
        let mut socket = Socket::open(self.world.nodes[node].address(), &token, buffer).await?;
        let world = Arc::clone(&self.world);
        let name = self.name.clone();
        let since = self.position.filter(|_| !self.is_durable());
        let mut subscribe = json!({ "op": "subscribe", "room": self.room });
        if self.is_durable() {
            // `last` has an effect the first time only.
            (subscribe["durable"], subscribe["last"]) = (json!("torture"), json!(1000));
        } else if let Some(since) = since {
            subscribe["since"] = json!(since);
        }
        let asked = Asked {
            reader: &name,
            room: self.room,
            node,
            durable: self.is_durable(),
            by_request: false,
            since,
            at: world.record.now(),
        };
        let answer = socket.request(subscribe).await?;
        let Some(position) = id(&answer["position"]) else { return Err(answer.to_string()) };
        let mut session = Session::open(&world, &asked, position);
        let mut acks = Acks::new();
        let ended = self.session(&mut socket, &mut session, &mut acks).await;
        self.position = Some(session.position);
        for (_, (at, id)) in acks {
            session.ack(at, id, Outcome::Unknown("no answer".into()));
        }
        ended
    }

    async fn session(
        &mut self,
        socket: &mut Socket,
        session: &mut Session<'_>,
        acks: &mut Acks,
    ) -> Result<bool, Lost> {
        let mut left = match self.kind {
            Kind::Resuming | Kind::Contender { .. } => self.dice.between(3, 150),
            Kind::Durable => self.dice.between(20, 400),
            Kind::Live { .. } | Kind::Slow => u64::MAX,
        };
        loop {
            if session.is_done() {
                return self.finish(socket, session).await;
            }
            let is_quiet = self.world.phase() == Phase::Quiet;
            if left == 0 && !is_quiet {
                return Ok(false);
            }
            // Silence reveals half-open connections. It is also normal at the end of a run, so wake up now
            // and then.
            let patience = if is_quiet { PATIENCE / 12 } else { PATIENCE };
            let frame = match timeout(patience, socket.next()).await {
                Ok(frame) => frame?,
                Err(_) if session.is_done() => continue,
                Err(_) => {
                    socket.request(json!({ "op": "ping" })).await?;
                    continue;
                }
            };
            if self.kind == Kind::Slow && !is_quiet && self.dice.roll(8) == 0 {
                sleep(Duration::from_millis(self.dice.roll(1500))).await;
            }
            match frame["op"].as_str() {
                Some("message") => {
                    session.message(&frame);
                    left = left.saturating_sub(1);
                    if self.is_durable() && self.dice.roll(6) == 0 {
                        self.acknowledge(socket, session, acks).await?;
                    }
                }
                Some("gap") => session.gap(&frame),
                Some("live") => match id(&frame["id"]) {
                    Some(id) => session.live(id),
                    None => session.world.record.broken("live has an id", frame.to_string()),
                },
                Some("unsubscribed") => {
                    sleep(Duration::from_millis(self.dice.between(100, 1000))).await;
                    return Ok(false);
                }
                Some("ok" | "error") => {
                    let answered = frame["ref"].as_u64().and_then(|reference| acks.remove(&reference));
                    if let Some((at, id)) = answered {
                        session.ack(at, id, outcome(session.world, &frame, id));
                    }
                }
                _ => {}
            }
        }
    }

    /// Acknowledges everything it has, usually asking for an answer.
    async fn acknowledge(
        &mut self,
        socket: &mut Socket,
        session: &Session<'_>,
        acks: &mut Acks,
    ) -> Result<(), Lost> {
        let (at, id) = (session.world.record.now(), session.position);
        let mut ack = json!({ "op": "ack", "room": self.room, "id": id });
        if self.dice.roll(3) == 0 {
            session.ack(at, id, Outcome::Unknown("not asked for".into()));
        } else {
            let reference = socket.reference();
            ack["ref"] = json!(reference);
            acks.insert(reference, (at, id));
        }
        socket.send(&ack).await
    }

    /// Sends the last acknowledgement, which must be confirmed.
    async fn finish(&self, socket: &mut Socket, session: &Session<'_>) -> Result<bool, Lost> {
        if self.is_durable() {
            let (at, id) = (session.world.record.now(), session.position);
            let answer = socket.request(json!({ "op": "ack", "room": self.room, "id": id })).await?;
            session.ack(at, id, outcome(session.world, &answer, id));
            return Ok(answer["op"] == "ok");
        }
        Ok(true)
    }
}

fn outcome(world: &World, answer: &Value, id: MessageId) -> Outcome {
    match answer["code"].as_str() {
        Some(code) => refusal(world, code),
        None => Outcome::Ok(id),
    }
}
