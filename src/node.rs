//! A node: the composition root. It wires the parts of a server, and starts and stops them in order.

#[cfg(test)]
mod simulated;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
#[cfg(test)]
pub(crate) use simulated::{SECRET, Simulated};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::auth::{AuthError, Verifier};
use crate::background::Background;
use crate::background::health::Health;
use crate::background::janitor::Janitor;
use crate::background::probe::{Echo, Probes};
use crate::background::upkeep::{Upkeep, measure_delay, watch_memory};
use crate::background::{liveness, revocations};
use crate::config::Config;
use crate::connections::Registry;
use crate::hub::appender::Appender;
use crate::hub::{Hub, HubOptions};
use crate::protocol::CloseCode;
use crate::redis::embedded::{Embedded, EmbeddedError, EmbeddedOptions};
use crate::redis::{Notification, OnEvent, PubSub, PubSubEvent, Store, StoreOptions, Unusable};
use crate::service::Services;
use crate::service::access::Access;
use crate::service::acks::Acks;
use crate::service::heads::Heads;
use crate::service::history::History;
use crate::service::limits::Limits;
use crate::service::publish::Publisher;
use crate::service::push::Pusher;
use crate::service::reads::Reads;
use crate::service::rooms::Rooms;
use crate::service::subscriptions::Subscriptions;
use crate::session::Shared;
use crate::telemetry::{Metrics, Traces};

const POLL_INTERVAL: Duration = Duration::from_millis(10);

#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Redis(#[from] Unusable),
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error("traces.otlp_url: {0}")]
    Traces(opentelemetry_otlp::ExporterBuildError),
}

/// The parts of a node that clients use, assembled on a Redis.
struct Core {
    shared: Arc<Shared>,
    store: Arc<Store>,
    appender: Arc<Appender>,
    background: Background,
    stop: CancellationToken,
}

/// A running node, without its listener.
pub(crate) struct Node {
    pub shared: Arc<Shared>,
    pub health: Arc<Health>,
    appender: Arc<Appender>,
    background: Background,
    embedded: Mutex<Option<Embedded>>,
    shutdown_grace: Duration,
    stop: CancellationToken,
}

fn hub_options(config: &Config) -> HubOptions {
    HubOptions {
        ring_messages: config.hub.ring_messages,
        ring_bytes: config.hub.ring_bytes,
        ring_budget: config.hub.ring_budget,
        linger: config.hub.linger,
        check_interval: config.hub.check_interval,
    }
}

impl Core {
    fn assemble(
        id: String,
        config: &Config,
        verifier: Arc<Verifier>,
        (store, hub, pubsub): (Arc<Store>, Arc<Hub>, Arc<PubSub>),
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Self {
        let draining = CancellationToken::new();
        hub.connect(pubsub);
        // Half a second beyond a command's time limit: requests queued behind a lost command are answered
        // soon after it.
        let patience = config.redis.command_timeout + Duration::from_millis(500);
        let appender = Appender::new(store.clone(), hub.clone(), patience, metrics.clone());
        let heads = Arc::new(Heads::new(store.clone(), hub.clone()));
        let acks = Arc::new(Acks::new(store.clone(), hub.clone(), heads.clone(), metrics.clone()));
        let reads = Arc::new(Reads::new(store.clone(), heads.clone(), metrics.clone()));
        let registry = Arc::new(Registry::new(config.limits.connections, metrics.clone()));
        let limits = Arc::new(Limits::new(&config.limits));
        let max_message = config.limits.max_message;
        let max_signal = config.limits.max_signal.min(max_message);
        let services = Services {
            access: Arc::new(Access::new(
                verifier,
                store.clone(),
                registry.clone(),
                config.auth.revocation_ttl,
            )),
            publisher: Publisher::new(store.clone(), appender.clone(), limits.clone(), max_message),
            subscriptions: Arc::new(Subscriptions::new(
                store.clone(),
                hub.clone(),
                acks.clone(),
                limits.clone(),
                config.limits.durable_subscriptions,
            )),
            acks: acks.clone(),
            heads,
            reads,
            history: History::new(store.clone(), hub.clone()),
            pusher: Pusher::new(store.clone(), limits, max_signal),
            rooms: Rooms::new(store.clone(), hub.clone()),
        };
        let background = Background::new(stop.clone());
        let state = (acks, draining.clone());
        background.run("acknowledgements", state, |(acks, draining), stop| acks.run(draining, stop));
        background.run("position checks", hub, Hub::check_positions);
        let shared = Shared {
            node: id,
            services: Arc::new(services),
            registry,
            limits: config.limits.clone(),
            metrics,
            draining,
        };
        Self { shared: Arc::new(shared), store, appender, background, stop }
    }
}

impl Node {
    /// Starts everything but the listener.
    pub(crate) async fn start(config: &Config) -> Result<Self, StartError> {
        let id = Uuid::new_v4().simple().to_string();
        let mut metrics = Metrics::new(&config.rooms);
        metrics.traces = Traces::start(&config.traces, &id).map_err(StartError::Traces)?;
        let metrics = Arc::new(metrics);
        let verifier = Arc::new(Verifier::new(&config.auth, metrics.clone()).await?);
        let stop = CancellationToken::new();
        let (embedded, options) = redis(config).await?;
        let shown = config.redis.url.as_ref().map_or(options.url.clone(), ToString::to_string);
        let refused = |error| Unusable(shown.clone(), error);
        let store = Store::connect(options, metrics.clone(), stop.clone()).await.map_err(refused)?;
        let hub = Hub::new(store.clone(), hub_options(config), metrics.clone());
        let echo = Arc::new(Echo::default());
        let on_event = on_event(hub.clone(), echo.clone());
        let pubsub = PubSub::connect(&store, on_event, stop.clone()).await.map_err(refused)?;
        let redis = (store, hub, pubsub.clone());
        let core = Core::assemble(id, config, verifier.clone(), redis, metrics.clone(), stop);
        let Core { shared, store, appender, background, stop } = core;
        let (node, access, registry) = (&shared.node, &shared.services.access, &shared.registry);

        let probes = Probes::new(node, echo, pubsub, appender.clone(), store.clone(), metrics.clone());
        let probes = Arc::new(probes);
        let draining = shared.draining.clone();
        let health = Health::new(probes.clone(), registry.clone(), metrics.clone(), draining);
        let health = Arc::new(health);
        let state = embedded.as_ref().map(Embedded::state);
        let upkeep = Upkeep::new(store.clone(), health.clone(), metrics.clone(), state, config.durability());
        let upkeep = Arc::new(upkeep);
        let (retention, rooms) = (config.retention.clone(), config.rooms.clone());
        let janitor = Janitor::new(node.clone(), store.clone(), retention, rooms, metrics.clone());
        let janitor = Arc::new(janitor);

        upkeep.inspect_redis(true).await;
        revocations::read_all(access).await;
        // A working node is ready from the start.
        probes.probe().await;

        let reads = (shared.services.reads.clone(), shared.draining.clone());
        background.run("read positions", reads, |(reads, draining), stop| reads.run(draining, stop));
        background.run("connection timers", registry.clone(), Registry::sweep);
        background.run("token keys", verifier, Verifier::refresh_loop);
        background.run("revocations", access.clone(), revocations::follow);
        background.run("liveness", (store.clone(), node.clone()), |(store, node), stop| {
            liveness::show_life(store, node, stop)
        });
        let leases = (shared.services.subscriptions.clone(), config.retention.subscription_ttl);
        background.run("leases", leases, |(subscriptions, ttl), stop| {
            liveness::renew_leases(subscriptions, ttl, stop)
        });
        background.run("upkeep", upkeep, Upkeep::run);
        background.run("memory", (store, metrics.clone()), |(store, metrics), stop| {
            watch_memory(store, metrics, stop)
        });
        background.run("task delay", metrics, measure_delay);
        background.run("probes", probes, Probes::run);
        background.run("janitor", janitor, Janitor::run);
        Ok(Self {
            shared,
            health,
            appender,
            background,
            embedded: Mutex::new(embedded),
            shutdown_grace: config.server.shutdown_grace,
            stop,
        })
    }

    /// Accepts no more connections, closes the open ones with a notice, and waits for their end, at most for
    /// the grace time. Then stops everything.
    pub(crate) async fn shut_down(&self) {
        let Shared { registry, services, metrics, draining, .. } = &*self.shared;
        draining.cancel();
        registry.close_all(CloseCode::Restarting);
        let ended = async {
            while !registry.is_empty() || self.appender.waiting() > 0 {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            services.acks.settled().await;
            services.reads.settled().await;
        };
        if tokio::time::timeout(self.shutdown_grace, ended).await.is_err() {
            let (connections, messages) = (registry.len(), self.appender.waiting());
            tracing::warn!(connections, messages, "the grace time is over; closing the rest");
        }
        self.stop.cancel();
        self.background.ended().await;
        if metrics.traces.is_some() {
            let metrics = metrics.clone();
            let sent = tokio::task::spawn_blocking(move || metrics.traces.as_ref().map(Traces::flush));
            let _ = sent.await; // Traces that cannot be sent are lost.
        }
        let embedded = self.embedded.lock().take();
        if let Some(embedded) = embedded {
            embedded.stop().await;
        }
    }
}

/// Starts the embedded Redis unless another one is configured. Returns the options to connect to either.
async fn redis(config: &Config) -> Result<(Option<Embedded>, StoreOptions), EmbeddedError> {
    let (embedded, url) = match &config.redis.url {
        Some(url) => (None, url.expose().to_owned()),
        None => {
            let options = EmbeddedOptions {
                data_dir: config.embedded.data_dir.clone(),
                server: config.embedded.server.clone(),
                max_memory: config.embedded.max_memory,
            };
            let embedded = Embedded::start(&options).await?;
            let url = embedded.url();
            (Some(embedded), url)
        }
    };
    let options = StoreOptions {
        url,
        prefix: config.redis.prefix.clone(),
        clients: config.redis.clients,
        durability: config.durability(),
        command_timeout: config.redis.command_timeout,
        deduplication_window: config.retention.deduplication_window,
    };
    Ok((embedded, options))
}

fn on_event(hub: Arc<Hub>, echo: Arc<Echo>) -> OnEvent {
    Arc::new(move |event| match event {
        PubSubEvent::Notification(room, Notification::Messages(run)) if room.is_internal() => {
            echo.receive(&run.entries);
        }
        event => hub.on_event(event),
    })
}
