//! Gathers the acknowledgements of this node. However often clients acknowledge, the positions of a room are
//! written together: once a second, four times a second if a client waits, and when a subscription ends.

mod slots;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::slots::{Acked, Batch, By, Slots, Taken};
use crate::hub::outbox::Writes;
use crate::hub::{Holding, Hub, Subscription};
use crate::log::Unavailable;
use crate::protocol::frame::Ended;
use crate::protocol::{MessageId, RoomName};
use crate::redis::{Ack, Store};
use crate::tasks::{self, planted};
use crate::telemetry::Metrics;

/// Time for which rooms that become due are gathered into one write.
const TICK: Duration = Duration::from_millis(25);

/// Polling interval during shutdown, until everything is written.
const LOOK: Duration = Duration::from_millis(10);

/// Receives `true` when the position is written, or `false` if another client holds the subscription. Must
/// not block.
pub type Written = Box<dyn FnOnce(Result<bool, Unavailable>, &mut Writes) + Send>;

pub struct Acks {
    store: Arc<Store>,
    hub: Arc<Hub>,
    slots: Mutex<Slots<Written>>,
    wake: Notify,
    /// Clients without a connection that wait for an answer.
    pub waiting: TaskTracker,
    metrics: Arc<Metrics>,
}

impl Acks {
    /// Starts the writer, which runs until `stop`. From `draining` on, it writes without delay.
    pub fn start(
        store: Arc<Store>,
        hub: Arc<Hub>,
        metrics: Arc<Metrics>,
        draining: CancellationToken,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let slots = Mutex::new(Slots::new());
        let (wake, waiting) = (Notify::new(), TaskTracker::new());
        let acks = Arc::new(Self { store, hub, slots, wake, waiting, metrics });
        tasks::spawn(acks.clone().drive(draining, stop));
        acks
    }

    /// Records that a durable subscription, and the connection it belongs to, has handled everything up to an
    /// id.
    pub fn note(
        &self,
        room: &RoomName,
        holding: &Holding,
        subscription: Option<&Arc<Subscription>>,
        id: MessageId,
        written: Option<Written>,
    ) {
        self.metrics.acks.increment(1);
        let by = subscription.map_or(By::Request, |subscription| By::Connection(subscription.clone()));
        self.remember(
            room,
            holding,
            by,
            Acked { id, waiting: written.map(|written| (id, written)).into_iter().collect() },
        );
    }

    fn remember(&self, room: &RoomName, holding: &Holding, by: By, acked: Acked<Written>) {
        if self.slots.lock().note(room, holding, by, acked, Instant::now()) {
            self.wake.notify_one();
        }
    }

    /// Gives up a durable subscription, and writes its last acknowledgement in the same step.
    ///
    /// # Errors
    /// If there was an acknowledgement that Redis did not confirm. It is then retried until Redis answers.
    pub async fn leave(&self, room: &RoomName, holding: &Holding) -> Result<(), Unavailable> {
        let acked = self.take(room, holding).await;
        let Holding { group, holder } = holding;
        let mut ids = acked.as_ref().map_or(Vec::new(), Acked::ids);
        if planted!(LeaveDropsAck) {
            ids.clear();
        }
        let outcome = self.store.detach(room, group, holder, &ids).await;
        let Some(acked) = acked else {
            // A failure here loses nothing: the subscription is only shown as connected for longer.
            return Ok(());
        };
        let id = acked.id;
        self.answer(outcome, acked, &mut Writes::default());
        if outcome == Err(Unavailable) {
            self.remember(room, holding, By::Gone, Acked { id, waiting: Vec::new() });
        }
        outcome.map(drop)
    }

    /// Writes the pending acknowledgement of a subscription now.
    ///
    /// # Errors
    /// If Redis did not confirm it. It is then retried.
    pub async fn flush(
        &self,
        subscription: &Arc<Subscription>,
        holding: &Holding,
    ) -> Result<(), Unavailable> {
        let room = &subscription.room;
        let Some(acked) = self.take(room, holding).await else { return Ok(()) };
        let (id, Holding { group, holder }) = (acked.id, holding.clone());
        let ack = Ack { room: room.clone(), group, holder, ids: acked.ids() };
        let outcome = self.store.acknowledge(&[ack]).await.pop().unwrap_or(Err(Unavailable));
        self.answer(outcome, acked, &mut Writes::default());
        match outcome {
            Ok(true) => {}
            Ok(false) => self.hub.dismiss(subscription, Ended::Replaced),
            Err(Unavailable) => {
                let by = By::Connection(subscription.clone());
                self.remember(room, holding, by, Acked { id, waiting: Vec::new() });
            }
        }
        outcome.map(drop)
    }

    /// Takes a holder's pending acknowledgement, after any write of it in progress.
    async fn take(&self, room: &RoomName, holding: &Holding) -> Option<Acked<Written>> {
        let taken = self.slots.lock().take(room, holding);
        match taken {
            Taken::Now(acked) => acked,
            Taken::Later(left) => left.await.ok().flatten(),
        }
    }

    /// Waits until no client without a connection waits for an answer, and everything is written.
    pub async fn settled(&self) {
        self.waiting.close();
        self.waiting.wait().await;
        while !self.slots.lock().is_idle() {
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn drive(self: Arc<Self>, draining: CancellationToken, stop: CancellationToken) {
        let mut hurries = false;
        loop {
            let due = self.slots.lock().next_due();
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Check `stop` first. After any other wake-up, everything due is handled.
                biased;
                () = stop.cancelled() => return,
                () = draining.cancelled(), if !hurries => {
                    hurries = true;
                    self.slots.lock().hurry(Instant::now());
                }
                () = self.wake.notified() => {}
                () = wait => {}
            }
            let due = self.slots.lock().take_due(Instant::now());
            if due.is_empty() {
                continue;
            }
            // Grouped by shard, so that a primary that does not answer delays only its own rooms.
            let mut shards: HashMap<usize, Vec<Batch<Written>>> = HashMap::new();
            for batch in due {
                let shard = self.store.shard_of(&batch.room).map_or(0, |shard| shard.number);
                shards.entry(shard).or_default().push(batch);
            }
            for batches in shards.into_values() {
                tasks::spawn(self.clone().write(batches));
            }
            tokio::time::sleep(TICK).await;
        }
    }

    async fn write(self: Arc<Self>, batches: Vec<Batch<Written>>) {
        let ack = |room: &RoomName, holding: &Holding, ids| {
            let Holding { group, holder } = holding.clone();
            Ack { room: room.clone(), group, holder, ids }
        };
        let acks: Vec<Ack> = batches
            .iter()
            .flat_map(|batch| {
                batch.acks.iter().map(|(holding, _, acked)| ack(&batch.room, holding, acked.ids()))
            })
            .collect();
        let mut outcomes = self.store.acknowledge(&acks).await.into_iter();
        let (mut writes, mut given_up) = (Writes::default(), Vec::new());
        for Batch { room, acks } in batches {
            let mut ended = Vec::with_capacity(acks.len());
            for ((holding, by, acked), outcome) in acks.into_iter().zip(outcomes.by_ref()) {
                let id = acked.id;
                self.answer(outcome, acked, &mut writes);
                let again = match (outcome, by) {
                    // Another client holds it, and the notification of that has not arrived.
                    (Ok(false), By::Connection(subscription)) => {
                        self.hub.dismiss(&subscription, Ended::Replaced);
                        None
                    }
                    // The waiting clients are notified of the failure, and the position is retried.
                    (Err(Unavailable), By::Connection(_) | By::Gone) => {
                        Some(Acked { id, waiting: Vec::new() })
                    }
                    (Ok(true), By::Gone) => {
                        given_up.push((room.clone(), holding.clone()));
                        None
                    }
                    _ => None,
                };
                ended.push((holding, again));
            }
            self.slots.lock().written(&room, ended, Instant::now());
        }
        self.wake.notify_one();
        drop(writes);
        for (room, Holding { group, holder }) in given_up {
            let _shown_as_connected_for_longer = self.store.detach(&room, &group, &holder, &[]).await;
        }
    }

    fn answer(&self, outcome: Result<bool, Unavailable>, acked: Acked<Written>, writes: &mut Writes) {
        if outcome == Ok(true) {
            self.metrics.ack_writes.increment(1);
        }
        for (_, written) in acked.waiting {
            written(outcome, writes);
        }
    }
}
