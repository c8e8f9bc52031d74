//! The tail of a room: the position this node has reached in its log, and the next step for each input. Pure:
//! it decides what to deliver and what to read, and `room` does both.
//!
//! All sources feed it: answers to the node's own appends and notifications ([`Tail::receive`]), comparisons
//! with the head ([`Tail::check`]), and reads ([`Tail::take`]). Each may be lost, late, repeated or
//! reordered, and may come from a primary that was replaced.
//!
//! An entry is delivered only if it proves that it follows the position, by the id before it and the epoch.
//! Any other news leads to a read from the position. A read is authoritative: if the log does not have the
//! position, the page names the fork.

use std::sync::Arc;

use super::recent::{RecentLimits, RecentMessages};
use crate::log::{Cut, Entry, Event, Head, Page, Position, Run, follow};
use crate::protocol::MessageId;
use crate::tasks::planted;

#[derive(Debug, Default)]
pub struct Step {
    pub events: Vec<Event>,
    /// A position to read from. The result goes to [`Tail::take`] or [`Tail::read_failed`].
    pub read: Option<Position>,
    /// The position from which live subscribers must catch up with their own readers. Set when the node was
    /// further behind than one read covers.
    pub leave_behind: Option<Position>,
}

#[derive(Debug)]
pub struct Tail {
    /// The newest delivered position. Unknown before [`Tail::open`].
    position: Option<Position>,
    ring: RecentMessages,
    /// The last cut that the ring reflects.
    cut: u64,
    /// Messages before this id are no longer in the log, including those that arrive late.
    taken_out: MessageId,
    /// True if the ring may have messages that the log lacks, because notice of a cut may have been missed.
    suspect: bool,
    /// True if something arrived that cannot be placed, so that the log must be read.
    wanted: bool,
    reading: bool,
    /// Number of interruptions so far. The answer to a query made before one proves nothing about the ring
    /// after it.
    interruptions: u64,
    reading_since: u64,
}

/// The state at the time of a query for the head. Its answer counts only while that state holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    position: Option<Position>,
    interruptions: u64,
}

impl Tail {
    /// Creates a tail without a position yet. Messages that arrive before [`Tail::open`] are not lost.
    pub fn new(limits: RecentLimits) -> Self {
        Self {
            position: None,
            ring: RecentMessages::new(MessageId::ZERO, limits),
            cut: 0,
            taken_out: MessageId::ZERO,
            suspect: false,
            wanted: false,
            reading: false,
            interruptions: 0,
            reading_since: 0,
        }
    }

    pub fn open(&mut self, head: Head) -> Step {
        if self.position.is_none() {
            self.position = Some(head.into());
            self.cut = head.cut;
            self.ring.restart(head.id);
        }
        self.step(Vec::new())
    }

    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Returns the recent messages, unless the log may lack some of them.
    pub fn recent(&self) -> Option<&RecentMessages> {
        (!self.suspect).then_some(&self.ring)
    }

    pub fn shrink_ring(&mut self) {
        self.ring.shrink();
    }

    /// Takes messages from an unreliable source.
    pub fn receive(&mut self, run: &Run) -> Step {
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

    /// Returns the part of a run after the position, or `None` if the run does not prove its place.
    fn news<'a>(&self, position: Position, run: &'a Run) -> Option<&'a [Arc<Entry>]> {
        let last = run.entries.last()?.id();
        // Before a room's first message there is no epoch.
        if run.epoch != position.epoch && position.id != MessageId::ZERO {
            return self.ring.has(last).then_some(&[]);
        }
        if run.after == position.id || planted!(TailTakesAnyRun) {
            return Some(&run.entries);
        }
        // Ids of one epoch belong to one log, so their order shows which were delivered before.
        if last <= position.id {
            return Some(&[]);
        }
        let index = run.entries.iter().position(|entry| entry.id() == position.id)?;
        Some(&run.entries[index + 1..])
    }

    /// Compares with a head that a reader found. A head that this tail has not reached leads to a read. So
    /// does one that it has passed, if the reader found a fork: later notifications may then belong to the
    /// lost history.
    pub fn compare(&mut self, head: Head, forked: bool) -> Step {
        let position = self.position.unwrap_or_default();
        let passed = !forked && head.id < position.id && !self.suspect && self.ring.has(head.id);
        if head.epoch != position.epoch || (head.id != position.id && !passed) {
            self.suspect = true;
            self.wanted = true;
        }
        self.step(Vec::new())
    }

    pub fn evict(&mut self, cut: Cut) {
        if cut.after == self.cut {
            self.cut = cut.name;
        }
        // If another cut was missed, the next check finds it.
        self.ring.evict_before(cut.before);
        self.taken_out = self.taken_out.max(cut.before);
    }

    /// Records that notifications may have been missed. The ring is not used until the next check or read.
    pub fn interrupt(&mut self) {
        self.suspect = true;
        self.interruptions += 1;
    }

    /// Returns the state to pass to [`Tail::check`]. Call it before querying the room's head.
    pub fn asking(&self) -> Asked {
        Asked { position: self.position, interruptions: self.interruptions }
    }

    pub fn check(&mut self, asked: Asked, head: Head) -> Step {
        let (Some(before), Some(position)) = (asked.position, self.position) else {
            return self.step(Vec::new());
        };
        let head_position = Position::from(head);
        // If the tail has advanced meanwhile, the head was one of the positions that it passed.
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

    pub fn take(&mut self, page: &Page) -> Step {
        self.reading = false;
        let Some(position) = self.position else { return Step::default() };
        let Some(page) = from_position(page, position) else {
            // The read started before the position, and does not show how the log continues from there.
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
            // Messages were cut from the ring, or from the page during the read.
            self.cut = page.head.cut;
            self.restart_ring();
        }
        self.suspect &= self.reading_since != self.interruptions;
        self.step(events)
    }

    /// Records that the requested read failed. The next check asks again.
    pub fn read_failed(&mut self) {
        self.reading = false;
        self.wanted = false;
    }

    /// Confirms that the log is as it was followed, and that this was its last cut.
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
            // Readers before the gap must learn of it from a read, so the ring drops everything before it.
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

/// Returns the page as if it had been read from a position that was reached meanwhile, or `None` if the page
/// does not show that.
fn from_position(page: &Page, position: Position) -> Option<Page> {
    // All positions before the first message are equal.
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
