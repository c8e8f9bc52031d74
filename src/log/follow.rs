//! What a reader at a position is told of a page: every message once, in order, and a gap wherever the log cannot go on
//! without a hole. A pure function, which a room's tail and every reader that catches up share.

use std::sync::Arc;

use super::{Entry, Page};
use crate::protocol::MessageId;
use crate::protocol::frame::{Gap, GapReason};

/// One thing that a reader is told.
#[derive(Debug, Clone)]
pub enum Event {
    /// The next message.
    Message(Arc<Entry>),
    /// Messages are lost here.
    Gap(Gap),
}

/// What a reader at `page.after` is told, and the position at which it then stands.
///
/// Ids are dense, so a missing `seq` is a loss, and the page, being the log itself, is the proof:
/// - a `seq` that skips some: they were trimmed or deleted;
/// - a newer id whose `seq` is not newer: Redis came back without writes that it had confirmed;
/// - a complete page that ends before the head: the end was trimmed or deleted;
/// - a head before the position: as in the second case, before anything new was written.
pub fn follow(page: &Page) -> (Vec<Event>, MessageId) {
    let mut position = page.after;
    let mut events = Vec::with_capacity(page.entries.len());
    let gap = |after, next, reason| Event::Gap(Gap { after, next, reason });
    if page.head < page.after && page.entries.is_empty() {
        return (vec![gap(position, page.head.successor(), GapReason::Rewound)], page.head);
    }
    for entry in &page.entries {
        let id = entry.id();
        if id <= position {
            continue;
        }
        if !follows(position, id) {
            events.push(gap(position, id, reason(position, id)));
        }
        events.push(Event::Message(entry.clone()));
        position = id;
    }
    if page.complete && position < page.head {
        events.push(gap(position, page.head.successor(), reason(position, page.head)));
        position = page.head;
    }
    (events, position)
}

/// Whether a message with this id comes right after the position, without a hole.
pub fn follows(position: MessageId, id: MessageId) -> bool {
    id > position && id.seq == position.seq + 1
}

/// Why the log goes on at `next` after a position that it does not follow.
pub fn reason(position: MessageId, next: MessageId) -> GapReason {
    if next.seq > position.seq { GapReason::Trimmed } else { GapReason::Rewound }
}

#[cfg(test)]
mod tests;
