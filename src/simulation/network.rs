//! The network between nodes and servers. Requests, replies and notifications wait in queues, and the
//! schedule decides what moves next. Each connection keeps its order, as TCP does. Notifications, which come
//! with no promise, may be lost, repeated and reordered. A connection that breaks loses everything in flight,
//! in either direction.

use std::collections::VecDeque;
use std::sync::Arc;

use fred::error::{Error, ErrorKind};
use fred::types::Value;
use tokio::sync::oneshot;

use super::data::{Reply, Text, Words};
use super::executor;
use super::world::{World, in_world};

pub(crate) type Pipeline = Vec<Vec<Vec<u8>>>;

pub(crate) type Replies = Vec<Result<Value, Error>>;

#[derive(Debug)]
pub(crate) enum Received {
    Message(Text, Text),
    Reconnected,
}

pub(crate) type OnEvent = Arc<dyn Fn(Received) + Send + Sync>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Commands,
    PubSub,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Commands, Self::PubSub];
}

struct Request {
    pipeline: std::vec::IntoIter<Vec<Vec<u8>>>,
    replies: Replies,
    done: oneshot::Sender<Replies>,
}

#[derive(Default)]
pub(crate) struct Connection {
    requests: VecDeque<Request>,
    replies: VecDeque<(oneshot::Sender<Replies>, Replies)>,
    messages: VecDeque<(Text, Text)>,
    /// The time until which each queue is stalled.
    held: [u64; 3],
    /// The time at which it is established again, if it is broken.
    back: Option<u64>,
}

pub(crate) struct Place {
    pub server: usize,
    connections: [Connection; 2],
    on_event: Option<OnEvent>,
    pub alive: bool,
    pub moves: Option<u64>,
}

impl Place {
    pub(crate) fn new(server: usize) -> Self {
        Self { server, connections: Default::default(), on_event: None, alive: true, moves: None }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    Request(usize, Kind),
    Reply(usize, Kind),
    Message(usize),
    Back(usize, Kind),
    Move(usize),
}

/// Probabilities of faults, in thousandths.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rates {
    pub hold: u64,
    pub cut: u64,
    pub lose: u64,
    pub repeat: u64,
    pub reorder: u64,
}

/// Maximum time for which a queue is stalled, in ms. [`BROKEN`] is the maximum for which a connection is
/// broken.
const HELD: u64 = 1500;
const BROKEN: u64 = 600;

pub(crate) fn is_up(node: usize, kind: Kind) -> bool {
    in_world(|world| {
        let place = &world.places[node];
        place.alive && place.connections[kind as usize].back.is_none()
    })
}

pub(crate) fn stands(world: &World, node: usize, kind: Kind) -> bool {
    world.places[node].connections[kind as usize].back.is_none()
}

/// Sends a pipeline. The receiver fails if the connection breaks.
pub(crate) fn send(node: usize, kind: Kind, pipeline: Pipeline) -> oneshot::Receiver<Replies> {
    let (done, replies) = oneshot::channel();
    in_world(|world| {
        let place = &mut world.places[node];
        let connection = &mut place.connections[kind as usize];
        if place.alive && connection.back.is_none() {
            let replies = Vec::with_capacity(pipeline.len());
            connection.requests.push_back(Request { pipeline: pipeline.into_iter(), replies, done });
        }
    });
    replies
}

pub(crate) fn listen(node: usize, on_event: OnEvent) {
    in_world(|world| world.places[node].on_event = Some(on_event));
}

/// Executes an event. Must be called outside of the world, since nodes are notified of it.
pub(crate) fn happen(event: Event) {
    let notified = in_world(|world| world.happen(event));
    if let Some((node, on_event, event)) = notified {
        executor::as_owner(node + 1, || on_event(event));
    }
}

impl World {
    /// Adds the possible events to `events`, and returns the time at which more become possible.
    pub(crate) fn eligible(&self, events: &mut Vec<Event>) -> Option<u64> {
        let mut next: Option<u64> = None;
        let mut at = |time: u64, event: Event| {
            if time <= self.now_us {
                events.push(event);
            } else {
                next = Some(next.map_or(time, |next| next.min(time)));
            }
        };
        for (node, place) in self.places.iter().enumerate().filter(|(_, place)| place.alive) {
            if let Some(time) = place.moves {
                at(time, Event::Move(node));
            }
            for kind in Kind::ALL {
                let connection = &place.connections[kind as usize];
                if let Some(back) = connection.back {
                    at(back, Event::Back(node, kind));
                    continue;
                }
                if !connection.requests.is_empty() {
                    at(connection.held[0], Event::Request(node, kind));
                }
                if !connection.replies.is_empty() {
                    at(connection.held[1], Event::Reply(node, kind));
                }
                if !connection.messages.is_empty() {
                    at(connection.held[2], Event::Message(node));
                }
            }
        }
        next
    }

    /// Draws true with a probability of this many thousandths.
    pub(crate) fn chance(&mut self, in_a_thousand: u64) -> bool {
        in_a_thousand > 0 && self.rng.u64(..1000) < in_a_thousand
    }

    /// Draws a duration in microseconds, short ones more often than long ones.
    pub(crate) fn some_time(&mut self, most_ms: u64) -> u64 {
        let most = self.rng.u64(1..=most_ms);
        self.rng.u64(1..=most) * 1000
    }

    fn happen(&mut self, event: Event) -> Option<(usize, OnEvent, Received)> {
        match event {
            Event::Move(node) => self.move_node(node),
            Event::Back(node, kind) => {
                self.note(|| format!("node {node} is connected again ({kind:?})"));
                self.places[node].connections[kind as usize].back = None;
                let on_event = self.places[node].on_event.clone().filter(|_| kind == Kind::PubSub);
                return on_event.map(|on_event| (node, on_event, Received::Reconnected));
            }
            Event::Request(node, kind) | Event::Reply(node, kind) if self.chance(self.rates.cut) => {
                let back = self.some_time(BROKEN);
                self.cut(node, kind, back);
            }
            Event::Request(node, kind) => {
                if self.chance(self.rates.hold) {
                    self.hold(node, kind, 0);
                } else {
                    self.execute(node, kind);
                }
            }
            Event::Reply(node, kind) => {
                if self.chance(self.rates.hold) {
                    self.hold(node, kind, 1);
                } else if let Some((done, replies)) = self.connection(node, kind).replies.pop_front() {
                    let _ = done.send(replies); // The receiver may be gone.
                }
            }
            Event::Message(node) => return self.bring_message(node),
        }
        None
    }

    pub(crate) fn is_asked(&self, function: &[u8]) -> bool {
        let requests = self.places.iter().flat_map(|place| &place.connections[0].requests);
        let mut words =
            requests.flat_map(|request| request.pipeline.as_slice()).filter_map(|words| words.get(1));
        words.any(|word| word.ends_with(function))
    }

    fn connection(&mut self, node: usize, kind: Kind) -> &mut Connection {
        &mut self.places[node].connections[kind as usize]
    }

    fn hold(&mut self, node: usize, kind: Kind, queue: usize) {
        let until = self.now_us + self.some_time(HELD);
        self.note(|| {
            format!("node {node}: queue {queue} of {kind:?} stands still until {} ms", until / 1000)
        });
        self.connection(node, kind).held[queue] = until;
    }

    fn bring_message(&mut self, node: usize) -> Option<(usize, OnEvent, Received)> {
        if self.chance(self.rates.hold) {
            self.hold(node, Kind::PubSub, 2);
            return None;
        }
        let count = self.connection(node, Kind::PubSub).messages.len();
        let at = if self.chance(self.rates.reorder) { self.rng.usize(..count) } else { 0 };
        let repeated = self.chance(self.rates.repeat);
        let messages = &mut self.connection(node, Kind::PubSub).messages;
        let message = if repeated { messages.get(at).cloned() } else { messages.remove(at) };
        let lost = self.chance(self.rates.lose);
        let (channel, payload) = message?;
        self.note(|| format!("node {node}: notification{}", if lost { " is lost" } else { "" }));
        let on_event = self.places[node].on_event.clone().filter(|_| !lost)?;
        Some((node, on_event, Received::Message(channel, payload)))
    }

    /// Breaks a connection for `for_us`. Some of the requests in flight still reach the server.
    pub(crate) fn cut(&mut self, node: usize, kind: Kind, for_us: u64) {
        self.note(|| format!("node {node}: connection for {kind:?} breaks for {} ms", for_us / 1000));
        let requests = &self.connection(node, kind).requests;
        let waiting: usize = requests.iter().map(|request| request.pipeline.len()).sum();
        for _ in 0..self.rng.usize(..=waiting) {
            self.execute(node, kind);
        }
        let back = Some(self.now_us + for_us);
        *self.connection(node, kind) = Connection { back, ..Connection::default() };
        if kind == Kind::PubSub {
            let server = self.places[node].server;
            self.servers[server].context.listeners.retain(|(_, listener)| *listener != node);
        }
    }

    /// Breaks both connections of a node, which finds the newest server when they are established again.
    pub(crate) fn move_node(&mut self, node: usize) {
        for kind in Kind::ALL {
            // Takes longer than a moment, so that no two servers give an id in the same millisecond.
            let back = 5000 + self.some_time(BROKEN);
            self.cut(node, kind, back);
        }
        let newest = self.servers.len() - 1;
        self.note(|| format!("node {node} turns to server {newest}"));
        let place = &mut self.places[node];
        (place.server, place.moves) = (newest, None);
    }

    pub(crate) fn calm(&mut self) {
        self.rates = Rates::default();
        let (now, newest) = (self.now_us, self.servers.len() - 1);
        for node in 0..self.places.len() {
            if self.places[node].alive && self.places[node].server != newest {
                self.move_node(node);
            }
            for connection in &mut self.places[node].connections {
                connection.held = [now; 3];
                connection.back = connection.back.map(|back| back.min(now));
            }
        }
    }

    /// Executes the next command of a connection. Other connections' commands may run between two of one
    /// pipeline.
    fn execute(&mut self, node: usize, kind: Kind) {
        let server = self.places[node].server;
        let Some(mut request) = self.connection(node, kind).requests.pop_front() else { return };
        if let Some(words) = request.pipeline.next() {
            let reply = match kind {
                Kind::PubSub => self.subscribe(node, server, &words),
                Kind::Commands => {
                    let mut written = Words::default();
                    words.iter().for_each(|word| written.push(word));
                    self.run(server, &written)
                }
            };
            self.note(|| {
                let word = |word: &Vec<u8>| String::from_utf8_lossy(word).escape_debug().to_string();
                let words: Vec<_> = words.iter().map(word).collect();
                format!("node {node} at server {server}: {} → {}", words.join(" "), shown(&reply))
            });
            request.replies.push(value(reply));
        }
        let connection = self.connection(node, kind);
        if request.pipeline.len() == 0 {
            connection.replies.push_back((request.done, request.replies));
        } else {
            connection.requests.push_front(request);
        }
    }

    fn subscribe(&mut self, node: usize, server: usize, words: &[Vec<u8>]) -> Reply {
        let listeners = &mut self.servers[server].context.listeners;
        for channel in &words[1..] {
            listeners.retain(|(known, listener)| *listener != node || **known != **channel);
            if words[0] == b"SSUBSCRIBE" {
                listeners.push((channel.as_slice().into(), node));
            }
        }
        Reply::Integer(1)
    }

    pub(crate) fn publish(&mut self, server: usize, channel: &Text, payload: &Text) {
        for listener in 0..self.servers[server].context.listeners.len() {
            let (known, node) = &self.servers[server].context.listeners[listener];
            if known == channel {
                let node = *node;
                self.connection(node, Kind::PubSub).messages.push_back((channel.clone(), payload.clone()));
            }
        }
    }
}

fn value(reply: Reply) -> Result<Value, Error> {
    Ok(match reply {
        Reply::Nil => Value::Null,
        Reply::Status(text) => Value::from(text),
        Reply::Integer(number) => Value::from(number),
        Reply::Bulk(text) => match std::str::from_utf8(&text) {
            Ok(text) => Value::from(text),
            Err(_) => Value::Bytes(bytes::Bytes::copy_from_slice(&text)),
        },
        Reply::Array(items) => Value::Array(items.into_iter().map(value).collect::<Result<_, _>>()?),
        Reply::Error(text) => return Err(Error::new(ErrorKind::Unknown, text)),
    })
}

fn shown(reply: &Reply) -> String {
    match reply {
        Reply::Nil => "nil".to_owned(),
        Reply::Status(text) => (*text).to_owned(),
        Reply::Integer(number) => number.to_string(),
        Reply::Bulk(text) => String::from_utf8_lossy(text).escape_debug().to_string(),
        Reply::Error(text) => format!("error {text}"),
        Reply::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
    }
}
