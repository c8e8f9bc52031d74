//! The appender: gathers what is published into batches. While one append to a room is under way, the next messages of the
//! room gather; what is ready for several rooms of a link goes to Redis in one pipeline. A pipeline is a task, which begins
//! with the first message and ends when nothing is ready any more.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

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
    /// Messages that wait, of each room that has an append under way or is ready.
    rooms: HashMap<RoomName, VecDeque<Waiting>>,
    /// Rooms that have messages and no append under way.
    ready: VecDeque<RoomName>,
    pipelines: usize,
    /// Whether one of the pipelines is about to gather.
    gathering: bool,
}

/// Takes messages and sees them into the log.
pub struct Appender {
    store: Arc<Store>,
    hub: Arc<Hub>,
    lanes: Vec<Mutex<Lane>>,
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
    /// An appender with nothing to do yet. A message that is not confirmed within `patience` is answered [`Unavailable`].
    pub fn new(store: Arc<Store>, hub: Arc<Hub>, patience: Duration, metrics: Arc<Metrics>) -> Arc<Self> {
        let lanes = (0..store.links()).map(|_| Mutex::default()).collect();
        Arc::new(Self {
            store,
            hub,
            lanes,
            waiting: AtomicUsize::new(0),
            waiting_bytes: AtomicUsize::new(0),
            patience,
            metrics,
        })
    }

    /// Hands a message over; `confirm` is called once, after Redis has it or when it will not be tried any more. Messages
    /// of one caller to one room keep their order.
    pub fn submit(self: &Arc<Self>, room: &RoomName, from: UserId, draft: Draft, confirm: Confirm) {
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
        let link = self.store.link_of(room);
        let mut lane = self.lanes[link].lock();
        if let Some(queue) = lane.rooms.get_mut(room) {
            queue.push_back(waiting);
            return;
        }
        lane.rooms.insert(room.clone(), VecDeque::from([waiting]));
        lane.ready.push_back(room.clone());
        self.start(link, &mut lane);
    }

    /// Hands a message over at once, and returns what waits until Redis has it, which fails if it does not confirm in time.
    pub fn append(
        self: &Arc<Self>,
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

    /// Starts a pipeline for what is ready, unless one is about to gather, or enough are under way.
    fn start(self: &Arc<Self>, link: usize, lane: &mut Lane) {
        if !lane.ready.is_empty() && !lane.gathering && lane.pipelines < PIPELINES {
            lane.gathering = true;
            lane.pipelines += 1;
            tokio::spawn(self.clone().pipeline(link));
        }
    }

    async fn pipeline(self: Arc<Self>, link: usize) {
        go_behind().await;
        while let Some(sending) = self.gather(link) {
            self.send(link, sending).await;
        }
    }

    /// Takes what is ready, if anything is. Its rooms stay in `rooms` while their append is under way.
    fn gather(self: &Arc<Self>, link: usize) -> Option<Vec<Sending>> {
        let mut lane = self.lanes[link].lock();
        let Lane { rooms, ready, pipelines, gathering } = &mut *lane;
        *gathering = false;
        if ready.is_empty() {
            *pipelines -= 1;
            return None;
        }
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
        self.start(link, &mut lane);
        self.measure();
        Some(sending)
    }

    async fn send(self: &Arc<Self>, link: usize, sending: Vec<Sending>) {
        let (batches, waiting): (Vec<Batch>, Vec<_>) =
            sending.into_iter().map(|sending| (sending.batch, sending.waiting)).unzip();
        let oldest = waiting.iter().flatten().map(|(submitted, _)| *submitted).min();
        let deadline = oldest.unwrap_or_else(Instant::now) + self.patience;
        let sent = Instant::now();
        let outcomes = tokio::time::timeout_at(deadline.into(), self.store.append(link, &batches))
            .await
            .unwrap_or_else(|_elapsed| batches.iter().map(|_| Err(Unavailable)).collect());
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
    fn go_on(self: &Arc<Self>, link: usize, room: RoomName) {
        let mut lane = self.lanes[link].lock();
        if lane.rooms.get(&room).is_some_and(|queue| !queue.is_empty()) {
            lane.ready.push_back(room);
            self.start(link, &mut lane);
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

/// Lets the tasks that are ready go first: those who are about to publish do so, and go along. Tokio's `yield_now` would ask
/// the system for more of them too, which costs a call.
async fn go_behind() {
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
