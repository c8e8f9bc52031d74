//! A simulated node: everything but the tasks that poll.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Core, hub_options};
use crate::auth::Verifier;
use crate::config::Config;
use crate::hub::Hub;
use crate::redis::{PubSub, Store};
use crate::session::Shared;
use crate::telemetry::Metrics;

/// A node at a place of the simulated network.
pub(crate) struct Simulated {
    pub shared: Arc<Shared>,
    pub store: Arc<Store>,
    pub hub: Arc<Hub>,
}

impl Simulated {
    /// Starts it.
    pub(crate) fn start(
        place: usize,
        config: &Config,
        verifier: Arc<Verifier>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let stop = CancellationToken::new();
        let store = Store::simulated(place, config, metrics.clone(), stop.clone());
        let hub = Hub::new(store.clone(), hub_options(config), metrics.clone());
        // A node that is dropped leaves nothing behind.
        let receiving = Arc::downgrade(&hub);
        let on_event = Arc::new(move |event| {
            if let Some(hub) = receiving.upgrade() {
                hub.on_event(event);
            }
        });
        let pubsub = PubSub::simulated(place, &store, on_event, stop.clone());
        let redis = (store.clone(), hub.clone(), pubsub);
        let core = Core::assemble(format!("node{place}"), config, verifier, redis, metrics, stop);
        Arc::new(Self { shared: core.shared, store, hub })
    }
}
