//! A simulated node: everything but the periodic tasks of `tasks`.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;

use super::{CREATED_AT_ONCE, Node, appender_patience, hub_options};
use crate::auth::Verifier;
use crate::canary::{Canary, Echo};
use crate::config::Config;
use crate::hub::Hub;
use crate::hub::appender::Appender;
use crate::redis::{Bell, Store};
use crate::session::acks::Acks;
use crate::session::held::Held;
use crate::session::rate::Rates;
use crate::session::registry::Registry;
use crate::telemetry::Metrics;

impl Node {
    /// Starts a node at this place of the simulated network.
    pub(crate) fn simulated(
        place: usize,
        config: Config,
        verifier: Arc<Verifier>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let id = format!("node{place}");
        let (draining, stop) = (CancellationToken::new(), CancellationToken::new());
        let store = Store::simulated(place, &config, metrics.clone(), stop.clone());
        let hub = Hub::new(store.clone(), hub_options(&config), metrics.clone());
        // A node that is dropped leaves nothing behind.
        let listening = Arc::downgrade(&hub);
        let ear = Arc::new(move |event| {
            if let Some(hub) = listening.upgrade() {
                hub.hear(event);
            }
        });
        let bell = Bell::simulated(place, &store, ear, stop.clone());
        hub.listen(bell.clone(), stop.clone());
        let appender = Appender::new(store.clone(), hub.clone(), appender_patience(&config), metrics.clone());
        let acks = Acks::start(store.clone(), hub.clone(), metrics.clone(), draining.clone(), stop.clone());
        let registry = Arc::new(Registry::new(config.limits.connections, metrics.clone()));
        let echo = Arc::new(Echo::default());
        let canary = Canary::new(&id, echo, bell, appender.clone(), store.clone(), metrics.clone());
        Arc::new(Self {
            id,
            canary: Arc::new(canary),
            publishing: Rates::new(config.limits.publish_rate, 1),
            creating: Rates::new(config.limits.create_rate, CREATED_AT_ONCE),
            config,
            store,
            hub,
            appender,
            acks,
            held: Held::default(),
            registry,
            metrics,
            verifier,
            durability: RwLock::default(),
            revocations: RwLock::default(),
            issuer_ahead: AtomicU64::new(0),
            embedded: Mutex::default(),
            draining,
            stop,
            tasks: Mutex::default(),
        })
    }
}
