//! The tail of a room: how far this node has followed its log, and the next step for whatever comes in. Pure: it says
//! what to deliver and what to read, and `room` does it.
//!
//! All sources feed it: answers to the node's own appends and notifications ([`Tail::hear`]), comparisons with the head
//! ([`Tail::check`]), and reads ([`Tail::take`]). Any of them may be lost, late, repeated or reordered, and may come from a
//! primary that was replaced. An entry is delivered only if it proves that it follows the position: it names the id before it,
//! and the epoch. Anything else that is new leads to a read from the position, and a read is the truth: where the log does
//! not have the position, it names the fork.

use std::sync::Arc;

use super::ring::{Ring, RingLimits};
use crate::log::{Cut, Entry, Event, Head, Page, Position, Run, follow};
use crate::protocol::MessageId;
use crate::tasks::planted;

/// The outcome of a step.
#[derive(Debug, Default)]
pub struct Step {
    /// What live subscribers are told, in order.
    pub events: Vec<Event>,
    /// A read to make from this position; its outcome goes to [`Tail::take`] or [`Tail::read_failed`].
    pub read: Option<Position>,
    /// The node was further behind than a read brings: subscribers that are live go on by themselves, from this position.
    pub leave_behind: Option<Position>,
}

/// How far a room's log was followed.
#[derive(Debug)]
pub struct Tail {
    /// All up to here was delivered; not known before [`Tail::open`].
    position: Option<Position>,
    ring: Ring,
    /// The name of the last cut that the ring knows of.
    cut: u64,
    /// Messages before this id were taken out of the log, also those that arrive only now.
    taken_out: MessageId,
    /// Whether the ring may hold what the log does not have any more: something may have been missed.
    suspect: bool,
    /// Something came in that cannot be placed: the log must be read.
    wanted: bool,
    /// Whether a read is under way.
    reading: bool,
    /// How many interruptions there were. What was asked before one proves nothing of the ring after it.
    interruptions: u64,
    /// The same when the read that is under way began.
    reading_since: u64,
}

/// The state when a check was asked for. Its answer counts only if that still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    position: Option<Position>,
    interruptions: u64,
}

impl Tail {
    /// A tail whose position is not known yet. What it hears meanwhile is not lost.
    pub fn new(limits: RingLimits) -> Self {
        Self {
            position: None,
            ring: Ring::new(MessageId::ZERO, limits),
            cut: 0,
            taken_out: MessageId::ZERO,
            suspect: false,
            wanted: false,
            reading: false,
            interruptions: 0,
            reading_since: 0,
        }
    }

    /// Starts at the room's head.
    pub fn open(&mut self, head: Head) -> Step {
        if self.position.is_none() {
            self.position = Some(head.into());
            self.cut = head.cut;
            self.ring.restart(head.id);
        }
        self.step(Vec::new())
    }

    /// The newest delivered id, and its epoch.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Recent messages, unless they may be gone.
    pub fn recent(&self) -> Option<&Ring> {
        (!self.suspect).then_some(&self.ring)
    }

    /// Keeps the ring to its limits after something of it was encoded.
    pub fn shrink_ring(&mut self) {
        self.ring.shrink();
    }

    /// Takes messages from an unreliable source.
    pub fn hear(&mut self, run: &Run) -> Step {
        let mut events = Vec::new();
        match self.position.and_then(|position| self.news(position, run)) {
            Some([]) => {}
            Some(news) => {
                self.position.get_or_insert_default().epoch = run.epoch;
                news.iter().for_each(|entry| self.deliver(Event::Message(entry.clone()), &mut events));
            }
            None => self.wanted = true,
        }
        self.step(events)
    }

    /// The part of a run that comes after the position; `None` if the run does not prove where it belongs.
    fn news<'a>(&self, position: Position, run: &'a Run) -> Option<&'a [Arc<Entry>]> {
        let last = run.entries.last()?.id();
        // Before a room's first message there is no epoch.
        if run.epoch != position.epoch && position.id != MessageId::ZERO {
            return self.ring.has(last).then_some(&[]);
        }
        if run.after == position.id || planted!(TailTakesAnyRun) {
            return Some(&run.entries);
        }
        // Ids of one epoch are of one log, so their order tells what was delivered before.
        if last <= position.id {
            return Some(&[]);
        }
        let index = run.entries.iter().position(|entry| entry.id() == position.id)?;
        Some(&run.entries[index + 1..])
    }

    /// Compares with a head that a reader found. One that this tail has not come by leads to a read; and so does one that it
    /// has passed, if the reader came by a fork: then what was heard since may be of the lost history.
    pub fn compare(&mut self, head: Head, forked: bool) -> Step {
        let position = self.position.unwrap_or_default();
        let passed = !forked && head.id < position.id && !self.suspect && self.ring.has(head.id);
        if head.epoch != position.epoch || (head.id != position.id && !passed) {
            self.suspect = true;
            self.wanted = true;
        }
        self.step(Vec::new())
    }

    /// Drops messages that were taken out of the log.
    pub fn evict(&mut self, cut: Cut) {
        if cut.after == self.cut {
            self.cut = cut.name;
        }
        // Where another cut was missed, the next check finds that.
        self.ring.evict_before(cut.before);
        self.taken_out = self.taken_out.max(cut.before);
    }

    /// Notes that something may have been missed. The ring is not read until the next check or read.
    pub fn interrupt(&mut self) {
        self.suspect = true;
        self.interruptions += 1;
    }

    /// To be called before the room's head is asked for, and handed to [`Tail::check`] with it.
    pub fn asking(&self) -> Asked {
        Asked { position: self.position, interruptions: self.interruptions }
    }

    /// Compares with the room's head.
    pub fn check(&mut self, asked: Asked, head: Head) -> Step {
        let (Some(before), Some(position)) = (asked.position, self.position) else {
            return self.step(Vec::new());
        };
        let head_position = Position::from(head);
        // Where the tail has moved on meanwhile, the head was one of the positions that it came by.
        let passed = position != before
            && (head_position == before
                || (head.epoch == position.epoch && head.id >= before.id && self.ring.has(head.id)));
        if head_position == position || passed {
            if asked.interruptions == self.interruptions {
                self.confirm(head.cut);
            }
        } else if position == before && !self.reading && !planted!(CheckReadsNothing) {
            self.wanted = true;
        }
        self.step(Vec::new())
    }

    /// Takes what a read brought.
    pub fn take(&mut self, page: &Page) -> Step {
        self.reading = false;
        let Some(position) = self.position else { return Step::default() };
        let Some(page) = from_position(page, position) else {
            // It began before the position, and does not tell how the log goes on from there.
            let other = page.head.epoch != position.epoch || page.fork.is_some();
            self.wanted |= other || page.head.id > position.id;
            return self.step(Vec::new());
        };
        let (told, reached) = follow(&page);
        if !page.complete && reached < page.head.id {
            self.position = Some(page.head.into());
            self.restart_ring();
            self.suspect = false;
            return Step { leave_behind: Some(position), ..self.step(Vec::new()) };
        }
        let mut events = Vec::new();
        told.into_iter().for_each(|event| self.deliver(event, &mut events));
        let epoch = if planted!(PageKeepsEpoch) { position.epoch } else { page.head.epoch };
        self.position = Some(Position { id: reached, epoch });
        if page.head.cut != self.cut {
            // Of the ring, or of the page while it was on its way, something was taken out.
            self.cut = page.head.cut;
            self.restart_ring();
        }
        self.suspect &= self.reading_since != self.interruptions;
        self.step(events)
    }

    /// The read that was asked for did not succeed. The next check asks again.
    pub fn read_failed(&mut self) {
        self.reading = false;
        self.wanted = false;
    }

    /// The log is as it was followed, and this was its last cut.
    fn confirm(&mut self, cut: u64) {
        self.suspect = false;
        if cut != self.cut && !planted!(RingOutlivesCut) {
            self.cut = cut;
            self.restart_ring();
        }
    }

    fn restart_ring(&mut self) {
        self.ring.restart(self.position.unwrap_or_default().id);
    }

    fn deliver(&mut self, event: Event, events: &mut Vec<Event>) {
        match &event {
            Event::Message(entry) => {
                if let Some(position) = &mut self.position {
                    position.id = entry.id();
                }
                self.ring.push(entry.clone());
                self.ring.evict_before(self.taken_out);
            }
            // Readers before the gap must be told of it, by a read; so the ring forgets what was before.
            Event::Gap(gap) => self.ring.restart(gap.next.predecessor()),
        }
        events.push(event);
    }

    fn step(&mut self, events: Vec<Event>) -> Step {
        let read = self.position.filter(|_| self.wanted && !self.reading);
        if read.is_some() {
            (self.wanted, self.reading) = (false, true);
            self.reading_since = self.interruptions;
        }
        Step { events, read, leave_behind: None }
    }
}

/// A page as it would be, had it been read from a position that was reached meanwhile; `None` if it does not tell.
fn from_position(page: &Page, position: Position) -> Option<Page> {
    // Positions before the first message are one.
    if page.after.id == position.id || (page.after.id.seq, position.id.seq) == (0, 0) {
        return Some(page.clone());
    }
    let index = page.entries.iter().position(|entry| entry.id() == position.id)?;
    let same = page.fork.is_none() && page.head.epoch == position.epoch;
    same.then(|| Page {
        after: position,
        entries: page.entries[index + 1..].to_vec(),
        head: Head { id: page.head.id.max(position.id), ..page.head },
        fork: None,
        complete: page.complete,
    })
}

#[cfg(test)]
mod tests;
