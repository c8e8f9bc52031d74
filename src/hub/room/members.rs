//! The members of a room: how subscriptions enter it, go live, begin, and end. Delivery is in the room
//! itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Member, Room, State};
use crate::hub::send_queue::{Turn, WriteBatch};
use crate::hub::subscription::Subscription;
use crate::log::{Head, Lease, Page, Position, Unavailable};
use crate::protocol::encode;
use crate::protocol::frame::{Ended, Frame};
use crate::tasks::planted;

#[derive(Debug)]
pub(in crate::hub) enum Join {
    Live,
    /// The node has reached another position. Contains a page from the ring, if the ring reaches back to the
    /// reader's.
    Elsewhere(Option<Page>),
    Ended,
}

/// The members with a durable subscription, keyed by lease, so that a takeover needs no scan of all
/// members. Two event streams may name the same holder.
#[derive(Debug, Default)]
pub(super) struct Holders(HashMap<Lease, Vec<Arc<Subscription>>>);

impl Holders {
    fn insert(&mut self, subscription: &Arc<Subscription>) {
        if let Some(lease) = &subscription.lease {
            self.0.entry(lease.clone()).or_default().push(subscription.clone());
        }
    }

    fn remove(&mut self, subscription: &Subscription) {
        let Some(lease) = &subscription.lease else { return };
        let Some(all) = self.0.get_mut(lease) else { return };
        all.retain(|other| !std::ptr::eq(&**other, subscription));
        if all.is_empty() {
            self.0.remove(lease);
        }
    }

    fn of(&self, lease: &Lease) -> Vec<Arc<Subscription>> {
        self.0.get(lease).cloned().unwrap_or_default()
    }
}

/// Vacant slots to keep for new members.
const VACANT: usize = 1024;

impl Room {
    /// Adds a subscription as a member, not yet live, so that a takeover ends it.
    /// [`Hub::begin`](crate::hub::Hub::begin) starts it.
    ///
    /// # Errors If the room has just been deleted.
    pub fn enter(&self, subscription: &Arc<Subscription>) -> Result<(), Unavailable> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Unavailable);
        }
        let place = state.members.insert(Member { subscription: subscription.clone(), live: false });
        subscription.place.store(place, Ordering::Release);
        state.holders.insert(subscription);
        self.metrics.subscriptions.increment(1);
        Ok(())
    }

    /// Joins a member to the tail if it is at the tail's position, and sends `live` the first time.
    pub(in crate::hub) fn join(
        &self,
        subscription: &Subscription,
        position: Position,
        announce: bool,
    ) -> Join {
        const MESSAGES: usize = 256;
        const BYTES: usize = 128 * 1024;
        let mut writes = WriteBatch::default();
        let mut state = self.state.lock();
        let State { tail, members, .. } = &mut *state;
        let Some(member) = members.get_mut(subscription.place.load(Ordering::Acquire)) else {
            return Join::Ended;
        };
        if subscription.has_ended() {
            return Join::Ended;
        }
        let Position { id, epoch } = tail.position().unwrap_or_default();
        let agrees = position.epoch.agrees(epoch);
        if (position.id != id || !agrees) && !planted!(JoinAnywhere) {
            let ring = tail.recent().filter(|_| agrees);
            let entries = ring.and_then(|ring| ring.after(position.id, MESSAGES, BYTES));
            return Join::Elsewhere(entries.map(|entries| Page {
                after: position,
                fork: None,
                entries,
                head: Head { id, epoch, ..Head::default() },
                complete: false,
            }));
        }
        member.live = true;
        if announce {
            let live = Frame::Live { room: self.name.clone(), id };
            writes.notice(&subscription.queue, encode::frame(subscription.receives.format, &live));
        }
        Join::Live
    }

    pub(in crate::hub) fn leave(&self, subscription: &Subscription) -> bool {
        let mut state = self.state.lock();
        self.remove(&mut state, subscription)
    }

    fn remove(&self, state: &mut State, subscription: &Subscription) -> bool {
        if !subscription.end() {
            return false;
        }
        if state.members.try_remove(subscription.place.load(Ordering::Acquire)).is_some() {
            state.holders.remove(subscription);
            state.idle_since = Instant::now();
            self.metrics.subscriptions.decrement(1);
            // Each message iterates over vacant slots too.
            if state.members.capacity() > VACANT + 4 * state.members.len() {
                state.members.compact(|member, _, place| {
                    member.subscription.place.store(place, Ordering::Release);
                    true
                });
            }
        }
        true
    }

    fn end_all(&self, code: Ended, which: impl FnOnce(&State) -> Vec<Arc<Subscription>>) {
        let mut writes = WriteBatch::default();
        let mut state = self.state.lock();
        for subscription in which(&state) {
            if !self.remove(&mut state, &subscription) {
                continue;
            }
            if subscription.has_begun() {
                writes.notice(&subscription.queue, self.unsubscribed(&subscription, code));
            } else {
                subscription.end_later(code);
            }
        }
    }

    fn unsubscribed(&self, subscription: &Subscription, code: Ended) -> Bytes {
        let frame = Frame::unsubscribed(self.name.clone(), code);
        encode::frame(subscription.receives.format, &frame)
    }

    /// Starts notifying a member's client. If the subscription ended meanwhile, reports that immediately.
    pub(in crate::hub) fn begin(&self, subscription: &Subscription) {
        let mut writes = WriteBatch::default();
        // Subscriptions end under this lock.
        let _guard = self.state.lock();
        if let Some(code) = subscription.begin() {
            writes.notice(&subscription.queue, self.unsubscribed(subscription, code));
        }
    }

    /// Lets a member end silently while another is about to replace it.
    pub fn mute(&self, subscription: &Subscription) {
        // Subscriptions end under this lock.
        let _guard = self.state.lock();
        subscription.mute();
    }

    /// Reverts [`Room::mute`] when the member was not replaced. Its client is notified if it ends, or if it
    /// has ended meanwhile, for example with the whole room.
    pub fn unmute(&self, subscription: &Subscription) {
        self.begin(subscription);
    }

    /// Ends a durable subscription of this node that was taken over or deleted. A newer holder has another
    /// name, and keeps it.
    pub(in crate::hub) fn end_lease(&self, lease: &Lease, code: Ended) {
        self.end_all(code, |state| state.holders.of(lease));
    }

    /// Queues a reader's bytes for a subscription, and returns `true`, unless it has ended. Nothing may
    /// follow the notice of its end.
    pub(in crate::hub) fn hand(
        &self,
        turn: Turn<'_>,
        subscription: &Subscription,
        parts: Vec<Bytes>,
    ) -> bool {
        let mut writes = WriteBatch::default();
        // Subscriptions end under this lock.
        let mut state = self.state.lock();
        state.tail.shrink_ring();
        if subscription.has_ended() {
            return false;
        }
        writes.page(turn, &subscription.queue, parts);
        true
    }

    pub(in crate::hub) fn deleted(&self) {
        // Closed first, so that no subscription enters after the others have ended.
        self.state.lock().closed = true;
        self.end_all(Ended::Deleted, |state| {
            state.members.iter().map(|(_, member)| member.subscription.clone()).collect()
        });
        self.changed.notify_waiters();
    }

    pub(in crate::hub) fn end(&self, dismissed: &Subscription, code: Ended) {
        self.end_all(code, |state| {
            let member = state.members.get(dismissed.place.load(Ordering::Acquire));
            let member = member.filter(|member| std::ptr::eq(&*member.subscription, dismissed));
            member.map(|member| member.subscription.clone()).into_iter().collect()
        });
    }
}

#[cfg(test)]
mod tests;
