//! Acknowledgements, gathered on this node. However often clients acknowledge, the positions of a room are
//! written together: once a second, four times a second if a client waits, and when a subscription ends.

mod slots;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::slots::{Acked, Batch, By, Slots, Taken};
use super::heads::Heads;
use crate::auth::{Claims, Permission};
use crate::hub::send_queue::WriteBatch;
use crate::hub::{Hub, Subscription};
use crate::log::{Lease, Unavailable};
use crate::protocol::frame::Ended;
use crate::protocol::{ErrorCode, Failure, MessageId, RoomName};
use crate::redis::{Ack, Store};
use crate::tasks::{self, planted};
use crate::telemetry::Metrics;

/// Time for which rooms that become due are gathered into one write.
const TICK: Duration = Duration::from_millis(25);

const POLL_INTERVAL: Duration = Duration::from_millis(10);

pub(crate) fn lease_lost() -> Failure {
    let message =
        "this holder has lost the durable subscription: a newer one took it over, or it was deleted";
    Failure::new(ErrorCode::NotSubscribed, message)
}

/// Receives `true` when the position is written, or `false` if another client holds the subscription. Must
/// not block.
pub(crate) type Written = Box<dyn FnOnce(Result<bool, Unavailable>, &mut WriteBatch) + Send>;

pub struct Acks {
    store: Arc<Store>,
    hub: Arc<Hub>,
    heads: Arc<Heads>,
    slots: Mutex<Slots<Written>>,
    wake: Notify,
    /// Clients without a connection that wait for an answer.
    waiting: TaskTracker,
    metrics: Arc<Metrics>,
}

impl Acks {
    pub fn new(store: Arc<Store>, hub: Arc<Hub>, heads: Arc<Heads>, metrics: Arc<Metrics>) -> Self {
        let slots = Mutex::new(Slots::new());
        Self { store, hub, heads, slots, wake: Notify::new(), waiting: TaskTracker::new(), metrics }
    }

    /// Acknowledges for a client without a connection, and waits until the position is written.
    ///
    /// # Errors
    /// `forbidden`, `bad_request` for an id beyond the newest, `not_subscribed` if the client no longer holds
    /// the subscription, `unavailable`.
    pub async fn acknowledge(
        &self,
        caller: &Claims,
        room: &RoomName,
        lease: &Lease,
        id: MessageId,
    ) -> Result<(), Failure> {
        caller.require(room, Permission::Read)?;
        let _guard = self.waiting.token();
        self.heads.check(room, id).await?;
        let (written, outcome) = oneshot::channel();
        let written: Written = Box::new(move |outcome, _| {
            let _ = written.send(outcome); // The client may be gone.
        });
        self.record(room, lease, By::Request, id, Some(written));
        match outcome.await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(lease_lost()),
            Ok(Err(Unavailable)) | Err(_) => Err(Failure::unavailable()),
        }
    }

    pub fn note(&self, subscription: &Arc<Subscription>, id: MessageId, written: Option<Written>) {
        if let Some(lease) = &subscription.lease {
            self.record(&subscription.room, lease, By::Connection(subscription.clone()), id, written);
        }
    }

    fn record(&self, room: &RoomName, lease: &Lease, by: By, id: MessageId, written: Option<Written>) {
        self.metrics.acks.increment(1);
        let waiting = written.map(|written| (id, written)).into_iter().collect();
        self.remember(room, lease, by, Acked { id, waiting });
    }

    fn remember(&self, room: &RoomName, lease: &Lease, by: By, acked: Acked<Written>) {
        if self.slots.lock().note(room, lease, by, acked, Instant::now()) {
            self.wake.notify_one();
        }
    }

    /// Gives up a durable subscription, and writes its last acknowledgement in the same step.
    ///
    /// # Errors
    /// If there was an acknowledgement that Redis did not confirm. It is then retried until Redis answers.
    pub async fn leave(&self, room: &RoomName, lease: &Lease) -> Result<(), Unavailable> {
        let acked = self.take(room, lease).await;
        let mut ids = acked.as_ref().map_or(Vec::new(), Acked::ids);
        if planted!(LeaveDropsAck) {
            ids.clear();
        }
        let outcome = self.store.detach(room, lease, &ids).await;
        let Some(acked) = acked else {
            // A failure here loses nothing: the subscription is only shown as connected for longer.
            return Ok(());
        };
        let id = acked.id;
        self.answer(outcome, acked, &mut WriteBatch::default());
        if outcome == Err(Unavailable) {
            self.remember(room, lease, By::Gone, Acked { id, waiting: Vec::new() });
        }
        outcome.map(drop)
    }

    /// Writes the pending acknowledgement of a subscription now.
    ///
    /// # Errors
    /// If Redis did not confirm it. It is then retried.
    pub async fn flush(&self, subscription: &Arc<Subscription>) -> Result<(), Unavailable> {
        let Subscription { room, lease: Some(lease), .. } = &**subscription else { return Ok(()) };
        let Some(acked) = self.take(room, lease).await else { return Ok(()) };
        let id = acked.id;
        let ack = Ack { room: room.clone(), lease: lease.clone(), ids: acked.ids() };
        let outcome = self.store.acknowledge(&[ack]).await.pop().unwrap_or(Err(Unavailable));
        self.answer(outcome, acked, &mut WriteBatch::default());
        match outcome {
            Ok(true) => {}
            Ok(false) => self.hub.end(subscription, Ended::Replaced),
            Err(Unavailable) => {
                let by = By::Connection(subscription.clone());
                self.remember(room, lease, by, Acked { id, waiting: Vec::new() });
            }
        }
        outcome.map(drop)
    }

    /// Takes a holder's pending acknowledgement, after any write of it in progress.
    async fn take(&self, room: &RoomName, lease: &Lease) -> Option<Acked<Written>> {
        let taken = self.slots.lock().take(room, lease);
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
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Writes positions when they are due, until `stop`. From `draining` on, it writes without delay.
    pub async fn run(self: Arc<Self>, draining: CancellationToken, stop: CancellationToken) {
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
        let acks: Vec<Ack> = batches
            .iter()
            .flat_map(|Batch { room, acks }| {
                acks.iter().map(|(lease, _, acked)| {
                    let (room, lease) = (room.clone(), lease.clone());
                    Ack { room, lease, ids: acked.ids() }
                })
            })
            .collect();
        let mut outcomes = self.store.acknowledge(&acks).await.into_iter();
        let (mut writes, mut given_up) = (WriteBatch::default(), Vec::new());
        for Batch { room, acks } in batches {
            let mut ended = Vec::with_capacity(acks.len());
            for ((lease, by, acked), outcome) in acks.into_iter().zip(outcomes.by_ref()) {
                let id = acked.id;
                self.answer(outcome, acked, &mut writes);
                let again = match (outcome, by) {
                    // Another client holds it, and the notification of that has not arrived.
                    (Ok(false), By::Connection(subscription)) => {
                        self.hub.end(&subscription, Ended::Replaced);
                        None
                    }
                    // The waiting clients are notified of the failure, and the position is retried.
                    (Err(Unavailable), By::Connection(_) | By::Gone) => {
                        Some(Acked { id, waiting: Vec::new() })
                    }
                    (Ok(true), By::Gone) => {
                        given_up.push((room.clone(), lease.clone()));
                        None
                    }
                    _ => None,
                };
                ended.push((lease, again));
            }
            self.slots.lock().written(&room, ended, Instant::now());
        }
        self.wake.notify_one();
        drop(writes);
        for (room, lease) in given_up {
            let _ = self.store.detach(&room, &lease, &[]).await; // On failure, it only shows as connected for longer.
        }
    }

    fn answer(&self, outcome: Result<bool, Unavailable>, acked: Acked<Written>, writes: &mut WriteBatch) {
        if outcome == Ok(true) {
            self.metrics.ack_writes.increment(1);
        }
        for (_, written) in acked.waiting {
            written(outcome, writes);
        }
    }
}
