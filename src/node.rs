//! A node: the composition root. It starts and stops the parts of a server in order.

#[cfg(test)]
mod simulated;
mod tasks;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::auth::{AuthError, Claims, LEEWAY, Revocation, Revocations, Verifier};
use crate::canary::{Canary, Echo};
use crate::config::Config;
use crate::hub::appender::Appender;
use crate::hub::{Hub, HubOptions};
use crate::log::Unavailable;
use crate::protocol::{CloseCode, Data, ErrorCode, Failure, RoomName};
use crate::redis::embedded::{Embedded, EmbeddedError, EmbeddedOptions};
use crate::redis::{Bell, BellEvent, ConnectError, Ear, NO_REVOCATION, Ring, Store, StoreOptions};
use crate::session::acks::Acks;
use crate::session::held::Held;
use crate::session::rate::Rates;
use crate::session::registry::Registry;
use crate::telemetry::{Metrics, Traces};
use crate::time::now_s;

/// Polling interval of revocations. Every node must apply one within 2 s.
const REVOCATIONS_INTERVAL: Duration = Duration::from_millis(500);

/// Burst of new durable subscriptions of a user: enough for an app that subscribes to all its rooms at its
/// first start.
const CREATED_AT_ONCE: u32 = 1000;

/// The reason why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Redis, with its URL without secrets.
    #[error("cannot use the Redis at {0}: {1}")]
    Redis(String, ConnectError),
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// The keys for tokens.
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error("traces.otlp_url: {0}")]
    Traces(opentelemetry_otlp::ExporterBuildError),
}

/// A running node, without its listener.
pub struct Node {
    /// Unique among nodes, and new after each start.
    pub id: String,
    pub config: Config,
    pub store: Arc<Store>,
    /// The rooms that are active here.
    pub hub: Arc<Hub>,
    /// The queue of publishes.
    pub appender: Arc<Appender>,
    /// Acknowledgements that wait to be written.
    pub acks: Arc<Acks>,
    /// The durable subscriptions that this node's connections hold.
    pub held: Held,
    /// Rate limits of publishes and signals, by user.
    pub publishing: Rates,
    /// Rate limits of creations that stay in Redis without a message: durable subscriptions, by user.
    pub creating: Rates,
    pub registry: Arc<Registry>,
    pub metrics: Arc<Metrics>,
    canary: Arc<Canary>,
    verifier: Arc<Verifier>,
    durability: RwLock<String>,
    revocations: RwLock<Revocations>,
    /// The greatest observed lead of the token issuer's clock, in seconds.
    issuer_ahead: AtomicU64,
    embedded: Mutex<Option<Embedded>>,
    /// Cancelled when the node accepts no more connections.
    pub draining: CancellationToken,
    stop: CancellationToken,
    tasks: Mutex<Vec<JoinHandle<()>>>,
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

/// The parts of a node that depend on where Redis is.
struct Parts {
    id: String,
    config: Config,
    verifier: Arc<Verifier>,
    metrics: Arc<Metrics>,
    embedded: Option<Embedded>,
    store: Arc<Store>,
    hub: Arc<Hub>,
    bell: Arc<Bell>,
    echo: Arc<Echo>,
    draining: CancellationToken,
    stop: CancellationToken,
}

impl Parts {
    /// Builds the rest of the node on them.
    fn assemble(self) -> Node {
        let Self { id, config, verifier, metrics, embedded, store, hub, bell, echo, draining, stop } = self;
        hub.listen(bell.clone(), stop.clone());
        // Half a second beyond a command's time limit: requests queued behind a lost command are answered
        // soon after it.
        let patience = config.redis.command_timeout + Duration::from_millis(500);
        let appender = Appender::new(store.clone(), hub.clone(), patience, metrics.clone());
        let acks = Acks::start(store.clone(), hub.clone(), metrics.clone(), draining.clone(), stop.clone());
        let registry = Arc::new(Registry::new(config.limits.connections, metrics.clone()));
        let canary = Canary::new(&id, echo, bell, appender.clone(), store.clone(), metrics.clone());
        Node {
            id,
            canary: Arc::new(canary),
            publishing: Rates::new(config.limits.publish_rate, config.limits.publish_rate.unwrap_or(1)),
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
            embedded: Mutex::new(embedded),
            draining,
            stop,
            tasks: Mutex::default(),
        }
    }
}

impl Node {
    /// Starts everything but the listener.
    ///
    /// # Errors
    /// If Redis or the keys for tokens cannot be used.
    pub async fn start(config: Config) -> Result<Arc<Self>, StartError> {
        let id = Uuid::new_v4().simple().to_string();
        let mut metrics = Metrics::new(&config.rooms);
        metrics.traces = Traces::start(&config.traces, &id).map_err(StartError::Traces)?;
        let metrics = Arc::new(metrics);
        let verifier = Arc::new(Verifier::new(&config.auth, metrics.clone()).await?);
        let (draining, stop) = (CancellationToken::new(), CancellationToken::new());
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
        let shown = config.redis.url.as_ref().map_or(options.url.clone(), ToString::to_string);
        let refused = |error| StartError::Redis(shown.clone(), error);
        let store = Store::connect(options, metrics.clone(), stop.clone()).await.map_err(refused)?;
        let hub = Hub::new(store.clone(), hub_options(&config), metrics.clone());
        let (listening, echo) = (hub.clone(), Arc::new(Echo::default()));
        let probes = echo.clone();
        let ear: Ear = Arc::new(move |event: BellEvent| match event {
            BellEvent::Ring(room, Ring::Messages(run)) if room.is_canary() => probes.hear(&run.entries),
            event => listening.hear(event),
        });
        let bell = Bell::connect(&store, ear, stop.clone()).await.map_err(refused)?;
        let parts = Parts { id, config, verifier, metrics, embedded, store, hub, bell, echo, draining, stop };
        let node = Arc::new(parts.assemble());
        node.inspect_redis(true).await;
        // Before anybody can connect: a revoked token must never be accepted, not even briefly.
        let mut position = NO_REVOCATION.to_owned();
        while node.read_revocations(&mut position).await == Err(Unavailable) {
            node.pause(REVOCATIONS_INTERVAL).await;
        }
        // A working node is ready from the start.
        node.canary.probe().await;
        node.run_tasks(position);
        Ok(node)
    }

    /// Verifies a token and returns its claims.
    ///
    /// # Errors
    /// `unauthenticated`, `token_expired` or `token_revoked`.
    pub async fn authenticate(&self, token: &str) -> Result<Arc<Claims>, Failure> {
        let claims = self.verifier.verify(token).await?;
        if let Some(issued) = claims.issued {
            self.issuer_ahead.fetch_max(issued.saturating_sub(now_s()).min(LEEWAY), Ordering::Relaxed);
        }
        self.not_revoked(&claims)?;
        Ok(Arc::new(claims))
    }

    /// Returns the first `iat` of tokens that are not issued yet: the next second, plus the observed lead of
    /// the issuer's clock, up to [`LEEWAY`].
    pub fn not_issued_yet(&self) -> u64 {
        now_s() + 1 + self.issuer_ahead.load(Ordering::Relaxed)
    }

    /// Checks that a token was not revoked. Call it again after a connection was given its claims: a
    /// revocation in between did not find the connection.
    ///
    /// # Errors
    /// `token_revoked`.
    pub fn not_revoked(&self, claims: &Claims) -> Result<(), Failure> {
        if self.revocations.read().is_revoked(claims) {
            return Err(Failure::new(ErrorCode::TokenRevoked, "the token was revoked"));
        }
        Ok(())
    }

    /// Checks that a new message can be stored.
    ///
    /// # Errors
    /// `too_large`, or `unavailable` if the room's Redis is nearly full.
    pub fn takes(&self, room: &RoomName, data: &Data) -> Result<(), Failure> {
        data.fits(self.config.limits.max_message)?;
        if self.store.is_full(room) { Err(Failure::full()) } else { Ok(()) }
    }

    /// Revokes a token, or a user's tokens, on all nodes.
    ///
    /// # Errors
    /// If Redis does not store it.
    pub async fn revoke(&self, revocation: Revocation) -> Result<(), Unavailable> {
        let fields = revocation.to_fields().map(|(name, value)| (name.to_owned(), value));
        self.store.revoke(fields.to_vec(), self.config.auth.revocation_ttl).await?;
        self.apply([revocation]);
        Ok(())
    }

    fn apply(&self, revocations: impl IntoIterator<Item = Revocation>) {
        let mut known = self.revocations.write();
        revocations.into_iter().for_each(|revocation| known.insert(revocation));
        let known = parking_lot::RwLockWriteGuard::downgrade(known);
        self.registry.close_revoked(&known);
    }

    /// Applies the revocations after `position`, and advances it.
    async fn read_revocations(&self, position: &mut String) -> Result<(), Unavailable> {
        loop {
            let Some((records, reached)) = self.store.revocations_after(position).await? else {
                tracing::info!(
                    "Redis does not have the last revocation that was read; reading all of them again"
                );
                NO_REVOCATION.clone_into(position);
                continue;
            };
            *position = reached;
            if records.is_empty() {
                return Ok(());
            }
            self.apply(records.iter().filter_map(|record| {
                let get = |name: &str| {
                    record.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
                };
                Revocation::from_fields(get).inspect_err(|error| tracing::warn!(%error)).ok()
            }));
        }
    }

    /// Returns true if clients may be sent here: the node's own probes return, and it is not shutting down.
    pub fn is_ready(&self) -> bool {
        !self.draining.is_cancelled() && self.canary.is_well()
    }

    /// Renders the metrics in Prometheus's text format. It depends on nothing outside this process, so it
    /// works during any failure.
    pub fn render_metrics(&self) -> String {
        self.metrics.ready.set(f64::from(u8::from(self.is_ready())));
        self.metrics.outbox_bytes.set(self.registry.waiting_bytes() as f64);
        self.metrics.render()
    }

    /// The durability in force, from Redis's configuration.
    pub fn durability_in_force(&self) -> String {
        self.durability.read().clone()
    }

    /// Accepts no more connections, closes the open ones with a notice, and waits for their end, at most for
    /// the grace time. Then stops everything.
    pub async fn shut_down(self: Arc<Self>) {
        self.draining.cancel();
        self.registry.close_all(CloseCode::Restarting);
        let ended = async {
            while !self.registry.is_empty() || self.appender.waiting() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            self.acks.settled().await;
        };
        if tokio::time::timeout(self.config.server.shutdown_grace, ended).await.is_err() {
            let (connections, messages) = (self.registry.len(), self.appender.waiting());
            tracing::warn!(connections, messages, "the grace time is over; these are cut");
        }
        self.stop.cancel();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            let _cancelled_or_done = tokio::time::timeout(Duration::from_secs(1), task).await;
        }
        if self.metrics.traces.is_some() {
            let metrics = self.metrics.clone();
            let sent = tokio::task::spawn_blocking(move || metrics.traces.as_ref().map(Traces::flush));
            let _or_it_is_lost = sent.await;
        }
        let embedded = self.embedded.lock().take();
        if let Some(embedded) = embedded {
            embedded.stop().await;
        }
    }
}
