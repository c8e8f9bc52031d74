//! The wire contract as types: ids, frames, the two encodings and the catalogue of codes. No I/O.
//!
//! `request` and `decode` are what comes in, `frame` and `encode` what goes out, `wire` how it is framed on the socket,
//! `continuity` how a reader proves that it missed nothing.

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

/// How frames are written on a connection, chosen by its subprotocol.
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

    /// The WebSocket subprotocol.
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "roomlog.v1.json",
            Self::MessagePack => "roomlog.v1.msgpack",
        }
    }
}
