//! The log that the tail follows, as a value, and reads of it that take their time.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::log::{Entry, Page};
use crate::protocol::MessageId;

/// The room's log, and what was ever done to it.
#[derive(Default)]
pub(super) struct Log {
    pub(super) entries: Vec<Arc<Entry>>,
    pub(super) head: MessageId,
    pub(super) ms: u64,
    /// The log before each write.
    past: Vec<(Vec<Arc<Entry>>, MessageId)>,
    /// Rewinds so far.
    pub(super) era: usize,
    pub(super) trimmed: BTreeSet<MessageId>,
    pub(super) rewound: BTreeSet<MessageId>,
}

impl Log {
    pub(super) fn new() -> Self {
        Self { ms: 10, ..Self::default() }
    }

    pub(super) fn append(&mut self, count: usize, ms: u64) -> Vec<Arc<Entry>> {
        self.remember();
        self.ms += ms;
        let seq = self.head.seq;
        let new: Vec<_> =
            (1..=count as u64).map(|more| Entry::sample(MessageId::new(self.ms, seq + more), 0)).collect();
        self.head = MessageId::new(self.ms, seq + count as u64);
        self.entries.extend(new.iter().cloned());
        new
    }

    pub(super) fn remove(&mut self, range: std::ops::Range<usize>) {
        self.remember();
        let length = self.entries.len();
        let range = range.start.min(length)..range.end.min(length);
        self.trimmed.extend(self.entries.drain(range).map(|entry| entry.id()));
    }

    fn remember(&mut self) {
        self.past.push((self.entries.clone(), self.head));
    }

    /// Loses the newest writes.
    pub(super) fn rewind(&mut self, writes: usize) {
        let Some(back) = self.past.len().checked_sub(writes.max(1)) else { return };
        let newer = self.past.split_off(back);
        let lost = newer.iter().flat_map(|(entries, _)| entries).chain(&self.entries).map(|entry| entry.id());
        let (entries, head) = newer[0].clone();
        self.rewound.extend(lost.filter(|id| *id > head));
        (self.entries, self.head) = (entries, head);
        self.era += 1;
        self.ms += 1;
    }

    /// Loses everything, as when the room is deleted.
    pub(super) fn delete(&mut self) {
        self.rewind(self.past.len());
    }

    pub(super) fn page(&self, after: MessageId, head: MessageId, limit: usize) -> Page {
        let newer = self.entries.iter().filter(|entry| entry.id() > after);
        let entries: Vec<_> = newer.take(limit).cloned().collect();
        Page { after, complete: entries.len() < limit, entries, head }
    }
}

/// A read on its way.
pub(super) enum Read {
    Asked(MessageId),
    Begun { after: MessageId, head: MessageId, era: usize },
    Done(Page),
    Failed,
}

impl Read {
    pub(super) fn advance(self, log: &Log, limit: usize) -> Self {
        match self {
            Self::Asked(after) => Self::Begun { after, head: log.head, era: log.era },
            Self::Begun { era, .. } if era != log.era => Self::Failed,
            Self::Begun { after, head, .. } => Self::Done(log.page(after, head, limit)),
            over => over,
        }
    }
}
