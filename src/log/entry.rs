//! An entry of a room's log, and the bytes that readers get of it, written once for each form and shared by all.

use std::sync::OnceLock;

use bytes::Bytes;

use crate::protocol::encode::{self, Encoded};
use crate::protocol::frame::Message;
use crate::protocol::{Encoding, MessageId};

/// A message as the ring keeps it.
#[derive(Debug)]
pub struct Entry {
    /// The message.
    pub message: Message,
    encoded: [OnceLock<Encoded>; Encoding::ALL.len()],
    event: OnceLock<Bytes>,
}

impl Entry {
    /// An entry of which nothing is encoded yet.
    pub fn new(message: Message) -> Self {
        Self { message, encoded: Default::default(), event: OnceLock::new() }
    }

    /// The message's id.
    pub fn id(&self) -> MessageId {
        self.message.id
    }

    /// The `message` frame in this encoding.
    pub fn encoded(&self, encoding: Encoding) -> &Encoded {
        self.encoded[encoding as usize].get_or_init(|| encode::message(encoding, &self.message))
    }

    /// The message as a Server-Sent Event: its id, its type, and itself as JSON.
    pub fn event(&self) -> &Bytes {
        self.event.get_or_init(|| {
            let data = serde_json::to_string(&self.message).unwrap_or_default();
            format!("id: {}\nevent: {}\ndata: {data}\n\n", self.message.id, self.message.kind).into()
        })
    }

    /// Bytes that the message takes by itself; what is encoded of it is about as much again for each form in use.
    pub fn size(&self) -> usize {
        let Message { room, from, kind, data, .. } = &self.message;
        128 + room.as_str().len() + from.len() + kind.len() + data.as_bytes().len()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
impl Entry {
    /// An entry for tests, with so many bytes of text.
    pub fn sample(id: MessageId, bytes: usize) -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self::new(Message {
            room: "room".parse().unwrap(),
            id,
            key: uuid::Uuid::nil(),
            from: "ann".into(),
            kind: "message".into(),
            data: crate::protocol::Data::from_json(&format!("\"{}\"", "x".repeat(bytes))).unwrap(),
        }))
    }
}
