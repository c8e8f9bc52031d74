//! The protocols of the servers under load. The rest of the generator knows none of them: it joins,
//! publishes, and is notified of messages and confirmations.
//!
//! Like the sockets below, they are driven by hand, and implement only as much of a protocol as this takes.

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

/// The options of a member's connection.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hello<'a> {
    pub token: &'a str,
    pub room: &'a str,
    /// The id after which delivery starts, as it came with a message.
    pub since: Option<&'a str>,
    /// The name of its durable subscription, if it has one. It then acknowledges each message.
    pub durable: Option<&'a str>,
}

/// A received event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard<'a> {
    /// A message, and the id to resume from. The id is empty where resuming is not possible.
    Message { room: &'a str, id: &'a str, data: &'a str },
    /// The confirmation of the oldest unconfirmed publish.
    Confirmed,
    /// The end of the backlog: later messages are live.
    Live,
    /// The refusal of a publish, or of anything else.
    Refused { publish: bool, why: Cow<'a, str> },
}

/// The options of a connection's upgrade.
#[derive(Debug)]
pub(super) struct Upgrade {
    pub path: String,
    pub subprotocol: Option<&'static str>,
}

/// The client's side of one connection. It appends its output as whole WebSocket frames.
pub(super) trait Speech: std::fmt::Debug {
    fn upgrade(&self) -> Upgrade;

    /// Sends the greeting, unless the server speaks first.
    fn hello(&self, _out: &mut Vec<u8>) {}

    fn publish(&mut self, data: &str, out: &mut Vec<u8>);

    /// Handles a WebSocket message, and answers it if an answer is due.
    fn hear(
        &mut self,
        payload: &[u8],
        out: &mut Vec<u8>,
        take: &mut dyn FnMut(Heard<'_>),
    ) -> Result<(), String>;

    /// Returns the protocol of a separate publishing connection, where members cannot publish.
    fn publisher(&self) -> Option<Box<dyn Speech>> {
        None
    }

    /// Returns whether a member has joined once the upgrade is complete.
    fn is_live_at_once(&self) -> bool {
        false
    }
}

impl Dialect {
    /// Creates the protocol of a member's connection. Only Roomlog's own has more than one encoding.
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

fn text(payload: &[u8], out: &mut Vec<u8>) {
    Opcode::Text.write(payload, out);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod testing {
    use super::*;
    use roomlog_testkit::wire::first_frame;

    /// Returns the events of a message, as text, and the answers to it.
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

    /// Returns the payloads of these frames.
    pub fn said(mut out: &[u8]) -> Vec<String> {
        let mut said = Vec::new();
        while let Some(frame) = first_frame(out) {
            said.push(String::from_utf8(out[frame.payload..frame.end].to_vec()).unwrap());
            out = &out[frame.end..];
        }
        assert!(out.is_empty());
        said
    }

    /// Returns the greeting.
    pub fn hello(speech: &dyn Speech) -> Vec<String> {
        let mut out = Vec::new();
        speech.hello(&mut out);
        said(&out)
    }

    /// Returns the frames of a publish.
    pub fn publish(speech: &mut dyn Speech, data: &str) -> Vec<String> {
        let mut out = Vec::new();
        speech.publish(data, &mut out);
        said(&out)
    }
}
