//! What the core knows of a room's log: its entries, pages of it, and how a reader follows it. No I/O; the log itself
//! is in Redis, behind [`crate::redis`].

pub mod entry;
pub mod follow;
mod pages;
pub mod retention;

use std::sync::Arc;

pub use entry::Entry;
pub use follow::{Event, follow};
pub use pages::PageSize;

use crate::protocol::MessageId;

/// Part of a room's log, as one read gave it.
#[derive(Debug, Clone)]
pub struct Page {
    /// The position that was read from: entries are newer than it.
    pub after: MessageId,
    /// Entries in ascending order, without a hole that the log does not have itself.
    pub entries: Vec<Arc<Entry>>,
    /// The room's newest id, as known *before* the entries were read: all retained entries up to it are in the page if
    /// the page is complete.
    pub head: MessageId,
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
