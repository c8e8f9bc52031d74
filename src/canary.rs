//! The canary: every few seconds the node publishes a probe to itself, and waits until it comes back by the bell and can be
//! read from the log. Readiness hangs on it: that messages get through is proven by one that does.
//!
//! Each node has a room of its own for it, which no client can name, which holds a few probes, and which expires when the
//! node is gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{OnceCell, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::hub::appender::Appender;
use crate::log::{Entry, Unavailable};
use crate::protocol::request::Draft;
use crate::protocol::{Data, RoomName, UserId};
use crate::redis::{Bell, Store};
use crate::telemetry::{CanaryOutcome, Metrics};

/// Time from one probe to the next.
const INTERVAL: Duration = Duration::from_secs(3);

/// Time in which a probe comes back, or counts as lost.
const PATIENCE: Duration = Duration::from_secs(3);

/// The node is not ready after so long without a probe that came back. Two may be lost: readiness shall not flap.
const READY_FOR: Duration = Duration::from_secs(10);

/// What the canary hears of the bell.
#[derive(Default)]
pub struct Echo {
    awaited: Mutex<Option<(Uuid, oneshot::Sender<()>)>>,
}

impl Echo {
    /// The bell rang in the canary's room. Does not block.
    pub fn hear(&self, entries: &[Arc<Entry>]) {
        let mut awaited = self.awaited.lock();
        let is_it = |key: &Uuid| entries.iter().any(|entry| entry.message.key == *key);
        if awaited.as_ref().is_some_and(|(key, _)| is_it(key))
            && let Some((_, back)) = awaited.take()
        {
            let _nobody_waits_any_more = back.send(());
        }
    }

    fn expect(&self, key: Uuid) -> oneshot::Receiver<()> {
        let (back, came_back) = oneshot::channel();
        *self.awaited.lock() = Some((key, back));
        came_back
    }
}

/// A node's canary.
pub struct Canary {
    room: RoomName,
    user: UserId,
    echo: Arc<Echo>,
    bell: Arc<Bell>,
    listening: OnceCell<()>,
    appender: Arc<Appender>,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    came_back: RwLock<Option<Instant>>,
}

impl Canary {
    /// The canary of this node, which hears what `echo` is told.
    pub fn new(
        node: &str,
        echo: Arc<Echo>,
        bell: Arc<Bell>,
        appender: Arc<Appender>,
        store: Arc<Store>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            room: RoomName::canary(node),
            user: UserId::canary(),
            echo,
            bell,
            listening: OnceCell::new(),
            appender,
            store,
            metrics,
            came_back: RwLock::default(),
        }
    }

    /// Whether a probe came back a moment ago.
    pub fn is_well(&self) -> bool {
        self.came_back.read().is_some_and(|at| at.elapsed() < READY_FOR)
    }

    /// Probes until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.probe() => {}
            }
        }
    }

    /// Sends one probe, and notes whether it came back.
    pub async fn probe(&self) {
        let (was_well, started) = (self.is_well(), Instant::now());
        match tokio::time::timeout(PATIENCE, self.round()).await {
            Ok(Ok(())) => {
                *self.came_back.write() = Some(Instant::now());
                self.metrics.canary(CanaryOutcome::Returned);
                self.metrics.canary_seconds.record(started.elapsed());
                if !was_well {
                    tracing::info!("ready: a probe went through append, bell and log");
                }
            }
            lost => {
                tracing::debug!(unavailable = lost.is_ok(), "a probe was lost");
                self.metrics.canary(CanaryOutcome::Lost);
                if was_well && !self.is_well() {
                    tracing::warn!("not ready: no probe came back for {READY_FOR:?}");
                }
            }
        }
    }

    async fn round(&self) -> Result<(), Unavailable> {
        self.listening.get_or_try_init(|| self.bell.listen(&self.room)).await?;
        let key = Uuid::new_v4();
        let came_back = self.echo.expect(key);
        let draft = Draft { key, new_key: true, kind: "probe".into(), data: Data::NIL };
        let appended = self.appender.append(&self.room, self.user.clone(), draft).await?;
        came_back.await.map_err(|_| Unavailable)?;
        self.store.read_probe(&self.room, appended.id).await
    }
}
