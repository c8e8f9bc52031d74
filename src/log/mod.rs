//! What the core knows of a room's log: its entries, pages of it, and how a reader follows it. No I/O; the log itself
//! is in Redis, behind [`crate::redis`].

mod durability;
pub mod entry;
pub mod follow;
mod pages;
pub mod retention;

use std::sync::Arc;

pub use durability::{Durability, UnknownDurability};
pub use entry::Entry;
pub use follow::{Event, follow};
pub use pages::PageSize;

use crate::protocol::MessageId;

/// The name of one history of Redis. Logs that were written under the same name do not contradict each other; where Redis
/// came back without its newest writes, or another server took over, the name changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Epoch(pub u64);

impl Epoch {
    /// In place of a name that is not known.
    pub const UNKNOWN: Self = Self(0);

    /// Whether the two may be the same.
    pub fn agrees(self, other: Self) -> bool {
        self == other || self == Self::UNKNOWN || other == Self::UNKNOWN
    }
}

/// A position in a room's log, and the epoch of the log that it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Position {
    /// The newest id that was read.
    pub id: MessageId,
    /// Its epoch; not known of a position that a client names.
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

/// Where a room's log ends, and what tells whether it is still the same log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// The newest id ever given; `0-0` before the first.
    pub id: MessageId,
    /// The epoch of that message.
    pub epoch: Epoch,
    /// The name of the last cut. What is kept in memory of the time of another one may be gone; 0 before the first.
    pub cut: u64,
}

/// Messages were taken out of a room's log: trimmed or deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cut {
    /// The oldest id that may still be read from memory.
    pub before: MessageId,
    /// The cut's name.
    pub name: u64,
    /// The name of the cut that it follows.
    pub after: u64,
}

/// Messages that were appended together, as an answer or a notification tells of them.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// The epoch in which they were appended.
    pub epoch: Epoch,
    /// The id that the first of them follows: the proof that nothing lies between.
    pub after: MessageId,
    /// The messages in order.
    pub entries: Vec<Arc<Entry>>,
}

/// Part of a room's log, as one read gave it.
#[derive(Debug, Clone)]
pub struct Page {
    /// The position that was read from.
    pub after: Position,
    /// The newest id that the log shares with the history in which `after` was read, if the log does not have `after`.
    pub fork: Option<MessageId>,
    /// Entries after `after`, or after the fork, in ascending order, without a hole that the log does not have itself.
    pub entries: Vec<Arc<Entry>>,
    /// The room's head, as known *before* the entries were read: all retained entries up to it are in the page if the page
    /// is complete.
    pub head: Head,
    /// Whether the read reached the log's end.
    pub complete: bool,
}

/// What the log did with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Its id.
    pub id: MessageId,
    /// Whether its key was known, so that the id is that of the first time.
    pub duplicate: bool,
}

/// Redis could not be reached in time, or refused. The outcome of a write is then unknown, which is safe since appends
/// are idempotent by key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Redis cannot be reached, or refused the operation")]
pub struct Unavailable;
