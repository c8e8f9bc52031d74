//! A node in tests: everything but the tasks that poll, on the simulated network or on a scripted Redis.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Core, hub_options};
use crate::auth::Verifier;
use crate::config::Config;
use crate::hub::Hub;
use crate::redis::scripted::Script;
use crate::redis::simulated::Peer;
use crate::redis::{PubSub, Store};
use crate::session::Shared;
use crate::telemetry::Metrics;

pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

pub(crate) struct Simulated {
    pub shared: Arc<Shared>,
    pub store: Arc<Store>,
    pub hub: Arc<Hub>,
}

impl Simulated {
    pub(crate) fn start(
        place: usize,
        config: &Config,
        verifier: Arc<Verifier>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Self::on(Peer::Network(place), format!("node{place}"), config, verifier, metrics)
    }

    pub(crate) async fn scripted(script: &Script, keys: &[(&str, &str)]) -> Arc<Self> {
        let secret = ("auth.hs256_secret", SECRET);
        let keys = keys.iter().chain([&secret]);
        let keys = keys.map(|(key, value)| ((*key).to_owned(), toml::Value::String((*value).to_owned())));
        let config = Config::load(None, std::iter::empty(), keys.collect()).expect("a configuration");
        let metrics = Arc::new(Metrics::new(&config.rooms));
        let verifier = Verifier::new(&config.auth, metrics.clone()).await.expect("a key");
        Self::on(Peer::Script(script.clone()), "node".into(), &config, Arc::new(verifier), metrics)
    }

    fn on(
        peer: Peer,
        id: String,
        config: &Config,
        verifier: Arc<Verifier>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let stop = CancellationToken::new();
        let store = Store::simulated(peer.clone(), config, metrics.clone(), stop.clone());
        let hub = Hub::new(store.clone(), hub_options(config), metrics.clone());
        // A node that is dropped leaves nothing behind.
        let receiving = Arc::downgrade(&hub);
        let on_event = Arc::new(move |event| {
            if let Some(hub) = receiving.upgrade() {
                hub.on_event(event);
            }
        });
        let pubsub = PubSub::simulated(peer, &store, on_event, stop.clone());
        let redis = (store.clone(), hub.clone(), pubsub);
        let core = Core::assemble(id, config, verifier, redis, metrics, stop);
        Arc::new(Self { shared: core.shared, store, hub })
    }
}
