//! Subscriptions to the rooms' channels, on a connection of their own to each primary. A dead primary affects
//! only its own rooms.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fred::interfaces::PubsubInterface;
use fred::types::RespVersion;
use fred::types::config::Server;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::errors::ConnectError;
use super::keys::Keys;
use super::line::{Line, Place, Request, Subscribe};
use super::link::{Link, LinkEvent, Listener};
use super::notification::{OnEvent, PubSubEvent, decode};
use super::shards::{Shard, Shards};
use super::store::{Store, slot_of};
use super::topology::SLOTS;
use crate::log::Unavailable;
use crate::log::internal::PROBES;
use crate::protocol::RoomName;
use crate::tasks;

#[cfg(test)]
mod simulated;

/// Interval at which the node checks its subscriptions.
const TICK: Duration = Duration::from_secs(1);

/// Number of ticks in which all subscriptions of a cluster are renewed. If a slot moves away and back between
/// two checks, its subscriptions are lost without notice.
const ROUND: u16 = 30;

/// A channel for checking that the user may publish.
pub(super) const DUMMY: &str = "roomlog:dummy";

pub struct PubSub {
    shards: Arc<Shards>,
    keys: Keys,
    wanted: Mutex<BTreeMap<u16, HashMap<String, Wanted>>>,
    lines: Mutex<HashMap<Server, Arc<Line>>>,
    /// Channels that nobody listens to any more.
    left: Mutex<Vec<(u16, String)>>,
    /// True if some wanted channels may lack a subscription.
    dirty: AtomicBool,
    wake: Notify,
    on_event: OnEvent,
    stop: CancellationToken,
}

struct Wanted {
    count: usize,
    place: Arc<Place>,
}

/// Counts a listener down on drop unless it is kept. A caller that gives up while its subscription is in
/// progress leaves nothing behind.
struct Want<'a> {
    pubsub: &'a PubSub,
    slot: u16,
    channel: Option<String>,
}

impl Drop for Want<'_> {
    fn drop(&mut self) {
        if let Some(channel) = self.channel.take() {
            self.pubsub.no_longer_wanted(self.slot, channel);
        }
    }
}

impl PubSub {
    pub async fn connect(
        store: &Store,
        on_event: OnEvent,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, ConnectError> {
        let pubsub = Arc::new(Self::new(store, on_event, stop));
        let shards = pubsub.shards.map().serving();
        let connected = join_all(shards.iter().map(|shard| pubsub.connect_to(shard))).await;
        let (mut why, mut any) = (None, false);
        for (shard, line) in shards.iter().zip(connected) {
            match line {
                Ok(line) => {
                    any = true;
                    pubsub.lines.lock().insert(shard.server.clone(), line);
                }
                Err(error) => why = Some(error),
            }
        }
        match why {
            Some(error) if !any => return Err(error),
            _ => {}
        }
        pubsub.trial().await?;
        tasks::spawn(pubsub.clone().maintain());
        Ok(pubsub)
    }

    fn new(store: &Store, on_event: OnEvent, stop: CancellationToken) -> Self {
        Self {
            shards: store.shards.clone(),
            keys: store.keys.clone(),
            wanted: Mutex::default(),
            lines: Mutex::default(),
            left: Mutex::default(),
            dirty: AtomicBool::new(false),
            wake: Notify::new(),
            on_event,
            stop,
        }
    }

    /// Fails if an ACL denies the channels. Of all ways to subscribe, the client reports that for this one
    /// only.
    async fn trial(&self) -> Result<(), ConnectError> {
        let room = RoomName::internal(PROBES, "trial");
        let Ok(line) = self.line_of(slot_of(&room)) else { return Ok(()) };
        let trial = async {
            line.link.client().spublish::<(), _, _>(self.keys.pubsub(&room), "").await?;
            line.link.client().publish::<(), _, _>(DUMMY, "").await
        };
        ConnectError::unless_allowed(trial.await)
    }

    /// Subscribes to a room's channel, until [`PubSub::unsubscribe`] was called as often. Concurrent
    /// subscriptions go to Redis together. Dropping the future undoes the call, and a failure changes
    /// nothing.
    pub async fn subscribe(&self, room: &RoomName) -> Result<Arc<Place>, Unavailable> {
        let (slot, channel) = (slot_of(room), self.keys.pubsub(room));
        let place = {
            let mut wanted = self.wanted.lock();
            let wanted = wanted.entry(slot).or_default().entry(channel.clone()).or_insert_with(Wanted::new);
            wanted.count += 1;
            wanted.place.clone()
        };
        let mut want = Want { pubsub: self, slot, channel: Some(channel.clone()) };
        let (done, subscribed) = oneshot::channel();
        let request = Subscribe { slot, channel, place: place.clone(), done: Some(done) };
        self.line_of(slot)?.send(Request::Subscribe(request)).await?;
        if subscribed.await != Ok(true) {
            return Err(Unavailable);
        }
        want.channel = None;
        Ok(place)
    }

    pub fn unsubscribe(&self, rooms: &[RoomName]) {
        for room in rooms {
            self.no_longer_wanted(slot_of(room), self.keys.pubsub(room));
        }
    }

    pub(super) fn wants(&self, slot: u16, channel: &str) -> bool {
        self.wanted.lock().get(&slot).is_some_and(|channels| channels.contains_key(channel))
    }

    pub(super) fn shards(&self) -> &Arc<Shards> {
        &self.shards
    }

    /// Requests a check: some channels may lack a subscription.
    pub(super) fn request_check(&self) {
        self.dirty.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    fn no_longer_wanted(&self, slot: u16, channel: String) {
        let mut wanted = self.wanted.lock();
        let Some(channels) = wanted.get_mut(&slot) else { return };
        let Some(known) = channels.get_mut(&channel) else { return };
        known.count -= 1;
        if known.count > 0 {
            return;
        }
        channels.remove(&channel);
        if channels.is_empty() {
            wanted.remove(&slot);
        }
        drop(wanted);
        self.left.lock().push((slot, channel));
        self.wake.notify_one();
    }

    fn line_of(&self, slot: u16) -> Result<Arc<Line>, Unavailable> {
        let shard = self.shards.of_slot(slot)?;
        self.lines.lock().get(&shard.server).cloned().ok_or(Unavailable)
    }

    fn listener(self: &Arc<Self>, line: Arc<Mutex<Option<Arc<Line>>>>) -> Listener {
        let pubsub = Arc::downgrade(self);
        Arc::new(move |event| {
            let Some(pubsub) = pubsub.upgrade() else { return };
            match event {
                LinkEvent::Message(message) => {
                    let Some(room) = pubsub.keys.room_of_bell(&message.channel) else { return };
                    match message.value.into_bytes().and_then(|payload| decode(&room, &payload)) {
                        Some(notification) => {
                            (pubsub.on_event)(PubSubEvent::Notification(room, notification))
                        }
                        None => tracing::debug!(%room, "ignored an unknown notification"),
                    }
                }
                LinkEvent::Reconnected => {
                    if let Some(line) = line.lock().as_ref() {
                        line.lost();
                    }
                    pubsub.request_check();
                    (pubsub.on_event)(PubSubEvent::Interrupted);
                }
                LinkEvent::Lagged => (pubsub.on_event)(PubSubEvent::Interrupted),
            }
        })
    }

    async fn connect_to(self: &Arc<Self>, shard: &Arc<Shard>) -> Result<Arc<Line>, ConnectError> {
        let (stop, slot) = (self.stop.child_token(), Arc::default());
        let builder = self.shards.dial().builder(shard.config().clone(), RespVersion::RESP3);
        let listener = self.listener(Arc::clone(&slot));
        let link = Link::connect(builder, Duration::ZERO, Some(listener), stop.clone()).await?;
        Ok(self.line(shard, link, stop, &slot))
    }

    fn start(self: &Arc<Self>, shard: &Arc<Shard>) -> Option<Arc<Line>> {
        let (stop, slot) = (self.stop.child_token(), Arc::default());
        let builder = self.shards.dial().builder(shard.config().clone(), RespVersion::RESP3);
        let listener = self.listener(Arc::clone(&slot));
        let link = Link::start(builder, Duration::ZERO, Some(listener), stop.clone());
        link.ok().map(|link| self.line(shard, link, stop, &slot))
    }

    fn line(
        self: &Arc<Self>,
        shard: &Arc<Shard>,
        link: Arc<Link>,
        stop: CancellationToken,
        slot: &Mutex<Option<Arc<Line>>>,
    ) -> Arc<Line> {
        let line = Line::start(self, shard.clone(), link, stop);
        *slot.lock() = Some(line.clone());
        line
    }

    async fn maintain(self: Arc<Self>) {
        let mut changes = self.shards.changes();
        // Also connects to primaries that were absent when the node started.
        self.follow_shards();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut part = 0;
        loop {
            tokio::select! {
                // `stop` takes precedence. All other branches lead to the work below, and none of them is
                // always ready.
                biased;
                () = self.stop.cancelled() => break,
                () = self.wake.notified() => {}
                changed = changes.changed() => if changed.is_ok() {
                    self.follow_shards();
                    self.dirty.store(true, Ordering::Relaxed);
                },
                _ = ticks.tick() => if self.shards.clustered() {
                    self.resubscribe(part);
                    part = (part + 1) % ROUND;
                },
            }
            self.unsubscribe_left();
            if self.dirty.swap(false, Ordering::Relaxed) {
                self.repair();
            }
        }
        for (_, line) in self.lines.lock().drain() {
            line.end();
        }
    }

    /// Keeps one line to each primary, and none to other servers.
    fn follow_shards(self: &Arc<Self>) {
        let serving = self.shards.map().serving();
        let mut lines = self.lines.lock();
        lines.retain(|_, line| {
            let serves = serving.iter().any(|shard| Arc::ptr_eq(shard, &line.shard));
            if !serves {
                line.end();
            }
            serves
        });
        for shard in serving {
            if !lines.contains_key(&shard.server)
                && let Some(line) = self.start(&shard)
            {
                lines.insert(shard.server.clone(), line);
            }
        }
    }

    fn resubscribe(&self, part: u16) {
        let width = SLOTS.div_ceil(ROUND);
        let wanted = self.wanted.lock();
        for (slot, channels) in wanted.range(part * width..(part + 1) * width) {
            let Ok(line) = self.line_of(*slot) else { continue };
            for (channel, wanted) in channels {
                // If the queue of the line is full, the line is subscribing anyway.
                line.try_send(Request::Subscribe(wanted.request(*slot, channel)));
            }
        }
    }

    fn unsubscribe_left(&self) {
        let left = std::mem::take(&mut *self.left.lock());
        for (slot, channel) in left {
            // Where the line is gone, so is the subscription.
            let Ok(line) = self.line_of(slot) else { continue };
            if !line.try_send(Request::Unsubscribe(slot, channel.clone())) {
                self.left.lock().push((slot, channel));
            }
        }
    }

    /// Subscribes to wanted channels that lack a subscription, with one task for each primary.
    fn repair(self: &Arc<Self>) {
        let mut unsubscribed: HashMap<Server, (Arc<Line>, Vec<Subscribe>)> = HashMap::new();
        for (slot, channels) in &*self.wanted.lock() {
            let Ok(line) = self.line_of(*slot) else { continue };
            for (channel, wanted) in channels {
                if !wanted.place.is_on(&line) {
                    let requests = unsubscribed
                        .entry(line.shard.server.clone())
                        .or_insert_with(|| (line.clone(), Vec::new()));
                    requests.1.push(wanted.request(*slot, channel));
                }
            }
        }
        for (line, requests) in unsubscribed.into_values() {
            let pubsub = self.clone();
            tasks::spawn(async move {
                let Some(_alone) = line.repairing() else { return };
                let mut subscribed = Vec::with_capacity(requests.len());
                for request in requests {
                    let (done, outcome) = oneshot::channel();
                    if line.send(Request::Subscribe(Subscribe { done: Some(done), ..request })).await.is_err()
                    {
                        return;
                    }
                    subscribed.push(outcome);
                }
                let subscribed = join_all(subscribed).await;
                // Comparing positions once more finds notifications that were missed meanwhile.
                if subscribed.contains(&Ok(true)) {
                    (pubsub.on_event)(PubSubEvent::Interrupted);
                }
                if subscribed.iter().any(|subscribed| *subscribed != Ok(true)) {
                    // Retried at the next tick.
                    pubsub.dirty.store(true, Ordering::Relaxed);
                }
            });
        }
    }
}

impl Wanted {
    fn new() -> Self {
        Self { count: 0, place: Arc::default() }
    }

    fn request(&self, slot: u16, channel: &str) -> Subscribe {
        Subscribe { slot, channel: channel.to_owned(), place: self.place.clone(), done: None }
    }
}
