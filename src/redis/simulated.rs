//! The end of a connection in tests. In place of the client library, it talks to the simulated network, or to
//! a script. All logic above it is real.

use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::types::config::Server;
use fred::types::{Builder, Message, MessageKind, RespVersion, Value};
use tokio::time::timeout;

use super::dial::Dial;
use super::link::{Link, LinkEvent, Listener};
use super::scripted::Script;
use super::store::Command;
use crate::simulation::network::{self, Kind, Pipeline, Received, Replies};

pub(crate) const COMMAND_TIMEOUT: Duration = Duration::from_millis(400);

#[derive(Debug, Clone)]
pub(crate) enum Peer {
    /// A server on the simulated network, as seen by the node at this place.
    Network(usize),
    Script(Script),
}

#[derive(Debug, Clone)]
pub(crate) struct End {
    peer: Peer,
    kind: Kind,
}

/// Parameters that every connection takes, and a simulated one never uses.
#[derive(Clone)]
pub(super) struct Unused {
    pub(super) dial: Dial,
    builder: Builder,
    client: Client,
}

thread_local! {
    static UNUSED: Unused = {
        let dial = Dial::new("redis://simulated", COMMAND_TIMEOUT).expect("a URL");
        let builder = dial.builder(dial.target().clone(), RespVersion::RESP2);
        let client = builder.build().expect("a client");
        Unused { dial, builder, client }
    };
}

pub(super) fn unused() -> Unused {
    UNUSED.with(Clone::clone)
}

pub(super) fn server() -> Server {
    Server::new("simulated", 6379)
}

impl End {
    pub(crate) fn is_up(&self) -> bool {
        match self.peer {
            Peer::Network(node) => network::is_up(node, self.kind),
            Peer::Script(_) => true,
        }
    }

    pub(super) async fn exchange<'a>(self, commands: impl ExactSizeIterator<Item = &'a Command>) -> Replies {
        let bytes = |value: &Value| {
            value.as_bytes().map_or_else(|| value.as_string().unwrap_or_default().into(), Into::into)
        };
        let words = |command: &Command| {
            let mut words = Vec::with_capacity(1 + command.args.len());
            words.push(command.name.into());
            words.extend(command.args.iter().map(bytes));
            words
        };
        self.ask(commands.map(words).collect()).await
    }

    pub(crate) async fn tune(self, command: &str, channels: impl Iterator<Item = &str>) -> Replies {
        self.ask(channels.map(|channel| vec![command.into(), channel.into()]).collect()).await
    }

    async fn ask(self, pipeline: Pipeline) -> Replies {
        let count = pipeline.len();
        let failed = |kind: ErrorKind, text: &'static str| {
            (0..count).map(|_| Err(Error::new(kind.clone(), text))).collect()
        };
        let sent = async {
            match self.peer {
                Peer::Network(node) => network::send(node, self.kind, pipeline).await,
                Peer::Script(script) => {
                    let replies: Option<Replies> = pipeline.iter().map(|words| script.take(words)).collect();
                    match replies {
                        Some(replies) => Ok(replies),
                        None => std::future::pending().await,
                    }
                }
            }
        };
        match timeout(COMMAND_TIMEOUT, sent).await {
            Ok(Ok(replies)) => replies,
            Ok(Err(_)) => failed(ErrorKind::IO, "the connection broke"),
            Err(_elapsed) => failed(ErrorKind::Timeout, "no reply in time"),
        }
    }
}

impl Link {
    pub(super) fn simulated(peer: Peer, kind: Kind, listener: Option<Listener>) -> Arc<Self> {
        if let (Peer::Network(node), Some(listener)) = (&peer, listener) {
            let event = |received| match received {
                Received::Reconnected => LinkEvent::Reconnected,
                Received::Message(channel, payload) => LinkEvent::Message(Message {
                    channel: String::from_utf8_lossy(&channel).into_owned().into(),
                    value: Value::Bytes(bytes::Bytes::copy_from_slice(&payload)),
                    kind: MessageKind::SMessage,
                    server: server(),
                }),
            };
            network::listen(*node, Arc::new(move |received| listener(event(received))));
        }
        let Unused { builder, client, .. } = unused();
        Self::ending_at(End { peer, kind }, builder, client)
    }
}
