//! Probes: every few seconds the node publishes a probe to itself, on each primary, and waits until it
//! returns through pub/sub and can be read from the log. Readiness depends on it: a returned probe proves
//! that messages get through. The node is ready while any primary's probe returns: a dead primary affects
//! only its own rooms, on every node alike.
//!
//! Each node has an internal room for its probes on each primary. Clients cannot name it. It keeps a few
//! probes, and expires when the node is gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{OnceCell, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::pause;
use crate::hub::appender::Appender;
use crate::log::internal::PROBES;
use crate::log::{Entry, Unavailable};
use crate::protocol::request::Draft;
use crate::protocol::{Data, RoomName, UserId};
use crate::redis::{PubSub, Store};
use crate::telemetry::{CanaryOutcome, Metrics};

const INTERVAL: Duration = Duration::from_secs(3);

/// Time after which a probe counts as lost.
const PATIENCE: Duration = Duration::from_secs(3);

/// Time without a returned probe after which the node is not ready. Two may be lost, so that readiness does
/// not flap.
const READY_FOR: Duration = Duration::from_secs(10);

/// Number of names tried for a room in a slot of each primary. More would be needed only for a primary with
/// very few slots.
const NAMES: usize = 100_000;

#[derive(Default)]
pub struct Echo {
    awaited: Mutex<HashMap<Uuid, oneshot::Sender<()>>>,
}

impl Echo {
    /// Handles a notification in a room of probes. Does not block.
    pub fn receive(&self, entries: &[Arc<Entry>]) {
        let mut awaited = self.awaited.lock();
        for entry in entries {
            if let Some(back) = awaited.remove(&entry.message.key) {
                let _ = back.send(()); // The receiver may be gone.
            }
        }
    }

    fn expect(&self, key: Uuid) -> oneshot::Receiver<()> {
        let (back, came_back) = oneshot::channel();
        let mut awaited = self.awaited.lock();
        // Probes that nobody waits for any more are lost.
        awaited.retain(|_, back| !back.is_closed());
        awaited.insert(key, back);
        came_back
    }
}

struct Probe {
    room: RoomName,
    listening: OnceCell<()>,
    came_back: RwLock<Option<Instant>>,
}

impl Probe {
    fn new(room: RoomName) -> Self {
        Self { room, listening: OnceCell::new(), came_back: RwLock::default() }
    }

    fn is_well(&self) -> bool {
        self.came_back.read().is_some_and(|at| at.elapsed() < READY_FOR)
    }
}

pub struct Probes {
    node: String,
    user: UserId,
    echo: Arc<Echo>,
    pubsub: Arc<PubSub>,
    appender: Arc<Appender>,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    /// Keyed by the address of the primary.
    probes: Mutex<HashMap<String, Arc<Probe>>>,
}

impl Probes {
    pub fn new(
        node: &str,
        echo: Arc<Echo>,
        pubsub: Arc<PubSub>,
        appender: Arc<Appender>,
        store: Arc<Store>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (node, user, probes) = (node.to_owned(), UserId::internal(PROBES), Mutex::default());
        Self { node, user, echo, pubsub, appender, store, metrics, probes }
    }

    pub fn are_well(&self) -> bool {
        self.probes.lock().values().any(|probe| probe.is_well())
    }

    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        while pause(&stop, INTERVAL).await {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.probe() => {}
            }
        }
    }

    pub async fn probe(&self) {
        let was_well = self.are_well();
        let probes = self.probes();
        join_all(probes.iter().map(|probe| self.send(probe))).await;
        let well = probes.iter().filter(|probe| probe.is_well()).count();
        self.metrics.primaries.set(probes.len() as f64);
        self.metrics.primaries_well.set(well as f64);
        match (was_well, self.are_well()) {
            (false, true) => tracing::info!("ready: a probe went through append, pub/sub and log"),
            (true, false) => tracing::warn!("not ready: no probe has returned for {READY_FOR:?}"),
            _ => {}
        }
    }

    /// Returns a probe for each primary, with a room in a slot that the primary has now.
    fn probes(&self) -> Vec<Arc<Probe>> {
        let mut probes = self.probes.lock();
        let shards = self.store.shards().map().serving();
        let servers: Vec<String> = shards.iter().map(|shard| shard.server.to_string()).collect();
        let is_there = |server: &str, room: &RoomName| {
            self.store.shard_of(room).is_ok_and(|shard| shard.server.to_string() == server)
        };
        let gone: Vec<String> = probes
            .iter()
            .filter(|(server, probe)| !is_there(server, &probe.room))
            .map(|(server, _)| server.clone())
            .collect();
        let gone: Vec<Arc<Probe>> = gone.iter().filter_map(|server| probes.remove(server)).collect();
        let missing: Vec<String> =
            servers.into_iter().filter(|server| !probes.contains_key(server)).collect();
        for server in missing {
            let mut names =
                (0..NAMES).map(|number| RoomName::internal(PROBES, &format!("{}.{number}", self.node)));
            if let Some(room) = names.find(|room| is_there(&server, room)) {
                probes.insert(server, Arc::new(Probe::new(room)));
            }
        }
        let left = gone.iter().filter(|probe| probe.listening.initialized());
        let left: Vec<RoomName> = left.map(|probe| probe.room.clone()).collect();
        self.pubsub.unsubscribe(&left);
        probes.values().cloned().collect()
    }

    async fn send(&self, probe: &Probe) {
        let started = Instant::now();
        match tokio::time::timeout(PATIENCE, self.round(probe)).await {
            Ok(Ok(())) => {
                *probe.came_back.write() = Some(Instant::now());
                self.metrics.canary(CanaryOutcome::Returned);
                self.metrics.canary_seconds.record(started.elapsed());
            }
            lost => {
                tracing::debug!(unavailable = lost.is_ok(), "a probe was lost");
                self.metrics.canary(CanaryOutcome::Lost);
            }
        }
    }

    async fn round(&self, probe: &Probe) -> Result<(), Unavailable> {
        probe
            .listening
            .get_or_try_init(|| async { self.pubsub.subscribe(&probe.room).await.map(drop) })
            .await?;
        let key = Uuid::new_v4();
        let came_back = self.echo.expect(key);
        let draft = Draft { key, new_key: true, kind: "probe".into(), data: Data::NIL };
        let appended = self.appender.append(&probe.room, self.user.clone(), draft).await?;
        came_back.await.map_err(|_| Unavailable)?;
        self.store.read_probe(&probe.room, appended.id).await
    }
}
