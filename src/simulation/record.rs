//! The clients' requests and the answers and frames that they got, in one order. Fed with the bytes of their
//! sockets.

use std::sync::Arc;

use serde::Deserialize;
use tokio::sync::Notify;

use super::data::{Id, id_of};

/// A moment: the number of things recorded before.
pub(super) type Order = usize;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    Message(Id, u128),
    /// A gap: delivery continues at the second id, since the messages after the first are gone. The flag is
    /// set if they were lost.
    Gap(Id, Id, bool),
    Live(Id),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Began {
    pub durable: bool,
    pub named: Option<Id>,
}

/// A subscription, from its confirmation on.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub client: usize,
    pub began: Began,
    /// The moment of the request. The next field is that of the confirmation.
    pub asked: Order,
    pub confirmed: Order,
    pub position: Id,
    pub told: Vec<(Order, Told)>,
    pub over: Option<Order>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Publish(usize),
    Subscribe(Began),
    Unsubscribe,
    Ack(usize),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Publish {
    pub key: u128,
    pub asked: Order,
    /// The moment of the answer, and the id if the message was stored.
    pub answered: Option<(Order, Option<Id>)>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Ack {
    /// The index of its run. `None` if another subscription had been requested by then.
    pub run: Option<usize>,
    pub id: Id,
    pub asked: Order,
    /// The moment of the answer, and whether it was a confirmation.
    pub answered: Option<(Order, bool)>,
}

pub(crate) struct Connection {
    pub client: usize,
    pub node: usize,
    pub open: bool,
    /// Number of bytes that the client accepts before it stops reading.
    pub takes: usize,
    pub more: Arc<Notify>,
    pub run: Option<usize>,
    pub asked: Vec<(u64, Order, Asked)>,
    received: Vec<u8>,
}

#[derive(Default)]
pub(crate) struct Record {
    order: Order,
    references: u64,
    pub connections: Vec<Connection>,
    pub runs: Vec<Run>,
    pub publishes: Vec<Publish>,
    pub acks: Vec<Ack>,
    /// Answers that are never allowed.
    pub wrong: Vec<String>,
}

#[derive(Deserialize)]
struct Frame<'a> {
    op: &'a str,
    #[serde(rename = "ref")]
    reference: Option<u64>,
    id: Option<&'a str>,
    key: Option<&'a str>,
    data: Option<u64>,
    after: Option<&'a str>,
    next: Option<&'a str>,
    reason: Option<&'a str>,
    code: Option<&'a str>,
    position: Option<&'a str>,
}

impl Record {
    pub(crate) fn order(&self) -> Order {
        self.order
    }

    fn next(&mut self) -> Order {
        self.order += 1;
        self.order
    }

    pub(crate) fn connect(&mut self, client: usize, node: usize) -> usize {
        self.connections.push(Connection {
            client,
            node,
            open: true,
            takes: usize::MAX,
            more: Arc::default(),
            run: None,
            asked: Vec::new(),
            received: Vec::new(),
        });
        self.connections.len() - 1
    }

    pub(crate) fn disconnect(&mut self, connection: usize) {
        self.end_run(connection);
        let connection = &mut self.connections[connection];
        connection.open = false;
        connection.more.notify_one();
    }

    fn end_run(&mut self, connection: usize) {
        let order = self.next();
        if let Some(run) = self.connections[connection].run.take() {
            self.runs[run].over = Some(order);
        }
    }

    pub(crate) fn ask(&mut self, connection: usize, asked: Asked) -> u64 {
        let order = self.next();
        self.references += 1;
        self.connections[connection].asked.push((self.references, order, asked));
        self.references
    }

    pub(crate) fn publish(&mut self, key: u128) -> Asked {
        self.publishes.push(Publish { key, asked: self.order + 1, answered: None });
        Asked::Publish(self.publishes.len() - 1)
    }

    pub(crate) fn acknowledge(&mut self, connection: usize, id: Id) -> Asked {
        let Connection { asked, run, .. } = &self.connections[connection];
        let changes = asked.iter().any(|(_, _, asked)| !matches!(asked, Asked::Publish(_) | Asked::Ack(_)));
        let run = run.filter(|_| !changes);
        self.acks.push(Ack { run, id, asked: self.order + 1, answered: None });
        Asked::Ack(self.acks.len() - 1)
    }

    /// Records the bytes that a socket accepts, with the frames in them. Returns their number.
    pub(crate) fn receive<'a>(&mut self, connection: usize, parts: impl Iterator<Item = &'a [u8]>) -> usize {
        let state = &mut self.connections[connection];
        let mut taken = 0;
        for part in parts {
            let part = &part[..part.len().min(state.takes)];
            state.received.extend_from_slice(part);
            state.takes -= if state.takes == usize::MAX { 0 } else { part.len() };
            taken += part.len();
        }
        let received = std::mem::take(&mut state.received);
        let mut rest = &received[..];
        while let Some((payload, after)) = message(rest) {
            self.frames(connection, payload);
            rest = after;
        }
        self.connections[connection].received = rest.to_vec();
        taken
    }

    fn frames(&mut self, connection: usize, payload: &[u8]) {
        let frames: Result<Vec<Frame<'_>>, _> = match payload.first() {
            Some(b'[') => serde_json::from_slice(payload),
            _ => serde_json::from_slice(payload).map(|frame| vec![frame]),
        };
        match frames {
            Ok(frames) => frames.iter().for_each(|frame| self.frame(connection, frame)),
            Err(error) => self.wrong.push(format!("no frame: {error}: {}", String::from_utf8_lossy(payload))),
        }
    }

    fn frame(&mut self, connection: usize, frame: &Frame<'_>) {
        let id = |text: Option<&str>| text.and_then(|text| id_of(text.as_bytes(), 0)).unwrap_or_default();
        let told = match frame.op {
            "message" => {
                let key =
                    frame.key.and_then(|key| key.parse::<uuid::Uuid>().ok()).map_or(0, |key| key.as_u128());
                if frame.data.map(u128::from) != Some(key) {
                    self.wrong.push(format!("nobody sent {:?} as {key}", frame.data));
                }
                Told::Message(id(frame.id), key)
            }
            "gap" => Told::Gap(id(frame.after), id(frame.next), frame.reason == Some("rewound")),
            "live" => Told::Live(id(frame.id)),
            "ok" | "error" => return self.answer(connection, frame),
            "unsubscribed" => return self.end_run(connection),
            other => return self.wrong.push(format!("{other} comes unasked")),
        };
        let order = self.next();
        match self.connections[connection].run {
            Some(run) => self.runs[run].told.push((order, told)),
            None => self.wrong.push(format!("{told:?} comes without a subscription")),
        }
    }

    fn answer(&mut self, connection: usize, frame: &Frame<'_>) {
        let order = self.next();
        let state = &mut self.connections[connection];
        let place = state.asked.iter().position(|(reference, ..)| Some(*reference) == frame.reference);
        let Some(place) = place else { return self.wrong.push("an answer to nothing".to_owned()) };
        let (_, asked_at, asked) = state.asked.remove(place);
        let is_ok = frame.op == "ok";
        if frame.code == Some("internal") {
            self.wrong.push(format!("{asked:?} was answered with an internal error"));
        }
        let id = |text: Option<&str>| text.and_then(|text| id_of(text.as_bytes(), 0));
        match asked {
            Asked::Publish(publish) => {
                self.publishes[publish].answered = Some((order, id(frame.id).filter(|_| is_ok)));
            }
            Asked::Ack(ack) => self.acks[ack].answered = Some((order, is_ok)),
            Asked::Unsubscribe => self.end_run(connection),
            Asked::Subscribe(began) if is_ok => {
                self.end_run(connection);
                let client = self.connections[connection].client;
                self.connections[connection].run = Some(self.runs.len());
                let position = id(frame.position).unwrap_or_default();
                self.runs.push(Run {
                    client,
                    began,
                    asked: asked_at,
                    confirmed: order,
                    position,
                    told: Vec::new(),
                    over: None,
                });
            }
            Asked::Subscribe(_) => {}
        }
    }
}

fn message(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (header, length) = match *bytes.get(1)? {
        126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        length => (2, length.into()),
    };
    let end = header + length as usize;
    Some((bytes.get(header..end)?, &bytes[end..]))
}
