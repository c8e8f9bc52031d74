//! A supervised connection to Redis: fred's client, set up so that none of its defaults bites, watched, and built anew
//! when it cannot recover by itself.
//!
//! What is set here, and why, was measured; see "Redis client" in ARCHITECTURE.md.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::{ClientLike, EventInterface};
use fred::types::config::{
    Config, ConnectionConfig, PerformanceConfig, ReconnectPolicy, TcpConfig, UnresponsiveConfig,
};
use fred::types::{Builder, Message, RespVersion};
use parking_lot::{Mutex, RwLock};
use socket2::TcpKeepalive;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::refusal::ConnectError;

/// How often the watchdog asks.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Misses in a row after which a connection that claims to be up is not believed.
const MISSES_UNTIL_DOWN: u32 = 2;

/// Misses in a row after which the client is built anew. fred's own Sentinel support can lose all sentinels for good.
const MISSES_UNTIL_REBUILD: u32 = 10;

/// What happens on a link that has somebody listening.
#[derive(Debug)]
pub enum LinkEvent {
    /// A message on a subscribed channel.
    Message(Message),
    /// The connection was made again: subscriptions may be gone, and messages were lost.
    Reconnected,
    /// More messages came than were taken: some were lost.
    Lagged,
}

/// Gets what happens on a link. Must not block.
pub type Listener = Arc<dyn Fn(LinkEvent) + Send + Sync>;

/// One connection (for a cluster, one to each node).
pub struct Link {
    builder: Builder,
    client: RwLock<Client>,
    clustered: bool,
    misses: AtomicU32,
    listener: Option<Listener>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Link {
    /// Connects, and starts to watch the connection until `stop`.
    ///
    /// # Errors
    /// If the URL is bad or nothing answers within 5 s.
    pub async fn connect(
        url: &str,
        command_timeout: Duration,
        listener: Option<Listener>,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, ConnectError> {
        // Pushes need RESP3; fred decodes pages of RESP2 in half of the time, which makes replay 1.6 times as fast.
        let version = if listener.is_some() { RespVersion::RESP3 } else { RespVersion::RESP2 };
        let config = Config { version, ..config(url)? };
        let clustered = config.server.is_clustered();
        let builder = builder(config, command_timeout);
        let client = open(&builder).await?;
        let link = Arc::new(Self {
            builder,
            client: RwLock::new(client.clone()),
            clustered,
            misses: AtomicU32::new(0),
            listener,
            tasks: Mutex::default(),
        });
        link.listen_to(&client);
        tokio::spawn(link.clone().watch(stop));
        Ok(link)
    }

    /// The client to send with.
    pub fn client(&self) -> Client {
        self.client.read().clone()
    }

    /// Whether this is a cluster.
    pub fn clustered(&self) -> bool {
        self.clustered
    }

    /// Whether sending has a chance. Saying no at once keeps what waits for a dead Redis from piling up in the client,
    /// whose queue has no bound. One dead shard does not make a cluster unusable.
    pub fn usable(&self) -> bool {
        self.clustered
            || (self.misses.load(Ordering::Relaxed) < MISSES_UNTIL_DOWN && self.client.read().is_connected())
    }

    async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(WATCH_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            let client = self.client();
            let answered = timeout(WATCH_INTERVAL, client.ping::<()>(None)).await;
            if matches!(answered, Ok(Ok(()))) {
                self.misses.store(0, Ordering::Relaxed);
                continue;
            }
            let misses = self.misses.fetch_add(1, Ordering::Relaxed) + 1;
            if misses >= MISSES_UNTIL_REBUILD && misses.is_multiple_of(MISSES_UNTIL_REBUILD / 2) {
                self.rebuild().await;
            } else if misses == MISSES_UNTIL_DOWN && client.is_connected() {
                tracing::warn!("Redis does not answer; reconnecting");
                let _the_rebuild_comes_if_this_fails =
                    timeout(WATCH_INTERVAL, client.force_reconnection()).await;
            }
        }
        self.tasks.lock().drain(..).for_each(|task| task.abort());
        let _best_effort = timeout(WATCH_INTERVAL, self.client().quit()).await;
    }

    async fn rebuild(&self) {
        match timeout(WATCH_INTERVAL * 5, open(&self.builder)).await {
            Ok(Ok(client)) => {
                tracing::info!("the Redis client was built anew");
                let old = std::mem::replace(&mut *self.client.write(), client.clone());
                self.misses.store(0, Ordering::Relaxed);
                self.listen_to(&client);
                self.notify(LinkEvent::Reconnected);
                let _best_effort = timeout(WATCH_INTERVAL, old.quit()).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "Redis is still away"),
            Err(_elapsed) => tracing::debug!("Redis is still away"),
        }
    }

    fn notify(&self, event: LinkEvent) {
        if let Some(listener) = &self.listener {
            listener(event);
        }
    }

    /// Forwards what happens on this client, in place of what happens on the one before it.
    fn listen_to(&self, client: &Client) {
        let Some(listener) = &self.listener else { return };
        let mut messages = client.message_rx();
        let mut reconnects = client.reconnect_rx();
        let mut changes = client.cluster_change_rx();
        let (on_message, on_reconnect) = (listener.clone(), listener.clone());
        let forward = tokio::spawn(async move {
            loop {
                match messages.recv().await {
                    Ok(message) => on_message(LinkEvent::Message(message)),
                    Err(RecvError::Lagged(_)) => on_message(LinkEvent::Lagged),
                    Err(RecvError::Closed) => break,
                }
            }
        });
        let renewed = tokio::spawn(async move {
            loop {
                let event = tokio::select! {
                    event = reconnects.recv() => event.map(|_| ()),
                    event = changes.recv() => event.map(|_| ()),
                };
                match event {
                    Ok(()) | Err(RecvError::Lagged(_)) => on_reconnect(LinkEvent::Reconnected),
                    Err(RecvError::Closed) => break,
                }
            }
        });
        let mut tasks = self.tasks.lock();
        tasks.drain(..).for_each(|task| task.abort());
        tasks.extend([forward, renewed]);
    }
}

async fn open(builder: &Builder) -> Result<Client, ConnectError> {
    let tls = builder.get_config().is_some_and(Config::uses_tls);
    let refused = |error| ConnectError::new(&error, tls);
    let client = builder.build().map_err(refused)?;
    match timeout(Duration::from_secs(5), client.init()).await {
        Ok(Ok(_handle)) => Ok(client),
        Ok(Err(error)) => Err(refused(error)),
        Err(_elapsed) => Err(ConnectError::silent(tls)),
    }
}

fn config(url: &str) -> Result<Config, ConnectError> {
    Config::from_url(url).map_err(|error| ConnectError::new(&error, true))
}

fn builder(config: Config, command_timeout: Duration) -> Builder {
    let mut builder = Builder::from_config(config);
    builder
        // The default is none: the client would be dead after the first disconnect.
        .set_policy(ReconnectPolicy::new_exponential(0, 50, 1000, 2))
        .set_performance_config(PerformanceConfig {
            default_command_timeout: command_timeout,
            // The default of 32 loses messages at once.
            broadcast_channel_capacity: 16_384,
            ..PerformanceConfig::default()
        })
        .set_connection_config(ConnectionConfig {
            connection_timeout: Duration::from_secs(2),
            internal_command_timeout: Duration::from_secs(2),
            // More would send writes that were under way a second time after a reconnect.
            max_command_attempts: 1,
            // With a bound here, a full queue at a disconnect ends the client for good; our own bound stands before it.
            max_command_buffer_len: 0,
            unresponsive: UnresponsiveConfig {
                max_timeout: Some(Duration::from_secs(5)),
                interval: Duration::from_secs(1),
            },
            tcp: TcpConfig {
                nodelay: Some(true),
                keepalive: Some(TcpKeepalive::new().with_time(Duration::from_secs(3))),
                // Without it a full socket buffer towards a silent server wedges the client.
                user_timeout: Some(Duration::from_secs(3)),
                ..TcpConfig::default()
            },
            ..ConnectionConfig::default()
        });
    builder
}
