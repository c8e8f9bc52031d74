//! The server's frames as types. Serializing one gives the protocol's map, except for `message` frames, which
//! `encode` writes once for all readers.

use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use super::codes::{CloseCode, Failure};
use super::data::Data;
use super::ids::{MessageId, RoomName, UserId};

/// A message of a room's log, as REST and history show it: the `message` frame without `op`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Message {
    /// The room.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub room: RoomName,
    /// The id that the log gave it.
    #[cfg_attr(feature = "openapi", schema(value_type = String, example = "1700000000000-42"))]
    pub id: MessageId,
    /// The key that its sender gave it.
    #[serde(serialize_with = "as_text")]
    pub key: Uuid,
    /// The user who published it.
    pub from: String,
    /// Its type, `message` unless the sender set one.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its content: any JSON value.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub data: Data,
}

/// Serializes a UUID as text in both encodings. uuid's own serialization writes bytes in MessagePack.
pub fn as_text<S: Serializer>(key: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(key)
}

/// A place at which messages are missing: those that would follow `after` are lost, and delivery continues at
/// `next`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Gap {
    /// The last id before the gap.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub after: MessageId,
    /// The id at which delivery continues. If that message does not exist yet, the smallest id that it can
    /// have.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub next: MessageId,
    /// The reason for the gap.
    pub reason: GapReason,
}

/// The reason why messages are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum GapReason {
    /// Retention removed them, or they were deleted.
    Trimmed,
    /// Redis came back without writes that it had confirmed.
    Rewound,
}

/// A frame of the server, other than `message`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Frame {
    /// The request with this `ref` took effect.
    Ok {
        /// `ref` of the request.
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
        /// The answer to it.
        #[serde(flatten)]
        answer: Answer,
    },
    /// A request failed.
    Error {
        /// `ref` of the request.
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
        /// The code and the message.
        #[serde(flatten)]
        failure: Failure,
    },
    /// All messages up to `id` are delivered. Later ones are live.
    Live {
        /// The subscribed room.
        room: RoomName,
        /// The newest delivered id.
        id: MessageId,
    },
    /// Messages are lost.
    Gap {
        /// The subscribed room.
        room: RoomName,
        /// The position of the gap, and its reason.
        #[serde(flatten)]
        gap: Gap,
    },
    /// A signal of another client, or of the server.
    Signal {
        /// The room that it was sent to.
        room: RoomName,
        /// The user who sent it, or whose request it announces.
        from: UserId,
        /// Its type.
        #[serde(rename = "type")]
        kind: String,
        /// Its content.
        data: Data,
        /// Set if the server made it. Clients cannot set this.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        sys: bool,
    },
    /// The server ended a subscription.
    Unsubscribed {
        /// The room of the subscription.
        room: RoomName,
        /// The reason.
        code: Ended,
        /// The reason, in words for people.
        message: &'static str,
    },
    /// The server is about to close the connection.
    Goodbye {
        /// The reason: a [`CloseCode`] by name.
        code: &'static str,
        /// The reason, in words for people.
        message: &'static str,
        /// Time to wait before connecting again, in milliseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
    /// Answers `ping`.
    Pong {
        /// `ref` of the ping.
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
    },
}

impl Frame {
    /// Creates the `error` frame of a failure.
    pub fn error(reference: Option<u64>, failure: Failure) -> Self {
        Self::Error { reference, failure }
    }

    /// Creates the `goodbye` frame that precedes a close.
    pub fn goodbye(code: CloseCode, retry_after_ms: Option<u64>) -> Self {
        Self::Goodbye { code: code.as_str(), message: code.message(), retry_after_ms }
    }

    /// Creates the `unsubscribed` frame of a subscription that ended.
    pub fn unsubscribed(room: RoomName, code: Ended) -> Self {
        Self::Unsubscribed { room, code, message: code.message() }
    }

    /// Returns the frame's `op`.
    pub const fn op(&self) -> &'static str {
        match self {
            Self::Ok { .. } => "ok",
            Self::Error { .. } => "error",
            Self::Live { .. } => "live",
            Self::Gap { .. } => "gap",
            Self::Signal { .. } => "signal",
            Self::Unsubscribed { .. } => "unsubscribed",
            Self::Goodbye { .. } => "goodbye",
            Self::Pong { .. } => "pong",
        }
    }
}

/// The reason for which the server ended a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// A newer connection has taken the durable subscription.
    Replaced,
    /// The connection's token no longer grants it.
    Forbidden,
    /// The room or the subscription was deleted.
    Deleted,
}

impl Ended {
    /// Returns the reason in words for people.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Replaced => "a newer connection holds this durable subscription",
            Self::Forbidden => "the token no longer grants reading this room",
            Self::Deleted => "the room or the subscription was deleted",
        }
    }
}

/// The content of an `ok` besides its `ref`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// To `connect`.
    Connected {
        /// The session's id.
        #[serde(serialize_with = "as_text")]
        session: Uuid,
        /// The authenticated user.
        user: UserId,
        /// Interval of the server's pings, in seconds.
        ping: u64,
        /// Expiry of the token, in Unix seconds.
        expires: Option<u64>,
        /// Maximum size of one message's `data` as stored, in bytes.
        max_message: usize,
    },
    /// To `auth`.
    Renewed {
        /// Expiry of the new token, in Unix seconds.
        expires: Option<u64>,
    },
    /// To `subscribe`.
    Subscribed {
        /// The room.
        room: RoomName,
        /// The id after which delivery starts.
        position: MessageId,
        /// The newest id.
        head: MessageId,
        /// Set if the durable subscription did not exist before.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        created: bool,
    },
    /// To `publish`.
    Published {
        /// The message's id.
        id: MessageId,
        /// Set if a message with this key was stored before.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        duplicate: bool,
    },
    /// To `history`.
    History(HistoryPage),
    /// To any other request.
    Done {},
}

/// A page of a room's log.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HistoryPage {
    /// The messages, in the order asked for.
    pub messages: Vec<Message>,
    /// Set if there are more messages in that direction.
    pub more: bool,
    /// The room's newest id.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub head: MessageId,
    /// The first place in the page at which messages are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
}
