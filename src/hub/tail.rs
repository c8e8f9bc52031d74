//! The tail of a room: how far this node has followed its log, and what that means for whatever comes in next. Pure: it
//! says what to deliver and what to read, and `room` does it.
//!
//! All sources feed it: answers to the node's own appends and the bell ([`Tail::hear`]), comparisons with the head
//! ([`Tail::check`]), and reads ([`Tail::take`]). What it hears may be lost, repeated or reordered. Only an entry that
//! comes right after the position is delivered as it is; any other that is newer leads to a read from the position, and a
//! read is the truth.

use std::sync::Arc;

use super::ring::{Ring, RingLimits};
use crate::log::follow::follows;
use crate::log::{Entry, Event, Page, follow};
use crate::protocol::MessageId;
use crate::protocol::frame::{Gap, GapReason};

/// What is to be done after something came in.
#[derive(Debug, Default)]
pub struct Step {
    /// What live subscribers are told, in order.
    pub events: Vec<Event>,
    /// A read to make from this position; its outcome goes to [`Tail::take`] or [`Tail::read_failed`].
    pub read: Option<MessageId>,
    /// The node was further behind than a read brings: subscribers that are live go on by themselves, from this position.
    pub leave_behind: Option<MessageId>,
}

/// How far a room's log was followed.
#[derive(Debug)]
pub struct Tail {
    /// All up to here was delivered; not known before [`Tail::open`].
    position: Option<MessageId>,
    ring: Ring,
    /// The newest id heard of. Beyond the position, it asks for a read.
    heard: MessageId,
    /// The read that is under way.
    reading: Option<Reading>,
    /// Whether what comes right after the position may be believed. Not after an interruption: Redis may have lost writes
    /// and given their `seq` again.
    trusted: bool,
    /// The greatest position so far. Ids after a rewind are of a later time, so what is not beyond it is a late ring.
    furthest: MessageId,
    /// How many interruptions there were. What was asked before one proves nothing after it.
    interruptions: u64,
}

/// What was known when a read began.
#[derive(Debug)]
struct Reading {
    heard: MessageId,
    interruptions: u64,
}

/// What was known when a check was asked for. It counts only if all that still holds when its answer is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    position: Option<MessageId>,
    interruptions: u64,
}

impl Tail {
    /// A tail whose position is not known yet. What it hears meanwhile is not lost.
    pub fn new(limits: RingLimits) -> Self {
        Self {
            position: None,
            ring: Ring::new(MessageId::ZERO, limits),
            heard: MessageId::ZERO,
            reading: None,
            trusted: true,
            furthest: MessageId::ZERO,
            interruptions: 0,
        }
    }

    /// Starts at the room's newest id.
    pub fn open(&mut self, head: MessageId) -> Step {
        if self.position.is_none() {
            self.position = Some(head);
            self.ring.restart(head);
        }
        self.step(Vec::new())
    }

    /// The newest delivered id.
    pub fn position(&self) -> Option<MessageId> {
        self.position
    }

    /// Recent messages.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Keeps the ring to its limits after something of it was encoded.
    pub fn shrink_ring(&mut self) {
        self.ring.shrink();
    }

    /// Takes entries from an unreliable source.
    pub fn hear(&mut self, entries: &[Arc<Entry>]) -> Step {
        let mut events = Vec::new();
        for entry in entries {
            match self.position {
                Some(position) if entry.id() <= position => {}
                Some(position) if self.believes(position, entry.id()) => {
                    self.deliver(Event::Message(entry.clone()), &mut events);
                }
                _ => self.heard = self.heard.max(entry.id()),
            }
        }
        self.step(events)
    }

    /// Takes the word of a reader that the log goes on to here.
    pub fn hear_of(&mut self, id: MessageId) -> Step {
        self.heard = self.heard.max(id);
        self.step(Vec::new())
    }

    /// Forgets messages before an id, which were taken out of the log.
    pub fn forget(&mut self, before: MessageId) {
        self.ring.forget(before);
    }

    /// Believes nothing until the next check or read: what came in meanwhile may be lost, or rewritten.
    pub fn distrust(&mut self) {
        self.trusted = false;
        self.interruptions += 1;
    }

    /// To be called before the room's newest id is asked for, and handed to [`Tail::check`] with it.
    pub fn asking(&self) -> Asked {
        Asked { position: self.position, interruptions: self.interruptions }
    }

    /// Compares with the room's newest id.
    pub fn check(&mut self, asked: Asked, head: MessageId) -> Step {
        let mut events = Vec::new();
        if let Some(position) = self.position
            && asked == self.asking()
            && self.reading.is_none()
        {
            if head < position {
                let gap = Gap { after: position, next: head.successor(), reason: GapReason::Rewound };
                events.push(Event::Gap(gap));
                self.position = Some(head);
                self.ring.restart(head);
                self.heard = head;
            }
            self.heard = self.heard.max(head);
            // A newer head does not prove that the log still goes on from the position: the read will tell.
            self.trusted |= self.position == Some(head);
        }
        self.step(events)
    }

    /// Takes what a read brought.
    pub fn take(&mut self, page: &Page) -> Step {
        let (Some(position), Some(reading)) = (self.position, self.reading.take()) else {
            return Step::default();
        };
        if page.after > position {
            // A check went back behind where this read began.
            return self.step(Vec::new());
        }
        self.trusted |= reading.interruptions == self.interruptions;
        let (told, reached) = follow(&since(page, position));
        if !page.complete && reached < page.head {
            self.position = Some(page.head);
            self.ring.restart(page.head);
            return Step { leave_behind: Some(position), ..self.step(Vec::new()) };
        }
        let mut events = Vec::new();
        told.into_iter().for_each(|event| self.deliver(event, &mut events));
        self.position = Some(reached);
        if page.complete && reading.heard == self.heard {
            // It was heard of before the read, and the read did not find it: it is no more.
            self.heard = reached;
        }
        self.step(events)
    }

    /// The read that was asked for did not succeed. The next check asks again.
    pub fn read_failed(&mut self) {
        self.reading = None;
        self.trusted = false;
    }

    /// Whether an entry of an unreliable source is the next one, so that no read is needed.
    fn believes(&self, position: MessageId, id: MessageId) -> bool {
        self.trusted && follows(position, id) && id > self.furthest
    }

    fn deliver(&mut self, event: Event, events: &mut Vec<Event>) {
        match &event {
            Event::Message(entry) => {
                self.position = Some(entry.id());
                self.ring.push(entry.clone());
            }
            // Whoever stands before the gap is to be told of it, by a read; so the ring forgets what was before.
            Event::Gap(gap) => self.ring.restart(gap.next.predecessor()),
        }
        events.push(event);
    }

    fn step(&mut self, events: Vec<Event>) -> Step {
        self.furthest = self.furthest.max(self.position.unwrap_or_default());
        let read = match self.position {
            Some(position) if self.heard > position && self.reading.is_none() => {
                self.reading = Some(Reading { heard: self.heard, interruptions: self.interruptions });
                Some(position)
            }
            _ => None,
        };
        Step { events, read, leave_behind: None }
    }
}

/// A page as it would be, had it been read from a position that was reached meanwhile.
fn since(page: &Page, position: MessageId) -> Page {
    if page.after == position {
        return page.clone();
    }
    Page {
        after: position,
        entries: page.entries.iter().filter(|entry| entry.id() > position).cloned().collect(),
        head: page.head.max(position),
        complete: page.complete,
    }
}

#[cfg(test)]
mod tests;
