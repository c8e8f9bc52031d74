//! Acknowledgements of this node, gathered: however often a client acknowledges, a subscription's position is written at
//! most four times a second, and at its end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::hub::{Holding, Hub, Subscription};
use crate::log::Unavailable;
use crate::protocol::MessageId;
use crate::protocol::frame::Ended;
use crate::redis::{Ack, Group, Store};
use crate::telemetry::Metrics;

/// Least time between two writes of one subscription's position.
const INTERVAL: Duration = Duration::from_millis(250);

/// How often what has become due is looked for.
const TICK: Duration = Duration::from_millis(25);

/// Told whether the position is written. Must not block.
pub type Written = Box<dyn FnOnce(Result<(), Unavailable>) + Send>;

/// What waits to be written of one subscription.
struct Pending {
    subscription: Arc<Subscription>,
    holding: Holding,
    id: MessageId,
    waiting: Vec<Written>,
}

#[derive(Default)]
struct Slot {
    pending: Option<Pending>,
    written: Option<Instant>,
}

impl Slot {
    fn is_due(&self) -> bool {
        self.pending.is_some() && !self.is_fresh()
    }

    fn is_fresh(&self) -> bool {
        self.written.is_some_and(|written| written.elapsed() < INTERVAL)
    }
}

/// Gathers acknowledgements.
pub struct Acks {
    store: Arc<Store>,
    hub: Arc<Hub>,
    slots: Mutex<HashMap<(crate::protocol::RoomName, Group), Slot>>,
    wake: Notify,
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
        let acks = Arc::new(Self { store, hub, slots: Mutex::default(), wake: Notify::new(), metrics });
        tokio::spawn(acks.clone().drive(stop));
        acks
    }

    /// Notes that a durable subscription has handled all up to an id.
    pub fn note(
        &self,
        subscription: &Arc<Subscription>,
        holding: &Holding,
        id: MessageId,
        written: Option<Written>,
    ) {
        self.metrics.acks.increment(1);
        self.remember(subscription, holding, id, written);
        self.wake.notify_one();
    }

    fn remember(
        &self,
        subscription: &Arc<Subscription>,
        holding: &Holding,
        id: MessageId,
        written: Option<Written>,
    ) {
        let mut slots = self.slots.lock();
        let slot = slots.entry((subscription.room.clone(), holding.group.clone())).or_default();
        match &mut slot.pending {
            Some(pending) if pending.holding == *holding => {
                pending.id = pending.id.max(id);
                pending.waiting.extend(written);
            }
            pending => {
                let (subscription, holding) = (subscription.clone(), holding.clone());
                *pending =
                    Some(Pending { subscription, holding, id, waiting: written.into_iter().collect() });
            }
        }
    }

    /// Writes now what is noted of a subscription.
    pub async fn flush(&self, subscription: &Subscription, holding: &Holding) {
        let key = (subscription.room.clone(), holding.group.clone());
        let pending = {
            let mut slots = self.slots.lock();
            match slots.get_mut(&key) {
                Some(slot) if slot.pending.as_ref().is_some_and(|pending| pending.holding == *holding) => {
                    slot.pending.take()
                }
                _ => None,
            }
        };
        if let Some(pending) = pending {
            self.write(vec![pending]).await;
        }
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

    fn take_due(&self) -> Vec<Pending> {
        let mut due = Vec::new();
        self.slots.lock().retain(|_, slot| {
            if slot.is_due() {
                due.extend(slot.pending.take());
                slot.written = Some(Instant::now());
            }
            slot.pending.is_some() || slot.is_fresh()
        });
        due
    }

    async fn write(&self, pending: Vec<Pending>) {
        let acks: Vec<Ack> = pending
            .iter()
            .map(|pending| Ack {
                room: pending.subscription.room.clone(),
                group: pending.holding.group.clone(),
                holder: pending.holding.holder.clone(),
                id: pending.id,
            })
            .collect();
        let outcomes = self.store.acknowledge(&acks).await;
        for (pending, outcome) in pending.into_iter().zip(outcomes) {
            let Pending { subscription, holding, id, waiting } = pending;
            match outcome {
                Ok(true) => self.metrics.ack_writes.increment(1),
                // Another connection has it, and the bell's word of that has not come.
                Ok(false) => self.hub.dismiss(&subscription, Ended::Replaced),
                Err(Unavailable) if !subscription.has_ended() => {
                    // Whoever asked is told; the position is tried again all the same.
                    self.remember(&subscription, &holding, id, None);
                }
                Err(Unavailable) => {}
            }
            for written in waiting {
                written(outcome.map(drop));
            }
        }
    }
}
