//! Pending acknowledgements by room and holder, and the time when each room is due. Pure: the time is an
//! argument.
//!
//! An entry stays in its slot while it is written, so that a release of the subscription finds it and waits
//! for the write.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::hub::Subscription;
use crate::log::Lease;
use crate::protocol::{MessageId, RoomName};
use crate::tasks::planted;

/// Minimum time between two writes of a room's positions.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// Minimum time between two writes if a client waits for the result.
pub(super) const INTERVAL_AWAITED: Duration = Duration::from_millis(250);

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Acked<W> {
    /// The last id that is handled, together with everything before it.
    pub id: MessageId,
    /// Callbacks, each with its own acknowledged id.
    pub waiting: Vec<(MessageId, W)>,
}

impl<W> Acked<W> {
    fn join(&mut self, later: Self) {
        self.id = self.id.max(later.id);
        self.waiting.extend(later.waiting);
    }

    /// Returns all ids that await an answer, newest first. If Redis lost the newest, an older one counts.
    pub(super) fn ids(&self) -> Vec<MessageId> {
        if planted!(LastAckCounts) {
            return vec![self.waiting.last().map_or(self.id, |(id, _)| *id)];
        }
        let mut ids: Vec<_> = self.waiting.iter().map(|(id, _)| *id).chain([self.id]).collect();
        ids.sort_unstable_by(|one, other| other.cmp(one));
        ids.dedup();
        ids
    }
}

/// Receives what remains to be written once the current write has ended.
type Taker<W> = oneshot::Sender<Option<Acked<W>>>;

#[derive(Debug, Clone)]
pub(super) enum By {
    /// A connection's subscription, which ends if another client holds it. A failed write is retried.
    Connection(Arc<Subscription>),
    /// A request over HTTP. The client is notified of a failure, and retries it itself.
    Request,
    /// A connection that has given up the subscription without its position being written. The write is
    /// retried.
    Gone,
}

struct Entry<W> {
    by: By,
    state: State<W>,
}

enum State<W> {
    Waiting(Acked<W>),
    Writing {
        /// Acknowledged since the write began.
        again: Option<Acked<W>>,
        taker: Option<Taker<W>>,
    },
}

struct Slot<W> {
    /// Keyed by holder, so that a stale holder's ack never counts for the current one.
    entries: HashMap<Lease, Entry<W>>,
    written: Option<Instant>,
    /// True while a write is in progress. A room has at most one.
    writing: bool,
    /// True while a client waits for the next write.
    awaited: bool,
    scheduled: Option<Instant>,
}

impl<W> Default for Slot<W> {
    fn default() -> Self {
        Self { entries: HashMap::new(), written: None, writing: false, awaited: false, scheduled: None }
    }
}

impl<W> Slot<W> {
    /// Returns the time when to look at it again, either to write it or to drop it.
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

pub(super) struct Batch<W> {
    pub room: RoomName,
    pub acks: Vec<(Lease, By, Acked<W>)>,
}

pub(super) enum Taken<W> {
    /// No write is in progress. Contains the pending acknowledgement.
    Now(Option<Acked<W>>),
    /// A write is in progress. The receiver gets the remainder when it has ended.
    Later(oneshot::Receiver<Option<Acked<W>>>),
}

pub(super) struct Slots<W> {
    rooms: HashMap<RoomName, Slot<W>>,
    /// At most three entries for each room: unawaited, awaited, and immediate.
    queue: BinaryHeap<Reverse<(Instant, RoomName)>>,
    at_once: bool,
}

impl<W> Slots<W> {
    pub(super) fn new() -> Self {
        Self { rooms: HashMap::new(), queue: BinaryHeap::new(), at_once: false }
    }

    /// Adds an acknowledgement. Returns whether the earliest due time changed.
    pub(super) fn note(
        &mut self,
        room: &RoomName,
        lease: &Lease,
        by: By,
        acked: Acked<W>,
        now: Instant,
    ) -> bool {
        let next = self.next_due();
        let slot = self.rooms.entry(room.clone()).or_default();
        slot.awaited |= !acked.waiting.is_empty();
        match slot.entries.get_mut(lease).map(|entry| &mut entry.state) {
            Some(State::Waiting(earlier)) => earlier.join(acked),
            Some(State::Writing { again: Some(earlier), .. }) => earlier.join(acked),
            Some(State::Writing { again, .. }) => *again = Some(acked),
            None => {
                slot.entries.insert(lease.clone(), Entry { by, state: State::Waiting(acked) });
            }
        }
        self.schedule(room, now);
        self.next_due() != next
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse((due, _))| *due)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.rooms.values().all(|slot| slot.entries.is_empty())
    }

    pub(super) fn hurry(&mut self, now: Instant) {
        self.at_once = true;
        for room in self.rooms.keys().cloned().collect::<Vec<_>>() {
            self.schedule(&room, now);
        }
    }

    /// Takes the rooms that are due. Call [`Slots::written`] for each batch afterwards.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Batch<W>> {
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
            let acks = slot.entries.iter_mut().filter_map(|(lease, entry)| {
                let writing = State::Writing { again: None, taker: None };
                match std::mem::replace(&mut entry.state, writing) {
                    State::Waiting(acked) => Some((lease.clone(), entry.by.clone(), acked)),
                    State::Writing { .. } => None,
                }
            });
            batches.push(Batch { acks: acks.collect(), room });
        }
        batches
    }

    /// Records the end of a write of a room. Each holder comes with what must be written again.
    pub(super) fn written(
        &mut self,
        room: &RoomName,
        outcomes: impl IntoIterator<Item = (Lease, Option<Acked<W>>)>,
        now: Instant,
    ) {
        let Some(slot) = self.rooms.get_mut(room) else { return };
        slot.writing = false;
        for (lease, failed) in outcomes {
            let Some(entry) = slot.entries.remove(&lease) else { continue };
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
                    let _ = taker.send(left); // The receiver may be gone.
                }
                (None, Some(acked)) => {
                    slot.awaited |= !acked.waiting.is_empty();
                    slot.entries.insert(lease, Entry { state: State::Waiting(acked), ..entry });
                }
                (None, None) => {}
            }
        }
        self.schedule(room, now);
    }

    /// Removes a holder's entry, for the caller to write.
    pub(super) fn take(&mut self, room: &RoomName, lease: &Lease) -> Taken<W> {
        let Some(slot) = self.rooms.get_mut(room) else { return Taken::Now(None) };
        if let Some(Entry { state: State::Writing { taker, .. }, .. }) = slot.entries.get_mut(lease) {
            let (send, receive) = oneshot::channel();
            *taker = Some(send);
            return Taken::Later(receive);
        }
        Taken::Now(slot.entries.remove(lease).and_then(|entry| match entry.state {
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
