//! What is said on a connection, in each of the protocols that servers under load speak. The rest of the generator knows
//! none of them: it joins, publishes, and hears of messages and confirmations.
//!
//! Like the sockets below they are driven by hand, and know as much of a protocol as this takes.

mod centrifugo;
mod nats;
mod nchan;
mod roomlog;
mod socketio;

use std::borrow::Cow;

use clap::ValueEnum;

use super::socket::Opcode;
use roomlog_protocol::Encoding;

/// A protocol, by the name that a server says when it listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Dialect {
    /// Roomlog's own, which simple servers speak too
    #[default]
    Roomlog,
    /// Socket.IO, with or without connection state recovery
    #[value(name = "socketio")]
    SocketIo,
    /// Nchan: WebSocket subscribers with message ids, and WebSocket publishers
    Nchan,
    /// NATS over WebSocket
    Nats,
    /// NATS over WebSocket, with a stream and a consumer for each member
    #[value(name = "jetstream")]
    JetStream,
    /// Centrifugo's, as JSON
    Centrifugo,
}

/// What a member wants.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hello<'a> {
    pub token: &'a str,
    pub room: &'a str,
    /// The id after which delivery starts, as it was heard with a message.
    pub since: Option<&'a str>,
    /// The name of its durable subscription, if it has one; it then acknowledges each message.
    pub durable: Option<&'a str>,
}

/// What is heard.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard<'a> {
    /// A message, and the id to come back with. The id is empty where nobody can come back.
    Message { room: &'a str, id: &'a str, data: &'a str },
    /// The next of those published is confirmed.
    Confirmed,
    /// All that was missed has come; from here on it is live.
    Live,
    /// Something was refused: a publish, or anything else.
    Refused { publish: bool, why: Cow<'a, str> },
}

/// How a connection is upgraded.
#[derive(Debug)]
pub(super) struct Upgrade {
    pub path: String,
    pub subprotocol: Option<&'static str>,
}

/// One connection's side of the talk. What it says it appends as whole WebSocket frames.
pub(super) trait Speech: std::fmt::Debug {
    fn upgrade(&self) -> Upgrade;

    /// What is said first, unless the server is to speak first.
    fn hello(&self, _out: &mut Vec<u8>) {}

    /// Publishes to the room.
    fn publish(&mut self, data: &str, out: &mut Vec<u8>);

    /// Understands a WebSocket message, and answers where an answer is due.
    fn hear(
        &mut self,
        payload: &[u8],
        out: &mut Vec<u8>,
        take: &mut dyn FnMut(Heard<'_>),
    ) -> Result<(), String>;

    /// Who publishes on a connection of its own, where members cannot.
    fn publisher(&self) -> Option<Box<dyn Speech>> {
        None
    }

    /// Whether the upgrade is all that there is to joining.
    fn is_live_at_once(&self) -> bool {
        false
    }
}

impl Dialect {
    /// A member's connection. Only Roomlog's own protocol has more than one encoding.
    pub(super) fn speech(self, encoding: Encoding, hello: Hello<'_>) -> Box<dyn Speech> {
        match self {
            Self::Roomlog => Box::new(roomlog::Member::new(encoding, hello)),
            Self::SocketIo => Box::new(socketio::Client::new(hello)),
            Self::Nchan => Box::new(nchan::Subscriber::new(hello)),
            Self::Nats => Box::new(nats::Core::new(hello)),
            Self::JetStream => Box::new(nats::JetStream::new(hello)),
            Self::Centrifugo => Box::new(centrifugo::Client::new(hello)),
        }
    }
}

/// Appends a text frame.
fn text(payload: &[u8], out: &mut Vec<u8>) {
    Opcode::Text.write(payload, out);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod testing {
    use super::*;
    use crate::socket::first;

    /// What is heard in this, as text, and what is answered.
    pub fn hear(speech: &mut dyn Speech, payload: &str) -> (Vec<String>, Vec<String>) {
        let (mut heard, mut out) = (Vec::new(), Vec::new());
        let mut take = |event: Heard<'_>| {
            heard.push(match event {
                Heard::Message { room, id, data } => format!("message {room} {id} {data}"),
                Heard::Confirmed => "confirmed".into(),
                Heard::Live => "live".into(),
                Heard::Refused { publish: true, why } => format!("refused publish: {why}"),
                Heard::Refused { why, .. } => format!("refused: {why}"),
            });
        };
        speech.hear(payload.as_bytes(), &mut out, &mut take).unwrap();
        (heard, said(&out))
    }

    /// The payloads of these frames.
    pub fn said(mut out: &[u8]) -> Vec<String> {
        let mut said = Vec::new();
        while let Some(frame) = first(out) {
            said.push(String::from_utf8(out[frame.payload..frame.end].to_vec()).unwrap());
            out = &out[frame.end..];
        }
        assert!(out.is_empty());
        said
    }

    /// What it says first.
    pub fn hello(speech: &dyn Speech) -> Vec<String> {
        let mut out = Vec::new();
        speech.hello(&mut out);
        said(&out)
    }

    /// What it says to publish.
    pub fn publish(speech: &mut dyn Speech, data: &str) -> Vec<String> {
        let mut out = Vec::new();
        speech.publish(data, &mut out);
        said(&out)
    }
}
