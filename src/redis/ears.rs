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

use super::bell::{BellEvent, Ear, ring};
use super::keys::Keys;
use super::line::{Ask, Line, Listen, Place};
use super::link::{Link, LinkEvent, Listener};
use super::refusal::ConnectError;
use super::shards::{Shard, Shards};
use super::store::{Store, slot_of};
use super::topology::SLOTS;
use crate::log::Unavailable;
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

/// The channels that this node is subscribed to.
pub struct Bell {
    shards: Arc<Shards>,
    keys: Keys,
    wanted: Mutex<BTreeMap<u16, HashMap<String, Wanted>>>,
    lines: Mutex<HashMap<Server, Arc<Line>>>,
    /// Channels that nobody listens to any more.
    left: Mutex<Vec<(u16, String)>>,
    /// True if some wanted channels may lack a subscription.
    dirty: AtomicBool,
    wake: Notify,
    ear: Ear,
    stop: CancellationToken,
}

/// A channel with listeners on this node.
struct Wanted {
    count: usize,
    place: Arc<Place>,
}

/// Counts a listener down on drop unless it is kept. A caller that gives up while its subscription is in
/// progress leaves nothing behind.
struct Want<'a> {
    bell: &'a Bell,
    slot: u16,
    channel: Option<String>,
}

impl Drop for Want<'_> {
    fn drop(&mut self) {
        if let Some(channel) = self.channel.take() {
            self.bell.no_longer_wanted(self.slot, channel);
        }
    }
}

impl Bell {
    /// Connects to the primaries of a store, and receives until `stop`.
    ///
    /// # Errors
    /// If no primary answers, or Redis denies access to the channels.
    pub async fn connect(
        store: &Store,
        ear: Ear,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, ConnectError> {
        let bell = Arc::new(Self::new(store, ear, stop));
        let shards = bell.shards.map().serving();
        let connected = join_all(shards.iter().map(|shard| bell.connect_to(shard))).await;
        let (mut why, mut any) = (None, false);
        for (shard, line) in shards.iter().zip(connected) {
            match line {
                Ok(line) => {
                    any = true;
                    bell.lines.lock().insert(shard.server.clone(), line);
                }
                Err(error) => why = Some(error),
            }
        }
        match why {
            Some(error) if !any => return Err(error),
            _ => {}
        }
        bell.trial().await?;
        tasks::spawn(bell.clone().tend());
        Ok(bell)
    }

    fn new(store: &Store, ear: Ear, stop: CancellationToken) -> Self {
        Self {
            shards: store.shards.clone(),
            keys: store.keys.clone(),
            wanted: Mutex::default(),
            lines: Mutex::default(),
            left: Mutex::default(),
            dirty: AtomicBool::new(false),
            wake: Notify::new(),
            ear,
            stop,
        }
    }

    /// Fails if an ACL denies the channels. Of all ways to subscribe, the client reports that for this one
    /// only.
    async fn trial(&self) -> Result<(), ConnectError> {
        let room = RoomName::canary("trial");
        let Ok(line) = self.line_of(slot_of(&room)) else { return Ok(()) };
        let trial = async {
            line.link.client().spublish::<(), _, _>(self.keys.bell(&room), "").await?;
            line.link.client().publish::<(), _, _>(DUMMY, "").await
        };
        ConnectError::unless_allowed(trial.await)
    }

    /// Subscribes to a room's channel, until [`Bell::unlisten`] was called as often. Concurrent subscriptions
    /// go to Redis together. Dropping the future undoes the call.
    ///
    /// # Errors
    /// If Redis cannot be reached; then nothing was changed.
    pub async fn listen(&self, room: &RoomName) -> Result<Arc<Place>, Unavailable> {
        let (slot, channel) = (slot_of(room), self.keys.bell(room));
        let place = {
            let mut wanted = self.wanted.lock();
            let wanted = wanted.entry(slot).or_default().entry(channel.clone()).or_insert_with(Wanted::new);
            wanted.count += 1;
            wanted.place.clone()
        };
        let mut want = Want { bell: self, slot, channel: Some(channel.clone()) };
        let (done, heard) = oneshot::channel();
        let wish = Listen { slot, channel, place: place.clone(), done: Some(done) };
        self.line_of(slot)?.ask(Ask::Listen(wish)).await?;
        if heard.await != Ok(true) {
            return Err(Unavailable);
        }
        want.channel = None;
        Ok(place)
    }

    /// Drops one listener of each room's channel.
    pub fn unlisten(&self, rooms: &[RoomName]) {
        for room in rooms {
            self.no_longer_wanted(slot_of(room), self.keys.bell(room));
        }
    }

    /// Returns true if a channel has listeners on this node.
    pub(super) fn wants(&self, slot: u16, channel: &str) -> bool {
        self.wanted.lock().get(&slot).is_some_and(|channels| channels.contains_key(channel))
    }

    /// The primaries. A subscription may have to move to another one.
    pub(super) fn shards(&self) -> &Arc<Shards> {
        &self.shards
    }

    /// Requests a check: some channels may lack a subscription.
    pub(super) fn look_after(&self) {
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
        let bell = Arc::downgrade(self);
        Arc::new(move |event| {
            let Some(bell) = bell.upgrade() else { return };
            match event {
                LinkEvent::Message(message) => {
                    let Some(room) = bell.keys.room_of_bell(&message.channel) else { return };
                    match message.value.into_bytes().and_then(|payload| ring(&room, &payload)) {
                        Some(ring) => (bell.ear)(BellEvent::Ring(room, ring)),
                        None => tracing::debug!(%room, "the bell rang with something unknown"),
                    }
                }
                LinkEvent::Reconnected => {
                    if let Some(line) = line.lock().as_ref() {
                        line.lost();
                    }
                    bell.look_after();
                    (bell.ear)(BellEvent::Interrupted);
                }
                LinkEvent::Lagged => (bell.ear)(BellEvent::Interrupted),
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

    async fn tend(self: Arc<Self>) {
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
                    self.listen_again(part);
                    part = (part + 1) % ROUND;
                },
            }
            self.leave();
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

    /// Renews the subscriptions of one part of the slots.
    fn listen_again(&self, part: u16) {
        let width = SLOTS.div_ceil(ROUND);
        let wanted = self.wanted.lock();
        for (slot, channels) in wanted.range(part * width..(part + 1) * width) {
            let Ok(line) = self.line_of(*slot) else { continue };
            for (channel, wanted) in channels {
                // If the queue of the line is full, the line is subscribing anyway.
                line.try_ask(Ask::Listen(wanted.wish(*slot, channel)));
            }
        }
    }

    fn leave(&self) {
        let left = std::mem::take(&mut *self.left.lock());
        for (slot, channel) in left {
            // Where the line is gone, so is the subscription.
            let Ok(line) = self.line_of(slot) else { continue };
            if !line.try_ask(Ask::Leave(slot, channel.clone())) {
                self.left.lock().push((slot, channel));
            }
        }
    }

    /// Subscribes to wanted channels that lack a subscription, with one task for each primary.
    fn repair(self: &Arc<Self>) {
        let mut deaf: HashMap<Server, (Arc<Line>, Vec<Listen>)> = HashMap::new();
        for (slot, channels) in &*self.wanted.lock() {
            let Ok(line) = self.line_of(*slot) else { continue };
            for (channel, wanted) in channels {
                if !wanted.place.is_on(&line) {
                    let wishes =
                        deaf.entry(line.shard.server.clone()).or_insert_with(|| (line.clone(), Vec::new()));
                    wishes.1.push(wanted.wish(*slot, channel));
                }
            }
        }
        for (line, wishes) in deaf.into_values() {
            let bell = self.clone();
            tasks::spawn(async move {
                let Some(_alone) = line.repairing() else { return };
                let mut heard = Vec::with_capacity(wishes.len());
                for wish in wishes {
                    let (done, outcome) = oneshot::channel();
                    if line.ask(Ask::Listen(Listen { done: Some(done), ..wish })).await.is_err() {
                        return;
                    }
                    heard.push(outcome);
                }
                let heard = join_all(heard).await;
                // Comparing positions once more finds notifications that were missed meanwhile.
                if heard.contains(&Ok(true)) {
                    (bell.ear)(BellEvent::Interrupted);
                }
                if heard.iter().any(|heard| *heard != Ok(true)) {
                    // Retried at the next tick.
                    bell.dirty.store(true, Ordering::Relaxed);
                }
            });
        }
    }
}

impl Wanted {
    fn new() -> Self {
        Self { count: 0, place: Arc::default() }
    }

    fn wish(&self, slot: u16, channel: &str) -> Listen {
        Listen { slot, channel: channel.to_owned(), place: self.place.clone(), done: None }
    }
}
