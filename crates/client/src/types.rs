//! The requests and answers of the HTTP interface, as types.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use roomlog_protocol::frame::Gap;
use roomlog_protocol::{MessageId, RoomName, SubscriptionName};

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NewMessage {
    /// The room that it is for.
    pub room: RoomName,
    /// Its content: any JSON value.
    pub data: Value,
    /// Its type, `message` if there is none.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its key. Publishing the same key again stores nothing new, so a retry is safe.
    pub key: Uuid,
}

impl NewMessage {
    /// Creates a message with a new key.
    pub fn new(room: RoomName, data: Value) -> Self {
        Self { room, data, kind: None, key: Uuid::new_v4() }
    }
}

/// A message that the server stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The id that the log gave it.
    pub id: MessageId,
    /// Its key.
    pub key: Uuid,
    /// Set if the key was stored before, so that nothing new was stored: by somebody else, or by an earlier
    /// attempt whose confirmation was lost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
}

/// A message of a room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The room.
    pub room: RoomName,
    /// Its id.
    pub id: MessageId,
    /// The key that its sender gave it.
    pub key: Uuid,
    /// The user who published it.
    pub from: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its content.
    pub data: Value,
}

/// A page of a room's history.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Page {
    /// The messages, oldest first.
    pub messages: Vec<Message>,
    /// Set if there are more messages in the requested direction.
    pub more: bool,
    /// The room's newest id.
    pub head: MessageId,
    /// The first place in the page at which messages are missing.
    pub gap: Option<Gap>,
}

/// A room's state as the server reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Its name.
    pub room: RoomName,
    /// The newest id that was ever given.
    pub head: MessageId,
    /// The oldest id that is retained.
    pub first: Option<MessageId>,
    /// Number of messages that are retained.
    pub length: u64,
    /// Memory that they take in Redis, in bytes.
    pub bytes: u64,
    /// Number of live subscribers of the node that answered.
    pub subscribers: u64,
    /// Number of durable subscriptions.
    pub subscriptions: u64,
}

/// A page of the list of rooms.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RoomList {
    /// Their names. Pages may repeat each other's.
    pub rooms: Vec<RoomName>,
    /// The cursor of the next page, or `None` at the end.
    pub cursor: Option<String>,
}

/// A durable subscription of a room, as the server reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DurableSubscription {
    /// Its user.
    pub user: String,
    /// Its name.
    pub name: SubscriptionName,
    /// The last acknowledged id.
    pub position: MessageId,
    /// Number of messages that are not acknowledged.
    pub lag: u64,
    /// Set if a connection holds it now. A client that took it over HTTP has none.
    pub connected: bool,
}

/// A page of the list of durable subscriptions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DurableList {
    /// The subscriptions.
    pub subscriptions: Vec<DurableSubscription>,
    /// The cursor of the next page, or `None` at the end.
    pub cursor: Option<u64>,
}

/// The tokens to revoke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    /// One token.
    Token {
        /// Its `jti`.
        jti: String,
        /// When it expires, in Unix seconds, if known. The revocation is removed then.
        expires: Option<u64>,
    },
    /// A user's tokens.
    User {
        /// The user.
        user: String,
        /// Those issued before this time, in Unix seconds; `None` for now.
        before: Option<u64>,
    },
}
