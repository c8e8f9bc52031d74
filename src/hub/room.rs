//! A room that is active on this node: its tail, and delivery to its local subscribers. Subscribing and
//! leaving are in `members`.
//!
//! Lock order: a lane of the appender, the hub's map, a room's state, a send queue. No lock is held across
//! an await. Pending writes are declared before the lock is taken, so that they are written after it is
//! released.

mod members;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared as SharedFuture};
use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::{Notify, OnceCell};
use tokio::time::Instant;

use self::members::Holders;
pub(super) use self::members::Join;
use super::frames::Shared;
use super::recent::RecentLimits;
use super::send_queue::{Part, WriteBatch};
use super::subscription::Subscription;
use super::tail::{Asked, Step, Tail};
use crate::log::{Event, Page, PageSize, Position, Push, Unavailable};
use crate::protocol::frame::Frame;
use crate::protocol::{MessageId, RoomName, encode};
use crate::redis::Place;
use crate::tasks::planted;
use crate::telemetry::{CatchUpReason, Class, Metrics, Path, Queue, Timed};

#[derive(Debug)]
struct Member {
    subscription: Arc<Subscription>,
    /// True while the tail pushes. Otherwise a reader delivers the log at the client's pace.
    live: bool,
}

#[derive(Debug)]
struct State {
    tail: Tail,
    members: Slab<Member>,
    holders: Holders,
    /// Number of users without a subscription, such as requests that wait for a message.
    guards: usize,
    idle_since: Instant,
    /// Set once the hub has closed it. Callers that still have it must ask the hub for another.
    closed: bool,
}

type ReadKey = (Position, usize);

type SharedRead = SharedFuture<BoxFuture<'static, Result<Arc<Page>, Unavailable>>>;

pub struct Room {
    pub name: RoomName,
    pub class: Class,
    /// Set once the node is subscribed to its channel.
    pub(super) channel: OnceCell<Arc<Place>>,
    /// Set once its position is known.
    pub(super) opened: OnceCell<()>,
    state: Mutex<State>,
    pub(super) page_size: PageSize,
    reads: Mutex<HashMap<ReadKey, SharedRead>>,
    changed: Notify,
    metrics: Arc<Metrics>,
}

/// A subscription that must continue from a position with its own reader.
#[derive(Debug)]
pub(super) struct LeftBehind {
    pub subscription: Arc<Subscription>,
    pub position: Position,
    pub reason: CatchUpReason,
}

#[derive(Debug, Default)]
pub(super) struct Work {
    pub read: Option<Position>,
    pub left_behind: Vec<LeftBehind>,
    pub writes: WriteBatch,
}

impl Room {
    pub(super) fn new(name: RoomName, limits: RecentLimits, metrics: Arc<Metrics>) -> Self {
        let state = State {
            tail: Tail::new(limits),
            members: Slab::new(),
            holders: Holders::default(),
            guards: 0,
            idle_since: Instant::now(),
            closed: false,
        };
        Self {
            class: metrics.class(&name),
            name,
            channel: OnceCell::new(),
            opened: OnceCell::new(),
            state: Mutex::new(state),
            page_size: PageSize::default(),
            reads: Mutex::default(),
            changed: Notify::new(),
            metrics,
        }
    }

    pub fn position(&self) -> MessageId {
        self.state.lock().tail.position().unwrap_or_default().id
    }

    pub(super) fn asking(&self) -> Asked {
        self.state.lock().tail.asking()
    }

    pub(super) fn before_last(&self, messages: usize) -> Option<MessageId> {
        self.state.lock().tail.recent()?.before_last(messages)
    }

    pub fn members(&self) -> usize {
        self.state.lock().members.len()
    }

    /// Waits until the room's position changes, or the hub closes the room, for example because it was
    /// deleted.
    pub async fn moved_from(&self, position: MessageId) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let is_over = {
                let state = self.state.lock();
                state.closed || state.tail.position().unwrap_or_default().id != position
            };
            if is_over {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn step(&self, step: impl FnOnce(&mut Tail) -> Step) -> Work {
        let mut state = self.state.lock();
        let before = state.tail.position();
        let Step { events, read, leave_behind } = step(&mut state.tail);
        let mut work = Work { read, ..Work::default() };
        if let Some(position) = leave_behind {
            for (_, member) in state.members.iter_mut().filter(|(_, member)| member.live) {
                member.live = false;
                let subscription = member.subscription.clone();
                work.left_behind.push(LeftBehind { subscription, position, reason: CatchUpReason::Behind });
            }
        }
        let mut position = before.unwrap_or_default();
        let epoch = state.tail.position().unwrap_or_default().epoch;
        for event in &events {
            self.deliver(&mut state.members, event, position, &mut work);
            position.id = match event {
                Event::Message(entry) => entry.id(),
                Event::Gap(gap) => gap.next.predecessor(),
            };
            position.epoch = epoch;
        }
        let moved = state.tail.position() != before;
        drop(state);
        if moved {
            self.changed.notify_waiters();
        }
        work
    }

    /// Delivers one event to live members. A member without room for it falls back to catching up from
    /// `position`, which is before the event.
    fn deliver(&self, members: &mut Slab<Member>, event: &Event, position: Position, work: &mut Work) {
        // Only one delivery of each message is timed: timing all of them would cost too much.
        let mut timed = match event {
            Event::Message(entry) => {
                Some(Timed { key: entry.message.key, appended: entry.id().ms, class: self.class })
            }
            Event::Gap(_) => None,
        };
        let mut delivered = 0;
        for (_, member) in members.iter_mut().filter(|(_, member)| member.live) {
            let subscription = &member.subscription;
            let format = subscription.receives.format;
            let bytes = match event {
                Event::Message(entry) => entry.encoded(format).message().clone(),
                Event::Gap(gap) => {
                    self.metrics.gap(self.class, gap.reason);
                    encode::frame(format, &Frame::Gap { room: self.name.clone(), gap: *gap })
                }
            };
            if work.writes.offer(&subscription.queue, Part { bytes, timed }) {
                timed = None;
                delivered += 1;
            } else {
                self.metrics.full(Queue::Send);
                if planted!(SlowReaderSkips) {
                    continue;
                }
                member.live = false;
                let position = match event {
                    Event::Message(entry) if planted!(FallsBackTooLate) => entry.id().into(),
                    _ => position,
                };
                work.left_behind.push(LeftBehind {
                    subscription: subscription.clone(),
                    position,
                    reason: CatchUpReason::Slow,
                });
            }
        }
        if matches!(event, Event::Message(_)) {
            self.metrics.delivered(self.class, Path::Live, delivered);
        }
    }

    /// Returns true if this cannot be the room that was deleted when its newest id was `head`. Ids after a
    /// deletion have a later time, and a new room has no ids at first.
    pub(super) fn is_newer_than(&self, head: MessageId) -> bool {
        let position = self.position();
        position > head || (position == MessageId::ZERO && head != MessageId::ZERO)
    }

    pub(super) fn push(&self, push: &Push) {
        let mut writes = WriteBatch::default();
        let mut frame = Shared::new(&push.frame);
        let state = self.state.lock();
        for (_, member) in &state.members {
            let subscription = &member.subscription;
            if !subscription.wants(push) {
                continue;
            }
            let bytes = frame.encoded(subscription.receives.format);
            if writes.offer(&subscription.queue, Part { bytes, timed: None }) {
                self.metrics.signals.increment(1);
            }
        }
    }

    /// Keeps the room active without a subscription. Returns `None` if the hub has closed it.
    pub(super) fn guard(self: &Arc<Self>) -> Option<RoomGuard> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        state.guards += 1;
        Some(RoomGuard(self.clone()))
    }

    /// Closes the room if it has been unused for `linger`. Returns whether it is closed.
    pub(super) fn close_if_idle(&self, linger: Duration) -> bool {
        let mut state = self.state.lock();
        let idle = state.members.is_empty() && state.guards == 0 && state.idle_since.elapsed() >= linger;
        state.closed |= idle;
        state.closed
    }

    pub(super) fn shared_read<F>(self: &Arc<Self>, key: ReadKey, read: F) -> SharedRead
    where
        F: Future<Output = Result<Page, Unavailable>> + Send + 'static,
    {
        let mut reads = self.reads.lock();
        if let Some(read) = reads.get(&key) {
            return read.clone();
        }
        let room = self.clone();
        let read = async move {
            let page = read.await.map(Arc::new);
            room.reads.lock().remove(&key);
            page
        };
        let shared = read.boxed().shared();
        reads.insert(key, shared.clone());
        shared
    }
}

pub struct RoomGuard(Arc<Room>);

impl std::ops::Deref for RoomGuard {
    type Target = Arc<Room>;

    fn deref(&self) -> &Arc<Room> {
        &self.0
    }
}

impl Drop for RoomGuard {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.guards -= 1;
        state.idle_since = Instant::now();
    }
}
