//! The appender: gathers what is published into batches. While one append to a room is under way, the next messages of the
//! room gather; what is ready for several rooms of a link goes to Redis in one pipeline.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use super::Hub;
use super::outbox::Writes;
use crate::log::{Appended, Entry, Unavailable};
use crate::protocol::frame::Message;
use crate::protocol::request::Draft;
use crate::protocol::{RoomName, UserId};
use crate::redis::{Batch, Store};
use crate::telemetry::{Class, Metrics, Outcome, Queue};

/// Most messages of one room in one append. Redis runs an append as a whole; this many take about 2 ms of it.
const BATCH_MESSAGES: usize = 256;

/// Bytes of one room after which an append is not made larger.
const BATCH_BYTES: usize = 512 * 1024;

/// Most messages in one pipeline.
const PIPELINE_MESSAGES: usize = 1024;

/// Pipelines under way on one link. More would be smaller ones: what waits gathers.
const PIPELINES: usize = 4;

/// Bytes that may wait for Redis on this node. Beyond it, publishes fail at once.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;

/// Told what became of a message, and where to put what its sender is to be told. Must not block.
pub type Confirm = Box<dyn FnOnce(Result<Appended, Unavailable>, &mut Writes) + Send>;

struct Waiting {
    from: UserId,
    draft: Draft,
    submitted: Instant,
    confirm: Confirm,
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.draft.data.as_bytes().len() + self.draft.kind.len() + 128
    }
}

/// The rooms of one link.
#[derive(Default)]
struct Lane {
    state: Mutex<LaneState>,
    wake: Notify,
}

#[derive(Default)]
struct LaneState {
    /// Messages that wait, of each room that has an append under way or is ready.
    rooms: HashMap<RoomName, VecDeque<Waiting>>,
    /// Rooms that have messages and no append under way.
    ready: VecDeque<RoomName>,
}

/// Takes messages and sees them into the log.
pub struct Appender {
    store: Arc<Store>,
    hub: Arc<Hub>,
    lanes: Vec<Lane>,
    waiting: AtomicUsize,
    waiting_bytes: AtomicUsize,
    patience: Duration,
    metrics: Arc<Metrics>,
}

/// A batch on its way, and whom to tell.
struct Sending {
    batch: Batch,
    waiting: Vec<(Instant, Confirm)>,
}

impl Appender {
    /// Starts an appender that works until `stop`. A message that is not confirmed within `patience` is answered
    /// [`Unavailable`].
    pub fn start(
        store: Arc<Store>,
        hub: Arc<Hub>,
        patience: Duration,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let lanes = (0..store.links()).map(|_| Lane::default()).collect();
        let appender = Arc::new(Self {
            store,
            hub,
            lanes,
            waiting: AtomicUsize::new(0),
            waiting_bytes: AtomicUsize::new(0),
            patience,
            metrics,
        });
        for link in 0..appender.lanes.len() {
            tokio::spawn(appender.clone().drive(link, stop.clone()));
        }
        appender
    }

    /// Hands a message over; `confirm` is called once, after Redis has it or when it will not be tried any more. Messages
    /// of one caller to one room keep their order.
    pub fn submit(&self, room: &RoomName, from: UserId, draft: Draft, confirm: Confirm) {
        let waiting = Waiting { from, draft, submitted: Instant::now(), confirm };
        let bytes = waiting.bytes();
        if self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) > QUEUE_BYTES {
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.metrics.full(Queue::Append);
            let class = self.metrics.class(room);
            self.confirm(class, waiting.submitted, waiting.confirm, Err(Unavailable), &mut Writes::default());
            return;
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let lane = &self.lanes[self.store.link_of(room)];
        let mut state = lane.state.lock();
        if let Some(queue) = state.rooms.get_mut(room) {
            queue.push_back(waiting);
        } else {
            state.rooms.insert(room.clone(), VecDeque::from([waiting]));
            state.ready.push_back(room.clone());
            drop(state);
            lane.wake.notify_one();
        }
    }

    /// Hands a message over at once, and returns what waits until Redis has it, which fails if it does not confirm in time.
    pub fn append(
        &self,
        room: &RoomName,
        from: UserId,
        draft: Draft,
    ) -> impl Future<Output = Result<Appended, Unavailable>> + use<> {
        let (confirm, confirmed) = oneshot::channel();
        let confirm = Box::new(move |outcome, _: &mut Writes| {
            let _nobody_waits_any_more = confirm.send(outcome);
        });
        self.submit(room, from, draft, confirm);
        async move { confirmed.await.unwrap_or(Err(Unavailable)) }
    }

    /// Messages that are not confirmed yet.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    async fn drive(self: Arc<Self>, link: usize, stop: CancellationToken) {
        let pipelines = Arc::new(Semaphore::new(PIPELINES));
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.lanes[link].wake.notified() => {}
            }
            loop {
                let Ok(permit) = pipelines.clone().acquire_owned().await else { return };
                // Lets those who are about to publish do so, and go along.
                tokio::task::yield_now().await;
                let sending = self.gather(&self.lanes[link]);
                if sending.is_empty() {
                    break;
                }
                let appender = self.clone();
                tokio::spawn(async move { appender.send(link, sending, permit).await });
            }
        }
    }

    /// Takes what is ready. Its rooms stay in `rooms` while their append is under way.
    fn gather(&self, lane: &Lane) -> Vec<Sending> {
        let mut state = lane.state.lock();
        let LaneState { rooms, ready } = &mut *state;
        let (mut sending, mut messages) = (Vec::new(), 0);
        while messages < PIPELINE_MESSAGES
            && let Some(room) = ready.pop_front()
        {
            let Some(queue) = rooms.get_mut(&room) else { continue };
            let mut batch = Batch { heard: self.hub.hears(&room), room, messages: Vec::new() };
            let mut waiting = Vec::new();
            let mut bytes = 0;
            while waiting.len() < BATCH_MESSAGES
                && bytes < BATCH_BYTES
                && let Some(next) = queue.pop_front()
            {
                bytes += next.bytes();
                batch.messages.push((next.from, next.draft));
                waiting.push((next.submitted, next.confirm));
            }
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            messages += waiting.len();
            sending.push(Sending { batch, waiting });
        }
        self.measure();
        sending
    }

    async fn send(&self, link: usize, sending: Vec<Sending>, permit: OwnedSemaphorePermit) {
        let (batches, waiting): (Vec<Batch>, Vec<_>) =
            sending.into_iter().map(|sending| (sending.batch, sending.waiting)).unzip();
        let oldest = waiting.iter().flatten().map(|(submitted, _)| *submitted).min();
        let deadline = oldest.unwrap_or_else(Instant::now) + self.patience;
        let sent = Instant::now();
        let outcomes = tokio::time::timeout_at(deadline.into(), self.store.append(link, &batches))
            .await
            .unwrap_or_else(|_elapsed| batches.iter().map(|_| Err(Unavailable)).collect());
        drop(permit);
        let mut writes = Writes::default();
        for ((batch, waiting), outcome) in batches.into_iter().zip(waiting).zip(outcomes) {
            let room = batch.room.clone();
            let class = self.metrics.class(&room);
            self.trace(&batch, &waiting, sent, &outcome);
            self.waiting.fetch_sub(waiting.len(), Ordering::Relaxed);
            match outcome {
                Ok(appended) => {
                    writes.join(self.hub.appended(&room, || entries(batch, &appended)));
                    for ((submitted, confirm), appended) in waiting.into_iter().zip(appended) {
                        self.confirm(class, submitted, confirm, Ok(appended), &mut writes);
                    }
                }
                Err(Unavailable) => {
                    self.hub.doubt(&room);
                    for (submitted, confirm) in waiting {
                        self.confirm(class, submitted, confirm, Err(Unavailable), &mut writes);
                    }
                }
            }
            self.go_on(link, room);
        }
        self.measure();
    }

    /// Tells of the messages that are followed.
    fn trace(
        &self,
        batch: &Batch,
        waiting: &[(Instant, Confirm)],
        sent: Instant,
        outcome: &Result<Vec<Appended>, Unavailable>,
    ) {
        let Some(traces) = self.metrics.traces.as_ref().filter(|_| !batch.room.is_canary()) else { return };
        for (index, ((_, draft), (submitted, _))) in batch.messages.iter().zip(waiting).enumerate() {
            if traces.follows(draft.key) {
                let outcome = match outcome {
                    Ok(appended) if appended.get(index).is_some_and(|appended| appended.duplicate) => {
                        Outcome::Duplicate
                    }
                    Ok(_) => Outcome::Stored,
                    Err(Unavailable) => Outcome::Unavailable,
                };
                traces.published(draft.key, batch.room.as_str(), *submitted, sent, outcome.as_str());
            }
        }
    }

    fn measure(&self) {
        self.metrics.queued.set(self.waiting.load(Ordering::Relaxed) as f64);
        self.metrics.queued_bytes.set(self.waiting_bytes.load(Ordering::Relaxed) as f64);
    }

    /// The room's append is over: the next may start.
    fn go_on(&self, link: usize, room: RoomName) {
        let lane = &self.lanes[link];
        let mut state = lane.state.lock();
        if state.rooms.get(&room).is_some_and(|queue| !queue.is_empty()) {
            state.ready.push_back(room);
        } else {
            state.rooms.remove(&room);
        }
        let ready = !state.ready.is_empty();
        drop(state);
        if ready {
            lane.wake.notify_one();
        }
    }

    fn confirm(
        &self,
        class: Class,
        submitted: Instant,
        confirm: Confirm,
        outcome: Result<Appended, Unavailable>,
        writes: &mut Writes,
    ) {
        let label = match &outcome {
            Ok(Appended { duplicate: false, .. }) => Outcome::Stored,
            Ok(Appended { duplicate: true, .. }) => Outcome::Duplicate,
            Err(Unavailable) => Outcome::Unavailable,
        };
        self.metrics.published(class, label, submitted);
        confirm(outcome, writes);
    }
}

/// What a batch became in the log, for the readers of this node.
fn entries(batch: Batch, appended: &[Appended]) -> Vec<Arc<Entry>> {
    let Batch { room, messages, .. } = batch;
    let fresh = messages.into_iter().zip(appended).filter(|(_, appended)| !appended.duplicate);
    fresh
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
        .collect()
}
