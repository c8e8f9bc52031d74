//! Read positions and unread counts. Positions are gathered on this node and written together: once a
//! second, four times a second if a client waits.

mod gathered;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::gathered::{Gathered, Position};
use super::heads::Heads;
use crate::auth::{Claims, Permission};
use crate::hub::send_queue::WriteBatch;
use crate::log::{ReadState, Unavailable};
use crate::protocol::{ErrorCode, Failure, MessageId, RoomName, UserId};
use crate::redis::{ReadUpTo, Store};
use crate::tasks;
use crate::telemetry::Metrics;

/// Minimum time between two writes.
const INTERVAL: Duration = Duration::from_secs(1);

/// Minimum time between two writes if a client waits for the result.
const INTERVAL_AWAITED: Duration = Duration::from_millis(250);

/// Time for which positions are gathered into one write. A node that stops while Redis is away also waits for
/// it between attempts.
const TICK: Duration = Duration::from_millis(25);

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Maximum number of rooms in one question about unread messages. Redis answers it in about 2 ms.
pub(crate) const MAX_ROOMS: usize = 500;

/// Receives the outcome of a write. Must not block.
pub(crate) type Written = Box<dyn FnOnce(Result<(), Unavailable>, &mut WriteBatch) + Send>;

pub struct Reads {
    store: Arc<Store>,
    heads: Arc<Heads>,
    gathered: Mutex<Gathered<Written>>,
    wake: Notify,
    metrics: Arc<Metrics>,
}

impl Reads {
    pub fn new(store: Arc<Store>, heads: Arc<Heads>, metrics: Arc<Metrics>) -> Self {
        Self { store, heads, gathered: Mutex::default(), wake: Notify::new(), metrics }
    }

    /// Notes that a caller has read a room up to an id, which must not be beyond its newest message. What
    /// `written` returns is called once Redis holds the position.
    ///
    /// # Errors
    /// `forbidden`, `bad_request` for an id beyond the newest, `too_many` if too many positions wait because
    /// Redis cannot be reached, `unavailable`.
    pub async fn read(
        &self,
        caller: &Claims,
        room: &RoomName,
        id: MessageId,
        written: impl FnOnce() -> Option<Written>,
    ) -> Result<(), Failure> {
        caller.require(room, Permission::Read)?;
        self.heads.check(room, id).await?;
        if self.note(room, &caller.user, id, written) {
            return Ok(());
        }
        Err(Failure::new(ErrorCode::TooMany, "too many read positions wait for Redis; try again later"))
    }

    /// Notes a read position, and waits until Redis holds it.
    ///
    /// # Errors
    /// As [`Reads::read`].
    pub async fn read_now(&self, caller: &Claims, room: &RoomName, id: MessageId) -> Result<(), Failure> {
        let (written, outcome) = oneshot::channel();
        let written: Written = Box::new(move |outcome, _| {
            let _ = written.send(outcome); // The client may be gone.
        });
        self.read(caller, room, id, || Some(written)).await?;
        outcome.await.unwrap_or(Err(Unavailable)).map_err(Failure::from)
    }

    /// Notes that a user has read a room up to a message of their own.
    pub fn own(&self, room: &RoomName, user: &UserId, id: MessageId) {
        self.note(room, user, id, || None);
    }

    fn note(
        &self,
        room: &RoomName,
        user: &UserId,
        id: MessageId,
        written: impl FnOnce() -> Option<Written>,
    ) -> bool {
        self.metrics.reads.increment(1);
        let mut gathered = self.gathered.lock();
        let has_room = gathered.has_room(room, user);
        if has_room {
            let waiting = written().into_iter().collect();
            gathered.note(room.clone(), user.clone(), Position { id, waiting });
            drop(gathered);
            self.wake.notify_one();
        }
        has_room
    }

    /// Returns how far the caller has read each of these rooms, in the same order.
    ///
    /// # Errors
    /// `too_many` for more than [`MAX_ROOMS`] rooms. For one room: `forbidden`, `unavailable`.
    pub async fn states(
        &self,
        caller: &Claims,
        rooms: &[RoomName],
    ) -> Result<Vec<Result<ReadState, Failure>>, Failure> {
        if rooms.len() > MAX_ROOMS {
            let message = format!("ask for at most {MAX_ROOMS} rooms at once");
            return Err(Failure::new(ErrorCode::TooMany, message));
        }
        let grants: Vec<_> = rooms.iter().map(|room| caller.require(room, Permission::Read)).collect();
        let granted: Vec<RoomName> = rooms
            .iter()
            .zip(&grants)
            .filter(|(_, grant)| grant.is_ok())
            .map(|(room, _)| room.clone())
            .collect();
        let mut states = self.store.read_states(&granted, &caller.user).await.into_iter();
        let state = |grant: Result<(), Failure>| {
            grant?;
            Ok(states.next().unwrap_or(Err(Unavailable))?)
        };
        Ok(grants.into_iter().map(state).collect())
    }

    /// Waits until everything is written.
    pub async fn settled(&self) {
        while !self.gathered.lock().is_idle() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Writes positions when they are due, until `stop`. From `draining` on, it writes without delay.
    pub async fn run(self: Arc<Self>, draining: CancellationToken, stop: CancellationToken) {
        let mut last: Option<Instant> = None;
        loop {
            let (is_empty, is_awaited) = {
                let gathered = self.gathered.lock();
                (gathered.is_empty(), gathered.is_awaited())
            };
            let interval = if is_awaited { INTERVAL_AWAITED } else { INTERVAL };
            let due = last.map_or_else(Instant::now, |last| last + interval);
            let is_due = async {
                if !draining.is_cancelled() {
                    tokio::select! {
                        biased;
                        () = draining.cancelled() => {}
                        () = tokio::time::sleep_until(due) => {}
                    }
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = is_due, if !is_empty => {
                    last = Some(Instant::now());
                    let positions = self.gathered.lock().take();
                    tasks::spawn(self.clone().write(positions));
                    tokio::time::sleep(TICK).await;
                }
                () = self.wake.notified() => {}
            }
        }
    }

    async fn write(self: Arc<Self>, positions: Vec<(RoomName, UserId, Position<Written>)>) {
        let reads: Vec<ReadUpTo> = positions
            .iter()
            .map(|(room, user, position)| ReadUpTo {
                room: room.clone(),
                user: user.clone(),
                id: position.id,
            })
            .collect();
        let outcomes = self.store.read_up_to(&reads).await;
        let mut writes = WriteBatch::default();
        let mut failed = Vec::new();
        for ((room, user, position), outcome) in positions.into_iter().zip(outcomes) {
            match outcome {
                Ok(()) => self.metrics.read_writes.increment(1),
                // Waiting clients are told. The position is tried again.
                Err(Unavailable) => {
                    failed.push((room, user, Position { id: position.id, waiting: Vec::new() }))
                }
            }
            position.waiting.into_iter().for_each(|written| written(outcome, &mut writes));
        }
        self.gathered.lock().written(failed);
        self.wake.notify_one();
    }
}
