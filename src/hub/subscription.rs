//! One client's subscription to one room: its identity, its send queue, and its format.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use uuid::Uuid;

use super::send_queue::SendQueue;
use crate::log::{Lease, Push};
use crate::protocol::encode::Format;
use crate::protocol::frame::Ended;
use crate::protocol::{RoomName, UserId};

#[derive(Debug, Clone, Copy)]
pub struct Receives {
    pub format: Format,
    pub pushes: bool,
    /// The session under which the client sends. It does not get its own pushes.
    pub sender: Option<Uuid>,
}

/// A subscription. The room has it while it lasts, and a reader while it catches up.
#[derive(Debug)]
pub struct Subscription {
    pub room: RoomName,
    pub session: Uuid,
    pub user: UserId,
    pub queue: Arc<SendQueue>,
    pub receives: Receives,
    pub lease: Option<Lease>,
    /// True while its client is notified of events of the room.
    begun: AtomicBool,
    /// The reason it ended before it began. The client is notified when it begins.
    ended_before: OnceLock<Ended>,
    ended: AtomicBool,
    pub(super) place: AtomicUsize,
}

impl Subscription {
    pub fn new(
        room: RoomName,
        session: Uuid,
        user: UserId,
        queue: Arc<SendQueue>,
        receives: Receives,
        lease: Option<Lease>,
    ) -> Self {
        Self {
            room,
            session,
            user,
            queue,
            receives,
            lease,
            begun: AtomicBool::new(false),
            ended_before: OnceLock::new(),
            ended: AtomicBool::new(false),
            place: AtomicUsize::new(usize::MAX),
        }
    }

    pub(super) fn wants(&self, push: &Push) -> bool {
        let is_sender = push.except.is_some() && push.except == self.receives.sender;
        let is_addressed = push.to.as_ref().is_none_or(|to| *to == self.user);
        self.receives.pushes && is_addressed && !is_sender && self.has_begun()
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Returns whether both are the same durable subscription, regardless of the holder.
    pub fn is_same_durable(&self, other: &Self) -> bool {
        let leases = self.lease.as_ref().zip(other.lease.as_ref());
        leases.is_some_and(|(one, other)| one.durable == other.durable)
    }

    pub(super) fn mute(&self) {
        self.begun.store(false, Ordering::Release);
    }

    /// Begins it. Returns the reason to report at once if it has already ended.
    pub(super) fn begin(&self) -> Option<Ended> {
        self.begun.store(true, Ordering::Release);
        self.ended_before.get().copied()
    }

    pub(super) fn end_later(&self, code: Ended) {
        let _ = self.ended_before.set(code); // The first reason stands.
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Ends it. Returns `false` if it had already ended.
    pub(super) fn end(&self) -> bool {
        !self.ended.swap(true, Ordering::AcqRel)
    }
}
