//! The newest messages of a room, in memory, so that reconnects and slow readers rarely need Redis. Bounded
//! by count, by bytes, and by a budget that all rings of a node share. Cached encodings count as well. Pure,
//! except for the shared byte count.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::log::Entry;
use crate::protocol::MessageId;

/// Messages that a ring keeps even when the node's budget is exceeded.
const LEAST: usize = 4;

#[derive(Debug, Clone)]
pub struct RecentLimits {
    pub messages: usize,
    pub bytes: usize,
    pub budget: usize,
    pub spent: Arc<AtomicUsize>,
}

/// The ring of one room: entries without a hole, starting right after `floor`.
#[derive(Debug)]
pub struct RecentMessages {
    floor: MessageId,
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    limits: RecentLimits,
}

impl RecentMessages {
    pub fn new(floor: MessageId, limits: RecentLimits) -> Self {
        Self { floor, entries: VecDeque::new(), bytes: 0, limits }
    }

    pub fn push(&mut self, entry: Arc<Entry>) {
        self.bytes += entry.size();
        entry.count_in(&self.limits.spent);
        self.entries.push_back(entry);
        self.shrink();
    }

    /// Evicts entries until the limits are met. Encodings count too, so the budget may be exceeded without a
    /// new entry.
    pub fn shrink(&mut self) {
        while self.entries.len() > self.limits.messages
            || self.bytes > self.limits.bytes
            || (self.limits.spent.load(Ordering::Relaxed) > self.limits.budget && self.entries.len() > LEAST)
        {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.remove(&oldest);
        }
    }

    #[cfg(test)]
    pub fn floor(&self) -> MessageId {
        self.floor
    }

    /// Returns whether the position is the ring's floor or one of its entries.
    pub fn has(&self, position: MessageId) -> bool {
        position == self.floor || self.entries.binary_search_by_key(&position, |entry| entry.id()).is_ok()
    }

    pub fn evict_before(&mut self, before: MessageId) {
        while let Some(oldest) = self.entries.pop_front_if(|oldest| oldest.id() < before) {
            self.remove(&oldest);
        }
    }

    /// Restarts empty, at a position that does not follow from the previous entries.
    pub fn restart(&mut self, floor: MessageId) {
        while let Some(oldest) = self.entries.pop_front() {
            self.remove(&oldest);
        }
        self.floor = floor;
    }

    /// Returns the entries right after a position, at most `messages` and about `bytes`. Returns `None` if
    /// the position is before the ring, or unknown to it.
    pub fn after(&self, position: MessageId, messages: usize, bytes: usize) -> Option<Vec<Arc<Entry>>> {
        let start = if position == self.floor {
            0
        } else {
            self.entries.binary_search_by_key(&position, |entry| entry.id()).ok()? + 1
        };
        let mut size = 0;
        let fits = |entry: &&Arc<Entry>| {
            let fits = size < bytes;
            size += entry.size();
            fits
        };
        Some(self.entries.range(start..).take(messages).take_while(fits).cloned().collect())
    }

    pub fn before_last(&self, messages: usize) -> Option<MessageId> {
        let start = self.entries.len().checked_sub(messages)?;
        Some(if start == 0 { self.floor } else { self.entries[start - 1].id() })
    }

    fn remove(&mut self, oldest: &Entry) {
        self.floor = oldest.id();
        self.bytes -= oldest.size();
        oldest.count_no_more();
    }
}

impl Drop for RecentMessages {
    fn drop(&mut self) {
        self.entries.iter().for_each(|entry| entry.count_no_more());
    }
}

#[cfg(test)]
mod tests;
