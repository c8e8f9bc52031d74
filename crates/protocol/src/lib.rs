//! The wire contract as types: ids, frames, the two encodings and the catalogue of codes. No I/O.
//!
//! `request` and `decode` are the incoming side, `frame` and `encode` the outgoing side. `wire` is the
//! framing on the socket, and `continuity` the proof that a reader missed nothing.

#![warn(missing_docs)]

pub mod codes;
pub mod continuity;
pub mod data;
pub mod decode;
pub mod encode;
pub mod frame;
#[cfg(test)]
mod golden;
pub mod ids;
pub mod pattern;
pub mod request;
pub mod wire;

pub use codes::{CloseCode, ErrorCode, Failure};
pub use data::Data;
pub use ids::{MessageId, RoomName, SubscriptionName, UserId};
pub use pattern::Pattern;

/// The encoding of frames on a connection, selected by its subprotocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Text messages that hold JSON.
    Json,
    /// Binary messages that hold MessagePack.
    MessagePack,
}

impl Encoding {
    /// Both encodings, the preferred one first.
    pub const ALL: [Self; 2] = [Self::Json, Self::MessagePack];

    /// Returns the WebSocket subprotocol.
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "roomlog.v1.json",
            Self::MessagePack => "roomlog.v1.msgpack",
        }
    }
}
