//! What a client may ask, as types: the client frames of the protocol after every field was checked.

use uuid::Uuid;

use super::data::Data;
use super::ids::{MessageId, RoomName, SubscriptionName, UserId};

/// The type of a message that does not name one.
pub const DEFAULT_TYPE: &str = "message";

/// Longest `type` of a message or signal, in bytes.
pub const MAX_TYPE: usize = 64;

/// Most messages that `last` may ask for.
pub const MAX_LAST: u64 = 1000;

/// Messages in a page of history that names no limit, and the most that one may name.
pub const HISTORY_LIMIT: (u64, u64) = (100, 1000);

/// One frame of a client.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Authenticates the connection. The token may have come with the upgrade instead.
    Connect {
        /// The JWT.
        token: Option<String>,
    },
    /// Starts delivery from a room.
    Subscribe {
        /// Which room.
        room: RoomName,
        /// Where delivery starts; `None` means at the stored position, or with new messages only.
        start: Option<Start>,
        /// The name of a durable subscription.
        durable: Option<SubscriptionName>,
    },
    /// Ends delivery from a room.
    Unsubscribe {
        /// Which room.
        room: RoomName,
        /// Whether to delete the durable position too.
        forget: bool,
    },
    /// Appends a message.
    Publish {
        /// To which room.
        room: RoomName,
        /// The message.
        message: Draft,
    },
    /// Moves the position of a durable subscription.
    Ack {
        /// Of which room.
        room: RoomName,
        /// All up to and including this one is handled.
        id: MessageId,
    },
    /// Reads a page of the log.
    History {
        /// Of which room.
        room: RoomName,
        /// From where, and in which direction.
        range: Range,
        /// Most messages wanted.
        limit: usize,
    },
    /// Tells those present something that is not stored.
    Signal {
        /// In which room.
        room: RoomName,
        /// The signal.
        signal: SignalDraft,
    },
    /// Renews the connection's token.
    Auth {
        /// The new JWT.
        token: String,
    },
    /// Asks for a `pong` frame.
    Ping,
}

/// A message before the log gave it an id.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// The sender's key, or one made by the server.
    pub key: Uuid,
    /// Whether the server made it: then nobody can have used it before.
    pub new_key: bool,
    /// `type` on the wire.
    pub kind: String,
    /// The content.
    pub data: Data,
}

impl Draft {
    /// Gives it the sender's key.
    pub fn set_key(&mut self, key: Uuid) {
        self.key = key;
        self.new_key = false;
    }
}

/// A signal before it is known who sends it.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalDraft {
    /// `type` on the wire.
    pub kind: String,
    /// The content.
    pub data: Data,
    /// The one user who shall get it; `None` means all.
    pub to: Option<UserId>,
}

/// Where a subscription starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// After this id.
    After(MessageId),
    /// With the oldest message that is retained.
    Oldest,
    /// With what is new.
    New,
    /// With the newest so many.
    Last(usize),
}

/// A page of history: which side of which message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// The oldest messages after this id.
    After(MessageId),
    /// The oldest messages that are retained.
    Oldest,
    /// The oldest messages from this time on, in Unix milliseconds.
    FromTime(u64),
    /// The newest messages before this id.
    Before(MessageId),
    /// The newest messages.
    Newest,
}
