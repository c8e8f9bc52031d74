//! The appender: gathers published messages into batches.
//!
//! While one append to a room is in progress, the room's next messages gather. Everything that is ready for
//! several rooms of a shard goes to Redis in one pipeline. A pipeline is a task that starts with the first
//! message and ends when nothing is ready. A shard that is dead or silent delays only its own rooms.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Hub;
use super::send_queue::WriteBatch;
use crate::log::{Appended, Entry, Run, Unavailable};
use crate::protocol::frame::Message;
use crate::protocol::request::Draft;
use crate::protocol::{RoomName, UserId};
use crate::redis::{AppendedBatch, Batch, Failure, Shard, Store};
use crate::tasks;
use crate::telemetry::{Class, Metrics, Outcome, Queue};

/// Most messages of one room in one append. Redis executes an append atomically: this many take about 2 ms of
/// its time.
const BATCH_MESSAGES: usize = 256;

/// Bytes of one room after which an append does not grow.
const BATCH_BYTES: usize = 512 * 1024;

const PIPELINE_MESSAGES: usize = 1024;

/// Most concurrent pipelines on one connection. More would only be smaller, since waiting messages gather.
const PIPELINES: usize = 4;

/// Bytes that may wait for Redis on this node, divided equally among the shards. Above it, publishes fail at
/// once.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;

/// Smallest share of a shard, in bytes.
const SHARE_BYTES: usize = 2 * 1024 * 1024;

/// Delay before a rejected batch is sent again. Its slot is moving to another shard, or a failover is in
/// progress.
const PAUSE: Duration = Duration::from_millis(50);

/// Receives the outcome of a message, and the batch in which to queue the sender's answer. Must not block.
pub(crate) type Confirm = Box<dyn FnOnce(Result<Appended, Unavailable>, &mut WriteBatch) + Send>;

struct Waiting {
    from: UserId,
    draft: Draft,
    submitted: Instant,
    confirm: Confirm,
    space: Space,
}

/// A reserved part of a shard's queue, released on drop.
struct Space {
    shard: Option<Arc<Shard>>,
    bytes: usize,
}

impl Drop for Space {
    fn drop(&mut self) {
        if let Some(shard) = &self.shard {
            shard.queued.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

/// The rooms of one connection of each shard.
#[derive(Default)]
struct Lane {
    /// Waiting messages of each room that has an append in progress or is ready.
    rooms: HashMap<RoomName, VecDeque<Waiting>>,
    /// Indexed by shard number.
    shards: Vec<Ready>,
}

#[derive(Default)]
struct Ready {
    /// Rooms with messages and no append in progress.
    rooms: VecDeque<RoomName>,
    pipelines: usize,
    /// True while one of the pipelines is about to gather.
    gathering: bool,
}

impl Lane {
    fn of(&mut self, shard: usize) -> &mut Ready {
        if self.shards.len() <= shard {
            self.shards.resize_with(shard + 1, Ready::default);
        }
        &mut self.shards[shard]
    }
}

pub struct Appender {
    store: Arc<Store>,
    hub: Arc<Hub>,
    lanes: Vec<Mutex<Lane>>,
    waiting: AtomicUsize,
    patience: Duration,
    metrics: Arc<Metrics>,
}

struct Sending {
    batch: Batch,
    waiting: Vec<(Instant, Confirm)>,
}

impl Appender {
    /// Creates an idle appender. A message that is not confirmed within `patience` is answered with
    /// [`Unavailable`].
    pub fn new(store: Arc<Store>, hub: Arc<Hub>, patience: Duration, metrics: Arc<Metrics>) -> Arc<Self> {
        let lanes = (0..store.lanes()).map(|_| Mutex::default()).collect();
        Arc::new(Self { store, hub, lanes, waiting: AtomicUsize::new(0), patience, metrics })
    }

    /// Queues a message. `confirm` is called once: when Redis has the message, or when no further attempt is
    /// made. Messages of one caller to one room keep their order.
    pub fn submit(self: &Arc<Self>, room: &RoomName, from: UserId, draft: Draft, confirm: Confirm) {
        let submitted = Instant::now();
        let bytes = draft.data.as_bytes().len() + draft.kind.len() + 128;
        let Ok(space) = self.space(room, bytes) else {
            let class = self.metrics.class(room);
            self.confirm(class, submitted, confirm, Err(Unavailable), &mut WriteBatch::default());
            return;
        };
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting { from, draft, submitted, confirm, space };
        let number = self.store.lane_of(room);
        let mut lane = self.lanes[number].lock();
        if let Some(queue) = lane.rooms.get_mut(room) {
            queue.push_back(waiting);
            return;
        }
        let shard = waiting.space.shard.as_ref().map_or(0, |shard| shard.number);
        lane.rooms.insert(room.clone(), VecDeque::from([waiting]));
        lane.of(shard).rooms.push_back(room.clone());
        self.start(number, shard, &mut lane);
    }

    fn space(&self, room: &RoomName, bytes: usize) -> Result<Space, Unavailable> {
        let shard = self.store.shard_of(room)?;
        let share = (QUEUE_BYTES / self.store.shards().map().count().max(1)).max(SHARE_BYTES);
        let taken = shard.queued.fetch_add(bytes, Ordering::Relaxed);
        let space = Space { shard: Some(shard), bytes };
        if taken > share {
            self.metrics.full(Queue::Append);
            return Err(Unavailable);
        }
        Ok(space)
    }

    /// Queues a message immediately. The returned future resolves when Redis has it, and fails if Redis does
    /// not confirm in time.
    pub fn append(
        self: &Arc<Self>,
        room: &RoomName,
        from: UserId,
        draft: Draft,
    ) -> impl Future<Output = Result<Appended, Unavailable>> + use<> {
        let (confirm, confirmed) = oneshot::channel();
        let confirm = Box::new(move |outcome, _: &mut WriteBatch| {
            let _ = confirm.send(outcome); // The receiver may be gone.
        });
        self.submit(room, from, draft, confirm);
        async move { confirmed.await.unwrap_or(Err(Unavailable)) }
    }

    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn start(self: &Arc<Self>, number: usize, shard: usize, lane: &mut Lane) {
        // Where appends wait for a replica, pipelines on one connection would wait behind each other.
        let most = if self.store.waits_for_replica() { 1 } else { PIPELINES };
        let ready = lane.of(shard);
        if !ready.rooms.is_empty() && !ready.gathering && ready.pipelines < most {
            ready.gathering = true;
            ready.pipelines += 1;
            tasks::spawn(self.clone().pipeline(number, shard));
        }
    }

    async fn pipeline(self: Arc<Self>, number: usize, shard: usize) {
        yield_to_ready().await;
        loop {
            let current = self.store.shards().map().numbered(shard).cloned();
            let Some(sending) = self.gather(number, shard, current.as_ref()) else { break };
            self.send(number, current.as_ref(), sending).await;
        }
    }

    /// Takes the messages that are ready, if any. Their rooms stay in `rooms` while their append is in
    /// progress.
    fn gather(
        self: &Arc<Self>,
        number: usize,
        shard: usize,
        current: Option<&Arc<Shard>>,
    ) -> Option<Vec<Sending>> {
        let mut lane = self.lanes[number].lock();
        let Lane { rooms, shards } = &mut *lane;
        let ready = &mut shards[shard];
        ready.gathering = false;
        if ready.rooms.is_empty() {
            ready.pipelines -= 1;
            return None;
        }
        let (mut sending, mut messages) = (Vec::new(), 0);
        while messages < PIPELINE_MESSAGES
            && let Some(room) = ready.rooms.pop_front()
        {
            let Some(queue) = rooms.get_mut(&room) else { continue };
            let subscribed = current.is_some_and(|current| self.hub.is_subscribed(&room, current));
            let mut batch = Batch { subscribed, room, messages: Vec::new() };
            let mut waiting = Vec::new();
            let mut bytes = 0;
            while waiting.len() < BATCH_MESSAGES
                && bytes < BATCH_BYTES
                && let Some(next) = queue.pop_front()
            {
                bytes += next.space.bytes;
                batch.messages.push((next.from, next.draft));
                waiting.push((next.submitted, next.confirm));
            }
            messages += waiting.len();
            sending.push(Sending { batch, waiting });
        }
        self.start(number, shard, &mut lane);
        self.measure();
        Some(sending)
    }

    async fn send(self: &Arc<Self>, number: usize, shard: Option<&Arc<Shard>>, sending: Vec<Sending>) {
        let (batches, waiting): (Vec<Batch>, Vec<_>) =
            sending.into_iter().map(|sending| (sending.batch, sending.waiting)).unzip();
        let oldest = waiting.iter().flatten().map(|(submitted, _)| *submitted).min();
        let deadline = oldest.unwrap_or_else(Instant::now) + self.patience;
        let sent = Instant::now();
        let outcomes = match shard {
            Some(shard) => tokio::time::timeout_at(deadline, self.store.append(shard, &batches))
                .await
                .unwrap_or_else(|_elapsed| vec![Err(Failure::Unavailable); batches.len()]),
            // The shard no longer exists.
            None => vec![Err(Failure::Again); batches.len()],
        };
        let (mut writes, mut again) = (WriteBatch::default(), Vec::new());
        for ((batch, waiting), outcome) in batches.into_iter().zip(waiting).zip(outcomes) {
            let room = batch.room.clone();
            let class = self.metrics.class(&room);
            let outcome = match outcome {
                Err(Failure::Again) if Instant::now() + PAUSE < deadline => {
                    self.put_back(number, batch, waiting);
                    again.push(room);
                    continue;
                }
                outcome => outcome.map_err(|_| Unavailable),
            };
            self.trace(&batch, &waiting, sent, &outcome);
            self.waiting.fetch_sub(waiting.len(), Ordering::Relaxed);
            match outcome {
                Ok(appended) => {
                    writes.join(self.hub.appended(&room, || run(batch, &appended)));
                    for ((submitted, confirm), appended) in waiting.into_iter().zip(appended.messages) {
                        self.confirm(class, submitted, confirm, Ok(appended), &mut writes);
                    }
                }
                Err(Unavailable) => {
                    for (submitted, confirm) in waiting {
                        self.confirm(class, submitted, confirm, Err(Unavailable), &mut writes);
                    }
                }
            }
            self.next_append(number, room);
        }
        self.measure();
        if !again.is_empty() {
            let appender = self.clone();
            tasks::spawn(async move {
                tokio::time::sleep(PAUSE).await;
                again.into_iter().for_each(|room| appender.next_append(number, room));
            });
        }
    }

    fn put_back(&self, number: usize, batch: Batch, waiting: Vec<(Instant, Confirm)>) {
        let mut lane = self.lanes[number].lock();
        let queue = lane.rooms.entry(batch.room).or_default();
        for ((from, draft), (submitted, confirm)) in batch.messages.into_iter().zip(waiting).rev() {
            // Its space was reserved when it was submitted.
            let space = Space { shard: None, bytes: draft.data.as_bytes().len() + draft.kind.len() + 128 };
            queue.push_front(Waiting { from, draft, submitted, confirm, space });
        }
    }

    fn trace(
        &self,
        batch: &Batch,
        waiting: &[(Instant, Confirm)],
        sent: Instant,
        outcome: &Result<AppendedBatch, Unavailable>,
    ) {
        let Some(traces) = self.metrics.traces.as_ref().filter(|_| !batch.room.is_internal()) else { return };
        for (index, ((_, draft), (submitted, _))) in batch.messages.iter().zip(waiting).enumerate() {
            if traces.follows(draft.key) {
                let outcome = match outcome {
                    Ok(batch) if batch.messages.get(index).is_some_and(|appended| appended.duplicate) => {
                        Outcome::Duplicate
                    }
                    Ok(_) => Outcome::Stored,
                    Err(Unavailable) => Outcome::Unavailable,
                };
                traces.published(
                    draft.key,
                    batch.room.as_str(),
                    submitted.into_std(),
                    sent.into_std(),
                    outcome.as_str(),
                );
            }
        }
    }

    fn measure(&self) {
        self.metrics.queued.set(self.waiting.load(Ordering::Relaxed) as f64);
        self.metrics.queued_bytes.set(self.store.shards().map().queued() as f64);
    }

    /// Continues after an append to the room has ended: the next one may start, on the shard that now has the
    /// room.
    fn next_append(self: &Arc<Self>, number: usize, room: RoomName) {
        let shard = self.store.shard_of(&room).map_or(0, |shard| shard.number);
        let mut lane = self.lanes[number].lock();
        if lane.rooms.get(&room).is_some_and(|queue| !queue.is_empty()) {
            lane.of(shard).rooms.push_back(room);
            self.start(number, shard, &mut lane);
        } else {
            lane.rooms.remove(&room);
        }
    }

    fn confirm(
        &self,
        class: Class,
        submitted: Instant,
        confirm: Confirm,
        outcome: Result<Appended, Unavailable>,
        writes: &mut WriteBatch,
    ) {
        let label = match &outcome {
            Ok(Appended { duplicate: false, .. }) => Outcome::Stored,
            Ok(Appended { duplicate: true, .. }) => Outcome::Duplicate,
            Err(Unavailable) => Outcome::Unavailable,
        };
        self.metrics.published(class, label, submitted.into_std());
        confirm(outcome, writes);
    }
}

/// Yields to the tasks that are ready, so that those about to publish join this batch. Tokio's `yield_now`
/// would also poll the OS for events, which costs a system call.
async fn yield_to_ready() {
    let mut behind = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut behind, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn run(batch: Batch, appended: &AppendedBatch) -> Run {
    let Batch { room, messages, .. } = batch;
    let fresh = messages.into_iter().zip(&appended.messages).filter(|(_, appended)| !appended.duplicate);
    let entries = fresh
        .map(|((from, draft), appended)| {
            Arc::new(Entry::new(Message {
                room: room.clone(),
                id: appended.id,
                key: draft.key,
                from: from.as_str().into(),
                kind: draft.kind,
                data: draft.data,
            }))
        })
        .collect();
    Run { epoch: appended.epoch, after: appended.after, entries }
}

#[cfg(test)]
mod tests;
