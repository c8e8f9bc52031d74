//! The core's model of a room's log: entries, pages, and the rules for following it. No I/O: the log itself
//! is in Redis, behind [`crate::redis`].

mod durability;
mod durable;
pub(crate) mod entry;
pub(crate) mod follow;
pub(crate) mod internal;
mod pages;
mod push;
mod reads;
pub(crate) mod retention;

use std::sync::Arc;

pub(crate) use durability::Durability;
pub(crate) use durable::{AttachAt, Attached, DurableId, Lease, NotAttached};
pub use entry::Entry;
pub(crate) use follow::{Event, follow};
pub(crate) use pages::PageSize;
pub(crate) use push::Push;
pub(crate) use reads::ReadState;

use crate::protocol::{Failure, MessageId};

/// The name of one history of Redis. Logs written under the same name never contradict each other. The name
/// changes when Redis comes back without its newest writes, or another server takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Epoch(pub u64);

impl Epoch {
    pub const UNKNOWN: Self = Self(0);

    /// Returns whether the two may be the same. An unknown name agrees with any.
    pub fn agrees(self, other: Self) -> bool {
        self == other || self == Self::UNKNOWN || other == Self::UNKNOWN
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Position {
    pub id: MessageId,
    /// The epoch of that id. Unknown for a position that a client names.
    pub epoch: Epoch,
}

impl From<MessageId> for Position {
    fn from(id: MessageId) -> Self {
        Self { id, epoch: Epoch::UNKNOWN }
    }
}

impl From<Head> for Position {
    fn from(head: Head) -> Self {
        Self { id: head.id, epoch: head.epoch }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// The newest id ever given; `0-0` before the first.
    pub id: MessageId,
    pub epoch: Epoch,
    /// The name of the last cut; 0 before the first. Messages cached under another cut may be gone.
    pub cut: u64,
}

/// A trim or a deletion of messages of a room's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cut {
    /// The oldest id that may still be read from memory.
    pub before: MessageId,
    pub name: u64,
    pub after: u64,
}

/// Messages that were appended together, from an answer or a notification.
#[derive(Debug, Clone, Default)]
pub struct Run {
    pub epoch: Epoch,
    /// The id right before the first of them, which proves that nothing lies between.
    pub after: MessageId,
    pub entries: Vec<Arc<Entry>>,
}

#[derive(Debug, Clone)]
pub struct Page {
    pub after: Position,
    /// The newest id shared by the log and the history of `after`, if the log does not have `after`.
    pub fork: Option<MessageId>,
    /// Entries after `after`, or after the fork, in ascending order. Only the log's own holes are missing.
    pub entries: Vec<Arc<Entry>>,
    /// The room's head, as known *before* the entries were read. A complete page has all retained entries up
    /// to it.
    pub head: Head,
    /// True if the read reached the log's end.
    pub complete: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub id: MessageId,
    /// True if its key was known. The id is then that of the first publish.
    pub duplicate: bool,
}

/// Redis could not be reached in time, or refused. The outcome of a write is then unknown. That is safe,
/// since appends are idempotent by key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Redis cannot be reached, or refused the operation")]
pub struct Unavailable;

impl From<Unavailable> for Failure {
    fn from(_: Unavailable) -> Self {
        Self::unavailable()
    }
}
