//! Turns a page into the events for a reader at a position: every message once, in order, and a gap wherever
//! the log has a hole. A pure function, shared by a room's tail and every reader that catches up.

use std::sync::Arc;

use super::{Entry, Page};
use crate::protocol::MessageId;
use crate::protocol::continuity::{follows, reason};
use crate::protocol::frame::{Gap, GapReason};
use crate::tasks::planted;

#[derive(Debug, Clone)]
pub enum Event {
    Message(Arc<Entry>),
    Gap(Gap),
}

/// Returns the events for a reader at `page.after`, and the position that they lead to.
///
/// Ids are dense, so a missing `seq` is a loss. The page comes from the log itself and proves it:
/// - a fork: Redis came back without the reader's position, so everything after the fork is lost. Delivery
///   continues from there;
/// - a `seq` that skips some: they were trimmed or deleted;
/// - a complete page that ends before the head: the end was trimmed or deleted.
pub(crate) fn follow(page: &Page) -> (Vec<Event>, MessageId) {
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
        // Right before a first message that is no longer there.
        position = MessageId::ZERO;
    }
    (events, position)
}

#[cfg(test)]
mod tests;
