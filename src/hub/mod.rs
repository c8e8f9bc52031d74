//! The hub: the rooms that are active on this node, each followed once however many read it.
//!
//! ```text
//!           own appends ──┐
//!  pub/sub (live copies) ─┼──▶ room: tail ──▶ live subscriptions ──▶ send queues
//!  position checks, reads ┘        │ ring
//!                                  ▼
//!                  reader (pages) ──▶ subscriptions that catch up ──▶ send queues
//! ```

pub(crate) mod appender;
mod frames;
mod reader;
pub(crate) mod recent;
mod room;
pub(crate) mod send_queue;
mod subscription;
pub(crate) mod tail;

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use self::recent::RecentLimits;
use self::room::Work;
pub(crate) use self::room::{Room, RoomGuard};
use self::send_queue::WriteBatch;
pub(crate) use self::subscription::{Receives, Subscription};
use crate::log::{Cut, Page, Position, Run, Unavailable};
use crate::protocol::frame::Ended;
use crate::protocol::request::Start;
use crate::protocol::{MessageId, RoomName};
use crate::redis::{Notification, PubSub, PubSubEvent, Shard, Store};
use crate::tasks;
use crate::telemetry::{CatchUpReason, Hole, Metrics};

#[derive(Debug, Clone)]
pub struct HubOptions {
    pub ring_messages: usize,
    pub ring_bytes: usize,
    pub ring_budget: usize,
    pub linger: Duration,
    pub check_interval: Duration,
}

pub struct Hub {
    store: Arc<Store>,
    /// Set right after construction, since the hub and pub/sub need each other.
    pubsub: OnceLock<Arc<PubSub>>,
    rooms: RwLock<HashMap<RoomName, Arc<Room>>>,
    /// Deleted rooms, which are still subscribed to their channels.
    closed_rooms: Mutex<Vec<Arc<Room>>>,
    limits: RecentLimits,
    options: HubOptions,
    check_now: Notify,
    metrics: Arc<Metrics>,
}

impl Hub {
    /// Creates a hub that follows no rooms yet. Call [`Hub::connect`] next.
    pub fn new(store: Arc<Store>, options: HubOptions, metrics: Arc<Metrics>) -> Arc<Self> {
        let limits = RecentLimits {
            messages: options.ring_messages,
            bytes: options.ring_bytes,
            budget: options.ring_budget,
            spent: Arc::new(AtomicUsize::new(0)),
        };
        Arc::new(Self {
            store,
            pubsub: OnceLock::new(),
            rooms: RwLock::default(),
            closed_rooms: Mutex::default(),
            limits,
            options,
            check_now: Notify::new(),
            metrics,
        })
    }

    pub fn connect(&self, pubsub: Arc<PubSub>) {
        let _ = self.pubsub.set(pubsub); // The first one stays.
    }

    /// Handles a pub/sub event. Does not block.
    pub fn on_event(self: &Arc<Self>, event: PubSubEvent) {
        match event {
            PubSubEvent::Interrupted => {
                for room in self.rooms.read().values() {
                    room.step(|tail| {
                        tail.interrupt();
                        Default::default()
                    });
                }
                self.check_now.notify_one();
            }
            PubSubEvent::Notification(name, notification) => {
                let Some(room) = self.active(&name) else { return };
                match notification {
                    Notification::Messages(run) => drop(self.received(&room, &run)),
                    Notification::Push(push) => room.push(&push),
                    Notification::LeaseTaken(lease) => room.end_lease(&lease, Ended::Replaced),
                    Notification::LeaseDeleted(lease) => room.end_lease(&lease, Ended::Deleted),
                    Notification::Cut(cut) => self.evict(&name, cut),
                    Notification::RoomDeleted(head) => self.deleted(&name, head),
                }
            }
        }
    }

    pub fn evict(&self, name: &RoomName, cut: Cut) {
        if let Some(room) = self.active(name) {
            room.step(|tail| {
                tail.evict(cut);
                Default::default()
            });
        }
    }

    /// Ends the local subscriptions of a room that was deleted when `head` was its newest id. A room of the
    /// same name that was created later is not affected.
    pub fn deleted(&self, name: &RoomName, head: MessageId) {
        let gone = {
            let mut rooms = self.rooms.write();
            let is_gone = rooms.get(name).is_some_and(|room| !room.is_newer_than(head));
            if is_gone { rooms.remove(name) } else { None }
        };
        // Members are notified without holding the lock of the room map.
        if let Some(room) = gone {
            room.deleted();
            self.closed_rooms.lock().push(room);
        }
    }

    /// Delivers the node's own append to local readers, which need not wait for the notification. The
    /// returned writes go out when the caller has no more to add.
    pub fn appended(self: &Arc<Self>, room: &RoomName, run: impl FnOnce() -> Run) -> WriteBatch {
        self.active(room).map(|room| self.received(&room, &run())).unwrap_or_default()
    }

    /// Returns whether this node is subscribed to a room's channel on this shard, as far as it knows. It may
    /// be wrong for a moment, while its connection breaks or a room is being closed. Other nodes then learn
    /// of a message only from their position check.
    pub fn is_subscribed(&self, room: &RoomName, shard: &Arc<Shard>) -> bool {
        self.active(room).is_some_and(|room| room.channel.get().is_some_and(|place| place.is_at(shard)))
    }

    fn received(self: &Arc<Self>, room: &Arc<Room>, run: &Run) -> WriteBatch {
        let mut work = room.step(|tail| tail.receive(run));
        if work.read.is_some() {
            self.metrics.hole(Hole::PubSub);
        }
        let writes = std::mem::take(&mut work.writes);
        self.work(room, work);
        writes
    }

    pub fn active(&self, room: &RoomName) -> Option<Arc<Room>> {
        self.rooms.read().get(room).cloned()
    }

    pub async fn activate(self: &Arc<Self>, name: &RoomName) -> Result<RoomGuard, Unavailable> {
        loop {
            let room = self.rooms.read().get(name).cloned();
            let room = room.unwrap_or_else(|| {
                let mut rooms = self.rooms.write();
                let make = || Arc::new(Room::new(name.clone(), self.limits.clone(), self.metrics.clone()));
                rooms.entry(name.clone()).or_insert_with(make).clone()
            });
            let Some(guard) = room.guard() else {
                // The room is being closed. The map may contain it for a moment longer.
                tokio::task::yield_now().await;
                continue;
            };
            if !room.opened.initialized() {
                // Opened in a separate task, so that a caller that is dropped, as when a client disconnects,
                // does not leave it half open.
                let (hub, room) = (self.clone(), room.clone());
                let Some(opening_guard) = room.guard() else { continue };
                let (opening, opened) = oneshot::channel();
                tasks::spawn(async move {
                    let _guard = opening_guard;
                    let outcome = room.opened.get_or_try_init(|| hub.open(&room)).await;
                    let _ = opening.send(outcome.map(drop)); // The receiver may be gone.
                });
                opened.await.map_err(|_| Unavailable)??;
            }
            return Ok(guard);
        }
    }

    /// Subscribes before reading the head, so that no message in between is missed.
    async fn open(self: &Arc<Self>, room: &Arc<Room>) -> Result<(), Unavailable> {
        let pubsub = self.pubsub.get().ok_or(Unavailable)?;
        room.channel.get_or_try_init(|| pubsub.subscribe(&room.name)).await?;
        let head = self.store.head(&room.name).await?;
        let work = room.step(|tail| tail.open(head));
        self.work(room, work);
        self.metrics.rooms.increment(1);
        Ok(())
    }

    /// Returns the position where a subscription starts. `None` means new messages only.
    pub async fn position(&self, room: &Room, start: Option<Start>) -> Result<MessageId, Unavailable> {
        match start {
            None | Some(Start::New | Start::Last(0)) => Ok(room.position()),
            Some(Start::After(id)) => Ok(id),
            Some(Start::Oldest) => Ok(self.store.read_since(&room.name, 0, 1).await?.after.id),
            Some(Start::Last(count)) => match room.before_last(count) {
                Some(position) => Ok(position),
                None => self.store.before_last(&room.name, count).await,
            },
        }
    }

    /// Starts delivery to a member after a position. The subscription is live at once if the tail is there,
    /// and catches up otherwise.
    pub fn begin(self: &Arc<Self>, guard: &RoomGuard, subscription: &Arc<Subscription>, position: MessageId) {
        let room = Arc::clone(guard);
        room.begin(subscription);
        self.read_on(room, subscription.clone(), position.into(), CatchUpReason::Subscribed);
    }

    pub fn leave(&self, subscription: &Subscription) {
        if let Some(room) = self.active(&subscription.room) {
            room.leave(subscription);
        }
    }

    pub fn end(&self, subscription: &Subscription, code: Ended) {
        if let Some(room) = self.active(&subscription.room) {
            room.end(subscription, code);
        }
    }

    pub fn subscribers(&self, room: &RoomName) -> usize {
        self.active(room).map_or(0, |room| room.members())
    }

    fn work(self: &Arc<Self>, room: &Arc<Room>, work: Work) {
        for left in work.left_behind {
            self.read_on(room.clone(), left.subscription, left.position, left.reason);
        }
        if let Some(after) = work.read {
            let (hub, room) = (self.clone(), room.clone());
            tasks::spawn(async move { hub.read_for_tail(&room, after).await });
        }
    }

    /// Reads for a tail until it requests no more. These reads are not shared: one that started earlier lacks
    /// the messages that arrived since, and the tail would take them for lost.
    async fn read_for_tail(self: &Arc<Self>, room: &Arc<Room>, after: Position) {
        let mut next = Some(after);
        while let Some(after) = next {
            let page = match self.read(room, after, room.page_size.get()).await {
                Ok(page) => page,
                Err(Unavailable) => {
                    room.step(|tail| {
                        tail.read_failed();
                        Default::default()
                    });
                    return;
                }
            };
            let work = room.step(|tail| tail.take(&page));
            next = work.read;
            self.work(room, Work { read: None, ..work });
        }
    }

    /// Reads a page of a room's log from Redis. Concurrent callers that need the same page share the read.
    async fn page(self: &Arc<Self>, room: &Arc<Room>, after: Position) -> Result<Arc<Page>, Unavailable> {
        let (hub, of, limit) = (self.clone(), room.clone(), room.page_size.get());
        room.shared_read((after, limit), async move { hub.read(&of, after, limit).await }).await
    }

    async fn read(&self, room: &Room, after: Position, limit: usize) -> Result<Page, Unavailable> {
        let page = self.store.read_after(&room.name, after, limit).await?;
        room.page_size.learn(&page.entries);
        Ok(page)
    }

    /// Compares all positions with the heads, periodically and whenever notifications may have been lost.
    /// Also closes idle rooms. Runs until `stop`.
    pub async fn check_positions(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                // Check `stop` first. The order of the others does not matter.
                biased;
                () = stop.cancelled() => return,
                () = self.check_now.notified() => {}
                () = tokio::time::sleep(self.options.check_interval) => {}
            }
            self.close_idle_rooms();
            let rooms: Vec<Arc<Room>> = self.rooms.read().values().cloned().collect();
            for rooms in rooms.chunks(512) {
                let names: Vec<RoomName> = rooms.iter().map(|room| room.name.clone()).collect();
                let asked: Vec<_> = rooms.iter().map(|room| room.asking()).collect();
                let heads = self.store.heads(&names).await;
                for ((room, asked), head) in rooms.iter().zip(asked).zip(heads) {
                    let Ok(head) = head else { continue };
                    if !room.opened.initialized() {
                        continue;
                    }
                    let work = room.step(|tail| tail.check(asked, head));
                    if work.read.is_some() {
                        self.metrics.hole(Hole::Check);
                    }
                    self.work(room, work);
                }
            }
            self.metrics.ring_bytes.set(self.limits.spent.load(std::sync::atomic::Ordering::Relaxed) as f64);
        }
    }

    fn close_idle_rooms(&self) {
        let linger = self.options.linger;
        let idle: Vec<Arc<Room>> =
            self.rooms.read().values().filter(|room| room.close_if_idle(linger)).cloned().collect();
        let mut gone = std::mem::take(&mut *self.closed_rooms.lock());
        {
            let mut rooms = self.rooms.write();
            for room in idle {
                if rooms.get(&room.name).is_some_and(|known| Arc::ptr_eq(known, &room)) {
                    rooms.remove(&room.name);
                    gone.push(room);
                }
            }
        }
        let opened = gone.iter().filter(|room| room.opened.initialized()).count();
        self.metrics.rooms.decrement(opened as f64);
        let subscribed = gone.into_iter().filter(|room| room.channel.initialized());
        let names: Vec<RoomName> = subscribed.map(|room| room.name.clone()).collect();
        if let Some(pubsub) = self.pubsub.get()
            && !names.is_empty()
        {
            pubsub.unsubscribe(&names);
        }
    }
}

#[cfg(test)]
mod tests;
