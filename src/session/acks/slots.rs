//! Acknowledgements that wait to be written, by room and holder, and when each room is due. Pure: the time is an argument.
//!
//! An entry stays in its slot while it is written, so that whoever gives the subscription up finds it and waits for it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::hub::{Holding, Subscription};
use crate::protocol::{MessageId, RoomName};
use crate::tasks::planted;

/// Least time between two writes of a room's positions.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// The same where a client waits for its position to be written.
pub(super) const INTERVAL_AWAITED: Duration = Duration::from_millis(250);

/// An acknowledged id, and those who wait until it is written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Acked<W> {
    /// All up to and including this is handled.
    pub id: MessageId,
    /// Told when theirs is written.
    pub waiting: Vec<(MessageId, W)>,
}

impl<W> Acked<W> {
    fn join(&mut self, later: Self) {
        self.id = self.id.max(later.id);
        self.waiting.extend(later.waiting);
    }

    /// All that are answered for, newest first: if Redis lost the newest, an older one counts.
    pub fn ids(&self) -> Vec<MessageId> {
        if planted!(LastAckCounts) {
            return vec![self.waiting.last().map_or(self.id, |(id, _)| *id)];
        }
        let mut ids: Vec<_> = self.waiting.iter().map(|(id, _)| *id).chain([self.id]).collect();
        ids.sort_unstable_by(|one, other| other.cmp(one));
        ids.dedup();
        ids
    }
}

/// Gets what is left to be written once a write that is under way has ended.
type Taker<W> = oneshot::Sender<Option<Acked<W>>>;

/// Who acknowledges.
#[derive(Debug, Clone)]
pub(super) enum By {
    /// A connection's subscription, which ends if another client holds it. What could not be written is tried again.
    Connection(Arc<Subscription>),
    /// A request over HTTP, which is told if it failed, and says it again itself.
    Request,
    /// A connection that has given the subscription up, and could not write it. It is tried again.
    Gone,
}

/// What there is of one holder.
struct Entry<W> {
    by: By,
    state: State<W>,
}

enum State<W> {
    Waiting(Acked<W>),
    /// A write is under way.
    Writing {
        /// Acknowledged since it began.
        again: Option<Acked<W>>,
        taker: Option<Taker<W>>,
    },
}

/// A room.
struct Slot<W> {
    /// By holder: an ack of one that was replaced must not stand in for the newer one's.
    entries: HashMap<Holding, Entry<W>>,
    /// When the last write began.
    written: Option<Instant>,
    /// Whether a write is under way: there is one at a time.
    writing: bool,
    /// Whether somebody waits for the next write.
    awaited: bool,
    /// Its place in the queue.
    scheduled: Option<Instant>,
}

impl<W> Default for Slot<W> {
    fn default() -> Self {
        Self { entries: HashMap::new(), written: None, writing: false, awaited: false, scheduled: None }
    }
}

impl<W> Slot<W> {
    /// When to look at it again: to write, or to forget it.
    fn due(&self, now: Instant, at_once: bool) -> Instant {
        let interval = if at_once && !self.entries.is_empty() {
            Duration::ZERO
        } else if self.awaited {
            INTERVAL_AWAITED
        } else {
            INTERVAL
        };
        self.written.map_or(now, |written| written + interval)
    }
}

/// What is to be written of a room, and of whom.
pub(super) struct Batch<W> {
    /// The room.
    pub room: RoomName,
    /// By holder.
    pub acks: Vec<(Holding, By, Acked<W>)>,
}

/// What [`Slots::take`] finds.
pub(super) enum Taken<W> {
    /// Nothing is being written: this is what there was.
    Now(Option<Acked<W>>),
    /// A write is under way; what it leaves comes when it has ended.
    Later(oneshot::Receiver<Option<Acked<W>>>),
}

/// All that waits to be written.
pub(super) struct Slots<W> {
    rooms: HashMap<RoomName, Slot<W>>,
    /// At most three places for a room that is in it: unawaited, awaited, and at once.
    queue: BinaryHeap<Reverse<(Instant, RoomName)>>,
    at_once: bool,
}

impl<W> Slots<W> {
    pub fn new() -> Self {
        Self { rooms: HashMap::new(), queue: BinaryHeap::new(), at_once: false }
    }

    /// Notes an acknowledgement. Whether a room is due earlier by it than any was.
    pub fn note(
        &mut self,
        room: &RoomName,
        holding: &Holding,
        by: By,
        acked: Acked<W>,
        now: Instant,
    ) -> bool {
        let next = self.next_due();
        let slot = self.rooms.entry(room.clone()).or_default();
        slot.awaited |= !acked.waiting.is_empty();
        match slot.entries.get_mut(holding).map(|entry| &mut entry.state) {
            Some(State::Waiting(earlier)) => earlier.join(acked),
            Some(State::Writing { again: Some(earlier), .. }) => earlier.join(acked),
            Some(State::Writing { again, .. }) => *again = Some(acked),
            None => {
                slot.entries.insert(holding.clone(), Entry { by, state: State::Waiting(acked) });
            }
        }
        self.schedule(room, now);
        self.next_due() != next
    }

    /// When the next room is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse((due, _))| *due)
    }

    /// Whether nothing waits, or is being written.
    pub fn is_idle(&self) -> bool {
        self.rooms.values().all(|slot| slot.entries.is_empty())
    }

    /// From here on nothing waits for its time.
    pub fn hurry(&mut self, now: Instant) {
        self.at_once = true;
        for room in self.rooms.keys().cloned().collect::<Vec<_>>() {
            self.schedule(&room, now);
        }
    }

    /// What is due. [`Slots::written`] must follow for each batch.
    pub fn take_due(&mut self, now: Instant) -> Vec<Batch<W>> {
        let mut batches = Vec::new();
        while self.next_due().is_some_and(|due| due <= now)
            && let Some(Reverse((due, room))) = self.queue.pop()
        {
            let Some(slot) = self.rooms.get_mut(&room).filter(|slot| slot.scheduled == Some(due)) else {
                continue;
            };
            slot.scheduled = None;
            if slot.writing {
                continue;
            }
            if slot.entries.is_empty() {
                self.rooms.remove(&room);
                continue;
            }
            slot.writing = true;
            slot.awaited = false;
            slot.written = Some(now);
            let acks = slot.entries.iter_mut().filter_map(|(holding, entry)| {
                let writing = State::Writing { again: None, taker: None };
                match std::mem::replace(&mut entry.state, writing) {
                    State::Waiting(acked) => Some((holding.clone(), entry.by.clone(), acked)),
                    State::Writing { .. } => None,
                }
            });
            batches.push(Batch { acks: acks.collect(), room });
        }
        batches
    }

    /// A write of a room has ended. Holders come with what is to be written again.
    pub fn written(
        &mut self,
        room: &RoomName,
        outcomes: impl IntoIterator<Item = (Holding, Option<Acked<W>>)>,
        now: Instant,
    ) {
        let Some(slot) = self.rooms.get_mut(room) else { return };
        slot.writing = false;
        for (holding, failed) in outcomes {
            let Some(entry) = slot.entries.remove(&holding) else { continue };
            let State::Writing { again, taker } = entry.state else { continue };
            let left = match (failed, again) {
                (Some(mut failed), Some(again)) => {
                    failed.join(again);
                    Some(failed)
                }
                (failed, again) => failed.or(again),
            };
            match (taker, left) {
                (Some(taker), left) => {
                    let _nobody_waits_any_more = taker.send(left);
                }
                (None, Some(acked)) => {
                    slot.awaited |= !acked.waiting.is_empty();
                    slot.entries.insert(holding, Entry { state: State::Waiting(acked), ..entry });
                }
                (None, None) => {}
            }
        }
        self.schedule(room, now);
    }

    /// Takes a holder's entry out, for whoever writes it.
    pub fn take(&mut self, room: &RoomName, holding: &Holding) -> Taken<W> {
        let Some(slot) = self.rooms.get_mut(room) else { return Taken::Now(None) };
        if let Some(Entry { state: State::Writing { taker, .. }, .. }) = slot.entries.get_mut(holding) {
            let (send, receive) = oneshot::channel();
            *taker = Some(send);
            return Taken::Later(receive);
        }
        Taken::Now(slot.entries.remove(holding).and_then(|entry| match entry.state {
            State::Waiting(acked) => Some(acked),
            State::Writing { .. } => None,
        }))
    }

    fn schedule(&mut self, room: &RoomName, now: Instant) {
        let Some(slot) = self.rooms.get_mut(room).filter(|slot| !slot.writing) else { return };
        let due = slot.due(now, self.at_once);
        if slot.scheduled.is_none_or(|scheduled| due < scheduled) {
            slot.scheduled = Some(due);
            self.queue.push(Reverse((due, room.clone())));
        }
    }
}

#[cfg(test)]
mod tests;
