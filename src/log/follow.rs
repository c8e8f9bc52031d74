//! What a reader at a position is told of a page: every message once, in order, and a gap wherever the log cannot go on
//! without a hole. A pure function, which a room's tail and every reader that catches up share.

use std::sync::Arc;

use super::{Entry, Page};
use crate::protocol::MessageId;
use crate::protocol::continuity::{follows, reason};
use crate::protocol::frame::{Gap, GapReason};
use crate::tasks::planted;

/// One thing that a reader is told.
#[derive(Debug, Clone)]
pub enum Event {
    /// The next message.
    Message(Arc<Entry>),
    /// Messages are lost here.
    Gap(Gap),
}

/// Returns the events for a reader at `page.after`, and the position that it reaches by them.
///
/// Ids are dense, so a missing `seq` is a loss, and the page, being the log itself, is the proof:
/// - a fork: Redis came back without the reader's position, which is lost back to there. Delivery goes on after the fork;
/// - a `seq` that skips some: they were trimmed or deleted;
/// - a complete page that ends before the head: the end was trimmed or deleted.
pub fn follow(page: &Page) -> (Vec<Event>, MessageId) {
    let mut position = page.after.id;
    let mut events = Vec::with_capacity(page.entries.len() + 1);
    let gap = |after, next, reason| Event::Gap(Gap { after, next, reason });
    if let Some(fork) = page.fork {
        let end = if page.complete { fork.max(page.head.id) } else { fork };
        let next = page.entries.first().map_or(end.successor(), |first| first.id());
        events.push(gap(position, next, GapReason::Rewound));
        position = next.predecessor();
        if page.entries.is_empty() {
            return (events, end);
        }
    }
    for entry in &page.entries {
        let id = entry.id();
        if id <= position {
            continue;
        }
        if !follows(position, id) && !planted!(FollowTellsNoGap) {
            events.push(gap(position, id, reason(position, id)));
        }
        events.push(Event::Message(entry.clone()));
        position = id;
    }
    if page.complete && position < page.head.id {
        events.push(gap(position, page.head.id.successor(), reason(position, page.head.id)));
        position = page.head.id;
    }
    if position.seq == 0 && page.head.id == MessageId::ZERO {
        // Right before a first message that is not there any more.
        position = MessageId::ZERO;
    }
    (events, position)
}

#[cfg(test)]
mod tests;
