//! Acknowledgements of this node, gathered: however often clients acknowledge, the positions of a room are written together,
//! once a second, or four times where somebody waits for it; and at the end of a subscription.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::hub::{Holding, Hub, Subscription};
use crate::log::Unavailable;
use crate::protocol::frame::Ended;
use crate::protocol::{MessageId, RoomName};
use crate::redis::{Ack, Store};
use crate::telemetry::Metrics;

/// Least time between two writes of a room's positions.
const INTERVAL: Duration = Duration::from_secs(1);

/// The same where a client waits for its position to be written.
const INTERVAL_AWAITED: Duration = Duration::from_millis(250);

/// How often what has become due is looked for.
const TICK: Duration = Duration::from_millis(25);

/// Told whether the position is written, or `false` if another client holds the subscription. Must not block.
pub type Written = Box<dyn FnOnce(Result<bool, Unavailable>) + Send>;

/// What waits to be written of one holder of a subscription.
struct Pending {
    room: RoomName,
    /// Of the connection that is told if another client holds it. Over HTTP there is none.
    subscription: Option<Arc<Subscription>>,
    id: MessageId,
    waiting: Vec<Written>,
}

/// A room.
#[derive(Default)]
struct Slot {
    /// By holder: what one says who has lost the subscription must not stand in for the word of who has it.
    pending: HashMap<Holding, Pending>,
    written: Option<Instant>,
}

impl Slot {
    fn is_due(&self) -> bool {
        let awaited = self.pending.values().any(|pending| !pending.waiting.is_empty());
        let interval = if awaited { INTERVAL_AWAITED } else { INTERVAL };
        !self.pending.is_empty() && !self.was_written_within(interval)
    }

    fn was_written_within(&self, interval: Duration) -> bool {
        self.written.is_some_and(|written| written.elapsed() < interval)
    }
}

/// Gathers acknowledgements.
pub struct Acks {
    store: Arc<Store>,
    hub: Arc<Hub>,
    slots: Mutex<HashMap<RoomName, Slot>>,
    wake: Notify,
    /// Clients without a connection that wait for an answer.
    pub waiting: TaskTracker,
    metrics: Arc<Metrics>,
}

impl Acks {
    /// Starts to write, until `stop`.
    pub fn start(
        store: Arc<Store>,
        hub: Arc<Hub>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let (wake, waiting) = (Notify::new(), TaskTracker::new());
        let acks = Arc::new(Self { store, hub, slots: Mutex::default(), wake, waiting, metrics });
        tokio::spawn(acks.clone().drive(stop));
        acks
    }

    /// Notes that a durable subscription, and the connection it is of, have handled all up to an id.
    pub fn note(
        &self,
        room: &RoomName,
        holding: &Holding,
        subscription: Option<&Arc<Subscription>>,
        id: MessageId,
        written: Option<Written>,
    ) {
        self.metrics.acks.increment(1);
        self.remember(room, holding, subscription, id, written);
        self.wake.notify_one();
    }

    fn remember(
        &self,
        room: &RoomName,
        holding: &Holding,
        subscription: Option<&Arc<Subscription>>,
        id: MessageId,
        written: Option<Written>,
    ) {
        let mut slots = self.slots.lock();
        let slot = slots.entry(room.clone()).or_default();
        match slot.pending.get_mut(holding) {
            Some(pending) => {
                pending.id = pending.id.max(id);
                pending.waiting.extend(written);
            }
            None => {
                let pending = Pending {
                    room: room.clone(),
                    subscription: subscription.cloned(),
                    id,
                    waiting: written.into_iter().collect(),
                };
                slot.pending.insert(holding.clone(), pending);
            }
        }
    }

    /// Writes now what is noted of a subscription.
    pub async fn flush(&self, room: &RoomName, holding: &Holding) {
        let pending = {
            let mut slots = self.slots.lock();
            slots.get_mut(room).and_then(|slot| slot.pending.remove_entry(holding))
        };
        if let Some(pending) = pending {
            self.write(vec![pending]).await;
        }
    }

    /// Returns when no client without a connection waits for an answer.
    pub async fn answered(&self) {
        self.waiting.close();
        self.waiting.wait().await;
    }

    async fn drive(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.wake.notified() => {}
            }
            while !self.slots.lock().is_empty() {
                let due = self.take_due();
                if !due.is_empty() {
                    self.write(due).await;
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(TICK) => {}
                }
            }
        }
    }

    fn take_due(&self) -> Vec<(Holding, Pending)> {
        let mut due = Vec::new();
        self.slots.lock().retain(|_, slot| {
            if slot.is_due() {
                due.extend(slot.pending.drain());
                slot.written = Some(Instant::now());
            }
            !slot.pending.is_empty() || slot.was_written_within(INTERVAL)
        });
        due
    }

    async fn write(&self, pending: Vec<(Holding, Pending)>) {
        let acks: Vec<Ack> = pending
            .iter()
            .map(|(holding, pending)| Ack {
                room: pending.room.clone(),
                group: holding.group.clone(),
                holder: holding.holder.clone(),
                id: pending.id,
            })
            .collect();
        let outcomes = self.store.acknowledge(&acks).await;
        for ((holding, pending), outcome) in pending.into_iter().zip(outcomes) {
            let Pending { room, subscription, id, waiting } = pending;
            match (outcome, subscription) {
                (Ok(true), _) => self.metrics.ack_writes.increment(1),
                // Another client has it, and the bell's word of that has not come.
                (Ok(false), Some(subscription)) => self.hub.dismiss(&subscription, Ended::Replaced),
                (Err(Unavailable), Some(subscription)) if !subscription.has_ended() => {
                    // Whoever asked is told; the position is tried again all the same.
                    self.remember(&room, &holding, Some(&subscription), id, None);
                }
                (Ok(false) | Err(Unavailable), _) => {}
            }
            for written in waiting {
                written(outcome);
            }
        }
    }
}
