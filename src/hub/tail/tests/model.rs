//! A model of Redis as the tail sees it: a room's log, the logs of replaced primaries, and reads that take
//! time.

use std::sync::Arc;

use crate::log::{Cut, Entry, Epoch, Head, Page, Position, Run};
use crate::protocol::MessageId;

/// A message, compared by content: two histories may use the same id.
pub(super) type Message = Arc<Entry>;

fn same(a: &Message, b: &Message) -> bool {
    Arc::ptr_eq(a, b)
}

#[derive(Clone, Default)]
pub(super) struct Branch {
    name: u64,
    pub(super) all: Vec<Message>,
    pub(super) kept: Vec<Message>,
    pub(super) head: Head,
    /// Each epoch's name, and the newest id before it.
    epochs: Vec<(u64, MessageId)>,
    ms: u64,
    past: Vec<Branch>,
}

impl Branch {
    fn append(&mut self, count: usize, ms: u64) -> Run {
        self.remember();
        self.ms += ms;
        let after = self.head.id;
        if self.epochs.last().is_none_or(|(name, _)| *name != self.name) {
            self.epochs.push((self.name, after));
        }
        let id = |more| MessageId::new(self.ms, after.seq + more);
        let entries: Vec<Message> = (1..=count as u64).map(|more| Entry::sample(id(more), 0)).collect();
        self.all.extend(entries.iter().cloned());
        self.kept.extend(entries.iter().cloned());
        self.head = Head { id: id(count as u64), epoch: Epoch(self.name), ..self.head };
        Run { epoch: Epoch(self.name), after, entries }
    }

    fn remove(&mut self, range: std::ops::Range<usize>) -> Vec<Message> {
        let range = range.start.min(self.kept.len())..range.end.min(self.kept.len());
        if range.is_empty() {
            return Vec::new();
        }
        self.remember();
        self.kept.drain(range).collect()
    }

    fn remember(&mut self) {
        let past = std::mem::take(&mut self.past);
        let before = self.clone();
        self.past = past;
        self.past.push(before);
    }

    pub(super) fn has(&self, message: &Message) -> bool {
        self.all.iter().any(|known| same(known, message))
    }
}

/// All histories of the room. Replaced ones stay, since clients and nodes may have read them.
pub(super) struct World {
    pub(super) branches: Vec<Branch>,
    pub(super) current: usize,
    pub(super) serving: usize,
    names: u64,
    /// All messages ever trimmed or deleted. A Redis that lost that write has them again, although readers
    /// were told that they are gone.
    pub(super) removed: Vec<Message>,
}

impl World {
    pub(super) fn new() -> Self {
        let first = Branch { name: 1, ms: 10, ..Branch::default() };
        Self { branches: vec![first], current: 0, serving: 0, names: 1, removed: Vec::new() }
    }

    pub(super) fn log(&self) -> &Branch {
        &self.branches[self.current]
    }

    pub(super) fn served(&self) -> &Branch {
        &self.branches[self.serving]
    }

    /// Appends at the primary that the node is connected to, or at the current one.
    pub(super) fn append(&mut self, here: bool, count: usize, ms: u64) -> Run {
        let branch = if here { self.serving } else { self.current };
        self.branches[branch].append(count, ms)
    }

    pub(super) fn remove(&mut self, range: std::ops::Range<usize>) -> Option<Cut> {
        let log = &mut self.branches[self.current];
        let removed = log.remove(range);
        let before = removed.last()?.id().successor();
        self.removed.extend(removed);
        self.names += 1;
        let after = std::mem::replace(&mut log.head.cut, self.names);
        Some(Cut { before, name: self.names, after })
    }

    /// Fails over to another primary, or restarts the same one, without the newest writes. The node may stay
    /// with the old one for a while.
    pub(super) fn fail_over(&mut self, lost_writes: usize, partitioned: bool) {
        let old = self.log();
        let back = old.past.len().saturating_sub(lost_writes);
        let mut new = old.past.get(back).map_or_else(|| old.clone(), Branch::clone);
        new.past = old.past[..back].to_vec();
        new.ms = old.ms + 1;
        self.names += 1;
        new.name = self.names;
        self.branches.push(new);
        self.current = self.branches.len() - 1;
        if !partitioned {
            self.serving = self.current;
        }
    }

    pub(super) fn delete(&mut self) {
        let log = self.log();
        let new = Branch { name: log.name, ms: log.ms + 1, ..Branch::default() };
        self.branches.push(new);
        self.current = self.branches.len() - 1;
        self.serving = self.current;
    }

    /// Returns the newest id that a branch shares with the history of a position, if the branch lacks that
    /// position.
    fn fork(&self, branch: &Branch, position: Position) -> Option<MessageId> {
        let Position { id, epoch } = position;
        if id.seq == 0 {
            return None;
        }
        // A server may construct a position right before a message.
        let at = |branch: &Branch| {
            let given = |message: &Message| message.id() == id || message.id() == id.successor();
            branch.all.iter().position(given)
        };
        let of_epoch = |branch: &&Branch| {
            branch.epochs.iter().any(|(name, _)| epoch == Epoch(*name)) && at(branch).is_some()
        };
        let origin = self.branches.iter().find(of_epoch);
        if origin.is_none() && (at(branch).is_some() || branch.head.id == id) {
            return None;
        }
        let origin = origin.or_else(|| self.branches.iter().find(|other| at(other).is_some()))?;
        let shared = origin.all.iter().zip(&branch.all).take_while(|(a, b)| same(a, b)).count();
        if at(origin).is_some_and(|index| index < shared) {
            return None;
        }
        Some(shared.checked_sub(1).map_or(MessageId::ZERO, |last| branch.all[last].id()))
    }

    fn page(&self, branch: usize, after: Position, head: Head, limit: usize) -> Page {
        let branch = &self.branches[branch];
        let fork = self.fork(branch, after);
        let start = fork.unwrap_or(after.id);
        let newer = branch.kept.iter().filter(|entry| entry.id() > start);
        let entries: Vec<_> = newer.take(limit).cloned().collect();
        Page { after, fork, complete: entries.len() < limit, entries, head }
    }
}

pub(super) enum Read {
    Asked(Position),
    Begun { asked: Position, branch: usize, head: Head },
    Done(Page, usize),
    Failed,
}

impl Read {
    pub(super) fn advance(self, world: &World, limit: usize) -> Self {
        match self {
            Self::Asked(asked) => Self::Begun { asked, branch: world.serving, head: world.served().head },
            // The connection broke.
            Self::Begun { branch, .. } if branch != world.serving => Self::Failed,
            // An epoch began during the read, so it is repeated.
            Self::Begun { asked, head, .. } if head.epoch != world.served().head.epoch => Self::Asked(asked),
            Self::Begun { asked, branch, head } => Self::Done(world.page(branch, asked, head, limit), branch),
            over => over,
        }
    }
}
