//! A simulated node: everything but the periodic tasks of `tasks`.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Node, Parts, hub_options};
use crate::auth::Verifier;
use crate::canary::Echo;
use crate::config::Config;
use crate::hub::Hub;
use crate::redis::{Bell, Store};
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
        let (embedded, echo) = (None, Arc::new(Echo::default()));
        let parts = Parts { id, config, verifier, metrics, embedded, store, hub, bell, echo, draining, stop };
        Arc::new(parts.assemble())
    }
}
