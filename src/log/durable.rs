//! Durable subscriptions in the core's terms: their names, the leases on them, and attaching to them.

use super::Unavailable;
use crate::protocol::{MessageId, SubscriptionName, UserId};

/// A durable subscription's name within its room: `<user>/<name>`. Its consumer group has the same name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DurableId(String);

impl DurableId {
    pub fn new(user: &UserId, name: &SubscriptionName) -> Self {
        Self(format!("{user}/{name}"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns user and name. A user may contain a slash, a name may not.
    pub fn parts(&self) -> (&str, &str) {
        self.0.rsplit_once('/').unwrap_or(("", &self.0))
    }
}

impl From<String> for DurableId {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// A lease on a durable subscription, from a subscribe until the subscription is released, lost or deleted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    pub durable: DurableId,
    /// The holder: `<node>/<session>/<number of the subscribe>`, or a UUID for a client without a connection.
    pub holder: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachAt {
    /// The stored position; the room's newest id if there is none.
    Stored,
    /// The stored position; this id if there is none.
    StoredOr(MessageId),
    /// This id, whatever is stored.
    Id(MessageId),
    /// The room's newest id, whatever is stored.
    New,
    /// The oldest entry, whatever is stored.
    Oldest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAttached {
    Unavailable,
    /// It is new, and Redis is nearly full.
    Full,
    /// It is new, and the user creates them too fast.
    TooFast,
    /// It is new, and the user has the maximum number in this room.
    TooMany,
    NoSuchPosition,
}

impl From<Unavailable> for NotAttached {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attached {
    pub position: MessageId,
    pub head: MessageId,
    pub created: bool,
}
