//! The requests of clients as types: the client frames of the protocol with every field checked.

use uuid::Uuid;

use super::data::Data;
use super::ids::{MessageId, RoomName, SubscriptionName, UserId};

/// The type of a message that does not name one.
pub const DEFAULT_TYPE: &str = "message";

/// Maximum length of the `type` of a message or signal, in bytes.
pub const MAX_TYPE: usize = 64;

/// Maximum of `last`.
pub const MAX_LAST: u64 = 1000;

/// Default and maximum number of messages in a page of history.
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
        /// The room to subscribe to.
        room: RoomName,
        /// The start of delivery. `None` means the stored position, or new messages only.
        start: Option<Start>,
        /// The name of a durable subscription.
        durable: Option<SubscriptionName>,
    },
    /// Ends delivery from a room.
    Unsubscribe {
        /// The room to unsubscribe from.
        room: RoomName,
        /// Set to delete the durable position too.
        forget: bool,
    },
    /// Appends a message.
    Publish {
        /// The room to publish to.
        room: RoomName,
        /// The message.
        message: Draft,
    },
    /// Moves the position of a durable subscription.
    Ack {
        /// The room of the subscription.
        room: RoomName,
        /// The last id that is handled, together with all before it.
        id: MessageId,
    },
    /// Notes how far the user has read a room.
    Read {
        /// The room.
        room: RoomName,
        /// The last message that the user has read, together with all before it.
        id: MessageId,
    },
    /// Reads a page of the log.
    History {
        /// The room to read.
        room: RoomName,
        /// The start and the direction.
        range: Range,
        /// Maximum number of messages wanted.
        limit: usize,
    },
    /// Sends something to the present subscribers without storing it.
    Signal {
        /// The room to send it to.
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

/// A message before the log assigns its id.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// The sender's key, or one made by the server.
    pub key: Uuid,
    /// Set if the server made the key, so that it cannot have been used before.
    pub new_key: bool,
    /// `type` on the wire.
    pub kind: String,
    /// The content.
    pub data: Data,
}

impl Draft {
    /// Sets the sender's key.
    pub fn set_key(&mut self, key: Uuid) {
        self.key = key;
        self.new_key = false;
    }
}

/// A signal without its sender.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalDraft {
    /// `type` on the wire.
    pub kind: String,
    /// The content.
    pub data: Data,
    /// The only user who should get it. `None` means all.
    pub to: Option<UserId>,
}

/// The start of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// After this id.
    After(MessageId),
    /// At the oldest message that is retained.
    Oldest,
    /// At the next new message.
    New,
    /// This many messages before the end of the log.
    Last(usize),
}

/// The range of a page of history: one side of a message.
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
